"""Reading answers that people ranked, and keeping the rankings of some prompts out of training.

A ranking is one row with its responses, or is made of rows with one scored response each, or is a
preference: two responses, of which one is chosen. It runs as one task on the cluster.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from selfreward.config import ColumnsConfig, PoolConfig
from selfreward.config_custom_llm import RankingsConfig
from selfreward.errors import DataError
from selfreward.judging.filters import exact_key
from selfreward.records import DroppedRow, DropReason, Instruction, derived_seed
from selfreward.records_custom_llm import Ranking
from selfreward.stages.labelled import write_rows
from selfreward.stages.labelled_rows import has_lists
from selfreward.stages.row_files import (
    SettingNames,
    Unreadable,
    dataset_rows,
    expand,
    file_rows,
    guess_format,
)
from selfreward.stages.sources import (
    clean_text,
    dropping,
    is_sample,
    read_rows,
    to_instruction,
)
from selfreward.storage.shards import ShardSummary

SAMPLE = "sample:rankings"
SAMPLE_ROWS = 1000
"""Rankings made where `max_rankings` does not say how many."""
_SETTING = "custom_llm.rankings.data"
_NAMES = SettingNames(path=_SETTING, format=_SETTING, split=_SETTING)
# Scores averaged in another order differ in the last digits.
_DIGITS = 9


def build_rankings(
    config: RankingsConfig,
    max_chars: int,
    shard_size: int,
    seed: int,
    folders: tuple[str, str],
) -> tuple[list[ShardSummary], list[ShardSummary]]:
    """Writes the rankings to train on into the first folder and the held-out ones into the second.

    All rankings of one prompt are in one of the two. `config.max_rankings` counts both.

    Raises:
        DataError: a file is unreadable or lacks the columns, or too few rankings are usable.
    """
    if not config.data:
        raise DataError(f"{_SETTING} names no file: give one, or {SAMPLE}")
    dropped: list[DroppedRow] = []
    found: dict[str, Ranking] = {}
    for path in config.data:
        for made in _read(path, config.max_rankings or SAMPLE_ROWS, max_chars, seed):
            if isinstance(made, Ranking) and made.id in found:
                detail = "the same ranking stands above"
                made = _drop(made.id, DropReason.EXACT_DUPLICATE, detail)
            if isinstance(made, Ranking):
                found[made.id] = made
            else:
                dropped.append(made)
    # By a hash of the content: the same rows in another order give the same split.
    by_prompt: dict[str, list[Ranking]] = {}
    for ranking in sorted(found.values(), key=lambda r: r.id):
        by_prompt.setdefault(exact_key(ranking.messages), []).append(ranking)
    prompts = sorted(by_prompt, key=lambda key: (derived_seed(seed, "rankings", key), key))
    room = len(found) if config.max_rankings is None else config.max_rankings
    heldout: list[Ranking] = []
    train: list[Ranking] = []
    for key in prompts:
        part = by_prompt[key][:room]
        room -= len(part)
        (heldout if len(heldout) < config.heldout else train).extend(part)
    if len(heldout) < config.heldout or not train:
        counts = Counter(d.reason.value for d in dropped)
        raise DataError(
            f"{', '.join(config.data)}: {len(heldout) + len(train)} usable rankings of"
            f" {len(prompts)} prompts are too few for custom_llm.rankings.heldout="
            f"{config.heldout} and at least one to train on (dropped: {dict(counts) or 'none'})"
        )
    return (
        list(write_rows(folders[0], train, dropped, shard_size, Ranking)),
        list(write_rows(folders[1], heldout, [], shard_size, Ranking)),
    )


def _rows(path: str, num_made: int, seed: int, unreadable: Unreadable) -> Iterator[dict[str, Any]]:
    if path == SAMPLE:
        from selfreward.stages.sample_tasks import ranking_rows

        yield from ranking_rows(num_made, seed)
    elif is_sample(path):
        yield from read_rows(PoolConfig(path=path), unreadable)
    elif (kind := guess_format(path)) == "dataset":
        yield from dataset_rows(path, "train", None, _NAMES)
    else:
        for url in expand(path, _NAMES):
            yield from file_rows(url, kind, unreadable)


def _read(path: str, num_made: int, max_chars: int, seed: int) -> Iterator[Ranking | DroppedRow]:
    source = path.rstrip("/").rpartition("/")[2]
    scored: dict[tuple[str, str], tuple[Instruction, list[tuple[str, float]]]] = {}
    columns: set[str] = set()
    fits = False
    unreadable: list[DroppedRow] = []
    for row in _rows(path, num_made, seed, dropping(unreadable, "rankings")):
        columns.update(row)
        fits = fits or _has_ranking(row)
        asked = to_instruction(row, ColumnsConfig(), source, max_chars)
        if isinstance(asked, DroppedRow):
            yield replace(asked, stage="rankings")
        elif "responses" in row or "response" not in row:
            yield _ranking(asked, *_answers_of(row))
        elif (score := _number(row.get("score"))) is None:
            yield _drop(asked.id, DropReason.BAD_SCORE, f"score {row.get('score')!r} is no number")
        else:
            group = scored.setdefault((asked.id, str(row.get("group") or "")), (asked, []))
            group[1].append((row["response"], -score))
    if columns and not fits:
        raise DataError(
            f"{path}: rankings need the columns responses, or response and score, or chosen"
            f" and rejected, beside messages or prompt; it has {sorted(columns)}"
        )
    yield from unreadable
    for asked, answers in scored.values():
        yield _ranking(asked, [text for text, _ in answers], [place for _, place in answers])


def _has_ranking(row: dict[str, Any]) -> bool:
    return (
        "responses" in row
        or {"response", "score"} <= set(row)
        or {"chosen", "rejected"} <= set(row)
    )


def _answers_of(row: dict[str, Any]) -> tuple[Any, Any]:
    """Responses and their ranks, as the row has them: of a ranking, or of a preference."""
    if "responses" in row:
        responses, ranks = row["responses"], row.get("ranks")
        if ranks is None and isinstance(responses, list):
            ranks = list(range(1, len(responses) + 1))
        return responses, ranks
    sides = [row.get("chosen"), row.get("rejected")]
    if has_lists(row):
        chosen, rejected = row["chosen"], row["rejected"]
        return [*chosen, *rejected], [1] * len(chosen) + [2] * len(rejected)
    return sides, [1, 2]


def _ranking(asked: Instruction, responses: Any, ranks: Any) -> Ranking | DroppedRow:
    """One ranking of whatever stands in a row; lower numbers are better."""
    if not isinstance(responses, list) or not all(
        isinstance(text, str) and text.strip() for text in responses
    ):
        return _drop(asked.id, DropReason.EMPTY_RESPONSE, "a response has no text")
    places = _numbers(ranks)
    if places is None or len(places) != len(responses):
        detail = f"ranks {ranks!r} are not one number for each of {len(responses)} responses"
        return _drop(asked.id, DropReason.BAD_SCORE, detail)
    by_text: dict[str, float] = {}
    for text, place in zip(responses, places, strict=True):
        if by_text.setdefault(clean_text(text.strip()), place) != place:
            return _drop(asked.id, DropReason.SAME_RESPONSE, "one response has two ranks")
    levels = sorted(set(by_text.values()))
    if len(levels) < 2:
        return _drop(asked.id, DropReason.TOO_FEW_SCORES, "no two responses are ranked apart")
    return Ranking.new(
        messages=asked.messages,
        responses=tuple(by_text),
        ranks=tuple(levels.index(place) + 1 for place in by_text.values()),
        source=asked.source,
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


def _drop(row_id: str, reason: DropReason, detail: str) -> DroppedRow:
    return DroppedRow(row_id=row_id, stage="rankings", reason=reason, detail=detail[:200])
