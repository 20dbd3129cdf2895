"""Two iterations' judges on the labelled pairs that a promotion is decided by."""

from collections.abc import Mapping
from dataclasses import dataclass

from selfreward.evaluation.outcomes import CardBasis, pair_outcomes, read_outcomes
from selfreward.evaluation.own_answers import metas_of, own_sides
from selfreward.layout import join
from selfreward.loops.sources import Source
from selfreward.loops.steps import Run
from selfreward.metrics.bias import BiasCard, worse_figures
from selfreward.metrics.promotion import PromotionDecision, decide_promotion
from selfreward.records import ResponsePair
from selfreward.storage.shards import read_records, sealed_shards


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedBetter:
    """Whether the later judge is better, and the bias cards of both.

    Example: `JudgedBetter(decision=PromotionDecision(…), before=BiasCard(…), after=BiasCard(…))`
    """

    decision: PromotionDecision
    before: BiasCard
    after: BiasCard


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
    basis = _basis(sets, config.model.name)
    cards = paired.cards(basis, basis)
    decision = decide_promotion(
        *paired.accuracies,
        prompts=paired.prompts,
        max_p_value=config.promotion.max_p_value,
        worse=worse_figures(*cards, config.promotion.max_worse),
        seed=config.loop.seed,
    )
    return JudgedBetter(decision=decision, before=cards[0], after=cards[1])


def _basis(sets: Mapping[str, Source], model: str) -> CardBasis:
    """Which answers the seed wrote, that all judges of a run are trained from."""
    pairs = (
        pair
        for source in sets.values()
        for url in sealed_shards(source.folder)
        for pair in read_records(url, ResponsePair)
    )
    return CardBasis(own=own_sides(metas_of(pairs), (model,)))
