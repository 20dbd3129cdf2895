"""The meta-judging stages (arXiv 2407.19594, section 2.2): pairs of the model's own judgments of
one response, its comparison of them in both orders, and preferences for the better ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from selfreward.config_self_rewarding import MetaJudgeConfig
from selfreward.engines.protocol import Generate, GenerationRequest
from selfreward.judging.meta_judging import (
    PositionWeights,
    best_and_worst,
    get_meta_rubric,
    most_varied,
    position_weights,
    rating_pairs,
    render_meta,
)
from selfreward.judging.pointwise import PointwiseRubric, render_pointwise
from selfreward.judging.preferences import PairDrop
from selfreward.judging.rubrics import verdict_choices, verdict_regex
from selfreward.judging.verdicts import parse_pairwise
from selfreward.records import (
    DroppedRow,
    DropReason,
    Judgment,
    Position,
    Preference,
    content_id,
    derived_seed,
)
from selfreward.records_scores import Rating, ScoredResponse
from selfreward.records_self_rewarding import RatingPair, SampledInstruction
from selfreward.stages.sampling import failed, sampling_of
from selfreward.storage.shards import RowResult, read_records

_LETTER_TOKENS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadInstruction:
    """An instruction's responses with every reading of each."""

    id: str
    sampled: SampledInstruction
    ratings: dict[str, tuple[Rating, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaPairs:
    """Of the response whose scores vary most, the judgments to compare. Inputs: responses, then
    their ratings."""

    scale: tuple[float, float]
    max_pairs: int | None
    seed: int
    name: str = "meta_pairs"
    out_type: type[RatingPair] = RatingPair

    def read(self, inputs: Sequence[str]) -> list[ReadInstruction]:
        by_response: dict[str, list[Rating]] = {}
        for rating in read_records(inputs[1], Rating):
            by_response.setdefault(rating.response_id, []).append(rating)
        return [
            ReadInstruction(
                id=row.id,
                sampled=row,
                ratings={r.id: tuple(by_response.get(r.id, ())) for r in row.responses},
            )
            for row in read_records(inputs[0], SampledInstruction)
        ]

    async def process(
        self, rows: Sequence[ReadInstruction], generate: Generate
    ) -> list[RowResult[RatingPair]]:
        return [self._pairs(row) for row in rows]

    def _pairs(self, row: ReadInstruction) -> RowResult[RatingPair]:
        chosen = most_varied(row.ratings)
        if chosen is None:
            drop = _drop(
                row.id,
                self.name,
                DropReason.TOO_FEW_SCORES,
                "no response has two judgments with a score and different texts",
            )
            return RowResult(row.id, [], [drop])
        text = next(r.text for r in row.sampled.responses if r.id == chosen)
        low, high = self.scale
        ratings = row.ratings[chosen]
        known = [r.verdict.score for r in ratings if r.verdict.score is not None]
        response = ScoredResponse(
            id=chosen,
            messages=row.sampled.instruction.messages,
            response=text,
            score=sum(known) / len(known),
            low=low,
            high=high,
            group=row.id,
        )
        pairs = rating_pairs(ratings, self.max_pairs, derived_seed(self.seed, "meta", chosen))
        return RowResult(
            row.id, [RatingPair.new(response=response, first=a, second=b) for a, b in pairs]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaJudge:
    """Both orders of each pair of judgments, one draw each."""

    config: MetaJudgeConfig
    rubric: PointwiseRubric
    """The one the compared judgments were made by."""
    seed: int
    name: str = "meta_judge"
    out_type: type[Judgment] = Judgment

    def read(self, inputs: Sequence[str]) -> list[RatingPair]:
        return read_records(inputs[0], RatingPair)

    async def process(
        self, rows: Sequence[RatingPair], generate: Generate
    ) -> list[RowResult[Judgment]]:
        asked = [(row, position) for row in rows for position in Position]
        completions = await generate([self._request(*one) for one in asked])
        meta = get_meta_rubric(self.config.rubric)
        results = {row.id: RowResult[Judgment](row.id) for row in rows}
        for (row, position), completion in zip(asked, completions, strict=True):
            result = results[row.id]
            drop = failed(completion, row.id, self.name)
            if drop is not None:
                result.dropped = result.dropped or [drop]
                continue
            draw = completion.draws[0]
            result.records.append(
                Judgment.new(
                    pair_id=row.id,
                    judge=completion.model,
                    rubric_id=meta.id,
                    position=position,
                    draw=0,
                    text=draw.text,
                    finish_reason=draw.finish_reason,
                    num_tokens=draw.num_tokens,
                    num_prompt_tokens=completion.num_prompt_tokens,
                    verdict=parse_pairwise(meta, draw.text, draw.finish_reason, draw.logps),
                )
            )
        return list(results.values())

    def _request(self, row: RatingPair, position: Position) -> GenerationRequest:
        meta = get_meta_rubric(self.config.rubric)
        choices, guided = verdict_choices(meta), self.config.guided
        return GenerationRequest(
            id=f"{row.id}/{position.value}",
            purpose="judge",
            messages=render_meta(
                meta, row.response, row.first, row.second, position, judged_by=self.rubric
            ),
            sampling=sampling_of(
                self.config.sampling,
                seed=derived_seed(self.seed, "meta_judge", row.id, position.value),
                max_tokens=_LETTER_TOKENS if choices else None,
                choices=choices if guided else (),
                regex=verdict_regex(meta) if guided and not choices else None,
                logps_of=("A", "B"),
            ),
        )


def weights_of(judgments: Sequence[str]) -> PositionWeights | None:
    """What a win in each position counts, over all shards of the comparisons."""
    return position_weights(j for url in judgments for j in read_records(url, Judgment))


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRatings:
    """All comparisons of one response's judgments."""

    id: str
    response: ScoredResponse
    pairs: tuple[RatingPair, ...]
    judgments: tuple[Judgment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaPrefer:
    """The best judgment of a response over its worst. Inputs: pairs, then their comparisons."""

    rubric: PointwiseRubric
    max_chosen_chars: int | None
    weights: PositionWeights | None
    """What a win in each position counts, from all comparisons of the round."""
    name: str = "meta_prefer"
    out_type: type[Preference] = Preference

    def read(self, inputs: Sequence[str]) -> list[ComparedRatings]:
        pairs: dict[str, list[RatingPair]] = {}
        for pair in read_records(inputs[0], RatingPair):
            pairs.setdefault(pair.response.id, []).append(pair)
        judged: dict[str, list[Judgment]] = {}
        for judgment in read_records(inputs[1], Judgment):
            judged.setdefault(judgment.pair_id, []).append(judgment)
        return [
            ComparedRatings(
                id=response_id,
                response=rows[0].response,
                pairs=tuple(rows),
                judgments=tuple(j for row in rows for j in judged.get(row.id, ())),
            )
            for response_id, rows in pairs.items()
        ]

    async def process(
        self, rows: Sequence[ComparedRatings], generate: Generate
    ) -> list[RowResult[Preference]]:
        return [self._prefer(row) for row in rows]

    def _prefer(self, row: ComparedRatings) -> RowResult[Preference]:
        ends = best_and_worst(
            row.pairs,
            row.judgments,
            max_chosen_chars=self.max_chosen_chars,
            weights=self.weights,
        )
        if isinstance(ends, PairDrop):
            return RowResult(row.id, [], [_drop(row.id, self.name, ends.reason, ends.detail)])
        ratings = {r.id: r for pair in row.pairs for r in (pair.first, pair.second)}
        best, worst = (ratings[i] for i in ends)
        preference = Preference(
            id=content_id("pre", "meta", best.id, worst.id),
            messages=render_pointwise(self.rubric, row.response.messages, row.response.response),
            chosen=best.text.strip(),
            rejected=worst.text.strip(),
            pair_id=row.response.group,
            chosen_id=best.id,
            rejected_id=worst.id,
            chosen_score=best.verdict.score,
            rejected_score=worst.verdict.score,
            chosen_ended=best.finish_reason != "length",
            rejected_ended=worst.finish_reason != "length",
        )
        return RowResult(row.id, [preference])


def _drop(row_id: str, stage: str, reason: DropReason, detail: str) -> DroppedRow:
    return DroppedRow(row_id=row_id, stage=stage, reason=reason, detail=detail)
