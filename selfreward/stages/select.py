"""The select stages: from judgments to training data, then to balanced training data.

The rules are pure (`judging/selection.py`); here they meet the shards. Balancing needs counts of
the whole run: a first look collects one small integer a row (its rank), a second pass applies the
cutoffs, so no process ever holds all rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from selfreward.engines.protocol import Generate
from selfreward.judging.balance import paired_ranks
from selfreward.judging.likelihood import ResponseLogps, mean_logps
from selfreward.judging.rubrics import flip_verdict, get_pairwise_rubric, verdict_text
from selfreward.judging.selection import (
    STAGE,
    completion_text,
    judged_prompt,
    select_preferences,
    select_sft,
)
from selfreward.records import (
    DroppedRow,
    DropReason,
    Judgment,
    Preference,
    ResponsePair,
    TrainingExample,
    content_id,
)
from selfreward.records_scores import PairScore
from selfreward.storage.shards import RowResult, read_records

Gold = Literal["first", "second"]
TrainingRow = TrainingExample | Preference


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPair:
    id: str
    pair: ResponsePair
    judgments: tuple[Judgment, ...]
    score: PairScore | None = None
    """How likely the generator finds both responses, where that was asked."""


def read_judged_pairs(inputs: Sequence[str]) -> list[JudgedPair]:
    """Reads a shard of pairs and the shard of their judgments, in the order of the pairs."""
    by_pair: dict[str, list[Judgment]] = {}
    for judgment in read_records(inputs[1], Judgment):
        by_pair.setdefault(judgment.pair_id, []).append(judgment)
    return [
        JudgedPair(id=pair.id, pair=pair, judgments=tuple(by_pair.get(pair.id, ())))
        for pair in read_records(inputs[0], ResponsePair)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Select:
    """Chooses the training rows of each judged pair. Inputs: the pairs, then their judgments, then
    how likely their responses are where `min_likelihood_margin` is given."""

    rubric_id: str
    objective: Literal["sft", "dpo"]
    drop_all_right: bool
    preferences_per_example: int
    seed: int
    out_type: type[Any]
    min_likelihood_margin: float | None = None
    name: str = STAGE

    def read(self, inputs: Sequence[str]) -> list[JudgedPair]:
        rows = read_judged_pairs(inputs)
        if self.min_likelihood_margin is None:
            return rows
        scores = {score.pair_id: score for score in read_records(inputs[2], PairScore)}
        return [replace(row, score=scores.get(row.id)) for row in rows]

    async def process(
        self, rows: Sequence[JudgedPair], generate: Generate
    ) -> list[RowResult[TrainingRow]]:
        rubric = get_pairwise_rubric(self.rubric_id)
        results: list[RowResult[TrainingRow]] = []
        for row in rows:
            if self.min_likelihood_margin is not None:
                if row.score is None:
                    # A pair that could not be scored was dropped there.
                    results.append(RowResult(row.id))
                    continue
                unlikely = _unlikely(row.score, self.min_likelihood_margin)
                if unlikely is not None:
                    results.append(RowResult(row.id, [], [unlikely]))
                    continue
            if self.objective == "sft":
                kept, dropped = select_sft(
                    row.pair, row.judgments, rubric, self.seed, drop_all_right=self.drop_all_right
                )
                results.append(RowResult(row.id, list(kept), dropped))
            else:
                pairs, dropped = select_preferences(
                    row.pair, row.judgments, rubric, self.seed, self.preferences_per_example
                )
                results.append(RowResult(row.id, list(pairs), dropped))
        return results


def _unlikely(score: PairScore, margin: float) -> DroppedRow | None:
    """The drop of a pair whose chosen response is not more likely by `margin`."""
    chosen, rejected = (
        mean_logps(ResponseLogps(given_prompt=logp, num_tokens=num_tokens))
        for logp, num_tokens in (
            (score.chosen, score.chosen_tokens),
            (score.rejected, score.rejected_tokens),
        )
    )
    if chosen - rejected >= margin:
        return None
    return DroppedRow(
        row_id=score.pair_id,
        stage=STAGE,
        reason=DropReason.LOW_MARGIN,
        detail=f"nats per token of the chosen response above the rejected: {chosen - rejected:.3f}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationExamples:
    """Right verdicts on pairs kept aside, to measure verdict accuracy while training goes on.

    A rubric that asks for a reason is measured with the reason the current judge gave, ended by
    the right verdict: what counts is whether the model then prefers it to the wrong one. Where the
    verdict comes first it is measured alone: a reason behind it would give it away.
    """

    rubric_id: str
    name: str = "validation_examples"
    out_type: type[TrainingExample] = TrainingExample

    def read(self, inputs: Sequence[str]) -> list[JudgedPair]:
        return read_judged_pairs(inputs)

    async def process(
        self, rows: Sequence[JudgedPair], generate: Generate
    ) -> list[RowResult[TrainingExample]]:
        return [
            RowResult(row.id, [self._example(row.pair, j) for j in row.judgments]) for row in rows
        ]

    def _example(self, pair: ResponsePair, judgment: Judgment) -> TrainingExample:
        rubric = get_pairwise_rubric(self.rubric_id)
        right = verdict_text(rubric, judgment.gold)
        if judgment.verdict.choice is not None and not rubric.verdict_first:
            said = completion_text(rubric, judgment)
            right = said if judgment.is_right else (flip_verdict(rubric, said) or right)
        return TrainingExample(
            id=content_id("exa", "validation", judgment.id),
            messages=judged_prompt(rubric, pair, judgment.position),
            target=right,
            pair_id=pair.id,
            judgment_id=judgment.id,
            gold=judgment.gold,
            counter_target=flip_verdict(rubric, right),
            ended=not rubric.verdict_first,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedRow:
    """A training row with its place in the order in which balancing keeps rows."""

    id: str
    row: TrainingRow
    gold: Gold
    rank: int


def _ranked(url: str, out_type: type[Any]) -> list[RankedRow]:
    """Reads a shard; both orders of a pair stand in the same one, so their ranks agree."""
    rows: list[TrainingRow] = read_records(url, out_type)
    golds = {row.id: _gold(row) for row in rows}
    ranks = paired_ranks([(row.id, row.pair_id, golds[row.id]) for row in rows])
    return [RankedRow(id=row.id, row=row, gold=golds[row.id], rank=ranks[row.id]) for row in rows]


def _gold(row: TrainingRow) -> Gold:
    if row.gold is None:
        raise ValueError(f"{row.id} is no verdict on a pair: it has no label to balance")
    return row.gold


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Drops rows of the more frequent label above its cutoff rank."""

    cutoffs: Mapping[str, int]
    """Gold label to the largest rank kept."""
    out_type: type[Any]
    name: str = "balance"

    def read(self, inputs: Sequence[str]) -> list[RankedRow]:
        return _ranked(inputs[0], self.out_type)

    async def process(
        self, rows: Sequence[RankedRow], generate: Generate
    ) -> list[RowResult[TrainingRow]]:
        results: list[RowResult[TrainingRow]] = []
        for row in rows:
            result: RowResult[TrainingRow] = RowResult(row.id)
            if row.rank <= self.cutoffs.get(row.gold, -1):
                result.records.append(row.row)
            else:
                result.dropped.append(
                    DroppedRow(
                        row_id=row.id,
                        stage=self.name,
                        reason=DropReason.LABEL_BALANCE,
                        detail=f"more rows with the {row.gold} answer better than the other",
                    )
                )
            results.append(result)
        return results


def label_ranks(url: str, out_type: type[Any]) -> dict[str, np.ndarray]:
    """Ranks of one shard's rows by gold label, 8 bytes a row."""
    ranks: dict[str, list[int]] = {"first": [], "second": []}
    for row in _ranked(url, out_type):
        ranks[row.gold].append(row.rank)
    return {gold: np.array(values, dtype=np.int64) for gold, values in ranks.items()}
