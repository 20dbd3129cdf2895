import json

import pytest

from selfreward.metrics.pairwise import PairOutcome
from selfreward.metrics.protocols.llmbar import NUM_PAIRS, llmbar_report, subset_of
from selfreward.records import Outcome, Verdict

FIRST = Verdict(outcome=Outcome.CHOICE, choice="first")
SECOND = Verdict(outcome=Outcome.CHOICE, choice="second")
UNPARSED = Verdict(outcome=Outcome.UNPARSED)


def pair(subset: str, chosen_first: Verdict, rejected_first: Verdict | None) -> PairOutcome:
    return PairOutcome(
        pair_id="p", subset=subset, chosen_first=chosen_first, rejected_first=rejected_first
    )


# Published counts of GPT-4 with the plain prompt: right in one order, in the other, in both.
GPT_4 = {
    "Natural": (92, 95, 92),
    "Neighbor": (87, 85, 79),
    "GPTInst": (71, 70, 66),
    "GPTOut": (35, 37, 33),
    "Manual": (34, 35, 32),
}


def published_outcomes() -> list[PairOutcome]:
    outcomes = []
    for name, (one, other, both) in GPT_4.items():
        outcomes += [pair(name, FIRST, SECOND)] * both
        outcomes += [pair(name, FIRST, FIRST)] * (one - both)
        outcomes += [pair(name, SECOND, SECOND)] * (other - both)
        outcomes += [pair(name, SECOND, FIRST)] * (NUM_PAIRS[name] - one - other + both)
    return outcomes


def test_the_published_row_follows_from_the_published_counts() -> None:
    report = llmbar_report(published_outcomes())
    assert sum(score.n for score in report.subsets.values()) == 419
    accuracy = [round(100 * (score.accuracy or 0), 1) for score in report.subsets.values()]
    agreement = [round(100 * (score.agreement or 0), 1) for score in report.subsets.values()]
    assert accuracy == [93.5, 64.2, 76.6, 76.6, 75.0]
    assert agreement == [97.0, 89.6, 90.2, 87.2, 89.1]
    # Means of four and of five subsets, not of pairs.
    assert report.adversarial.accuracy == pytest.approx(0.731, abs=5e-4)
    assert report.adversarial.agreement == pytest.approx(0.890, abs=5e-4)
    assert report.average.accuracy == pytest.approx(0.772, abs=5e-4)
    assert report.average.published_agreement == pytest.approx(0.906, abs=5e-4)
    assert report.missing == () and report.unknown == ()


def test_readings_without_a_choice() -> None:
    report = llmbar_report(
        [
            pair("Manual", FIRST, SECOND),
            pair("Manual", UNPARSED, SECOND),
            pair("Manual", UNPARSED, UNPARSED),
            pair("Manual", FIRST, FIRST),
        ]
    )
    manual = report.subsets["Manual"]
    # Right readings: 2 + 1 + 0 + 1 of 8.
    assert manual.accuracy == 0.5
    # Of the two pairs with two choices one names the same response twice.
    assert manual.agreement == 0.5
    # The published count takes two missing readings for agreement: pairs 1 and 3 of 4.
    assert manual.published_agreement == 0.5
    assert report.missing == ("Natural", "Neighbor", "GPTInst", "GPTOut")
    assert report.adversarial.accuracy is None and report.average.accuracy is None
    assert report.adversarial.n == 4


def test_a_judge_that_never_answers_has_no_agreement_of_ours() -> None:
    natural = llmbar_report([pair("Natural", UNPARSED, UNPARSED)]).subsets["Natural"]
    assert (natural.accuracy, natural.agreement, natural.published_agreement) == (0.0, None, 1.0)


def test_a_pair_read_in_one_order_has_an_accuracy_and_no_agreement() -> None:
    natural = llmbar_report([pair("Natural", FIRST, None)]).subsets["Natural"]
    assert (natural.accuracy, natural.agreement, natural.published_agreement) == (1.0, None, None)


@pytest.mark.parametrize(
    ("name", "subset"),
    [
        ("Natural", "Natural"),
        ("LLMBar/Adversarial/GPTInst", "GPTInst"),
        ("llmbar-adver-neighbor", "Neighbor"),
        ("llmbar-natural", "Natural"),
        ("hep-go", None),
    ],
)
def test_names_of_subsets(name: str, subset: str | None) -> None:
    assert subset_of(name) == subset


def test_other_subsets_are_named_and_the_report_is_json() -> None:
    report = llmbar_report([pair("hep-go", FIRST, SECOND)])
    assert report.unknown == ("hep-go",) and report.average.n == 0
    assert json.loads(json.dumps(report.to_dict()))["subsets"]["Natural"]["accuracy"] is None
