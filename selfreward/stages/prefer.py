"""The preference stage: from scored candidates of an instruction to what the next round learns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selfreward.config_self_rewarding import PreferencesConfig
from selfreward.engines.protocol import Generate
from selfreward.judging.consistency import implicit_rewards, ranking_consistency
from selfreward.judging.preferences import (
    Candidate,
    ChosenPair,
    choose_anchored_pair,
    choose_pair,
    mean_scores,
    positives,
)
from selfreward.records import DroppedRow, DropReason, Preference, TrainingExample, content_id
from selfreward.records_scores import Rating
from selfreward.records_self_rewarding import ResponseLikelihood, SampledInstruction
from selfreward.storage.shards import RowResult, read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedInstruction:
    """An instruction with its scored candidates, and those of the first model where wanted."""

    id: str
    sampled: SampledInstruction
    candidates: tuple[Candidate, ...]
    anchors: tuple[Candidate, ...]


def read_rated(inputs: Sequence[str]) -> list[RatedInstruction]:
    """Reads shards of responses and of their ratings; a second such pair holds the anchors."""
    sampled = read_records(inputs[0], SampledInstruction)
    scores = mean_scores(read_records(inputs[1], Rating))
    anchors: dict[str, tuple[Candidate, ...]] = {}
    if len(inputs) == 4:
        first = mean_scores(read_records(inputs[3], Rating))
        anchors = {
            row.id: _candidates(row, first) for row in read_records(inputs[2], SampledInstruction)
        }
    return [
        RatedInstruction(
            id=row.id,
            sampled=row,
            candidates=_candidates(row, scores),
            anchors=anchors.get(row.id, ()),
        )
        for row in sampled
    ]


def _candidates(row: SampledInstruction, scores: dict[str, float]) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            response_id=r.id,
            text=r.text,
            score=scores.get(r.id),
            ended=r.finish_reason != "length",
        )
        for r in row.responses
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefer:
    """Inputs: responses, ratings, and with `rejected_from=first` those of the first model."""

    config: PreferencesConfig
    label_confidence: float
    out_type: type[Any]
    """Preference, or TrainingExample for the positive-only variant."""
    name: str = "prefer"

    def read(self, inputs: Sequence[str]) -> list[RatedInstruction]:
        return read_rated(inputs)

    async def process(
        self, rows: Sequence[RatedInstruction], generate: Generate
    ) -> list[RowResult[Any]]:
        make = self._positives if self.config.kind == "positive_only" else self._pair
        return [make(row) for row in rows]

    def _pair(self, row: RatedInstruction) -> RowResult[Preference]:
        config = self.config
        rules: dict[str, Any] = {
            "length_rho": config.length_rho,
            "min_margin": config.min_margin,
            "min_scored": config.min_scored,
        }
        found = (
            choose_anchored_pair(row.candidates, row.anchors, **rules)
            if config.rejected_from == "first"
            else choose_pair(row.candidates, **rules)
        )
        result: RowResult[Preference] = RowResult(row.id)
        if not isinstance(found, ChosenPair):
            result.dropped.append(self._drop(row.id, found.reason, found.detail))
            return result
        chosen, rejected = found.chosen, found.rejected
        result.records.append(
            Preference(
                id=content_id("pre", row.id, chosen.response_id, rejected.response_id),
                messages=row.sampled.instruction.messages,
                chosen=chosen.text,
                rejected=rejected.text,
                pair_id=row.id,
                chosen_id=chosen.response_id,
                rejected_id=rejected.response_id,
                chosen_score=chosen.score,
                rejected_score=rejected.score,
                label_confidence=self.label_confidence,
                chosen_ended=chosen.ended,
                rejected_ended=rejected.ended,
            )
        )
        return result

    def _positives(self, row: RatedInstruction) -> RowResult[TrainingExample]:
        result: RowResult[TrainingExample] = RowResult(row.id)
        for candidate in positives(row.candidates, self.config.min_positive_score):
            result.records.append(
                TrainingExample(
                    id=content_id("exa", row.id, candidate.response_id),
                    messages=row.sampled.instruction.messages,
                    target=candidate.text,
                    ended=candidate.ended,
                    pair_id=row.id,
                    judgment_id=None,
                )
            )
        if not result.records:
            limit = self.config.min_positive_score
            detail = f"no candidate scored {limit:g} or more"
            result.dropped.append(self._drop(row.id, DropReason.NO_POSITIVE, detail))
        return result

    def _drop(self, row_id: str, reason: DropReason, detail: str) -> DroppedRow:
        return DroppedRow(row_id=row_id, stage=self.name, reason=reason, detail=detail)


def shard_consistencies(inputs: Sequence[str], beta: float) -> list[float]:
    """Agreement of two models' rankings of each instruction's candidates, one number a row.

    Inputs: responses, then their likelihoods under the current, the previous and the first model,
    the first being the reference of both implicit rewards.
    """
    now, before, first = (
        {row.response_id: row for row in read_records(url, ResponseLikelihood)}
        for url in inputs[1:]
    )
    found = []
    for row in read_records(inputs[0], SampledInstruction):
        ids = [r.id for r in row.responses if r.id in now and r.id in before and r.id in first]
        reference = [first[i] for i in ids]
        rewards = (
            implicit_rewards([side[i] for i in ids], reference, beta) for side in (now, before)
        )
        consistency = ranking_consistency(*rewards)
        if consistency is not None:
            found.append(consistency)
    return found
