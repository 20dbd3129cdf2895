"""Two iterations' judges on the labelled pairs that a promotion is decided by."""

from collections.abc import Mapping
from dataclasses import dataclass

from selfreward.evaluation.outcomes import CardBasis, pair_outcomes, read_outcomes
from selfreward.evaluation.own_answers import Side, own_sides_in
from selfreward.layout import join
from selfreward.loops.sources import Source
from selfreward.loops.steps import Run
from selfreward.metrics.bias import BiasCard, worse_figures
from selfreward.metrics.promotion import PromotionDecision, decide_promotion


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedBetter:
    """Whether the later judge is better, and the bias cards of both.

    Example: `JudgedBetter(decision=PromotionDecision(…), before=BiasCard(…), after=BiasCard(…))`
    """

    decision: PromotionDecision
    before: BiasCard
    after: BiasCard


def own_answers(run: Run, sets: Mapping[str, Source]) -> dict[str, Side]:
    """By pair id the answer that the seed wrote, from which all judges of a run are trained."""
    return own_sides_in((source.folder for source in sets.values()), (run.config.model.name,))


def judged_better(
    run: Run, sets: Mapping[str, Source], incumbent: int, iteration: int
) -> JudgedBetter:
    """Compares the iteration's judge with the incumbent iteration's on the pairs both have read:
    better, and no figure of its bias card worse by more than `promotion.max_worse`.

    Raises:
        DataError: of one of `sets` there is no pair that both have read.
    """
    config = run.config
    before, after = (
        {
            name: read_outcomes(source.folder, join(run.layout.evaluation(i), name))
            for name, source in sets.items()
        }
        for i in (incumbent, iteration)
    )
    paired = pair_outcomes(before, after)
    basis = CardBasis(own=own_answers(run, sets))
    cards = paired.cards(basis, basis)
    decision = decide_promotion(
        *paired.accuracies,
        prompts=paired.prompts,
        max_p_value=config.promotion.max_p_value,
        worse=worse_figures(*cards, config.promotion.max_worse),
        seed=config.loop.seed,
    )
    return JudgedBetter(decision=decision, before=cards[0], after=cards[1])
