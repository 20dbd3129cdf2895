"""From judged pairs on storage to a measured judge: both orders, intervals, failures counted."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from selfreward.config import EvaluationConfig
from selfreward.errors import DataError
from selfreward.evaluation.own_answers import Side
from selfreward.judging.baselines import verdict_of_scores
from selfreward.judging.likelihood import LIKELIHOODS, ResponseLogps
from selfreward.metrics.bias import BiasCard, bias_card, excess_figures, score_figures
from selfreward.metrics.intervals import Groups
from selfreward.metrics.pairwise import (
    PairOutcome,
    accuracy_per_pair,
    pairwise_report,
    prompts_of,
)
from selfreward.metrics.promotion import Accuracies
from selfreward.records import DropReason, Judgment, Outcome, Position, ResponsePair, Verdict
from selfreward.records_scores import PairScore
from selfreward.storage.shards import dropped_rows, read_records, sealed_shards

Reduce = Callable[[Sequence[Verdict]], Verdict]
"""Makes one verdict of the draws of one order."""


def first_draw(verdicts: Sequence[Verdict]) -> Verdict:
    return verdicts[0]


def read_outcomes(
    pairs_folder: str, judgments_folder: str, reduce: Reduce = first_draw
) -> list[PairOutcome]:
    """Joins pairs with their readings, in the order of the pairs.

    A pair that was read in fewer orders than the others (a prompt too long for the context) is
    left out: the stage that judged has it in its drop file.
    """
    outcomes = [o for o in read_all_outcomes(pairs_folder, judgments_folder, reduce) if o.readings]
    most = max((len(o.readings) for o in outcomes), default=0)
    return [o for o in outcomes if len(o.readings) == most]


def read_all_outcomes(
    pairs_folder: str, judgments_folder: str, reduce: Reduce = first_draw
) -> list[PairOutcome]:
    """Joins every pair with its readings, in the order of the pairs, the pairs without one too."""
    outcomes = []
    shards = zip(sealed_shards(pairs_folder), sealed_shards(judgments_folder), strict=True)
    for pairs_url, judgments_url in shards:
        draws: dict[tuple[str, Position], list[Judgment]] = defaultdict(list)
        for judgment in read_records(judgments_url, Judgment):
            draws[judgment.pair_id, judgment.position].append(judgment)
        verdicts = {
            key: reduce([j.verdict for j in sorted(found, key=_draw)])
            for key, found in draws.items()
        }
        outcomes += [
            _outcome(pair, *(verdicts.get((pair.id, p)) for p in Position))
            for pair in read_records(pairs_url, ResponsePair)
        ]
    return outcomes


def _draw(judgment: Judgment) -> int:
    return judgment.draw


def _outcome(
    pair: ResponsePair, chosen_first: Verdict | None, rejected_first: Verdict | None
) -> PairOutcome:
    return PairOutcome(
        pair_id=pair.id,
        subset=pair.corruption,
        group=pair.instruction_id,
        chosen_first=chosen_first,
        rejected_first=rejected_first,
        chosen_length=len(pair.chosen),
        rejected_length=len(pair.rejected),
    )


def read_scored_outcomes(
    pairs_folder: str, scores_folder: str, likelihood: str | None
) -> list[PairOutcome]:
    """Joins pairs with the scores of their responses; the higher score is the verdict.

    `likelihood` names how log-probabilities are compared; None compares rewards as they are.
    """
    outcomes = []
    shards = zip(sealed_shards(pairs_folder), sealed_shards(scores_folder), strict=True)
    for pairs_url, scores_url in shards:
        scores = {s.pair_id: s for s in read_records(scores_url, PairScore)}
        for pair in read_records(pairs_url, ResponsePair):
            if pair.id in scores:
                chosen, rejected = compared_scores(scores[pair.id], likelihood)
                readings = (
                    verdict_of_scores(chosen, rejected, p, with_probability=likelihood is None)
                    for p in Position
                )
                outcomes.append(_outcome(pair, *readings))
    return outcomes


def compared_scores(score: PairScore, likelihood: str | None) -> tuple[float, float]:
    """What of a pair's scores is compared: of the chosen response, and of the rejected one."""
    if likelihood is None:
        return score.chosen, score.rejected
    compare = LIKELIHOODS[likelihood]
    chosen = ResponseLogps(
        given_prompt=score.chosen, num_tokens=score.chosen_tokens, alone=score.chosen_alone
    )
    rejected = ResponseLogps(
        given_prompt=score.rejected, num_tokens=score.rejected_tokens, alone=score.rejected_alone
    )
    return compare(chosen), compare(rejected)


def measure(
    name: str, outcomes: Sequence[PairOutcome], config: EvaluationConfig, seed: int
) -> dict[str, Any]:
    """Returns the report of one set of pairs as plain data.

    Raises:
        DataError: there are no outcomes.
    """
    if not outcomes:
        raise DataError(
            f"no pair of {name} was judged in both orders; its prompts may be too long for"
            " engine.max_model_len, or too few responses survived"
        )
    report = pairwise_report(
        outcomes,
        confidence=config.confidence,
        num_samples=config.bootstrap_samples,
        seed=seed,
    )
    return report.to_dict()


def nothing_judged(name: str, folder: str) -> DataError:
    """What to raise where the judge's stage in `folder` has read no pair of the set `name`."""
    drops = dropped_rows(folder)
    said = f"no pair of {name} was judged"
    if not drops:
        return DataError(f"{said}: it holds none")
    (reason, detail), count = Counter((d.reason, d.detail) for d in drops).most_common(1)[0]
    mend = "; raise engine.max_model_len" if reason is DropReason.PROMPT_TOO_LONG else ""
    return DataError(
        f"{said}: all were dropped, {count} of {len(drops)} times as {reason.value}"
        f" ({detail or 'without a word'}){mend}; remove {folder} to ask again"
    )


def check_probabilities(name: str, folder: str) -> None:
    """Raises DataError where no verdict of the judgments in `folder` has a probability: nothing can
    then be told by probability, and no failure of the judge's is to stand in its place."""
    has_choices = False
    for url in sealed_shards(folder):
        for judgment in read_records(url, Judgment):
            if judgment.verdict.probability_first is not None:
                return
            has_choices = has_choices or judgment.verdict.outcome is Outcome.CHOICE
    if has_choices:
        raise DataError(
            f"{name}: the judge told no probabilities of its verdicts, of which --verdict"
            " probability is made: use --verdict greedy or sampled"
        )


def common_outcomes(
    before: Sequence[PairOutcome], after: Sequence[PairOutcome]
) -> tuple[list[PairOutcome], list[PairOutcome]]:
    """The outcomes of the pairs that both judges have read, in the same order."""
    other = {o.pair_id: o for o in after}
    kept = [o for o in before if o.pair_id in other]
    return kept, [other[o.pair_id] for o in kept]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardBasis:
    """What a bias card is made of besides the judged pairs.

    Example: `CardBasis(own={"pair-1": "chosen"}, scores=(4.0, 2.0), scale=(0.0, 5.0))`
    """

    own: Mapping[str, Side] = field(default_factory=dict)
    """By pair id: which of its two responses the judge's own model wrote."""
    scores: Sequence[float] | None = None
    """Its scores of single responses."""
    scale: tuple[float, float] | None = None
    own_excess: Sequence[float] = ()
    """Its scores minus people's, as shares of the scale, of responses its own model wrote."""
    other_excess: Sequence[float] = ()
    """The same of responses by others."""

    def card(self, outcomes: Sequence[PairOutcome]) -> BiasCard:
        """The bias card over these pairs."""
        return bias_card(
            outcomes,
            self.scores,
            self.scale,
            self.own or None,
            self.own_excess,
            self.other_excess,
        )

    def card_figures(self, outcomes: Sequence[PairOutcome]) -> dict[str, Any]:
        """The card as plain data; without pairs, what the scores alone say."""
        if outcomes:
            return self.card(outcomes).to_dict()
        entropy, saturation = score_figures(self.scores, self.scale)
        figures = {"n": 0, "score_entropy_bits": entropy, "score_saturation": saturation}
        return figures | excess_figures(self.own_excess, self.other_excess)


PAIRS_ALONE = CardBasis()


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Two judges' outcomes of the pairs that both have read, by data set, in the same order.

    Example: `Paired(by_set={"pairs": ([PairOutcome(…)], [PairOutcome(…)])})`
    """

    by_set: dict[str, tuple[list[PairOutcome], list[PairOutcome]]]

    @property
    def accuracies(self) -> tuple[Accuracies, Accuracies]:
        """Accuracy of each pair by data set, of the first judge and of the second."""
        first = {name: accuracy_per_pair(a) for name, (a, _) in self.by_set.items()}
        return first, {name: accuracy_per_pair(b) for name, (_, b) in self.by_set.items()}

    @property
    def prompts(self) -> dict[str, Groups]:
        """The prompt of each pair, by data set."""
        return {name: prompts_of(a) for name, (a, _) in self.by_set.items()}

    def cards(
        self, before: CardBasis = PAIRS_ALONE, after: CardBasis = PAIRS_ALONE
    ) -> tuple[BiasCard, BiasCard]:
        """The bias cards of both over all pairs."""
        first = before.card([o for a, _ in self.by_set.values() for o in a])
        return first, after.card([o for _, b in self.by_set.values() for o in b])


def pair_outcomes(
    before: Mapping[str, Sequence[PairOutcome]], after: Mapping[str, Sequence[PairOutcome]]
) -> Paired:
    """Joins two judges' outcomes.

    Raises:
        DataError: a data set has no pair that both have read.
    """
    by_set = {name: common_outcomes(before[name], after[name]) for name in before}
    for name, (common, _) in by_set.items():
        if not common:
            raise DataError(f"{name}: there is no pair that both judges read")
    return Paired(by_set=by_set)
