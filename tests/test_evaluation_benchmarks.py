"""Benchmarks by name: what stands for a benchmark's own score and sections, and AlpacaEval's use of
preferences, difficulties and published coefficients."""

import json
from collections.abc import Mapping
from math import log
from pathlib import Path
from typing import Any

import pytest

from selfreward.errors import DataError
from selfreward.evaluation.alpaca_eval import read_coefficients
from selfreward.evaluation.benchmark_scoring import score_reward_modelling
from selfreward.evaluation.benchmarks import BENCHMARKS, benchmark_figures, coverage_of
from selfreward.evaluation.evaluated import Evaluated, Ratings
from selfreward.evaluation.reports import with_protocol
from selfreward.metrics.intervals import Resampling
from selfreward.metrics.length_glm import LengthGlm
from selfreward.metrics.pairwise import PairOutcome
from selfreward.metrics.protocols.llmbar import NUM_PAIRS as LLMBAR_PAIRS
from selfreward.metrics.protocols.rewardbench import NUM_PAIRS as REWARDBENCH_PAIRS
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
    glm: LengthGlm | None = None,
    judge: str = "j",
) -> dict[str, Any]:
    found = Evaluated(
        judge=judge,
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
    figures = benchmark_figures(name, found, glm)["d"]
    return with_protocol(plain, name, figures, coverage_of(name, figures))


def test_equal_rewards_are_no_half_in_rewardbench() -> None:
    rows = [pair("a", "hep-go", FIRST, SECOND), pair("b", "hep-go", TIE, TIE)]
    writes = scored("rewardbench", rows)["protocol"]["subsets"]["hep-go"]
    rewards = scored("rewardbench", rows, judge="classifier:rm")["protocol"]["subsets"]["hep-go"]
    assert (writes["published"], rewards["published"]) == (0.75, 0.5)
    assert writes["ours"] == rewards["ours"] == 0.5


def test_scores_are_set_against_people_s_ranks() -> None:
    # The first prompt is scored in people's order, the second against it, and one response of the
    # third has no score: 3 + 0 of 3 + 1 pairs. Both full scores are of prompts' best and worst.
    ratings = Ratings(
        human=(3.0, 1.0, 2.0, 1.0, 4.0, 1.0, 2.0),
        judge=(5.0, 1.0, 3.0, 5.0, 2.0, 4.0, None),
        groups=("p", "p", "p", "q", "q", "r", "r"),
        subsets=("",) * 7,
        human_scale=(1.0, 5.0),
        judge_scale=(0.0, 5.0),
        has_scale=True,
    )
    found = score_reward_modelling(ratings, Resampling(num_samples=50))
    assert (found.n, found.num_failed, found.num_skipped) == (3, 1, 1)
    assert (found.pairwise_accuracy, found.num_pairs) == (0.75, 4)
    assert (found.five_best, found.num_full_scores) == (0.5, 2)
    assert found.exact_match == 0.5
    assert found.spearman == pytest.approx(0.0)


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
    found = scored("alpaca_eval", rows, meta, read_coefficients(str(path)))
    assert found["overall"] == pytest.approx(0.625)
    path.write_text(json.dumps({"theta": 1}))
    with pytest.raises(DataError, match="object of model, length, difficulty"):
        read_coefficients(str(path))
    path.write_text("{")
    with pytest.raises(DataError, match=r"--coefficients: .*glm\.json is not JSON"):
        read_coefficients(str(path))
    with pytest.raises(DataError, match=r"--coefficients: no file at .*none\.json"):
        read_coefficients(f"{tmp_path}/none.json")


MT_BENCH_META = {
    "question_id": 81,
    "turn": "1",
    "chosen_model": "x",
    "rejected_model": "y",
    "votes_chosen": 2.0,
    "votes_rejected": "0",
}


def test_numbers_of_meta_may_be_text_or_parquets_floats() -> None:
    found = scored("mt_bench", [pair("a", "s", FIRST, SECOND)], {"a": MT_BENCH_META})
    # Two votes on the first turn, and the judge agrees with both.
    assert found["protocol"]["turn_1"]["num_published"] == 2
    assert found["overall"] == 1.0


@pytest.mark.parametrize(
    ("name", "meta", "said"),
    [
        ("mt_bench", {"votes_chosen": None}, "votes_chosen is null and should be a whole number"),
        ("mt_bench", {"votes_chosen": 1.5}, "votes_chosen is 1.5 and should be a whole number"),
        ("mt_bench", {"votes_rejected": -1}, "votes_rejected is -1 and should be a whole number"),
        ("mt_bench", {"question_id": [81]}, r"question_id is \[81\] and should be a text"),
        ("mt_bench", {"chosen_model": None}, "chosen_model is null and should be a text"),
        ("mt_bench", {"turn": 3}, "turn is 3 and should be 1 or 2"),
        ("mt_bench", {"turn": True}, "turn is True and should be 1 or 2"),
        ("alpaca_eval", {"difficulty": [1.0]}, r"difficulty is \[1.0\] and should be a number"),
        ("alpaca_eval", {"difficulty": "nan"}, "difficulty is 'nan' and should be a number"),
        ("rm_bench", {"chosen_style": "fancy"}, "chosen_style is 'fancy' and should be one of"),
    ],
)
def test_a_field_of_meta_of_another_type_is_named(
    name: str, meta: dict[str, Any], said: str
) -> None:
    styles = {"chosen_style": "concise", "rejected_style": "concise"}
    with pytest.raises(DataError, match=rf"a: meta\.{said}"):
        scored(name, [pair("a", "s", FIRST, SECOND)], {"a": MT_BENCH_META | styles | meta})


def test_a_field_that_is_missing_is_named() -> None:
    with pytest.raises(DataError, match="meta lacks question_id, turn, chosen_model"):
        scored("mt_bench", [pair("a", "s", FIRST, SECOND)])


def whole(counts: Mapping[str, int]) -> list[PairOutcome]:
    return [
        pair(f"{name}/{number}", name, FIRST, SECOND)
        for name, count in counts.items()
        for number in range(count)
    ]


def test_how_much_of_the_benchmark_was_measured() -> None:
    rows = whole(REWARDBENCH_PAIRS)
    full = scored("rewardbench", rows)["protocol"]
    assert (full["expected"], full["measured"], full["is_complete"]) == (2985, 2985, True)
    # Five pairs of the last subset, hep-rust with 164, were too long for the judge.
    part = scored("rewardbench", rows[:-5])
    assert part["overall"] == 1.0
    found = part["protocol"]
    assert (found["expected"], found["measured"], found["is_complete"]) == (2985, 2980, False)
    assert found["incomplete"] == {"hep-rust": (159, 164)}
    assert scored("llmbar", whole(LLMBAR_PAIRS))["protocol"]["is_complete"]
    # A subset that is not LLMBar's makes no pair of it.
    odd = scored("llmbar", whole({**LLMBAR_PAIRS, "Manual": 45, "other": 1}))["protocol"]
    assert (odd["measured"], odd["expected"], odd["is_complete"]) == (418, 419, False)
    assert "expected" not in scored("head_to_head", rows[:3])["protocol"]


def test_the_splits_of_judgebench_have_sizes_of_their_own() -> None:
    gpt = whole({"mmlu-pro-law": 154, "livebench-reasoning": 98, "livebench-math": 56, "code": 42})
    sizes = [
        tuple(scored("judgebench", rows)["protocol"][k] for k in ("measured", "expected"))
        for rows in (gpt, gpt[:270], gpt[:300])
    ]
    assert sizes == [(350, 350), (270, 270), (300, 350)]


def test_every_benchmark_says_what_it_wants() -> None:
    for name, benchmark in BENCHMARKS.items():
        assert benchmark.data_needed.startswith(f"{name}: ")


def test_every_published_benchmark_says_where_its_file_is() -> None:
    for name, place in {
        "rewardbench": "allenai/reward-bench on Hugging Face, split filtered",
        "rewardbench2": "allenai/reward-bench-2 on Hugging Face, split test",
        "judgebench": "ScalerLab/JudgeBench on Hugging Face",
        "llmbar": "princeton-nlp/LLMBar",
        "mt_bench": "lmsys/mt_bench_human_judgments on Hugging Face",
        "rm_bench": "THU-KEG/RM-Bench on Hugging Face",
        "reward_modelling": "OpenAssistant/oasst1 on Hugging Face",
        "alpaca_eval": "tatsu-lab/alpaca_eval on Hugging Face",
    }.items():
        assert place in BENCHMARKS[name].data_needed
