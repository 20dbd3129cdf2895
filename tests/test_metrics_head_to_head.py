import json
from dataclasses import replace
from itertools import count

import pytest

from selfreward.metrics.head_to_head import HeadToHeadOutcome, head_to_head_report, sign_test
from selfreward.metrics.intervals import bootstrap_interval
from selfreward.records import Outcome, Verdict
from tests.outcome_tools import REFUSED, TIE, TRUNCATED, UNPARSED, chose

NUMBERS = count()
FIRST, SECOND = chose("first"), chose("second")


def read(
    model_first: Verdict, baseline_first: Verdict, lengths: tuple[int, int] | None = None
) -> HeadToHeadOutcome:
    model_length, baseline_length = lengths if lengths else (None, None)
    return HeadToHeadOutcome(
        prompt_id=f"p{next(NUMBERS)}",
        model_first=model_first,
        baseline_first=baseline_first,
        model_length=model_length,
        baseline_length=baseline_length,
    )


@pytest.mark.parametrize(
    ("model_first", "baseline_first", "expected"),
    [
        (FIRST, SECOND, "win"),
        (SECOND, FIRST, "loss"),
        (FIRST, FIRST, "tie"),
        (SECOND, SECOND, "tie"),
        (TIE, TIE, "tie"),
        (FIRST, TIE, "tie"),
        (TIE, FIRST, "tie"),
        (FIRST, UNPARSED, None),
        (REFUSED, SECOND, None),
        (TIE, TRUNCATED, None),
    ],
)
def test_a_win_needs_both_orders(
    model_first: Verdict, baseline_first: Verdict, expected: str | None
) -> None:
    assert read(model_first, baseline_first).result == expected


def test_the_report_by_hand() -> None:
    report = head_to_head_report(
        [
            read(FIRST, SECOND, (100, 50)),
            read(FIRST, SECOND, (200, 70)),
            read(SECOND, FIRST, (30, 90)),
            read(FIRST, FIRST),
            read(TIE, TIE),
            read(FIRST, UNPARSED, (9999, 1)),
            read(TRUNCATED, UNPARSED),
        ]
    )
    assert (report.n, report.num_failed) == (5, 2)
    assert report.failed_readings == {"unparsed": 2, "truncated": 1, "refused": 0}
    assert (report.num_wins, report.num_ties, report.num_losses) == (2, 2, 1)
    assert report.num_order_ties == 1
    assert (report.win_rate, report.tie_rate, report.loss_rate) == (0.4, 0.4, 0.2)
    # (2 + 2 / 2) / 5
    assert report.adjusted_win_rate == pytest.approx(0.6)
    # Over the three prompts with a result and lengths: 330 / 3 and 210 / 3.
    assert report.mean_model_length == pytest.approx(110)
    assert report.mean_baseline_length == pytest.approx(70)
    assert json.loads(json.dumps(report.to_dict()))["num_wins"] == 2


def test_the_printed_rates_of_the_paper() -> None:
    # M3 against the SFT baseline on 256 prompts: 62.5 % wins, 9.8 % losses (arXiv 2401.10020).
    said = [(FIRST, SECOND)] * 160 + [(SECOND, FIRST)] * 25 + [(FIRST, FIRST)] * 71
    outcomes = [read(*both) for both in said]
    report = head_to_head_report(outcomes, seed=4)
    assert report.win_rate == 0.625
    assert report.loss_rate == pytest.approx(0.098, abs=0.0005)
    # 0.625 + 71 / 512
    assert report.adjusted_win_rate == pytest.approx(0.7637, abs=0.0001)
    points = [1.0] * 160 + [0.0] * 25 + [0.5] * 71
    assert report.adjusted_win_rate_ci == bootstrap_interval(points, seed=4)


def test_a_model_against_itself_is_even() -> None:
    # A judge that always names one position, and one that always says tie.
    for outcomes in ([read(FIRST, FIRST)] * 9, [read(TIE, TIE)] * 9):
        report = head_to_head_report(outcomes)
        assert (report.adjusted_win_rate, report.adjusted_win_rate_ci) == (0.5, (0.5, 0.5))
        assert report.tie_rate == 1.0


def test_without_a_result_there_is_no_rate() -> None:
    report = head_to_head_report([read(UNPARSED, REFUSED, (1, 2))])
    assert (report.n, report.num_failed) == (0, 1)
    assert report.win_rate is None and report.tie_rate is None and report.loss_rate is None
    assert report.adjusted_win_rate is None and report.adjusted_win_rate_ci is None
    assert report.mean_model_length is None and report.mean_baseline_length is None
    assert report.to_dict()["adjusted_win_rate_ci"] is None


def test_what_is_no_comparison_is_refused() -> None:
    with pytest.raises(ValueError, match="no prompts"):
        head_to_head_report([])
    with pytest.raises(ValueError, match="a score is not"):
        head_to_head_report([read(Verdict(outcome=Outcome.SCORE, score=3.0), FIRST)])


@pytest.mark.parametrize(
    ("wins", "losses", "ways"),
    # Of the 2^n ways that n comparisons can fall, those with as many wins or more.
    [(5, 0, 1), (9, 1, 11), (3, 2, 16), (2, 2, 11), (0, 3, 8)],
)
def test_the_sign_test_counts_the_ways_that_chance_has(wins: int, losses: int, ways: int) -> None:
    assert sign_test(wins, losses) == pytest.approx(ways / 2 ** (wins + losses))


def test_without_a_win_or_a_loss_nothing_is_known() -> None:
    assert sign_test(0, 0) == 1.0
    with pytest.raises(ValueError, match="counts"):
        sign_test(-1, 2)


def test_answers_to_one_prompt_are_resampled_together() -> None:
    won, lost = read(FIRST, SECOND), read(SECOND, FIRST)
    report = head_to_head_report(
        [*(replace(won, prompt_id="a") for _ in range(9)), *(replace(lost, prompt_id="b"),) * 9]
    )
    assert report.adjusted_win_rate_ci == report.overall_ci == (0.0, 1.0)
