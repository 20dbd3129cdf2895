"""The figures of a self-rewarding iteration, read from its stage folders as plain data.

Each function runs as one task on the cluster, since candidates and judgments are many.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from selfreward.config import EvaluationConfig
from selfreward.errors import DataError
from selfreward.evaluation.outcomes import CardBasis, read_all_outcomes, read_outcomes
from selfreward.evaluation.own_answers import own_sides_in
from selfreward.judging.filters import words_of
from selfreward.judging.preferences import mean_scores
from selfreward.judging.voting import combine_orders
from selfreward.metrics.diversity import DiversityCounts
from selfreward.metrics.head_to_head import HeadToHeadOutcome, head_to_head_report
from selfreward.metrics.judge_agreement import judge_agreement
from selfreward.metrics.likelihoods import kl_report, perplexity_report
from selfreward.metrics.reward_modelling import RankedResponses, reward_modelling_report
from selfreward.metrics.score_agreement import pointwise_agreement
from selfreward.metrics.score_distribution import (
    ScoredCandidates,
    pair_lengths,
    score_distribution,
)
from selfreward.records import Outcome, Preference, Verdict
from selfreward.records_scores import Rating, ScoredResponse
from selfreward.records_self_rewarding import (
    CreatedInstruction,
    ResponseLikelihood,
    SampledInstruction,
)
from selfreward.storage.manifest import read_manifest
from selfreward.storage.shards import LOST_DRAWS, dropped_rows, read_records, sealed_shards


def _each(folder: str, record_type: Any) -> Iterator[Any]:
    """The records of a stage, a shard at a time."""
    for url in sealed_shards(folder):
        yield from read_records(url, record_type)


def _all(folder: str, record_type: Any) -> list[Any]:
    return list(_each(folder, record_type))


def candidate_figures(
    responses: str,
    ratings: str,
    scale: tuple[float, float],
    preferences: str | None,
    tie_spread: float = 0.0,
) -> dict[str, Any]:
    """Scores, ties and lengths of candidates, the draws that were lost, by reason, and the lengths
    of what was made of them; for `tie_spread` see `score_distribution`."""
    candidates: list[ScoredCandidates] = []
    # Shards correspond, and one is held at a time: the texts are many, the scores are few.
    for responses_url, ratings_url in zip(
        sealed_shards(responses), sealed_shards(ratings), strict=True
    ):
        scores = mean_scores(read_records(ratings_url, Rating))
        candidates += [
            ScoredCandidates(
                instruction_id=row.id,
                scores=tuple(scores.get(r.id) for r in row.responses),
                lengths=tuple(len(r.text) for r in row.responses),
            )
            for row in read_records(responses_url, SampledInstruction)
        ]
    figures = score_distribution(candidates, _each(ratings, Rating), scale, tie_spread).to_dict()
    manifest = read_manifest(responses)
    figures[LOST_DRAWS] = {} if manifest is None else manifest.ledger.get(LOST_DRAWS, {})
    if preferences is not None:
        figures["pairs"] = pair_lengths(_each(preferences, Preference)).to_dict()
    return figures


def creation_figures(kept: Sequence[str]) -> dict[str, Any]:
    """How varied the new instructions are; `kept` are the folders of the rounds."""
    counts = DiversityCounts()
    for folder in kept:
        for row in _each(folder, CreatedInstruction):
            counts.add(words_of(row.instruction.messages[0].content))
    return counts.report().to_dict()


def card_figures(
    labelled: Mapping[str, str], ratings: str, scale: tuple[float, float], model: str
) -> dict[str, Any]:
    """The bias card of a model on people's labelled pairs, and of its own scores.

    `labelled` maps folders of pairs to those of its judgments. The scores are of its own held-out
    answers, failed readings left out. `model` is its name, as the files may give it for the writer
    of an answer: a trained model's is its seed's.
    """
    pairs = [o for folder, judged in labelled.items() for o in read_outcomes(folder, judged)]
    scores = mean_scores(_all(ratings, Rating)).values()
    known = [score for score in scores if score is not None]
    own = own_sides_in(labelled, (model,))
    return CardBasis(own=own, scores=known, scale=scale).card_figures(pairs)


def perplexity_figures(
    likelihoods: str, config: EvaluationConfig, seed: int
) -> dict[str, Any] | None:
    """Perplexity over the texts of one likelihood stage; None without any."""
    rows = _all(likelihoods, ResponseLikelihood)
    if not rows:
        return None
    return perplexity_report(
        [r.logp for r in rows],
        [r.num_tokens for r in rows],
        confidence=config.confidence,
        num_samples=config.bootstrap_samples,
        seed=seed,
    ).to_dict()


def kl_figures(
    current: str, first: str, config: EvaluationConfig, seed: int
) -> dict[str, Any] | None:
    """KL of the current model to the first one, on responses of the current one."""
    before = {row.response_id: row for row in _all(first, ResponseLikelihood)}
    rows = [row for row in _all(current, ResponseLikelihood) if row.response_id in before]
    if not rows:
        return None
    return kl_report(
        [row.logp for row in rows],
        [before[row.response_id].logp for row in rows],
        [row.num_tokens for row in rows],
        confidence=config.confidence,
        num_samples=config.bootstrap_samples,
        seed=seed,
    ).to_dict()


def agreement_figures(
    responses: str, own: str, seeds: str, config: EvaluationConfig, seed: int
) -> dict[str, Any]:
    """How alike this model and the frozen seed order the same responses.

    There is one response an instruction: they are ordered over all instructions together.
    """
    first, second = (mean_scores(_all(folder, Rating)) for folder in (own, seeds))
    ids = [r.id for row in _all(responses, SampledInstruction) for r in row.responses]
    both = [([first.get(i) for i in ids], [second.get(i) for i in ids])]
    return judge_agreement(both, config.confidence, config.bootstrap_samples, seed).to_dict()


def mean_lengths(new: str, old: str) -> tuple[list[int], list[int]]:
    """Characters of two models' answers to the instructions that both answered."""
    before = {row.id: len(row.responses[0].text) for row in _all(old, SampledInstruction)}
    rows = [row for row in _all(new, SampledInstruction) if row.id in before]
    return [len(row.responses[0].text) for row in rows], [before[row.id] for row in rows]


_Readings = tuple[Verdict | None, Verdict | None]


def _readings(first: Verdict | None, second: Verdict | None, config: EvaluationConfig) -> _Readings:
    """Both readings of a pair; by probability, the one verdict they make together, said twice."""
    if config.head_to_head_verdict == "both_orders" or first is None or second is None:
        return first, second
    both = combine_orders(first, second)
    if both.outcome is not Outcome.CHOICE:
        return both, both
    other: Literal["first", "second"] = "second" if both.choice == "first" else "first"
    return both, Verdict(outcome=Outcome.CHOICE, choice=other)


def head_to_head_figures(
    new: str, old: str, pairs: str, judgments: str, config: EvaluationConfig, seed: int
) -> dict[str, Any] | None:
    """Wins, ties and losses of the newer model; answers of the same text are ties nobody was
    asked about, and a reading that the engine refused is a failed one. None without an
    instruction both answered."""
    refused = {row.row_id: row.reason.value for row in dropped_rows(judgments)}
    outcomes = []
    for found in read_all_outcomes(pairs, judgments):
        model_first, baseline_first = _readings(found.chosen_first, found.rejected_first, config)
        outcomes.append(
            HeadToHeadOutcome(
                prompt_id=found.pair_id,
                model_first=model_first,
                baseline_first=baseline_first,
                model_length=found.chosen_length,
                baseline_length=found.rejected_length,
                unread=refused.get(found.pair_id, "not_read"),
            )
        )
    before = {row.id: row.responses[0].text for row in _all(old, SampledInstruction)}
    tie = Verdict(outcome=Outcome.TIE)
    same = [
        HeadToHeadOutcome(
            prompt_id=row.id,
            model_first=tie,
            baseline_first=tie,
            model_length=len(before[row.id]),
            baseline_length=len(before[row.id]),
        )
        for row in _all(new, SampledInstruction)
        if before.get(row.id) == row.responses[0].text
    ]
    if not outcomes and not same:
        return None
    report = head_to_head_report(
        [*outcomes, *same], config.confidence, config.bootstrap_samples, seed
    )
    return report.to_dict() | {
        "num_same_text": len(same),
        "verdict": config.head_to_head_verdict,
    }


def scored_figures(
    rows: str,
    ratings: str,
    scale: tuple[float, float],
    config: EvaluationConfig,
    seed: int,
) -> dict[str, Any]:
    """Scores against people's: the reward-modelling metrics by prompt, and one by one."""
    scores = mean_scores(_all(ratings, Rating))
    groups: dict[str, list[ScoredResponse]] = {}
    found: list[ScoredResponse] = _all(rows, ScoredResponse)
    for row in found:
        groups.setdefault(row.group, []).append(row)
    prompts = [
        RankedResponses(
            prompt_id=group,
            # The best has rank 1; people's equal scores share a rank.
            human_ranks=tuple(float(sum(o.score > r.score for o in of) + 1) for r in of),
            scores=tuple(scores.get(r.id) for r in of),
        )
        for group, of in groups.items()
    ]
    report = reward_modelling_report(
        prompts,
        full_score=scale[1],
        confidence=config.confidence,
        num_samples=config.bootstrap_samples,
        seed=seed,
    )
    scales = {(r.low, r.high) for r in found}
    if len(scales) != 1:
        raise DataError(f"{rows}: scores of several scales {sorted(scales)}; split the file")
    human_scale = scales.pop()
    single = pointwise_agreement(
        [r.score for r in found], [scores.get(r.id) for r in found], human_scale, scale
    )
    return {"reward_modelling": report.to_dict(), "pointwise": asdict(single)}
