"""A ranking of several responses: by a tournament of all pairs, or by a score of each.

The parts are the plans of the other two routes, so a comparison inside a ranking draws what the
same comparison by itself draws.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, groupby

from selfreward.config_serving import ServingConfig
from selfreward.engines.protocol import Completion, GenerationRequest
from selfreward.serving.judge_wire import (
    JudgedOutcome,
    PairwiseJudgment,
    RankedPair,
    RankJudgment,
    RankRequest,
    Standing,
)
from selfreward.serving.pairwise import PairwisePlan, pair_plan
from selfreward.serving.rubric_choice import choose_pairwise_rubric, choose_pointwise_rubric
from selfreward.serving.scores import (
    Failure,
    ScorePlan,
    conversation_of,
    response_plan,
    usage_of,
)
from selfreward.serving.wire import JudgeVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class TournamentPlan:
    """Every pair of responses is compared; `pairs` says which, in the order of `comparisons`.

    Example: `TournamentPlan(request_id="req-1", rubric_id="pairwise_verdict_only",
    num_responses=2, pairs=[(0, 1)], comparisons=[PairwisePlan(…)])`
    """

    request_id: str
    rubric_id: str
    num_responses: int
    pairs: list[tuple[int, int]]
    comparisons: list[PairwisePlan]

    @property
    def requests(self) -> list[GenerationRequest]:
        """Those of all comparisons, one comparison after the other."""
        return [request for plan in self.comparisons for request in plan.requests]

    def judgment(self, completions: Sequence[Completion], version: JudgeVersion) -> RankJudgment:
        """Ranks by points: 1 for a win, 1/2 for a tie; a comparison without a verdict takes part in
        neither response's points, which are scaled to all comparisons.

        A response with no comparison that has a verdict has no points, and then there is no
        ranking but the most common failure of its comparisons.
        """
        left = iter(completions)
        # One comparison takes as many completions as it has requests.
        judgments = [
            plan.judgment([next(left) for _ in plan.requests], version) for plan in self.comparisons
        ]
        results = list(zip(self.pairs, judgments, strict=True))
        standings = [_standing(index, results) for index in range(self.num_responses)]
        agreed = [j.consistent for j in judgments if j.consistent is not None]
        outcome, ranking, detail = _ranked(
            standings, [(pair, j.outcome, j.detail) for pair, j in results]
        )
        return RankJudgment(
            id=self.request_id,
            outcome=outcome,
            ranking=ranking,
            standings=standings,
            num_comparisons=len(judgments),
            comparisons=[
                RankedPair(first=first, second=second, judgment=judgment)
                for (first, second), judgment in results
            ],
            consistent_share=sum(agreed) / len(agreed) if agreed else None,
            detail=detail,
            rubric=self.rubric_id,
            judge=version,
            usage=usage_of(completions),
        )

    def failure(self, failure: Failure, version: JudgeVersion) -> RankJudgment:
        """The judgment where no completion came back."""
        return _not_ranked(self.request_id, self.rubric_id, failure, version)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringPlan:
    """Every response is scored by itself; `scores` stand in the order of the responses.

    Example: `ScoringPlan(request_id="req-1", rubric_id="pointwise_additive",
    scores=[ScorePlan(…), ScorePlan(…)])`
    """

    request_id: str
    rubric_id: str
    scores: list[ScorePlan]

    @property
    def requests(self) -> list[GenerationRequest]:
        """One for each response."""
        return [request for plan in self.scores for request in plan.requests]

    def judgment(self, completions: Sequence[Completion], version: JudgeVersion) -> RankJudgment:
        """Ranks by mean score; where a response has none there is no ranking but its failure."""
        judgments = [
            plan.judgment([completion], version)
            for plan, completion in zip(self.scores, completions, strict=True)
        ]
        standings = [
            Standing(
                index=index,
                points=judgment.score,
                failed=plan.requests[0].sampling.n - judgment.num_scores,
            )
            for index, (plan, judgment) in enumerate(zip(self.scores, judgments, strict=True))
        ]
        outcome, ranking, detail = _ranked(
            standings, [((index,), j.outcome, j.detail) for index, j in enumerate(judgments)]
        )
        return RankJudgment(
            id=self.request_id,
            outcome=outcome,
            ranking=ranking,
            standings=standings,
            scores=judgments,
            detail=detail,
            rubric=self.rubric_id,
            judge=version,
            usage=usage_of(completions),
        )

    def failure(self, failure: Failure, version: JudgeVersion) -> RankJudgment:
        """The judgment where no completion came back."""
        return _not_ranked(self.request_id, self.rubric_id, failure, version)


def plan_rank(
    request: RankRequest, config: ServingConfig, request_id: str
) -> TournamentPlan | ScoringPlan:
    """Plans a ranking by the request's method: n (n - 1) / 2 comparisons, or n scores.

    Raises ConfigError as `choose_pairwise_rubric` and `choose_pointwise_rubric` do.
    """
    messages = conversation_of(request.prompt)
    texts = request.responses
    if request.method == "scores":
        scale = choose_pointwise_rubric(request, config)
        return ScoringPlan(
            request_id=request_id,
            rubric_id=scale.id,
            scores=[
                response_plan(request, messages, text, scale, config, f"{request_id}/{index}")
                for index, text in enumerate(texts)
            ],
        )
    rubric = choose_pairwise_rubric(request, config)
    pairs = list(combinations(range(len(texts)), 2))
    return TournamentPlan(
        request_id=request_id,
        rubric_id=rubric.id,
        num_responses=len(texts),
        pairs=pairs,
        comparisons=[
            pair_plan(
                request, messages, texts[i], texts[j], rubric, config, f"{request_id}/{i}-{j}"
            )
            for i, j in pairs
        ],
    )


def _standing(index: int, results: Sequence[tuple[tuple[int, int], PairwiseJudgment]]) -> Standing:
    wins = ties = losses = failed = 0
    for (first, second), judgment in results:
        if index not in (first, second):
            continue
        if judgment.outcome == "tie":
            ties += 1
        elif judgment.choice is None:
            failed += 1
        elif index == (first if judgment.choice == "first" else second):
            wins += 1
        else:
            losses += 1
    with_verdict = wins + ties + losses
    # Otherwise a comparison that failed would count like a loss.
    num_all = with_verdict + failed
    return Standing(
        index=index,
        points=(wins + ties / 2) * num_all / with_verdict if with_verdict else None,
        wins=wins,
        ties=ties,
        losses=losses,
        failed=failed,
    )


def _ranked(
    standings: Sequence[Standing],
    parts: Sequence[tuple[tuple[int, ...], JudgedOutcome, str | None]],
) -> tuple[JudgedOutcome, list[list[int]], str | None]:
    """Returns outcome, ranking and detail; `parts` are (responses concerned, outcome, detail)."""
    failures = Counter(part[1] for part in parts if part[1] not in ("choice", "tie", "score"))
    without = [s.index for s in standings if s.points is None]
    if without:
        reasons = [part for part in parts if not set(part[0]).isdisjoint(without)]
        # Of equally common ones the earliest: a Counter keeps the order of arrival.
        outcome = Counter(part[1] for part in reasons).most_common(1)[0][0]
        detail = next(part[2] for part in reasons if part[1] == outcome)
        return outcome, [], f"no verdict on responses {without}: {detail}"
    details = []
    if failures:
        counted = ", ".join(f"{count} {outcome}" for outcome, count in failures.items())
        details = [f"{failures.total()} of {len(parts)} comparisons have no verdict: {counted}"]
    points = {s.index: s.points for s in standings if s.points is not None}
    # Sorting is stable: equal ones stay in the request's order.
    order = sorted(points, key=lambda index: -points[index])
    groups = [list(group) for _, group in groupby(order, key=lambda index: points[index])]
    if len(groups) == 1:
        return "tie", [], "; ".join(["all responses have equal points", *details])
    return "ranking", groups, "; ".join(details) or None


def _not_ranked(
    request_id: str, rubric_id: str, failure: Failure, version: JudgeVersion
) -> RankJudgment:
    return RankJudgment(
        id=request_id,
        outcome=failure.outcome,
        detail=failure.detail,
        rubric=rubric_id,
        judge=version,
    )
