"""The EFT stage: judgments of ranked responses that agree with people become training examples.

(arXiv 2401.10020, section 3.1.1.) Two looks, as with balancing: the first counts the scores of the
agreeing judgments, the second keeps them with the most common score thinned out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from selfreward.engines.protocol import Generate
from selfreward.judging.balance import balance_rank
from selfreward.judging.eft import ModalCutoff, agreeing_draws, complete_draws
from selfreward.judging.pointwise import PointwiseRubric, render_pointwise
from selfreward.records import DroppedRow, DropReason, TrainingExample, content_id
from selfreward.records_scores import Rating, ScoredResponse
from selfreward.storage.shards import RowResult, read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedGroup:
    """The responses to one prompt, with a judge's readings of them."""

    id: str
    responses: tuple[ScoredResponse, ...]
    ratings: tuple[Rating, ...]


def read_groups(inputs: Sequence[str]) -> list[RatedGroup]:
    """Reads a shard of ranked responses and the shard of their ratings."""
    responses: dict[str, list[ScoredResponse]] = {}
    for row in read_records(inputs[0], ScoredResponse):
        responses.setdefault(row.group, []).append(row)
    by_response: dict[str, list[Rating]] = {}
    for rating in read_records(inputs[1], Rating):
        by_response.setdefault(rating.response_id, []).append(rating)
    return [
        RatedGroup(
            id=group,
            responses=tuple(rows),
            ratings=tuple(r for row in rows for r in by_response.get(row.id, ())),
        )
        for group, rows in responses.items()
    ]


def agreeing_ranks(inputs: Sequence[str], min_agreement: float) -> list[tuple[float, int]]:
    """Score and rank of one shard's agreeing judgments: what thinning out is decided on."""
    return [
        (rating.verdict.score, balance_rank(rating.id))
        for group in read_groups(inputs)
        for rating in agreeing_draws(group.responses, group.ratings, min_agreement)
        if rating.verdict.score is not None
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectEft:
    """Dropped are prompts of which no draw gave every response a score that could be read, those
    of which no such draw agrees with people, and single judgments of the most common score."""

    rubric: PointwiseRubric
    min_agreement: float
    cutoff: ModalCutoff | None
    """How the most common score is thinned out; None: every agreeing judgment is kept."""
    name: str = "eft"
    out_type: type[TrainingExample] = TrainingExample

    def read(self, inputs: Sequence[str]) -> list[RatedGroup]:
        return read_groups(inputs)

    async def process(
        self, rows: Sequence[RatedGroup], generate: Generate
    ) -> list[RowResult[TrainingExample]]:
        return [self._select(row) for row in rows]

    def _select(self, row: RatedGroup) -> RowResult[TrainingExample]:
        result: RowResult[TrainingExample] = RowResult(row.id)
        agreeing = agreeing_draws(row.responses, row.ratings, self.min_agreement)
        responses = {r.id: r for r in row.responses}
        for rating in agreeing:
            score = rating.verdict.score
            if score is None:
                continue
            if self.cutoff and not self.cutoff.keeps(score, rating.id):
                detail = f"score {score:g} is the most common one"
                result.dropped.append(self._drop(rating.id, DropReason.COMMON_SCORE, detail))
                continue
            response = responses[rating.response_id]
            result.records.append(
                TrainingExample(
                    id=content_id("exa", "eft", rating.id),
                    messages=render_pointwise(self.rubric, response.messages, response.response),
                    target=rating.text.strip(),
                    ended=rating.finish_reason != "length",
                    pair_id=row.id,
                    judgment_id=rating.id,
                )
            )
        # Who orders two responses gives two scores: thinning one out never empties a group.
        if not agreeing:
            is_read = bool(complete_draws(row.responses, row.ratings))
            reason = DropReason.DISAGREES_WITH_PEOPLE if is_read else DropReason.UNREAD_JUDGMENTS
            detail = f"{len(row.ratings)} judgments of {len(row.responses)} responses"
            result.dropped.append(self._drop(row.id, reason, detail))
        return result

    def _drop(self, row_id: str, reason: DropReason, detail: str) -> DroppedRow:
        return DroppedRow(row_id=row_id, stage=self.name, reason=reason, detail=detail)
