"""What a row of a file says of how people ranked responses, in whichever form it says it.

{prompt | messages, response, score | rank}       one response; its ranking is made of such rows
{prompt | messages, responses, ranks}             a whole ranking; without ranks, best first
{prompt | messages, chosen, rejected}             a preference: texts, lists of texts, or turns
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from selfreward.config import ColumnsConfig
from selfreward.errors import DataError
from selfreward.records import DroppedRow, DropReason, Instruction
from selfreward.stages.labelled import response_text, with_prompt
from selfreward.stages.labelled_rows import has_lists
from selfreward.stages.scored import parse_scale
from selfreward.stages.sources import clean_text, to_instruction

# Scores averaged in another order differ in the last digits.
_DIGITS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedAnswers:
    """The responses of one row with how good people found them.

    Example: `RankedAnswers(asked=Instruction(…), scores={"Paris.": 1.0, "Rome.": 0.0},
    is_whole=True)`
    """

    asked: Instruction
    scores: Mapping[str, float]
    """Response → score, higher is better. Of a whole ranking the number of levels below it; of a
    response by itself its score, or its rank with a minus."""
    is_whole: bool
    """Whether the row is a ranking by itself; else rows of one prompt are one ranking together."""
    scale: tuple[float, float] | None = None
    """Least and greatest score, where a response by itself says so."""
    group: str = ""
    """Of a response by itself: which ranking of the prompt it belongs to, where the row says so."""
    subset: str = ""


def read_answers(
    rows: Iterable[dict[str, Any]], path: str, max_chars: int, stage: str
) -> Iterator[RankedAnswers | DroppedRow]:
    """Yields what each row of the file at `path` says, or why nothing of it can be used.

    Raises:
        DataError: no row has the columns.
    """
    source = path.rstrip("/").rpartition("/")[2]
    columns: set[str] = set()
    fits = False
    for row in rows:
        columns.update(row)
        fits = fits or has_ranking(row)
        yield ranked_answers(row, source, max_chars, stage)
    if columns and not fits:
        raise DataError(
            f"{path}: rankings need the columns responses, or response and score, or chosen"
            f" and rejected, beside messages or prompt; it has {sorted(columns)}"
        )


def has_ranking(row: Mapping[str, Any]) -> bool:
    """Whether a row has the columns of one of the forms."""
    return (
        "responses" in row
        or ("response" in row and not {"score", "rank"}.isdisjoint(row))
        or {"chosen", "rejected"} <= set(row)
    )


def ranked_answers(
    row: dict[str, Any], source: str, max_chars: int, stage: str
) -> RankedAnswers | DroppedRow:
    """Reads one row. A ranking whose responses are all alike is none."""
    asked = to_instruction(with_prompt(row), ColumnsConfig(), source, max_chars)
    if isinstance(asked, DroppedRow):
        return replace(asked, stage=stage)
    if row.get("responses") is not None or row.get("response") is None:
        responses, ranks = _whole(row)
        places = _numbers(ranks)
        if isinstance(responses, list) and (places is None or len(places) != len(responses)):
            detail = f"ranks {ranks!r} are not one number for each of {len(responses)} responses"
            found: Any = _drop(asked, stage, DropReason.BAD_SCORE, detail)
        else:
            found = levels(asked, responses, [-place for place in places or ()], stage)
        if isinstance(found, DroppedRow):
            return found
        return RankedAnswers(asked=asked, scores=found, is_whole=True)
    return _single(row, asked, stage)


def own_score(row: Mapping[str, Any]) -> float | None:
    """How good the one response of a row is, higher is better; None where the row says nothing."""
    score, rank = _number(row.get("score")), _number(row.get("rank"))
    return score if score is not None or rank is None else -rank


def levels(
    asked: Instruction, responses: Any, scores: Sequence[float], stage: str
) -> dict[str, float] | DroppedRow:
    """Returns each response of one ranking, once, with how many levels lie below its own."""
    if not isinstance(responses, list) or not all(
        isinstance(text, str) and text.strip() for text in responses
    ):
        return _drop(asked, stage, DropReason.EMPTY_RESPONSE, "a response has no text")
    by_text: dict[str, float] = {}
    for text, score in zip(responses, scores, strict=True):
        if by_text.setdefault(clean_text(text.strip()), score) != score:
            return _drop(asked, stage, DropReason.SAME_RESPONSE, "one response has two ranks")
    found = sorted(set(by_text.values()))
    if len(found) < 2:
        detail = "no two responses are ranked apart"
        return _drop(asked, stage, DropReason.TOO_FEW_SCORES, detail)
    return {text: float(found.index(score)) for text, score in by_text.items()}


def _whole(row: dict[str, Any]) -> tuple[Any, Any]:
    """Responses and their ranks, lower is better, as the row has them."""
    responses, ranks = row.get("responses"), row.get("ranks")
    if responses is not None:
        if ranks is None and isinstance(responses, list):
            ranks = list(range(1, len(responses) + 1))
        return responses, ranks
    if has_lists(row):
        chosen, rejected = row["chosen"], row["rejected"]
        return [*chosen, *rejected], [1] * len(chosen) + [2] * len(rejected)
    return [response_text(row.get("chosen")), response_text(row.get("rejected"))], [1, 2]


def _single(row: dict[str, Any], asked: Instruction, stage: str) -> RankedAnswers | DroppedRow:
    text, score = response_text(row["response"]), own_score(row)
    if not text:
        return _drop(asked, stage, DropReason.EMPTY_RESPONSE, "the response has no text")
    if score is None:
        detail = f"score {row.get('score')!r} is no number"
        return _drop(asked, stage, DropReason.BAD_SCORE, detail)
    scale = None if _number(row.get("score")) is None else parse_scale(row.get("scale"))
    if scale is not None and not scale[0] <= score <= scale[1]:
        detail = f"score {score:g} on the scale {row['scale']!r}"
        return _drop(asked, stage, DropReason.BAD_SCORE, detail)
    return RankedAnswers(
        asked=asked,
        scores={text: score},
        is_whole=False,
        scale=scale,
        group=str(row.get("group") or ""),
        subset=str(row.get("subset") or ""),
    )


def _numbers(values: Any) -> list[float] | None:
    """All of a list as numbers, or None where it is no list or one of it is no number."""
    numbers = [_number(value) for value in values] if isinstance(values, list) else [None]
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(numbers) else None


def _number(value: Any) -> float | None:
    try:
        number = round(float(value), _DIGITS)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < float("inf") else None


def _drop(asked: Instruction, stage: str, reason: DropReason, detail: str) -> DroppedRow:
    return DroppedRow(row_id=asked.id, stage=stage, reason=reason, detail=detail[:200])
