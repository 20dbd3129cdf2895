"""A few pairs of the run with what its judges said of them, in both orders."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from selfreward.config_custom_llm import STAGE_NUMBERS
from selfreward.layout import join
from selfreward.records import Judgment, Outcome, Position, Preference, ResponsePair
from selfreward.reports.page.content import Cell, TableView, row, table
from selfreward.reports.page.numbers import ABSENT, number
from selfreward.reports.summary import RunSummary
from selfreward.storage.shards import read_records, sealed_shards

PER_KIND = 2
"""Samples that were right in both orders, in one, in none."""
MAX_CHARS = 900
MAX_JUDGMENT_CHARS = 160
_BETTER, _WORSE = "the better response", "the worse response"

RecordT = TypeVar("RecordT")
Readings = dict[tuple[str, Position], Judgment]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A pair as the page shows it; texts are as the models wrote them, perhaps cut.

    Example: `Sample(ident="pair-0c…", what="modified_instruction", prompt=(("user", "2 + 2?"),),
    better_name="better response", better="4", worse_name="worse response", worse="5",
    verdicts=TableView(…))`
    """

    ident: str
    what: str
    prompt: tuple[tuple[str, str], ...]
    """(role, text) of each turn."""
    better_name: str
    better: str
    worse_name: str
    worse: str
    verdicts: TableView | None = None


def samples_of(summary: RunSummary) -> list[Sample]:
    """Held-out pairs with every judge's readings; of a self-rewarding run, answers beside those of
    an earlier model; else rows that were trained on. Empty where there is nothing yet."""
    return _heldout(summary) or _versus(summary) or _trained(summary)


def _heldout(summary: RunSummary) -> list[Sample]:
    layout = summary.layout
    pairs = _first_shard(layout.split("heldout", "pairs"), ResponsePair)
    by_judge: dict[str, Readings] = {}
    for iteration in range(summary.record["iterations"] + 1) if pairs else ():
        found = _readings(join(layout.evaluation(iteration), "heldout"))
        if found:
            by_judge[f"M{iteration}"] = found
    if not by_judge:
        return []
    latest = list(by_judge.values())[-1]
    return [
        _sample(
            pair,
            (_BETTER, _WORSE),
            table(
                ("judge", "better shown first", "worse shown first"),
                [
                    row(judge, *(_cell(found.get((pair.id, p)), _BETTER, _WORSE) for p in Position))
                    for judge, found in by_judge.items()
                ],
                num_left=3,
            ),
        )
        for pair in _mixed(pairs, latest)
    ]


def _versus(summary: RunSummary) -> list[Sample]:
    layout = summary.layout
    for iteration, figures in sorted(summary.figures.items(), reverse=True):
        for rival in figures.get("head_to_head") or {}:
            base = join(layout.evaluation(iteration), f"versus_{int(rival[1:]):02d}")
            pairs = _first_shard(join(base, "pairs"), ResponsePair)
            found = _readings(join(base, "judgments"))
            if pairs and found:
                new, old = f"M{iteration}'s answer", f"{rival}'s answer"
                judge = str(figures.get("head_to_head_judge") or "judge")
                headings = ("judge", f"M{iteration} shown first", f"{rival} shown first")
                return [
                    _sample(
                        pair,
                        (new, old),
                        table(
                            headings,
                            [
                                row(
                                    judge,
                                    *(
                                        _cell(found.get((pair.id, p)), new, old, is_label=False)
                                        for p in Position
                                    ),
                                )
                            ],
                            num_left=3,
                        ),
                    )
                    for pair in _mixed(pairs, found)
                ]
    return []


def _trained(summary: RunSummary) -> list[Sample]:
    last = max(summary.record["iterations"], *STAGE_NUMBERS.values())
    for iteration in range(last, 0, -1):
        rows = _first_shard(summary.layout.preferences(iteration), Preference)
        if rows:
            return [
                Sample(
                    ident=r.id,
                    what=f"trained on in iteration {iteration}",
                    prompt=tuple((m.role, _cut(m.content)) for m in r.messages),
                    better_name=_scored("chosen", r.chosen_score),
                    better=_cut(r.chosen),
                    worse_name=_scored("rejected", r.rejected_score),
                    worse=_cut(r.rejected),
                )
                for r in rows[: 3 * PER_KIND]
            ]
    return []


def _scored(name: str, score: float | None) -> str:
    return name if score is None else f"{name}, score {number(score)}"


def _first_shard(folder: str, kind: type[RecordT]) -> list[RecordT]:
    shards = sealed_shards(folder)
    return read_records(shards[0], kind) if shards else []


def _readings(folder: str) -> Readings:
    """The first draw of each pair and order."""
    found: dict[tuple[str, Position], list[Judgment]] = defaultdict(list)
    for judgment in _first_shard(folder, Judgment):
        found[judgment.pair_id, judgment.position].append(judgment)
    return {key: min(draws, key=lambda j: j.draw) for key, draws in found.items()}


def _mixed(pairs: Sequence[ResponsePair], readings: Readings) -> list[ResponsePair]:
    """The first pairs that were right in both orders, in one, and in none, in this order."""
    kinds: dict[int, list[ResponsePair]] = {2: [], 1: [], 0: []}
    for pair in pairs:
        both = [readings.get((pair.id, p)) for p in Position]
        if all(both):
            kinds[sum(j is not None and j.is_right for j in both)].append(pair)
    return [pair for found in kinds.values() for pair in found[:PER_KIND]]


def _sample(pair: ResponsePair, names: tuple[str, str], verdicts: TableView) -> Sample:
    return Sample(
        ident=pair.id,
        what=pair.corruption.replace("_", " "),
        prompt=tuple((m.role, _cut(m.content)) for m in pair.messages),
        better_name=names[0],
        better=_cut(pair.chosen),
        worse_name=names[1],
        worse=_cut(pair.rejected),
        verdicts=verdicts,
    )


def _cell(judgment: Judgment | None, better: str, worse: str, is_label: bool = True) -> Cell:
    """What a reading chose, and the judge's words where they are more than a verdict."""
    if judgment is None:
        return Cell(text=ABSENT)
    if judgment.verdict.outcome is not Outcome.CHOICE:
        told, tone = judgment.verdict.outcome.value, "even"
    elif judgment.is_right:
        told, tone = better, "good" if is_label else ""
    else:
        told, tone = worse, "bad" if is_label else ""
    words = judgment.text.strip()
    if len(words) > 3:
        told += f": “{_cut(words, MAX_JUDGMENT_CHARS)}”"
    return Cell(text=told, tone=tone)


def _cut(text: str, most: int = MAX_CHARS) -> str:
    return text if len(text) <= most else f"{text[:most].rstrip()} … ({len(text):,} characters)"
