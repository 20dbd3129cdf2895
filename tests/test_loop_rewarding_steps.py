"""What is asked for where a model of the self-rewarding loop is measured."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward.config import RunConfig
from selfreward.layout import Layout
from selfreward.loops import rewarding_eval, rewarding_steps
from selfreward.loops.nothing_left import why_nothing_is_left
from selfreward.loops.pools import PlacedModel
from selfreward.loops.rewarding_eval import Examination, Measured
from selfreward.loops.rewarding_steps import MeasuringSteps
from selfreward.loops.rubrics import load_pointwise_rubric
from selfreward.loops.sources import Source
from selfreward.records import ModelRef
from selfreward.storage.manifest import complete, open_stage
from selfreward.storage.shards import ShardSummary


def model(number: int) -> PlacedModel:
    ref = ModelRef(name=f"m{number}", iteration=number, fingerprint=f"f{number}")
    return PlacedModel(ref=ref, location=f"at/{number}")


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, dict[str, Any]]]:
    """The folder, the logic and the recipe of each step that was asked for."""
    made: list[tuple[str, Any, dict[str, Any]]] = []

    def fill(_run: Any, _title: str, logic: Any, output: Any, _ask: Any) -> Source:
        made.append((output.folder.rpartition("/")[2], logic, dict(output.recipe)))
        return Source(folder=output.folder, fingerprint="o", num_records=1)

    monkeypatch.setattr(rewarding_steps, "fill", fill)
    monkeypatch.setattr(rewarding_steps, "sealed_shards", lambda _: ["0"])
    return made


def run_in(tmp_path: Path) -> Any:
    config = RunConfig.model_validate({"loop": {"kind": "self_rewarding"}})
    return SimpleNamespace(config=config, layout=Layout(str(tmp_path)))


SOURCE = Source(folder="there", fingerprint="s", num_records=3)


def test_answers_that_ran_into_the_limit_are_measured_too(
    tmp_path: Path, filled: list[tuple[str, Any, dict[str, Any]]]
) -> None:
    run = run_in(tmp_path)
    assert run.config.respond.keep_truncated is False
    rubric = load_pointwise_rubric(run.config.rating.rubric)
    MeasuringSteps(run, model(0), rubric).answer(model(2), SOURCE)
    ((_, logic, _),) = filled
    assert logic.keep_truncated, "a run-on answer must not vanish from lengths and comparisons"


@pytest.mark.parametrize(
    ("of_answers", "of_choice", "told"),
    [
        (
            {"truncated_response": 5},
            {"tied_scores": 3, "low_margin": 1},
            "truncated_response 5, tied_scores 3, low_margin 1); set"
            " candidates.keep_truncated=true, or raise candidates.sampling.max_tokens",
        ),
        (
            {},
            {"tied_scores": 9},
            "tied_scores 9); raise rating.num_draws, or set rating.expected=true, which ties less",
        ),
        ({"empty_response": 9}, {}, "empty_response 9); raise candidates.num_candidates"),
    ],
)
def test_a_round_without_a_training_row_says_why_and_what_to_change(
    tmp_path: Path, of_answers: dict[str, int], of_choice: dict[str, int], told: str
) -> None:
    run = run_in(tmp_path)
    left = 9 - sum(of_answers.values())
    stages = (("responses", 9, left, of_answers), ("preferences", left, 0, of_choice))
    for stage, num_inputs, num_records, drops in stages:
        folder = run.layout.stage(2, stage)
        summary = ShardSummary(
            index=0, num_inputs=num_inputs, num_records=num_records, drops=drops, ledger={}
        )
        complete(folder, open_stage(folder, stage, {}), [summary], 1.0)
    found = why_nothing_is_left(run, 2)
    assert found == f"none of 9 instructions gave a training row ({told}"


def test_where_most_draws_were_cut_the_mend_is_about_them(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    for stage, left, drops, ledger in (
        ("responses", 9, {}, {"lost_draws": {"truncated_response": 27, "empty_response": 1}}),
        ("preferences", 0, {"too_few_scores": 9}, {}),
    ):
        folder = run.layout.stage(2, stage)
        summary = ShardSummary(index=0, num_inputs=9, num_records=left, drops=drops, ledger=ledger)
        complete(folder, open_stage(folder, stage, {}), [summary], 1.0)
    assert why_nothing_is_left(run, 2) == (
        "none of 9 instructions gave a training row (too_few_scores 9), draws lost:"
        " empty_response 1, truncated_response 27; set candidates.keep_truncated=true, or raise"
        " candidates.sampling.max_tokens"
    )


@pytest.mark.parametrize(("num_answers", "share"), [(8, 1.0), (7, None)])
def test_one_score_for_all_held_out_answers_stops_the_loop_where_there_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_answers: int, share: float | None
) -> None:
    run = run_in(tmp_path)
    monkeypatch.setattr(rewarding_eval, "on_cluster", lambda *_: ([9], [9]))
    measured = Measured(instructions=SOURCE, answered=SOURCE, scored={}, labelled={})
    rubric = load_pointwise_rubric(run.config.rating.rubric)
    # Every answer gets a 4 of 5: the saturation sees nothing.
    scores = {
        **{"num_candidates": num_answers, "num_unscored": 0, "mean_length": 9.0},
        **{"top_level_share": 0.0, "saturation": 0.0, "modal_share": 1.0},
    }
    found = Examination(run, model(0), measured, rubric)._watch(3, SOURCE, {"own_scores": scores})
    assert found["figures"]["modal_share"] == share
    line = "collapse.max_modal_share: 1 of the scored answers have one score (limit 0.95)"
    assert found["reasons"] == ([] if share is None else [line])


def test_the_kl_counts_the_ends_and_the_perplexity_of_people_does_not(
    tmp_path: Path,
    filled: list[tuple[str, Any, dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = run_in(tmp_path)

    def cluster(_run: Any, function: Any, *_args: Any) -> Any:
        if function is rewarding_eval.turn_end:
            return "<end>"
        if function is rewarding_eval.rewarding.mean_lengths:
            return [], []
        scores = {"num_candidates": 4, "num_unscored": 0, "mean_length": 9.0}
        return scores | {"top_level_share": 0.1, "saturation": 0.1, "modal_share": 0.5}

    monkeypatch.setattr(rewarding_eval, "on_cluster", cluster)
    monkeypatch.setattr(rewarding_eval.files, "write_json", lambda *_: None)
    measured = Measured(instructions=SOURCE, answered=SOURCE, scored={}, labelled={})
    rubric = load_pointwise_rubric(run.config.rating.rubric)
    Examination(run, model(0), measured, rubric).examine(model(1), rivals={})
    ends = {
        name: (logic.end, recipe.get("end"))
        for name, logic, recipe in filled
        if type(logic).__name__ == "Likelihood"
    }
    assert ends == {
        "perplexity": ("", None),
        "own_likelihood": ("<end>", "<end>"),
        "seed_likelihood": ("<end>", "<end>"),
    }
