"""Options of the self-rewarding loop in whole runs on the scripted engine: what is trained on is
what the option promises.

All runs go on from one M1, which no option has a part in.
"""

import json
import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from scipy.stats import kendalltau

from tests.loop_tools import run_here
from tests.test_loop_self_rewarding import recipe_in, rows

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

SMALL = (
    *("meta_judge.enabled=false", "self_instruct.completions=16", "self_instruct.rounds=1"),
    *("pool.max_instructions=16", "evaluation.heldout_pairs=8", "evaluation.kl_prompts=0"),
    *("seeds.max_ift=20", "seeds.draws_per_response=2"),
    *("seed_training.max_steps=1", "training.max_steps=1"),
)


class Started:
    """A run that has its M1, to be gone on with in copies."""

    def __init__(self, folder: Path, recipe: dict[str, Any]) -> None:
        self.folder, self.recipe = folder, recipe_in(folder, recipe)
        run_here(self.recipe, *SMALL, "loop.iterations=1")

    def go_on(self, run: Path, *options: str) -> str:
        """Runs a copy with options; returns what it printed."""
        shutil.copytree(self.folder / "run", run)
        return run_here(self.recipe, *SMALL, f"run_dir={run}", *options)


@pytest.fixture(scope="module")
def started(
    tmp_path_factory: pytest.TempPathFactory, scripted_recipe: dict, local_ray: None
) -> Started:
    return Started(tmp_path_factory.mktemp("started"), scripted_recipe)


@pytest.fixture(scope="module")
def anchored(started: Started, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """M2 and M3 with CREAM's weights and the rejected answers of M0."""
    run = tmp_path_factory.mktemp("anchored") / "run"
    options = ("preferences.consistency=true", "preferences.rejected_from=first")
    return run, started.go_on(run, "loop.iterations=3", *options)


def manifest(run: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / stage / "manifest.json").read_text())
    return found


def mean_scores(run: Path, stage: str) -> dict[str, float]:
    """By response, over the draws that gave a score."""
    scores: dict[str, list[float]] = {}
    for rating in rows(run, stage):
        if rating["verdict"]["outcome"] == "score":
            scores.setdefault(rating["response_id"], []).append(rating["verdict"]["score"])
    return {response: fmean(of) for response, of in scores.items()}


def assert_trained_on(run: Path, iteration: int, stage: str, objective: str) -> None:
    """That M_t was trained on all rows of the stage and on nothing else."""
    trained, made = (manifest(run, f"iter_0{iteration}/{s}") for s in ("training", stage))
    assert trained["recipe"]["input"] == made["fingerprint"]
    assert (
        trained["num_inputs"] == made["num_records"] == len(rows(run, f"iter_0{iteration}/{stage}"))
    )
    assert trained["recipe"]["training.objective"] == objective
    assert (run / f"iter_0{iteration}" / "checkpoint" / "model.safetensors").is_file()


def test_with_cream_a_label_weighs_what_two_models_rankings_agree(
    anchored: tuple[Path, str],
) -> None:
    run, out = anchored
    # In iteration 2 the model before is the reference, which ranks nothing.
    assert {row["label_confidence"] for row in rows(run, "iter_02/preferences")} == {1.0}
    assert not (run / "iter_02" / "likelihoods").exists()
    # In iteration 3: Kendall's tau of how much likelier M2 and M1 find the answers than M0 does.
    now, before, first = (
        {row["response_id"]: row["logp"] for row in rows(run, f"iter_03/likelihoods/{name}")}
        for name in ("now", "before", "first")
    )
    agreements = []
    for row in rows(run, "iter_03/responses"):
        ids = [response["id"] for response in row["responses"]]
        gains = [[side[i] - first[i] for i in ids] for side in (now, before)]
        agreements.append((kendalltau(*gains).statistic + 1) / 2)
    confidence = fmean(agreements)
    assert 0.5 < confidence < 1
    preferences = rows(run, "iter_03/preferences")
    assert len(preferences) >= 8
    for row in preferences:
        assert row["label_confidence"] == pytest.approx(confidence)
    told = f"consistency {confidence:.3f} of this model's rankings with the one's before"
    assert f"iteration 3: {told}, over {len(agreements)} instructions" in out
    assert_trained_on(run, 3, "preferences", "dpo")


@pytest.mark.parametrize("iteration", [2, 3])
def test_with_temporal_the_rejected_answer_is_the_first_models_worst(
    anchored: tuple[Path, str], iteration: int
) -> None:
    run = anchored[0]
    here = f"iter_0{iteration}"
    own, of_first = (
        {row["id"]: row["responses"] for row in rows(run, f"{here}/{stage}")}
        for stage in ("responses", "first_responses")
    )
    scores = mean_scores(run, f"{here}/ratings")
    anchors = mean_scores(run, f"{here}/first_ratings")
    for rating in rows(run, f"{here}/first_ratings"):
        assert rating["judge"]["iteration"] == iteration - 1, "by the model that scores itself"
    preferences = rows(run, f"{here}/preferences")
    assert len(preferences) >= 8
    for row in preferences:
        best = {r["id"]: r for r in own[row["pair_id"]]}
        worst = {r["id"]: r for r in of_first[row["pair_id"]]}
        chosen, rejected = best[row["chosen_id"]], worst[row["rejected_id"]]
        assert (chosen["model"]["iteration"], rejected["model"]["iteration"]) == (iteration - 1, 0)
        assert (row["chosen"], row["rejected"]) == (chosen["text"], rejected["text"])
        assert row["chosen_score"] == max(scores[i] for i in best)
        assert row["rejected_score"] == min(anchors[i] for i in worst)
        assert row["chosen_score"] > row["rejected_score"]
    assert_trained_on(run, iteration, "preferences", "dpo")


def test_with_positives_only_it_is_sft_on_all_good_answers(
    started: Started, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ("preferences.kind=positive_only", "preferences.min_positive_score=4")
    out = started.go_on(run, "loop.iterations=2", "training.objective=sft", *options)
    scores = mean_scores(run, "iter_02/ratings")
    sampled = rows(run, "iter_02/responses")
    good = {
        (row["id"], response["text"])
        for row in sampled
        for response in row["responses"]
        if scores.get(response["id"], 0) >= 4
    }
    examples = rows(run, "iter_02/examples")
    assert {(row["pair_id"], row["target"]) for row in examples} == good
    assert len(examples) == len(good) >= 8
    without = {row["id"] for row in sampled} - {instruction for instruction, _ in good}
    assert manifest(run, "iter_02/examples")["drops"] == (
        {"no_positive": len(without)} if without else {}
    )
    assert not (run / "iter_02" / "preferences").exists()
    assert "train M2 (sft" in out
    assert_trained_on(run, 2, "examples", "sft")


def test_a_round_that_leaves_nothing_stops_the_loop_as_a_collapse(
    started: Started, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    # No two scores on a scale of five points are nine apart: every pair is dropped.
    options = ("loop.iterations=3", "preferences.min_margin=9")
    out = started.go_on(run, *options)
    drops = manifest(run, "iter_02/preferences")["drops"]
    num = sum(drops.values())
    assert drops["low_margin"] >= 8 and num == len(rows(run, "iter_02/responses"))
    told = ", ".join(f"{r} {n}" for r, n in sorted(drops.items(), key=lambda d: (-d[1], d[0])))
    reason = f"not trained: none of {num} instructions gave a training row ({told})"
    printed = " ".join(out.split())
    assert f"M2 {reason}; lower preferences.min_margin" in printed
    current = json.loads((run / "current.json").read_text())["current"]
    stopped = f"stopped after iteration 2, 1 left: the loop is collapsing; M{current['iteration']}"
    assert f"{stopped} stays current" in printed
    written = json.loads((run / "iter_02" / "promotion.json").read_text())
    assert written["stopped"] and written["reason"].startswith(reason)
    assert "report: " in printed and "no report" not in printed
    assert not (run / "iter_02" / "training").exists() and not (run / "iter_03").exists()
    # It is complete: the same command comes to the same end, and does nothing again.
    again = run_here(started.recipe, *SMALL, f"run_dir={run}", *options)
    assert stopped in " ".join(again.split()) and "starting" not in again
