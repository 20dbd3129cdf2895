"""The agreement of people with each other and with each version of the judge.

Everything is counted in comparisons of two responses, so that pairs and rankings add up; those of
one ranking are not independent of each other. Each comparison is turned one way or the other by a
hash of its responses' ids. Were the response that is thought better always the first, nearly all
labels would be `first`, chance would explain them, and kappa and alpha would be low though all
agree.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from selfreward.metrics.agreement import (
    Comparison,
    ComparisonLabel,
    cohen_kappa,
    krippendorff_alpha,
    observed_agreement,
    ranking_comparisons,
    score_comparisons,
)
from selfreward.records import derived_seed
from selfreward.serving.review.items import JudgedTask, ReviewItem, StoredAnswer
from selfreward.serving.review_wire import AgreementReport, JudgeAgreement, PairOfReviewers

Task = ReviewItem | JudgedTask
JudgeVerdicts = Mapping[str, Mapping[Comparison, ComparisonLabel]]
"""Task id → comparison of places in its responses → what the judge says; a comparison on which it
failed is left out."""
_Unit = tuple[str, Comparison]
_Labels = dict[_Unit, ComparisonLabel]

_TURNED: dict[ComparisonLabel, ComparisonLabel] = {
    "first": "second",
    "second": "first",
    "tie": "tie",
}


def item_verdicts(
    items: Iterable[Task],
) -> dict[str, dict[str, dict[Comparison, ComparisonLabel]]]:
    """Returns judge → task id → comparison → label, of what the tasks say the judges said.

    Without a label, scores become the comparisons they imply.
    """
    verdicts: dict[str, dict[str, dict[Comparison, ComparisonLabel]]] = {}
    for item in items:
        for said in item.judged:
            comparisons: dict[Comparison, ComparisonLabel] = {}
            if said.label is not None:
                comparisons = {(0, 1): said.label}
            elif said.scores is not None:
                comparisons = score_comparisons(said.scores)
            verdicts.setdefault(said.judge, {})[item.id] = comparisons
    return verdicts


def agreement_report(
    items: Iterable[Task],
    answers: Sequence[StoredAnswer],
    verdicts: Mapping[str, JudgeVerdicts],
) -> AgreementReport:
    """Returns how people agree with each other and with the judges, whose names key `verdicts`.

    `answers` are those that count, of the tasks `items`. Against a judge every comparison of every
    reviewer counts once: people together are one rater and the judge is the other. Raises KeyError
    for an answer to a task that is not among `items`.
    """
    by_id = {item.id: item for item in items}
    people: dict[str, _Labels] = {}
    for answer in answers:
        labels = _turned(by_id[answer.task_id], ranking_comparisons(answer.placed.ranking))
        people.setdefault(answer.reviewer, {}).update(labels)
    reviewers = sorted(people)
    return AgreementReport(
        num_answers=len(answers),
        num_comparisons=sum(len(labels) for labels in people.values()),
        reviewers=reviewers,
        krippendorff_alpha=krippendorff_alpha(people),
        between_reviewers=[
            _between(one, other, people[one], people[other])
            for one, other in combinations(reviewers, 2)
        ],
        with_judges=[
            _with_judge(judge, by_id, [people[r] for r in reviewers], said)
            for judge, said in verdicts.items()
        ],
    )


def _turned(item: Task, labels: Mapping[Comparison, ComparisonLabel]) -> _Labels:
    """The labels as they are when the response with the lower hash is the first."""
    hashes = [derived_seed("compared", item.id, ident) for ident in item.response_ids]
    return {
        (item.id, (i, j)): label if hashes[i] <= hashes[j] else _TURNED[label]
        for (i, j), label in labels.items()
    }


def _between(one: str, other: str, ones: _Labels, others: _Labels) -> PairOfReviewers:
    common = sorted(ones.keys() & others.keys())
    left, right = [ones[unit] for unit in common], [others[unit] for unit in common]
    return PairOfReviewers(
        one=one,
        other=other,
        num_common=len(common),
        agreement=observed_agreement(left, right),
        cohen_kappa=cohen_kappa(left, right),
    )


def _with_judge(
    judge: str,
    items: Mapping[str, Task],
    people: Iterable[_Labels],
    said: JudgeVerdicts,
) -> JudgeAgreement:
    judged: _Labels = {}
    for task_id, labels in said.items():
        if task_id in items:
            judged.update(_turned(items[task_id], labels))
    both = [
        (label, judged[unit])
        for labels in people
        for unit, label in labels.items()
        if unit in judged
    ]
    human, machine = [h for h, _ in both], [m for _, m in both]
    return JudgeAgreement(
        judge=judge,
        num_common=len(both),
        agreement=observed_agreement(human, machine),
        cohen_kappa=cohen_kappa(human, machine),
    )
