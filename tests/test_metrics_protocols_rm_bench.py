import json

import numpy as np
import pytest

from selfreward.judging.baselines import verdict_of_scores
from selfreward.metrics.pairwise import PairOutcome
from selfreward.metrics.protocols.rm_bench import (
    DOMAINS,
    STYLES,
    RMBenchReport,
    StyledPair,
    coverage,
    rm_bench_from_pairs,
)
from selfreward.records import Outcome, Position, Verdict

FIRST = Verdict(outcome=Outcome.CHOICE, choice="first")
SECOND = Verdict(outcome=Outcome.CHOICE, choice="second")
UNPARSED = Verdict(outcome=Outcome.UNPARSED)

Three = tuple[float | None, float | None, float | None]


def scored(chosen: Three, rejected: Three, domain: str = "chat") -> list[StyledPair]:
    """The nine pairs of a prompt by a scorer's verdicts; a score of None failed."""

    def verdict(a: float | None, b: float | None, position: Position) -> Verdict:
        return UNPARSED if a is None or b is None else verdict_of_scores(a, b, position)

    first, second = Position
    return [
        styled(row, column, verdict(a, b, first), verdict(a, b, second), domain)
        for row, a in enumerate(chosen)
        for column, b in enumerate(rejected)
    ]


def report_of(prompts: list[list[StyledPair]]) -> RMBenchReport:
    return rm_bench_from_pairs([pair for prompt in prompts for pair in prompt])


def styled(row: int, column: int, a: Verdict, b: Verdict, domain: str = "chat") -> StyledPair:
    outcome = PairOutcome(pair_id="p", subset=domain, chosen_first=a, rejected_first=b)
    return StyledPair(chosen_style=STYLES[row], rejected_style=STYLES[column], outcome=outcome)


def test_a_model_that_scores_style_alone_is_easy_right_and_hard_wrong() -> None:
    chat = report_of([scored((1, 2, 3), (1, 2, 3))]).domains["chat"]
    # Chosen fancier than rejected is right, the same style ties, which is not right.
    assert chat.matrix == ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0))
    assert (chat.easy, chat.normal, chat.hard) == (1.0, 0.0, 0.0)
    assert chat.average == pytest.approx(1 / 3)


def test_the_matrix_by_hand() -> None:
    chat = report_of([scored((2, 3, 4), (1.5, 2.5, 3.5)), scored((5, 5, 5), (4, 6, None))]).domains[
        "chat"
    ]
    # First prompt: 2 beats 1.5; 3 beats 1.5 and 2.5; 4 beats all. Second: only column 0 is beaten,
    # the failed score is not.
    assert chat.matrix == ((1.0, 0.0, 0.0), (1.0, 0.5, 0.0), (1.0, 0.5, 0.5))
    # (1 + 1 + .5)/3, (1 + .5 + .5)/3, 0
    assert chat.easy == pytest.approx(2.5 / 3)
    assert chat.normal == pytest.approx(2 / 3)
    assert chat.hard == 0.0
    assert chat.num_comparisons == 18


def test_the_triangles_agree_with_numpy_on_random_scores() -> None:
    rng = np.random.default_rng(0)
    chosen, rejected = rng.normal(0.3, 1, (50, 3)), rng.normal(0, 1, (50, 3))
    prompts = [
        scored(tuple(map(float, c)), tuple(map(float, r)), DOMAINS[i % 4])  # type: ignore[arg-type]
        for i, (c, r) in enumerate(zip(chosen, rejected, strict=True))
    ]
    report = report_of(prompts)
    averages: list[float] = []
    for index, domain in enumerate(DOMAINS):
        wins = chosen[index::4, :, None] > rejected[index::4, None, :]
        matrix = wins.mean(axis=0)
        scores = report.domains[domain]
        assert scores.easy == pytest.approx(np.tril(matrix, -1).sum() / 3)
        assert scores.normal == pytest.approx(np.trace(matrix) / 3)
        assert scores.hard == pytest.approx(np.triu(matrix, 1).sum() / 3)
        averages.append(float(matrix.mean()))
    # The four domains weigh alike, though two have 13 prompts and two 12; as three cells make each
    # difficulty, the mean of easy, normal and hard is the mean of the matrix.
    assert report.overall == pytest.approx(np.mean(averages))
    # The leaderboard's identity: mean of domains = mean of difficulties.
    assert report.easy is not None and report.normal is not None and report.hard is not None
    assert report.overall == pytest.approx((report.easy + report.normal + report.hard) / 3)


def test_both_parts_of_safety_are_pooled() -> None:
    report = report_of(
        [
            scored((1, 1, 1), (0, 0, 0), "safety-refuse"),
            scored((1, 1, 1), (0, 0, 0), "safety-refuse"),
            scored((0, 0, 0), (1, 1, 1), "safety-response"),
        ]
    )
    assert report.domains["safety"].average == pytest.approx(2 / 3)
    assert report.domains["safety"].num_comparisons == 27


def test_pairs_read_in_both_orders() -> None:
    right, half, wrong = (FIRST, SECOND), (FIRST, UNPARSED), (SECOND, FIRST)
    pairs = [styled(row, column, *right) for row in range(3) for column in range(3)]
    pairs += [styled(0, 2, *half), styled(0, 2, *wrong)]
    chat = rm_bench_from_pairs(pairs).domains["chat"]
    # Cell (concise, detailed_markdown): (1 + 0.5 + 0) / 3; it is one of the three hard cells.
    assert chat.matrix[0][2] == pytest.approx(0.5)
    assert (chat.easy, chat.normal) == (1.0, 1.0)
    assert chat.hard == pytest.approx(2.5 / 3)


def test_missing_cells_and_domains_leave_no_average() -> None:
    report = rm_bench_from_pairs(
        [styled(i, i, FIRST, SECOND) for i in range(3)] + [styled(0, 0, FIRST, SECOND, "poetry")]
    )
    chat = report.domains["chat"]
    assert chat.normal == 1.0 and chat.easy is None and chat.average is None
    assert chat.matrix[0][1] is None
    assert report.overall is None and report.normal is None
    assert report.missing == DOMAINS and report.unknown == ("poetry",)
    assert json.loads(json.dumps(report.to_dict()))["domains"]["math"]["easy"] is None


def test_misshapen_input_is_refused() -> None:
    outcome = PairOutcome(pair_id="p", subset="chat", chosen_first=FIRST, rejected_first=SECOND)
    with pytest.raises(ValueError, match="not 'fancy'"):
        rm_bench_from_pairs(
            [StyledPair(chosen_style="fancy", rejected_style="concise", outcome=outcome)]
        )


def test_a_part_of_the_published_prompts_is_told() -> None:
    found = coverage(report_of([scored((1, 2, 3), (0, 1, 2)), scored((1, 2, 3), (0, 1, 2), "x")]))
    # 129 + 529 + 228 + 441 prompts of nine comparisons each; those of no domain count nowhere.
    assert (found.expected, found.measured, found.is_complete) == (11_943, 9, False)
    assert found.incomplete["chat"] == (9, 1161)
    assert found.line({"too_long": 3}) == (
        "RM-Bench: 9 of 11,943 comparisons measured; the overall is not comparable"
        " (dropped: too_long 3)"
    )
