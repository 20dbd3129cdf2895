"""Benchmarks by name: what stands for a benchmark's own score and sections, and AlpacaEval's use of
preferences, difficulties and published coefficients."""

import json
from math import log
from pathlib import Path
from typing import Any

import pytest

from selfreward.errors import DataError
from selfreward.evaluation.benchmarks import BENCHMARKS, benchmark_figures
from selfreward.evaluation.evaluated import Evaluated
from selfreward.evaluation.reports import with_protocol
from selfreward.metrics.pairwise import PairOutcome
from selfreward.records import Outcome, Verdict

FIRST = Verdict(outcome=Outcome.CHOICE, choice="first")
SECOND = Verdict(outcome=Outcome.CHOICE, choice="second")
TIE = Verdict(outcome=Outcome.TIE)
UNPARSED = Verdict(outcome=Outcome.UNPARSED)


def sure(p_first: float) -> Verdict:
    choice = "first" if p_first > 0.5 else "second"
    return Verdict(outcome=Outcome.CHOICE, choice=choice, probability_first=p_first)  # type: ignore[arg-type]


def pair(
    pair_id: str, subset: str, chosen_first: Verdict, rejected_first: Verdict, length: int = 9
) -> PairOutcome:
    return PairOutcome(
        pair_id=pair_id,
        subset=subset,
        chosen_first=chosen_first,
        rejected_first=rejected_first,
        chosen_length=length,
        rejected_length=8,
    )


def scored(
    name: str,
    outcomes: list[PairOutcome],
    meta: dict[str, dict[str, Any]] | None = None,
    coefficients: str | None = None,
) -> dict[str, Any]:
    found = Evaluated(
        judge="j",
        model="m",
        fingerprint="f",
        settings={},
        outcomes={"d": outcomes},
        meta={"d": meta or {}},
        ratings={},
        dropped={"d": {}},
        work="w",
    )
    plain = {"overall": 0.123, "sections": {}}
    return with_protocol(plain, name, benchmark_figures(name, found, coefficients)["d"])


def test_judgebench_by_category_in_both_scorings() -> None:
    # Right beside a tie is right as published, and not right in both orders.
    rows = [
        pair("a", "mmlu-pro-law", FIRST, SECOND),
        pair("b", "mmlu-pro-law", FIRST, TIE),
        pair("c", "livebench-math", SECOND, FIRST),
    ]
    found = scored("judgebench", rows)
    assert found["overall"] == pytest.approx(2 / 3)
    assert (found["sections"]["knowledge"], found["sections"]["knowledge, strict"]) == (1.0, 0.5)
    assert (found["sections"]["math"], found["sections"]["math, strict"]) == (0.0, 0.0)


def test_llmbar_is_the_average_of_its_subsets() -> None:
    names = ("Natural", "Neighbor", "GPTInst", "GPTOut", "Manual")
    rows = [pair(n, n, FIRST, SECOND if n == "Natural" else FIRST) for n in names]
    found = scored("llmbar", rows)
    # Natural 1; the others are right in one order of two: (1 + 4 * 0.5) / 5.
    assert found["overall"] == pytest.approx(0.6)
    assert found["sections"]["Adversarial"] == 0.5
    assert scored("llmbar", rows[:4])["overall"] is None, "no other figure stands in its place"


def test_rm_bench_by_domain_and_difficulty() -> None:
    styles = ("concise", "detailed_plain", "detailed_markdown")
    rows, meta = [], {}
    for domain in ("chat", "code", "math", "safety"):
        for chosen in styles:
            for rejected in styles:
                name = f"{domain}/{chosen}/{rejected}"
                rows.append(pair(name, domain, FIRST, FIRST if domain == "chat" else SECOND))
                meta[name] = {"chosen_style": chosen, "rejected_style": rejected}
    found = scored("rm_bench", rows, meta)
    # (0.5 + 1 + 1 + 1) / 4
    assert found["overall"] == pytest.approx(0.875)
    assert (found["sections"]["chat"], found["sections"]["code"]) == (0.5, 1.0)
    assert found["sections"]["hard"] == pytest.approx(0.875)


def test_mt_bench_is_the_agreement_with_people() -> None:
    vote = {"chosen_model": "x", "rejected_model": "y", "votes_chosen": 1, "votes_rejected": 0}
    rows = [pair("a", "s", FIRST, SECOND), pair("b", "s", SECOND, FIRST)]
    meta = {
        "a": vote | {"question_id": "1", "turn": 1},
        "b": vote | {"question_id": "2", "turn": 2},
    }
    found = scored("mt_bench", rows, meta)
    assert found["overall"] == 0.5
    assert found["sections"] == {"first turn": 1.0, "second turn": 0.0}


def test_head_to_head_counts_a_tie_half() -> None:
    found = scored("head_to_head", [pair("a", "s", FIRST, SECOND), pair("b", "s", FIRST, FIRST)])
    assert found["overall"] == 0.75
    assert found["sections"] == {"wins": 0.5, "ties": 0.5, "losses": 0.0}


def test_a_preference_needs_both_readings() -> None:
    # Of the first pair one reading failed: its 0.9 alone would be a liking for a position.
    # (0.8 + (1 - 0.4)) / 2 = 0.7; agreement without probabilities is 1.
    rows = [
        pair("a", "s", sure(0.9), UNPARSED, 11),
        pair("b", "s", sure(0.8), sure(0.4), 12),
        pair("c", "s", sure(0.8), SECOND, 9),
    ]
    found = scored("alpaca_eval", rows)
    assert (found["protocol"]["n"], found["protocol"]["num_failed"]) == (2, 1)
    assert found["sections"]["win rate"] == pytest.approx(0.85)
    assert found["overall"] == found["protocol"]["length_controlled_win_rate"]


def test_difficulties_are_of_all_pairs_or_of_none() -> None:
    rows = [pair("a", "s", FIRST, SECOND, 11), pair("b", "s", FIRST, FIRST, 9)]
    with pytest.raises(DataError, match=r"1 of 2 pairs have no meta\.difficulty"):
        scored("alpaca_eval", rows, {"a": {"difficulty": 1.0}})


def test_published_coefficients_take_the_place_of_a_fit(tmp_path: Path) -> None:
    rows = [pair("a", "s", FIRST, SECOND, 11), pair("b", "s", FIRST, FIRST, 9)]
    path = tmp_path / "glm.json"
    path.write_text(json.dumps({"model": log(3), "length": 2.0, "difficulty": 1.0}))
    meta = {"a": {"difficulty": 0.0}, "b": {"difficulty": -log(3)}}
    # sigmoid(log 3) = 0.75 and sigmoid(log 3 - log 3) = 0.5: 0.625 in the mean.
    found = scored("alpaca_eval", rows, meta, str(path))
    assert found["overall"] == pytest.approx(0.625)
    path.write_text(json.dumps({"theta": 1}))
    with pytest.raises(DataError, match="object of model, length, difficulty"):
        scored("alpaca_eval", rows, meta, str(path))


def test_every_benchmark_says_what_it_wants() -> None:
    for name, benchmark in BENCHMARKS.items():
        assert benchmark.data_needed.startswith(f"{name}: ")
