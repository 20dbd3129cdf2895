"""The tables of an evaluation and of a comparison."""

from dataclasses import replace
from typing import Any

import pytest

from selfreward.config import EvaluationConfig
from selfreward.evaluation.benchmarks import benchmark_figures
from selfreward.evaluation.evaluated import Evaluated
from selfreward.evaluation.reports import with_protocol
from selfreward.loops.compare import comparison_report
from selfreward.metrics.pairwise import PairOutcome
from selfreward.reports.evaluation import comparison_tables, markdown, tables
from tests.outcome_tools import chose, pair

RIGHT, WRONG = (chose("first"), chose("second")), (chose("second"), chose("first"))


def evaluated(outcomes: list[PairOutcome]) -> Evaluated:
    return Evaluated(
        judge="j",
        model="m",
        fingerprint="f",
        settings={},
        outcomes={"d": outcomes},
        meta={"d": {}},
        ratings={},
        dropped={"d": {}},
        work="w",
    )


def answers(*readings: Any) -> list[PairOutcome]:
    """Four pairs of two prompts."""
    return [
        replace(pair(f"p{i}", *read), group=f"ins-{i // 2}", subset="mmlu-pro-law")
        for i, read in enumerate(readings)
    ]


def test_prompts_and_intervals_stand_in_the_tables() -> None:
    found = evaluated(answers(RIGHT, RIGHT, WRONG, WRONG))
    report = found.report(EvaluationConfig(), 0)
    data = report["data"]["d"]
    assert (data["n"], data["num_prompts"]) == (4, 2)
    assert data["overall_ci"] == data["accuracy_ci"] == [0.0, 1.0]
    assert data["order_averaged_accuracy_ci"] == [0.0, 1.0]
    # One data set of two prompts: of its mean as well.
    assert report["macro"]["accuracy_ci"] == [0.0, 1.0]
    assert "| d | 4 | 2 | 0.500 | 0.000-1.000 | 0.500 | 0.000-1.000 |" in markdown(
        "title", tables(report)
    )


def test_a_benchmark_s_headline_figure_has_its_interval_beside_it() -> None:
    found = evaluated(answers(RIGHT, RIGHT, RIGHT, RIGHT))
    report = found.report(EvaluationConfig(), 0)
    for name, overall in (("judgebench", 1.0), ("rewardbench", None)):
        figures = benchmark_figures(name, found)["d"]
        report["data"]["d"] = with_protocol(report["data"]["d"], name, figures)
        assert report["data"]["d"]["overall"] == overall
        text = markdown("title", tables(report))
        assert ("| its interval | 1.000-1.000 |" in text) == (overall is not None)
        assert ("| headline figure | 1.000 |" in text) == (overall is not None)
    assert report["data"]["d"]["overall_ci"] is None, "no other interval stands in its place"


def test_a_comparison_goes_by_prompts() -> None:
    a = evaluated(answers(WRONG, WRONG, WRONG, WRONG))
    b = evaluated(answers(RIGHT, RIGHT, RIGHT, RIGHT))
    report = comparison_report(a, b, EvaluationConfig(), 0)
    # Two prompts gain: one of four patterns of signs, in each set and over all.
    assert report["data"]["d"]["num_prompts"] == 2
    assert report["data"]["d"]["accuracy"]["p_value"] == pytest.approx(1 / 4, abs=0.02)
    assert report["macro"]["p_value"] == pytest.approx(1 / 4, abs=0.02)
    headings, rows = comparison_tables(report)[0]
    assert headings[:3] == ("data set", "pairs", "prompts")
    assert rows[0][:3] == ("d", "4", "2")
    both = report["data"]["d"]["position_consistent_accuracy"]["p_value"]
    assert rows[0][-1] == f"{both:.2g}" and both == pytest.approx(1 / 4, abs=0.02)
