"""What people see of a self-rewarding run: its stages, its models, and whether it is finished."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from selfreward.config_self_rewarding import CollapseConfig
from selfreward.layout import Layout, join
from selfreward.metrics.collapse import CollapseFigures, collapse_reasons, limits
from selfreward.reports.rewarding import rewarding_tables, stage_folders
from selfreward.reports.summary import print_summary, read_summary
from selfreward.storage import files
from selfreward.storage.manifest import complete, open_stage
from selfreward.storage.shards import ShardSummary


def lines_of(text: str) -> list[str]:
    return [" ".join(re.split(r"[\s│┃|]+", line)).strip() for line in text.splitlines()]


def shown(
    figures: dict[int, dict[str, Any]], watched: dict[int, dict[str, Any]] | None = None
) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=160)
    for table in rewarding_tables(figures, watched or {}):
        console.print(table)
    return lines_of(out.getvalue())


def seed_figures(**more: Any) -> dict[str, Any]:
    own = {"mean_score": 3.0, "top_level_share": 0.25, "mean_length": 120.6}
    return {"own_scores": own, "perplexity": {"perplexity": 12.251}, "scored": {}} | more


def head_to_head(**more: Any) -> dict[str, Any]:
    return {
        "n": 8,
        "num_failed": 2,
        "win_rate": 0.5,
        "tie_rate": 0.25,
        "loss_rate": 0.25,
        "adjusted_win_rate": 0.625,
        "adjusted_win_rate_ci": [0.4, 0.85],
        "mean_model_length": 130.2,
        "mean_baseline_length": 99.0,
    } | more


def agreement(**more: Any) -> dict[str, Any]:
    report = {
        "pairwise_accuracy": 0.75,
        "pairwise_accuracy_ci": [0.5, 1.0],
        "pairwise_accuracy_ties_half": 0.8125,
        "five_best": 0.9,
        "exact_match": 0.4,
        "spearman": 0.6,
        "kendall_tau": 0.55,
        "num_failed": 1,
        "num_responses": 24,
    }
    return {"reward_modelling": report | more, "pointwise": {}}


def trained(**more: Any) -> dict[str, Any]:
    return seed_figures(
        kl={"kl": 1.234, "kl_per_token": 0.0247},
        seed_agreement={"kendall_tau": 0.5},
        head_to_head={"M0": head_to_head()},
        head_to_head_judge="tiny",
        creation={"kept": 57, "created": 64},
        candidates={
            "tie_rate": 0.125,
            "pairs": {"n": 40},
            "lost_draws": {"truncated_response": 3, "empty_response": 2},
        },
        **more,
    )


def test_a_model_is_one_line_and_what_it_lacks_is_blank() -> None:
    lines = shown({0: seed_figures(), 2: trained()})
    heading = next(line for line in lines if line.startswith("model kept"))
    assert heading == (
        "model kept draws lost pairs ties score top score length perplexity KL/token tau with M0"
    )
    assert "M0 3.00 0.25 121 12.25" in lines
    # The KL is per token, as its threshold is.
    assert "M2 57 of 64 5 40 0.12 3.00 0.25 121 12.25 0.025 0.50" in lines


def test_figures_that_were_not_measured_are_blank() -> None:
    none = {"mean_score": None, "top_level_share": None, "mean_length": None}
    bare = {
        "own_scores": none,
        "perplexity": None,
        "scored": {},
        "kl": None,
        "seed_agreement": {"kendall_tau": None},
        # Positive examples are no pairs, and a slice of the pool is not created.
        "candidates": {"tie_rate": None},
    }
    lines = shown({1: bare})
    assert "M1" in lines
    assert not any("None" in line for line in lines)
    assert not any("Answers compared" in line or "people's" in line for line in lines)


def test_answers_compared_name_judge_rival_and_lengths() -> None:
    rivals = {"M0": head_to_head(), "M1": head_to_head(n=3, adjusted_win_rate=0.5)}
    lines = shown({0: seed_figures(), 2: trained() | {"head_to_head": rivals}})
    assert "Answers compared by tiny" in lines
    assert "M2 M0 8 2 0.50 0.25 0.25 0.62 0.40-0.85 130 / 99" in lines
    assert "M2 M1 3 2 0.50 0.25 0.25 0.50 0.40-0.85 130 / 99" in lines


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (None, "M2 M0 0"),
        (
            {
                **{"n": 0, "num_failed": 24, "win_rate": None},
                **{"adjusted_win_rate": None, "adjusted_win_rate_ci": None},
            },
            "M2 M0 0 24",
        ),
    ],
)
def test_a_comparison_without_a_result_says_zero_and_how_many_failed(
    report: Any, line: str
) -> None:
    assert line in shown({2: trained() | {"head_to_head": {"M0": report}}})


def watched_of(**figures: float | None) -> dict[str, Any]:
    watched = CollapseFigures(**figures)
    config = CollapseConfig(max_near_duplicates=None)
    return {
        "figures": watched.to_dict(),
        "limits": limits(config),
        "reasons": collapse_reasons(watched, config),
    }


def test_what_is_watched_stands_beside_its_limit_for_every_model() -> None:
    # The seed is what is compared with: what it says is never beyond a limit.
    seed = watched_of(unscored=0.0, modal_share=1.0, length_ratio=1.0)
    last = watched_of(
        **{"unscored": 0.125, "modal_share": 1.0, "length_ratio": 1.25, "tie_rate": 0.5},
        **{"distinct_2": 0.0625, "near_duplicate_rate": 0.375, "kl_per_token": 0.0247},
    )
    lines = shown({0: seed_figures()}, {0: seed, 2: last})
    assert "figure limit M0 M2" in lines
    assert "answers it cannot score at most 0.9 0 0.125" in lines
    assert "answers with the commonest score at most 0.95 1 1!" in lines
    assert "tied candidates at most 0.98 0.5" in lines
    assert "length over M0's at most 4 1 1.25" in lines
    assert "distinct word pairs (distinct-2) at least 0.1 0.0625!" in lines
    # Watched without stopping, and never measured.
    assert "near-duplicate instructions 0.375" in lines
    assert "KL to M0, nats per token at most 1 0.0247" in lines
    assert not any("tau with M0's scores" in line for line in lines)


def test_the_scores_are_shown_by_level() -> None:
    own = seed_figures()["own_scores"] | {"histogram": {"0": 0, "1": 2, "2": 22}}
    lines = shown({0: seed_figures() | {"own_scores": own}})
    assert "Its own answers by score" in lines
    assert "model score 0 score 1 score 2" in lines and "M0 0 2 22" in lines


def test_scores_against_people_with_and_without_figures() -> None:
    blank = dict.fromkeys(
        (
            *("pairwise_accuracy", "pairwise_accuracy_ci", "pairwise_accuracy_ties_half"),
            *("five_best", "exact_match", "spearman", "kendall_tau"),
        )
    )
    scored = {"ranks": agreement(), "mute": agreement(num_failed=24, **blank)}
    lines = shown({0: seed_figures(), 1: seed_figures(scored=scored)})
    assert "Scores against people's" in lines
    assert "M1 ranks 0.750 0.500-1.000 0.812 0.90 0.40 0.60 0.55 1 of 24" in lines
    assert "M1 mute 24 of 24" in lines


# --- the run -------------------------------------------------------------------------------------


def test_the_stages_come_in_the_order_in_which_they_are_made() -> None:
    titles = [title for title, _ in stage_folders(Layout("r"), 2, 2)]
    rounds = ["create 2, round 1", "filter 2, round 1", "create 2, round 2", "filter 2, round 2"]
    assert titles.index("train 1") < titles.index(rounds[0])
    assert [t for t in titles if "round" in t] == rounds
    assert titles.index(rounds[-1]) < titles.index("score 2") < titles.index("train 2")
    folders = dict(stage_folders(Layout("r"), 2, 2))
    assert folders["filter 2, round 2"] == "r/iter_02/kept/01"
    assert len(set(folders.values())) == len(folders)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(str(tmp_path / "run"))
    files.write_json(made.run_json, {"id": "run-1", "loop": "self_rewarding", "iterations": 3})
    files.write_bytes(made.config, b"loop: {iterations: 3}\nself_instruct: {rounds: 1}\n")
    return made


def stage(
    folder: str,
    num_inputs: int,
    num_records: int,
    drops: dict[str, int],
    lost: dict[str, int] | None = None,
) -> None:
    summary = ShardSummary(
        index=0,
        num_inputs=num_inputs,
        num_records=num_records,
        drops=drops,
        ledger={"lost_draws": lost} if lost else {},
    )
    complete(folder, open_stage(folder, "s", {"x": 1}), [summary], 1.0)


def summary_lines(layout: Layout) -> list[str]:
    out = io.StringIO()
    print_summary(read_summary(layout), Console(file=out, width=80))
    return lines_of(out.getvalue())


def test_a_run_shows_its_funnel_and_models(layout: Layout) -> None:
    stage(join(layout.root, "seeds", "ift"), 30, 24, {"exact_duplicate": 6})
    stage(layout.stage(2, "kept/00"), 64, 57, {"similar_instruction": 7})
    stage(layout.preferences(2), 57, 40, {"tied_scores": 17})
    files.write_json(join(layout.evaluation(0), "figures.json"), seed_figures())
    files.write_json(join(layout.evaluation(2), "figures.json"), trained())
    lines = summary_lines(layout)
    assert "answered seeds 30 24 exact_duplicate 6 1.0" in lines
    assert "filter 2, round 1 64 57 similar_instruction 7 1.0" in lines
    assert "pairs 2 57 40 tied_scores 17 1.0" in lines
    assert any(line.startswith("M2 57 of 64 5 40") for line in lines)
    # Without labelled pairs there are no accuracies to tell.
    assert not any("Judges on pairs" in line for line in lines)


def test_draws_that_were_lost_stand_beside_the_instructions_that_left(layout: Layout) -> None:
    lost = {"truncated_response": 1203, "empty_response": 2}
    stage(layout.responses(2), 600, 599, {"empty_response": 1}, lost)
    stage(layout.stage(2, "first_responses"), 9, 9, {}, {"empty_response": 1})
    told = {line.title: line.why_dropped for line in read_summary(layout).stages}
    assert told == {
        "respond 2": "empty_response 1; draws lost: empty_response 2, truncated_response 1,203",
        "respond 2, first model": "draws lost: empty_response 1",
    }
    assert "respond 2, first model 9 9 draws lost: empty_response 1 1.0" in summary_lines(layout)


def test_a_round_that_trained_no_model_shows_what_was_watched(layout: Layout) -> None:
    files.write_json(join(layout.evaluation(0), "figures.json"), seed_figures())
    url = join(layout.iteration(2), "round.json")
    files.write_json(url, {"candidates": {}, "collapse": watched_of(tie_rate=1.0)})
    lines = summary_lines(layout)
    assert "figure limit M2" in lines and "tied candidates at most 0.98 1!" in lines


def promote(layout: Layout, iteration: int, **fields: Any) -> None:
    promotion = {"promoted": False, "reason": "not promoted: x", "stopped": False} | fields
    files.write_json(join(layout.iteration(iteration), "promotion.json"), promotion)


def test_a_run_that_stopped_by_itself_is_complete(layout: Layout) -> None:
    promote(layout, 1, promoted=True)
    promote(layout, 2)
    assert not read_summary(layout).is_complete, "the third iteration is missing"
    promote(layout, 2, stopped=True, reason="not promoted: 99% of the candidates …")
    assert read_summary(layout).is_complete
    assert "M2: not promoted: 99% of the candidates …" in summary_lines(layout)


def test_a_run_without_a_stop_is_complete_after_its_last_iteration(layout: Layout) -> None:
    for iteration in (1, 2, 3):
        assert not read_summary(layout).is_complete
        promote(layout, iteration)
    assert read_summary(layout).is_complete
