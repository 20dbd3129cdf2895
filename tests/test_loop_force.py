"""`--force`: what is removed so that a stage is done again, in all three loops."""

from pathlib import Path
from typing import Any

import pytest

from selfreward.errors import UserError
from selfreward.layout import Layout, join
from selfreward.loops.force import remove_from
from selfreward.storage import files
from selfreward.storage.checkpoints import CurrentJudge, read_current, write_current

ONCE = {"pool", "heldout/pool", "categorised", "instructions", "labelled/mine"}
MEASURED = {
    *("iter_00/evaluation", "iter_01/evaluation", "iter_01/promotion.json"),
    *("iter_02/evaluation", "iter_03/evaluation", "iter_03/promotion.json"),
}
SEEDS = {"seeds/ift", "heldout/ift"}
M1 = {"iter_01/eft_ratings", "iter_01/eft", "iter_01/examples"}
M1 |= {"iter_01/training", "iter_01/checkpoint"}
CREATED = {"iter_02/prompts/00", "iter_02/created/00", "iter_02/kept/00"}
SCORED = {"iter_02/ratings", "iter_02/likelihoods/now", "iter_02/preferences"}
ROUND_2 = {*CREATED, "iter_02/responses", *SCORED, "iter_02/meta_pairs"}
M2 = {"iter_02/training", "iter_02/checkpoint"}
M3 = {"iter_03/created/00", "iter_03/responses", "iter_03/examples", "iter_03/checkpoint"}
REWARDING = {*ONCE, "data/ranks", *SEEDS, *M1, *ROUND_2, *M2, *M3, *MEASURED}

PAIRS = {"validation/responses", "heldout/pairs", "iter_01/responses", "iter_01/pairs"}
OWN_PAIRS = {"iter_02/responses", "iter_02/pairs", "iter_03/responses", "iter_03/pairs"}
JUDGED = {"iter_01/judgments", "iter_02/judgments", "iter_03/judgments"}
LEARNT_1 = {"iter_01/selected", "iter_01/validation_examples", "iter_01/checkpoint"}
LEARNT = {*LEARNT_1, "iter_02/selected", "iter_02/preferences", "iter_02/training"}
LEARNT |= {"iter_02/checkpoint", "iter_03/selected", "iter_03/examples"}
TAUGHT = {*ONCE, *PAIRS, *JUDGED, *LEARNT, *MEASURED}


def run_of(tmp_path: Path, folders: set[str], iterations: int = 3) -> Layout:
    layout = Layout(str(tmp_path))
    for folder in folders:
        files.write_bytes(join(layout.root, folder, "manifest.json"), b"{}")
    files.write_json(layout.run_json, {"iterations": iterations})
    current = CurrentJudge(iteration=2, checkpoint="x", fingerprint="f", accuracy=None, reason="")
    write_current(layout, current)
    return layout


def gone(tmp_path: Path, kind: Any, force: str, folders: set[str]) -> set[str]:
    layout = run_of(tmp_path, folders)
    remove_from(layout, force, kind)
    return {f for f in folders if not files.exists(join(layout.root, f))}


def of(*iterations: int, among: set[str]) -> set[str]:
    return {f for f in among if f.startswith(tuple(f"iter_{i:02d}/" for i in iterations))}


# --- the self-rewarding loop ---------------------------------------------------------------------


def test_a_stage_of_a_round_goes_with_what_follows_and_the_rounds_after(tmp_path: Path) -> None:
    # Nothing of what M_1 was made of changes; all of round 3 was written by what M_2 was.
    after = {*M2, *of(2, 3, among=MEASURED), *M3}
    scored = {*SCORED, "iter_02/meta_pairs"}
    assert gone(tmp_path, "self_rewarding", "rate", REWARDING) == scored | after
    # A manifest calls a step by its own name: that of a round's filter is part of `create`.
    assert gone(tmp_path, "self_rewarding", "filter", REWARDING) == ROUND_2 | after


def test_training_again_leaves_nothing_that_the_old_models_wrote(tmp_path: Path) -> None:
    trained = {"iter_01/training", "iter_01/checkpoint", *of(1, among=MEASURED)}
    later = of(2, 3, among=REWARDING)
    assert gone(tmp_path, "self_rewarding", "train", REWARDING) == trained | later
    # A baseline is trained alike, and the judgments that M_1 learns from are the baseline's.
    folders = {*REWARDING, "iter_01/baseline_training", "iter_01/baseline_checkpoint"}
    assert gone(tmp_path, "self_rewarding", "train", folders) == of(1, 2, 3, among=folders)


def test_from_an_iteration_on_the_models_before_stay(tmp_path: Path) -> None:
    found = gone(tmp_path, "self_rewarding", "train@2", REWARDING)
    assert found == {*M2, *of(2, 3, among=MEASURED), *M3}
    found = gone(tmp_path, "self_rewarding", "sample@3", REWARDING)
    assert found == of(3, among=REWARDING) - {"iter_03/created/00"}
    # The seed is measured by the same rubric; @1 begins behind that.
    assert gone(tmp_path, "self_rewarding", "eft", REWARDING) == of(0, 1, 2, 3, among=REWARDING)
    assert gone(tmp_path, "self_rewarding", "eft@1", REWARDING) == of(1, 2, 3, among=REWARDING)


def test_what_is_only_measured_on_costs_no_model(tmp_path: Path) -> None:
    wanted = {*MEASURED, "labelled/mine", "data/ranks"}
    for name in ("evaluate", "labelled", "head_to_head"):
        assert gone(tmp_path, "self_rewarding", name, REWARDING) == wanted
        assert gone(tmp_path, "self_taught", name, TAUGHT) == wanted & TAUGHT
    found = gone(tmp_path, "self_rewarding", "evaluate@2", REWARDING)
    assert found == of(2, 3, among=MEASURED)


def test_selecting_from_the_pool_again_keeps_the_seeds_and_what_learnt_from_them(
    tmp_path: Path,
) -> None:
    rounds = of(2, 3, among=REWARDING)
    found = gone(tmp_path, "self_rewarding", "select_instructions", REWARDING)
    assert found == {"instructions"} | rounds
    found = gone(tmp_path, "self_rewarding", "categorise", REWARDING)
    assert found == {"categorised", "instructions"} | rounds
    assert gone(tmp_path, "self_rewarding", "pool", REWARDING) == REWARDING
    found = gone(tmp_path, "self_rewarding", "seeds", REWARDING)
    assert found == SEEDS | of(0, 1, 2, 3, among=REWARDING)


# --- the self-taught loop ------------------------------------------------------------------------


def test_judging_again_keeps_the_pairs(tmp_path: Path) -> None:
    folders = TAUGHT | OWN_PAIRS
    assert gone(tmp_path, "self_taught", "judge", folders) == {*JUDGED, *LEARNT, *MEASURED}


def test_later_judgments_go_with_the_model_that_made_them(tmp_path: Path) -> None:
    folders = TAUGHT | OWN_PAIRS
    first = {*LEARNT_1, *of(1, among=MEASURED)}
    later = of(2, 3, among=folders) - OWN_PAIRS
    assert gone(tmp_path, "self_taught", "select", folders) == first | later
    # A step of `select` by its own name.
    assert gone(tmp_path, "self_taught", "validation_examples", folders) == first | later
    found = gone(tmp_path, "self_taught", "train@2", folders)
    last = of(3, among=folders) - OWN_PAIRS
    assert found == {*M2, *of(2, among=MEASURED)} | last


def test_pairs_of_an_iteration_leave_those_that_all_are_measured_on(tmp_path: Path) -> None:
    folders = TAUGHT | OWN_PAIRS
    found = gone(tmp_path, "self_taught", "respond", folders)
    assert found == PAIRS | of(0, 1, 2, 3, among=folders)
    assert gone(tmp_path, "self_taught", "respond@2", folders) == of(2, 3, among=folders)
    found = gone(tmp_path, "self_taught", "gather@2", folders)
    assert found == of(2, 3, among=folders) - {"iter_02/responses", "iter_03/responses"}
    for folder in OWN_PAIRS:
        files.remove(join(str(tmp_path), folder))
    with pytest.raises(UserError, match=r"^--force respond@2: iteration 2 has no pairs of its own"):
        remove_from(Layout(str(tmp_path)), "respond@2")


# --- the stages of one's own LLM -----------------------------------------------------------------

TEXT = {"corpus/general/train", "tokenizer", "initial", "iter_01/tokens", "iter_01/checkpoint"}
TEXT |= {"iter_00/evaluation/text", "iter_01/evaluation/text", "iter_04/evaluation/text"}
EXERCISES = {"tasks/finetuning/train", "tasks/instruction_tuning/heldout"}
ANSWERED = {"iter_01/evaluation/tasks", "iter_01/evaluation/instructions"}
INSTRUCTED = {"iter_04/examples", "iter_04/training", "iter_04/checkpoint"}
ANSWERED_4 = {"iter_04/evaluation/tasks", "iter_04/evaluation/instructions"}
RANKED = {"rankings/train", "iter_05/preferences", "iter_05/heldout_preferences"}
REWARDED_4 = {"iter_04/evaluation/rewards"}
OWN_4 = {"iter_04/evaluation/own_answers"}
PREFERRED = {"iter_05/reward_model_checkpoint", "iter_05/training", "iter_05/checkpoint"}
PREFERRED |= {"iter_05/evaluation/ranked", "iter_05/evaluation/tasks", "iter_06/checkpoint"}
PREFERRED |= {"iter_06/evaluation/rewards"}
OWN_LLM = TEXT | EXERCISES | ANSWERED | INSTRUCTED | ANSWERED_4 | RANKED | REWARDED_4 | OWN_4
OWN_LLM |= PREFERRED


def test_models_before_are_measured_anew_on_what_is_read_anew(tmp_path: Path) -> None:
    # Their exercises and rankings are others, so their answers would be refused.
    found = gone(tmp_path, "custom_llm", "rankings", OWN_LLM)
    assert found == RANKED | OWN_4 | REWARDED_4 | PREFERRED
    found = gone(tmp_path, "custom_llm", "tasks", OWN_LLM)
    assert found == OWN_LLM - of(0, 1, among=TEXT) - {
        "corpus/general/train",
        "tokenizer",
        "initial",
    }


def test_a_new_reward_model_scores_the_models_before_anew(tmp_path: Path) -> None:
    found = gone(tmp_path, "custom_llm", "train@5", OWN_LLM)
    assert found == PREFERRED | REWARDED_4, "their own answers stay"
    found = gone(tmp_path, "custom_llm", "rankings@5", OWN_LLM)
    rows = {"iter_05/preferences", "iter_05/heldout_preferences"}
    assert found == PREFERRED | REWARDED_4 | rows
    only_measured = {f for f in OWN_LLM if "/evaluation" in f}
    assert gone(tmp_path, "custom_llm", "evaluate", OWN_LLM) == only_measured


# --- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("force", "stays"), [("train@3", True), ("train@2", False), ("rate", False), ("pool", False)]
)
def test_the_pointer_stays_on_a_model_that_is_kept(tmp_path: Path, force: str, stays: bool) -> None:
    layout = run_of(tmp_path, REWARDING)
    remove_from(layout, force, "self_rewarding")
    assert (read_current(layout) is not None) == stays, "M_2 is current"


MISTAKES = {
    ("self_rewarding", "judge"): "no such stage; stages are pool, categorise, select_instructions,"
    " seeds, eft, create, sample, rate, prefer, train, evaluate",
    ("self_taught", "sample"): "no such stage; stages are pool, categorise, select_instructions,"
    " respond, corrupt, perturb, gather, score, judge, select, balance, train, evaluate",
    # A step of the other loop is called as it was asked for.
    ("self_taught", "filter"): "no such stage; stages are pool",
    ("self_taught", "juge@2"): "no such stage; stages are pool",
    ("self_taught", "train@"): "behind @ stands an iteration, as in train@2",
    ("self_taught", "train@two"): "behind @ stands an iteration, as in train@2",
    ("self_taught", "pool@2"): "it is made once for all iterations; leave @2 out",
    ("self_taught", "labelled@2"): "it is made once for all iterations; leave @2 out",
    ("self_taught", "train@0"): "no such iteration; there is train in iterations 1 to 3",
    ("self_taught", "train@4"): "no such iteration; there is train in iterations 1 to 3",
    ("self_rewarding", "rate@1"): "no such iteration; there is rate in iterations 2 to 3",
    ("self_rewarding", "eft@2"): "no such iteration; only iteration 1 has eft",
}


@pytest.mark.parametrize(("kind", "force"), MISTAKES)
def test_a_mistake_is_one_line_and_removes_nothing(tmp_path: Path, kind: Any, force: str) -> None:
    layout = run_of(tmp_path, REWARDING)
    with pytest.raises(UserError) as wrong:
        remove_from(layout, force, kind)
    assert str(wrong.value).startswith(f"--force {force}: {MISTAKES[kind, force]}")
    assert "\n" not in str(wrong.value)
    assert all(files.exists(join(layout.root, f)) for f in REWARDING)
