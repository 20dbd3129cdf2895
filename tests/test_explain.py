"""`selfreward explain`: the lineage of an id, both ways, as a user reads it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from selfreward import cli
from selfreward.errors import DataError, UserError
from selfreward.judging.pointwise import get_pointwise_rubric, render_pointwise
from selfreward.judging.rubric_files import rubric_from_text, rubric_recipe
from selfreward.layout import Layout
from selfreward.loops.explain import explain
from selfreward.records import (
    DropReason,
    Instruction,
    Outcome,
    Position,
    Verdict,
    content_id,
)
from selfreward.records_self_rewarding import CreatedInstruction, SampledInstruction
from selfreward.reports.lineage_text import lineage_text
from selfreward.schemas import STORED_RECORDS, schema_of
from selfreward.storage import files
from selfreward.storage.id_columns import ID_COLUMNS
from selfreward.storage.shards import read_records, sealed_shards
from tests.run_folders import (
    ADDITIVE,
    M1,
    SEED_MODEL,
    SelfRewarding,
    SelfTaught,
    ask,
    dropped,
    judgment,
    new_run,
    rating,
    self_rewarding_run,
    self_taught_run,
    write_stage,
)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> SelfTaught:
    return self_taught_run(str(tmp_path_factory.mktemp("taught") / "run"))


@pytest.fixture(scope="module")
def rewarding(tmp_path_factory: pytest.TempPathFactory) -> SelfRewarding:
    return self_rewarding_run(str(tmp_path_factory.mktemp("rewarding") / "run"))


def told(layout: Layout, ident: str, full: bool = False) -> str:
    return lineage_text(explain(layout.root, ident), full)


def entry_ids(layout: Layout, ident: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in explain(layout.root, ident).entries:
        found.setdefault(entry.record, []).append(entry.id)
    return found


def test_every_stored_record_says_where_its_ids_are() -> None:
    assert set(ID_COLUMNS) == set(STORED_RECORDS)
    for name, columns in ID_COLUMNS.items():
        known = {c.partition(".")[0] for c in (column.path for column in columns)}
        assert known <= set(schema_of(STORED_RECORDS[name]).names)


# --- the self-taught loop ------------------------------------------------------------------------


def test_a_training_example_tells_all_that_led_to_it(taught: SelfTaught) -> None:
    text = told(taught.layout, taught.example.id)
    assert text.startswith(f"{taught.example.id} (TrainingExample) in run {taught.layout.root}")
    assert f"INSTRUCTION {taught.instruction.id}: source pool.jsonl, category open_qa" in text
    assert "user: Why is the sky blue?" in text
    assert "by M0 tiny (aaaa1111), draw 0, stop" in text
    assert f"PAIR {taught.pair.id}: modified_instruction" in text
    assert "modified instruction: Why is the sky red at dusk?" in text
    assert "chosen first: 2 of 3 right  [iter_01/judgments]" in text
    assert "rejected first: 0 of 2 right, 1 unparsed  [iter_01/judgments]" in text
    assert f"{taught.judgments[0].id} draw 0: choice second, wrong, stop after 1 tokens" in text
    assert (
        f"TRAINING EXAMPLE {taught.example.id}: trained M1"
        "  [iter_01/examples, iter_01/selected]  <-- asked for"
    ) in text
    assert f"target from {taught.example.judgment_id}:\n    A\n" in text
    assert (
        f"{taught.pair.id}/rejected_first at select, no_right_judgment:"
        " none of 3 judgments was right  [iter_01/selected]"
    ) in text
    assert "iter_01/responses: stage respond\n    respond.sampling.temperature=0.7" in text
    assert "iter_01/training: stage train" in text
    assert "git " in text
    # The other instruction and all of its are no part of it.
    assert taught.other_pair.id not in text
    assert "salty" not in text


def test_an_instruction_tells_all_that_became_of_it(taught: SelfTaught) -> None:
    found = entry_ids(taught.layout, taught.instruction.id)
    assert found["ResponsePair"] == [taught.pair.id]
    assert sorted(found["Judgment"]) == sorted(j.id for j in taught.judgments)
    assert found["TrainingExample"] == [taught.example.id]


def test_a_reading_tells_its_prompt_and_which_example_was_made_without_it(
    taught: SelfTaught,
) -> None:
    wrong = taught.judgments[0]
    lineage = explain(taught.layout.root, wrong.id)
    assert lineage.prompt is not None
    assert lineage.prompt == [
        {"role": m.role, "content": m.content} for m in taught.example.messages
    ]
    text = told(taught.layout, wrong.id)
    # Two of three draws of one order are right, two of the other wrong and one unread:
    # (1/3 - 2/3) / 2.
    assert f"about {taught.pair.id}; made without {wrong.id}\n  verdict margin -0.167\n" in text
    text = told(taught.layout, str(taught.example.judgment_id))
    assert f"; its judgment is {taught.example.judgment_id}" in text


def test_a_rejected_answer_is_found_though_no_record_is_its_own(taught: SelfTaught) -> None:
    text = told(taught.layout, str(taught.pair.rejected_id))
    assert f"rejected {taught.pair.rejected_id}:  <-- asked for\n    The way is long then." in text
    assert f"TRAINING EXAMPLE {taught.example.id}" in text


def test_a_dropped_instruction_tells_why_and_of_what(taught: SelfTaught) -> None:
    text = told(taught.layout, taught.duplicate.id)
    assert f"{taught.duplicate.id} at pool, near_duplicate: of {taught.instruction.id}" in text
    assert f"{taught.instruction.id} [iter_01/responses, pool]: Why is the sky blue?" in text
    assert "TRAINING" not in text


def test_a_row_that_balancing_dropped_was_not_trained_on(taught: SelfTaught) -> None:
    text = told(taught.layout, taught.unbalanced.id)
    assert f"TRAINING EXAMPLE {taught.unbalanced.id}: no training has read it" in text
    assert f"{taught.unbalanced.id} at balance, label_balance  [iter_01/examples]" in text


def test_long_texts_are_shortened_unless_asked_for(taught: SelfTaught) -> None:
    # 26 + 60 * 8 = 506 characters, of which 300 are shown.
    assert len(taught.pair.chosen) == 506
    assert "… (206 more characters)" in told(taught.layout, taught.pair.id)
    full = told(taught.layout, taught.pair.id, full=True)
    assert "more characters)" not in full
    assert taught.pair.chosen.strip() in full


def test_only_shards_with_a_match_are_read_whole(
    taught: SelfTaught, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: list[Any] = []

    class Watched(pq.ParquetFile):
        def read(self, *args: Any, columns: list[str] | None = None, **more: Any) -> Any:
            table = super().read(*args, columns=columns, **more)
            if columns is None:
                whole.extend(table.column(table.column_names[0]).to_pylist())
            return table

    monkeypatch.setattr("selfreward.storage.find.pq.ParquetFile", Watched)
    explain(taught.layout.root, taught.example.id)
    # The other pair is in a shard of its own, and so is its judgment.
    assert taught.pair.id in whole
    assert taught.other_pair.id not in whole


def test_a_run_on_an_object_store_is_explained_alike() -> None:
    run = self_taught_run("memory://explain/run")
    found = entry_ids(run.layout, run.pair.id[:14])
    assert found["TrainingExample"] == [run.example.id]
    assert len(found["Judgment"]) == 6


# --- the self-rewarding loop ---------------------------------------------------------------------


def test_a_preference_tells_its_instruction_examples_and_every_score(
    rewarding: SelfRewarding,
) -> None:
    text = told(rewarding.layout, rewarding.preference.id)
    lake = rewarding.created.id
    assert f"WRITTEN {lake}: by M0 tiny (aaaa1111), round 0, draw 0, part 0" in text
    assert "[iter_02/created/00, iter_02/kept/00]" in text
    assert f"example 1: {rewarding.seed.id} [seeds/ift]: Name a river." in text
    assert f"3 CANDIDATES of {lake}  [iter_02/responses]" in text
    # 4 and 5; 3 and a reading cut off; 1 and 2.
    best, middle, worst = rewarding.responses
    by = "by M1 tiny after iteration 1 (bbbb2222), rubric pointwise_additive"
    assert f"READINGS of {best.id} {by}: mean 4.5 of 2 scores  [iter_02/ratings]" in text
    assert f"READINGS of {middle.id} {by}: mean 3 of 1 score, 1 truncated" in text
    assert f"READINGS of {worst.id} {by}: mean 1.5 of 2 scores" in text
    assert f"PREFERENCE {rewarding.preference.id}: trained M2  [iter_02/preferences]" in text
    assert f"chosen from {best.id}, score 4.5:\n    Lake Geneva, in the Alps." in text
    assert "weight 0.75 of this order" in text
    assert "candidates.temperature=0.7" in text


def test_a_candidate_that_was_passed_over_tells_so(rewarding: SelfRewarding) -> None:
    middle = rewarding.responses[1]
    assert f"; made without {middle.id}" in told(rewarding.layout, middle.id)
    of_worst = rewarding.ratings[4]
    text = told(rewarding.layout, of_worst.id)
    assert f"; its rejected is {of_worst.id}'s response" in text
    assert f"PROMPT of {of_worst.id}" in text


def test_a_preference_of_judgments_tells_what_was_compared(rewarding: SelfRewarding) -> None:
    found = entry_ids(rewarding.layout, rewarding.meta_preference.id)
    assert found["RatingPair"] == [rewarding.compared.id]
    assert len(found["Judgment"]) == 2
    assert set(found["Rating"]) == {r.id for r in rewarding.ratings}
    text = told(rewarding.layout, rewarding.meta_preference.id)
    assert f"READINGS of {rewarding.compared.id}" in text
    # Nobody knows which of two ratings is the better one.
    assert "chosen first: 1 choice " in text


def test_the_comparison_of_two_ratings_is_rendered_again(rewarding: SelfRewarding) -> None:
    (judged, _) = entry_ids(rewarding.layout, rewarding.compared.id)["Judgment"]
    prompt = explain(rewarding.layout.root, judged).prompt
    assert prompt is not None
    assert "Reading 0." in prompt[-1]["content"]


def test_a_judgment_learnt_from_people_tells_the_whole_group(rewarding: SelfRewarding) -> None:
    found = entry_ids(rewarding.layout, rewarding.eft_example.id)
    assert len(found["ScoredResponse"]) == 2
    assert set(found["Rating"]) == {r.id for r in rewarding.eft_ratings}
    text = told(rewarding.layout, rewarding.eft_example.id)
    assert "RANKED RESPONSE" in text
    assert "5 on 1-5 by people" in text
    assert "trained M1" in text


def test_a_seed_tells_what_it_taught_and_was_shown_for(rewarding: SelfRewarding) -> None:
    text = told(rewarding.layout, rewarding.seed.id)
    assert "by human, draw 0" in text
    assert f"TRAINING EXAMPLE {rewarding.ift_example.id}: trained M1" in text
    both = {rewarding.created.id, rewarding.too_similar.id}
    assert set(explain(rewarding.layout.root, rewarding.seed.id).shown_for) == both
    # What was written after it is named, not followed.
    assert "CANDIDATES" not in text


def test_a_created_instruction_that_a_filter_dropped(rewarding: SelfRewarding) -> None:
    text = told(rewarding.layout, rewarding.too_similar.id)
    line = f"{rewarding.too_similar.id} at filter, similar_instruction: ROUGE-L 0.86 with"
    assert f"{line} {rewarding.seed.id}  [iter_02/kept/00]" in text
    assert "part 1  [iter_02/created/00]  <-- asked for" in text
    prompt = explain(rewarding.layout.root, rewarding.too_similar.id).prompt
    assert prompt is not None
    assert "Add 2 and 3." in prompt[-1]["content"]


def test_the_draws_that_were_lost_are_told_with_their_text(tmp_path: Path) -> None:
    run = self_rewarding_run(str(tmp_path / "run"))
    folder = run.layout.responses(2)
    (sampled,) = read_records(sealed_shards(folder)[0], SampledInstruction)
    detail = "draw 3: cut after 64 tokens\nA lake is\n" + "deep " * 80
    lost = dropped(run.created.id, "sample", DropReason.TRUNCATED_RESPONSE, detail)
    files.remove(folder)
    recipe = {"candidates.temperature": 0.7}
    write_stage(folder, "sample", [sampled], recipe=recipe, drops=[lost])
    text = told(run.layout, run.created.id)
    line = f"  {run.created.id} at sample, truncated_response: draw 3: cut after 64 tokens"
    # Of 410 characters 300 are shown.
    assert f"{line}  [iter_02/responses]\n    A lake is\n    deep deep" in text
    assert "… (110 more characters)" in text


def test_an_instruction_that_was_written_again_is_told_each_time(tmp_path: Path) -> None:
    run = self_rewarding_run(str(tmp_path / "run"))
    shots = (run.seed.id, "ins-" + "5" * 20)
    first = CreatedInstruction(
        id=run.created.id,
        instruction=run.created,
        shot_ids=shots,
        model=SEED_MODEL,
        round=0,
        draw=0,
        text=" Name a lake.",
        part=0,
    )
    # Again in round 0, after the same examples the other way round; and in iteration 3.
    second = replace(first, shot_ids=shots[::-1])
    write_stage(run.layout.stage(2, "created/01"), "create", [first, second])
    write_stage(run.layout.stage(3, "created/00"), "create", [first])
    entries = explain(run.layout.root, run.created.id).entries
    found = {
        (tuple(e.row["shot_ids"]), e.folders) for e in entries if e.record == "CreatedInstruction"
    }
    (kept,) = (shots_of for shots_of, folders in found if "iter_02/kept/00" in folders)
    assert found == {
        (kept, ("iter_02/created/00", "iter_02/kept/00")),
        (shots, ("iter_02/created/01",)),
        (shots[::-1], ("iter_02/created/01",)),
        (shots, ("iter_03/created/00",)),
    }


def test_a_creation_prompt_tells_what_was_written_after_it(rewarding: SelfRewarding) -> None:
    found = entry_ids(rewarding.layout, rewarding.creation.id)
    assert set(found["CreatedInstruction"]) == {rewarding.created.id, rewarding.too_similar.id}


# --- ids -----------------------------------------------------------------------------------------


def test_the_beginning_of_an_id_is_enough_where_it_is_the_only_one(taught: SelfTaught) -> None:
    assert explain(taught.layout.root, taught.pair.id[:11]).target == taught.pair.id
    dropped_as = f"{taught.pair.id}/rejected_first"
    assert explain(taught.layout.root, dropped_as).target == taught.pair.id


def test_a_beginning_of_several_ids_lists_them(tmp_path: Path) -> None:
    layout = new_run(str(tmp_path / "run"), "self_taught", 1)
    both = [f"ins-abcdef{tail * 14}" for tail in "12"]
    rows = [
        Instruction(id=ident, messages=ask("x").messages, source="pool.jsonl") for ident in both
    ]
    write_stage(layout.pool, "pool", rows)
    with pytest.raises(UserError) as wrong:
        explain(layout.root, "ins-abcdef")
    assert str(wrong.value) == (
        f"ins-abcdef is the beginning of 2 ids of run {layout.root}: {', '.join(both)}"
    )
    assert explain(layout.root, "ins-abcdef1").target == both[0]


def test_an_unknown_id_names_the_run_and_the_nearest(taught: SelfTaught) -> None:
    other = "0" if taught.pair.id[-5] != "0" else "1"
    typo = taught.pair.id[:-5] + other + taught.pair.id[-4:]
    with pytest.raises(UserError) as wrong:
        explain(taught.layout.root, typo)
    begins = f"run {taught.layout.root} has no id {typo}; nearest: {taught.pair.id}, "
    assert str(wrong.value).startswith(begins)
    with pytest.raises(UserError, match="and none that begins rap-"):
        explain(taught.layout.root, "rap-00000000")


def test_too_short_a_beginning_is_refused(taught: SelfTaught) -> None:
    with pytest.raises(UserError, match=r"'pair-12345' is too short.*first 6 characters"):
        explain(taught.layout.root, "pair-12345")


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^no run at {tmp_path}: it has no run\.json$"):
        explain(str(tmp_path), "pair-123456")


def test_a_shard_of_another_version_is_named_and_left_out(tmp_path: Path) -> None:
    run = self_taught_run(str(tmp_path / "run"))
    url = f"{run.layout.selected(1)}/shard-00000.parquet"
    pq.write_table(pq.read_table(url).drop_columns(["ended"]), url)
    text = told(run.layout, run.example.id)
    assert "not read, written by another version: iter_01/selected" in text
    assert f"{run.example.id}: trained M1  [iter_01/examples]" in text


def test_a_row_selected_before_there_were_margins_is_told_without_one(tmp_path: Path) -> None:
    run = self_taught_run(str(tmp_path / "run"))
    for folder in (run.layout.selected(1), run.layout.examples(1)):
        url = f"{folder}/shard-00000.parquet"
        pq.write_table(pq.read_table(url).drop_columns(["verdict_margin"]), url)
    text = told(run.layout, run.example.id)
    assert f"TRAINING EXAMPLE {run.example.id}" in text
    assert "verdict margin" not in text and "written by another version" not in text


OWN = """
id: lakes
system: You score answers about lakes.
template: "<t-{tag}>{task}</t-{tag}> <r-{tag}>{response}</r-{tag}> Last line: Score: <1 to 7>"
scale: [1, 7]
"""


def rated_by_ones_own(run: SelfRewarding) -> None:
    """Scores of the best and the worst answer by a rubric whose file is not kept."""
    rubric = rubric_from_text(OWN, "lakes.yaml")
    best, _, worst = run.responses
    scores = [
        replace(rating(r.id, M1, 7, score), id=content_id("rat", "own", r.id), rubric_id="lakes")
        for r, score in ((best, 7.0), (worst, 1.0))
    ]
    recipe = {"rubric": rubric_recipe(rubric), "seed": 0}
    write_stage(run.layout.stage(2, "first_ratings"), "rate", scores, recipe=recipe)


def test_a_preference_shows_what_its_scores_were_asked_by(rewarding: SelfRewarding) -> None:
    best, _, worst = rewarding.responses
    prompts = explain(rewarding.layout.root, rewarding.preference.id).side_prompts
    assert list(prompts) == [best.id, worst.id]
    for response in (best, worst):
        shown = render_pointwise(
            get_pointwise_rubric(ADDITIVE), rewarding.created.messages, response.text
        )
        assert prompts[response.id] == [{"role": m.role, "content": m.content} for m in shown]
    text = told(rewarding.layout, rewarding.preference.id, full=True)
    assert f"PROMPT of the readings of {best.id}, rendered by this version\n  system: You" in text
    # A preference of judgments holds their prompt itself.
    assert explain(rewarding.layout.root, rewarding.meta_preference.id).side_prompts == {}


def test_prompts_of_a_rubric_of_the_users_own_need_no_file(tmp_path: Path) -> None:
    run = self_rewarding_run(str(tmp_path / "run"))
    rated_by_ones_own(run)
    own = content_id("rat", "own", run.responses[0].id)
    prompt = explain(run.layout.root, own).prompt
    assert prompt is not None
    assert prompt[0]["content"] == "You score answers about lakes."
    assert "Lake Geneva, in the Alps." in prompt[1]["content"]
    assert prompt[1]["content"].endswith("Last line: Score: <1 to 7>")


def test_judgments_by_a_rubric_of_the_users_own_are_shown_compared(tmp_path: Path) -> None:
    run = self_rewarding_run(str(tmp_path / "run"))
    two = replace(
        run.compared,
        id=content_id("rap", "own"),
        first=replace(run.compared.first, rubric_id="lakes"),
        second=replace(run.compared.second, rubric_id="lakes"),
    )
    judged = replace(
        judgment(two.id, M1, Position.CHOSEN_FIRST, 0, "A"), rubric_id="meta_verdict_only"
    )
    write_stage(run.layout.stage(3, "meta_pairs"), "meta_pairs", [two])
    recipe = {"rubric": rubric_recipe(rubric_from_text(OWN, "lakes.yaml"))}
    write_stage(run.layout.stage(3, "meta_judgments"), "meta_judge", [judged], recipe=recipe)
    prompt = explain(run.layout.root, judged.id).prompt
    assert prompt is not None
    assert "You score answers about lakes." in prompt[-1]["content"]
    assert "Reading 0." in prompt[-1]["content"]


def test_a_rubric_that_no_recipe_holds_does_not_end_the_story(tmp_path: Path) -> None:
    run = self_rewarding_run(str(tmp_path / "run"))
    mine = replace(run.ratings[0], id=content_id("rat", "mine"), rubric_id="mine")
    write_stage(run.layout.stage(2, "first_ratings"), "rate", [mine])
    prompt = explain(run.layout.root, mine.id).prompt
    assert prompt is not None
    assert "cannot be rendered: unknown pointwise rubric 'mine'" in prompt[0]["content"]


def test_pairs_of_two_models_have_no_right_side(tmp_path: Path) -> None:
    run = self_taught_run(str(tmp_path / "run"))
    versus = replace(run.pair, id=content_id("pair", "versus"), corruption="head_to_head")
    judged = replace(
        run.judgments[0],
        id=content_id("jud", "versus"),
        pair_id=versus.id,
        position=Position.CHOSEN_FIRST,
        verdict=Verdict(outcome=Outcome.CHOICE, choice="first"),
    )
    base = f"{run.layout.evaluation(1)}/versus_00"
    write_stage(f"{base}/pairs", "versus", [versus])
    write_stage(f"{base}/judgments", "evaluate", [judged])
    text = told(run.layout, versus.id)
    assert f"{judged.id} draw 0: choice first, stop after 1 tokens" in text


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in this process: (exit code, output, error output)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["selfreward", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return run


def test_the_command_prints_text_or_json(
    taught: SelfTaught, command: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = command("explain", taught.layout.root, taught.pair.id)
    assert (code, err) == (0, "")
    assert out == told(taught.layout, taught.pair.id)
    code, out, err = command("explain", taught.layout.root, taught.pair.id, "--format", "json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data["target"] == taught.pair.id
    (pair,) = [e["row"] for e in data["entries"] if e["record"] == "ResponsePair"]
    assert pair["chosen"] == taught.pair.chosen
    assert data["stages"]["iter_01/responses"]["recipe"]["respond.sampling.temperature"] == 0.7


def test_mistakes_are_one_line_and_exit_code_2(
    taught: SelfTaught, command: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = command("explain", taught.layout.root, "pair-ffffffff")
    assert code == 2
    assert err.startswith(f"selfreward: run {taught.layout.root} has no id pair-ffffffff; nearest:")
    assert err.count("\n") == 1
    code, _, err = command("explain", taught.layout.root, taught.pair.id, "--format", "yaml")
    assert (code, err) == (2, "selfreward: --format 'yaml': it is text or json\n")


def test_a_broken_shard_is_one_line(tmp_path: Path) -> None:
    run = self_taught_run(str(tmp_path / "run"))
    files.write_bytes(f"{run.layout.pool}/shard-00000.parquet", b"no parquet")
    with pytest.raises(UserError, match=r"pool/shard-00000\.parquet is not readable as Parquet"):
        explain(run.layout.root, run.pair.id)
