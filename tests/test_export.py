"""`selfreward export`: data sets and models as other tools read them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pyarrow.parquet as pq
import pytest

from selfreward import cli
from selfreward.errors import ConfigError, DataError, UserError
from selfreward.loops.export import export_rows
from selfreward.loops.export_model import beside_current, export_model
from selfreward.records import Instruction, Preference
from selfreward.storage import files
from selfreward.storage.checkpoints import CurrentJudge, write_current
from selfreward.storage.new_folder import new_folder
from tests.run_folders import (
    SEED_MODEL,
    SelfRewarding,
    SelfTaught,
    dpo_rows,
    rating,
    self_rewarding_run,
    self_taught_run,
    write_checkpoint,
    write_stage,
)
from tests.tiny_model import make_tiny_tokenizer

TURNS = datasets.List({"role": datasets.Value("string"), "content": datasets.Value("string")})


@pytest.fixture(scope="module")
def rewarding(tmp_path_factory: pytest.TempPathFactory) -> SelfRewarding:
    run = self_rewarding_run(str(tmp_path_factory.mktemp("rewarding") / "run"))
    write_checkpoint(run.layout, 1)
    write_checkpoint(run.layout, 2, lora=True)
    point(run, 1)
    return run


def point(run: Any, iteration: int) -> None:
    """Makes a model of the run the current one."""
    checkpoint = run.layout.checkpoint(iteration) if iteration else "tiny/seed"
    write_current(
        run.layout,
        CurrentJudge(
            iteration=iteration, checkpoint=checkpoint, fingerprint="f", accuracy=None, reason=""
        ),
    )


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> SelfTaught:
    return self_taught_run(str(tmp_path_factory.mktemp("taught") / "run"))


def exported(run: Any, what: str, out: Path, iteration: str = "latest") -> datasets.Dataset:
    done = export_rows(run.layout.root, what, iteration, str(out), "dataset")
    found = datasets.load_from_disk(done.out)
    assert isinstance(found, datasets.Dataset)
    assert len(found) == done.num_rows
    return found


def test_preferences_are_what_trl_calls_conversational(
    rewarding: SelfRewarding, tmp_path: Path
) -> None:
    from trl.data_utils import is_conversational, maybe_apply_chat_template

    found = exported(rewarding, "preferences", tmp_path / "out")
    assert found.features == datasets.Features(
        {
            "id": datasets.Value("string"),
            "kind": datasets.Value("string"),
            "prompt": TURNS,
            "chosen": TURNS,
            "rejected": TURNS,
            "score_chosen": datasets.Value("float64"),
            "score_rejected": datasets.Value("float64"),
            "label_confidence": datasets.Value("float64"),
            "chosen_ended": datasets.Value("bool"),
            "rejected_ended": datasets.Value("bool"),
            "verdict_margin": datasets.Value("float64"),
        }
    )
    assert found["kind"][:] == ["answer", "judgment"]
    first = found[0]
    assert first == {
        "id": rewarding.preference.id,
        "kind": "answer",
        "prompt": [{"role": "user", "content": "Name a lake."}],
        "chosen": [{"role": "assistant", "content": "Lake Geneva, in the Alps."}],
        "rejected": [{"role": "assistant", "content": "Blue."}],
        "score_chosen": 4.5,
        "score_rejected": 1.5,
        "label_confidence": 0.75,
        "chosen_ended": True,
        "rejected_ended": True,
        "verdict_margin": None,
    }
    tokenizer = make_tiny_tokenizer()
    for row in found:
        assert is_conversational(row)
        plain = maybe_apply_chat_template(row, tokenizer)
        assert isinstance(plain["prompt"], str)
        assert plain["chosen"] == f"{row['chosen'][0]['content']}<|im_end|>\n"
        assert plain["rejected"] == f"{row['rejected'][0]['content']}<|im_end|>\n"
    plain = maybe_apply_chat_template(first, tokenizer)
    wanted = "<|im_start|>user\nName a lake.<|im_end|>\n<|im_start|>assistant\n"
    assert plain["prompt"] == wanted


def test_sft_rows_are_conversational_prompts_with_completions(
    rewarding: SelfRewarding, tmp_path: Path
) -> None:
    from trl.data_utils import is_conversational, maybe_apply_chat_template

    found = exported(rewarding, "sft", tmp_path / "out")
    assert found["kind"][:] == ["answer", "answer", "judgment"]
    assert found[0]["completion"] == [{"role": "assistant", "content": "The Nile."}]
    assert found[2]["prompt"][0]["role"] == "system"
    assert found[2]["completion"][0]["content"] == rewarding.eft_ratings[0].text
    assert all(is_conversational(row) for row in found)
    plain = maybe_apply_chat_template(found[0], make_tiny_tokenizer())
    assert plain["completion"] == "The Nile.<|im_end|>\n"


def test_a_row_tells_whether_its_completions_were_cut(tmp_path: Path) -> None:
    run = self_rewarding_run(str(tmp_path / "run"))
    cut = replace(run.preference, rejected_ended=False)
    write_stage(run.layout.preferences(3), "prefer", [cut])
    write_stage(run.layout.examples(4), "prefer", [replace(run.ift_example, ended=False)])
    (tmp_path / "run" / "run.json").write_text('{"loop": "self_rewarding", "iterations": 4}')
    (row,) = exported(run, "preferences", tmp_path / "pairs")
    assert (row["chosen_ended"], row["rejected_ended"]) == (True, False)
    (row,) = exported(run, "sft", tmp_path / "sft")
    assert row["ended"] is False


def test_the_training_rows_of_the_self_taught_loop(taught: SelfTaught, tmp_path: Path) -> None:
    found = exported(taught, "sft", tmp_path / "sft")
    assert found["id"][:] == [taught.example.id], "what balancing dropped was not trained on"
    assert found[0]["kind"] == "judgment"
    assert found[0]["completion"] == [{"role": "assistant", "content": "A"}]
    # Two of three draws of one order right; of the other two wrong, one unread: (1/3 - 2/3) / 2.
    assert found[0]["verdict_margin"] == pytest.approx(-1 / 6)


def test_without_balancing_the_selected_rows_are_the_training_rows(tmp_path: Path) -> None:
    run = self_taught_run(str(tmp_path / "run"))
    (only,) = dpo_rows(run)
    write_stage(run.layout.selected(2), "select", [only])
    (tmp_path / "run" / "run.json").write_text('{"loop": "self_taught", "iterations": 2}')
    found = exported(run, "preferences", tmp_path / "out")
    assert found["id"][:] == [only.id]
    assert found[0]["kind"] == "judgment"
    assert found[0]["score_chosen"] is None
    assert found[0]["chosen"] == [{"role": "assistant", "content": "A"}]
    assert found[0]["rejected"] == [{"role": "assistant", "content": "B"}]


def test_instructions_of_both_loops(
    rewarding: SelfRewarding, taught: SelfTaught, tmp_path: Path
) -> None:
    found = exported(rewarding, "instructions", tmp_path / "a")
    assert found["prompt"][:] == [[{"role": "user", "content": "Name a lake."}]]
    found = exported(taught, "instructions", tmp_path / "b")
    assert found["id"][0] == taught.instruction.id
    assert found["category"][:] == ["open_qa", None]


def test_instructions_from_the_pool_are_those_that_were_answered(
    rewarding: SelfRewarding, tmp_path: Path
) -> None:
    run = self_rewarding_run(str(tmp_path / "run"))
    shutil.rmtree(run.layout.stage(2, "kept"))
    found = exported(run, "instructions", tmp_path / "out")
    assert found["id"][:] == [rewarding.created.id]


def test_readings_of_the_first_models_responses_are_judgments_too(tmp_path: Path) -> None:
    run = self_rewarding_run(str(tmp_path / "run"))
    before = exported(run, "judgments", tmp_path / "a")["about"][:]
    made = rating("res-of-the-first-model", SEED_MODEL, 0, 3)
    write_stage(run.layout.stage(2, "first_ratings"), "rate", [made])
    added = set(exported(run, "judgments", tmp_path / "b")["about"][:]) - set(before)
    assert added == {"res-of-the-first-model"}


def test_judgments_keep_what_failed_apart_from_numbers(
    rewarding: SelfRewarding, taught: SelfTaught, tmp_path: Path
) -> None:
    found = exported(rewarding, "judgments", tmp_path / "a")
    assert found["kind"][:] == ["response"] * 6 + ["ratings"] * 2
    assert found["score"][:] == [4, 5, 3, None, 1, 2, None, None]
    assert found["outcome"][3] == "truncated"
    assert found["judge"][0] == "tiny after iteration 1"
    assert found["is_right"][:] == [None] * 8
    found = exported(taught, "judgments", tmp_path / "b")
    rows = [r for r in found if r["about"] == taught.pair.id]
    assert [(r["position"], r["choice"], r["is_right"]) for r in rows] == [
        ("chosen_first", "second", False),
        ("chosen_first", "first", True),
        ("chosen_first", "first", True),
        ("rejected_first", "first", False),
        ("rejected_first", "first", False),
        ("rejected_first", None, None),
    ]


def test_all_forms_hold_the_same_rows(rewarding: SelfRewarding, tmp_path: Path) -> None:
    rows = list(exported(rewarding, "preferences", tmp_path / "dataset"))
    root = rewarding.layout.root
    export_rows(root, "preferences", "2", str(tmp_path / "jsonl"), "jsonl")
    lines = (tmp_path / "jsonl" / "preferences.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    export_rows(root, "preferences", "2", str(tmp_path / "parquet"), "parquet")
    table = pq.read_table(tmp_path / "parquet" / "preferences.parquet")
    assert table.to_pylist() == rows
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dataset", "jsonl", "parquet"]


def test_a_row_that_changed_is_exported_as_it_is_now(tmp_path: Path) -> None:
    run = self_rewarding_run(str(tmp_path / "run"))
    before = exported(run, "preferences", tmp_path / "a")
    changed = replace(run.preference, chosen="Loch Ness.")
    write_stage(run.layout.preferences(2), "prefer", [changed], record_type=Preference)
    after = exported(run, "preferences", tmp_path / "b")
    assert before[0]["chosen"][0]["content"] == "Lake Geneva, in the Alps."
    assert after[0]["chosen"][0]["content"] == "Loch Ness."


def test_latest_is_the_last_iteration_that_is_complete(tmp_path: Path) -> None:
    run = self_rewarding_run(str(tmp_path / "run"))
    (tmp_path / "run" / "run.json").write_text('{"loop": "self_rewarding", "iterations": 3}')
    write_stage(run.layout.preferences(3), "prefer", [run.preference], is_complete=False)
    out = str(tmp_path / "out")
    done = export_rows(run.layout.root, "preferences", "latest", out, "jsonl")
    assert (done.iteration, done.num_rows) == (2, 2)
    with pytest.raises(DataError, match="preferences of iteration 3 are not complete"):
        export_rows(run.layout.root, "preferences", "3", str(tmp_path / "x"), "jsonl")
    with pytest.raises(DataError, match=r"no preferences of iteration 1; .* iterations: 2$"):
        export_rows(run.layout.root, "preferences", "1", str(tmp_path / "x"), "jsonl")
    assert not (tmp_path / "x").exists()


def test_mistakes_name_what_there_is(
    rewarding: SelfRewarding, taught: SelfTaught, tmp_path: Path
) -> None:
    root, out = rewarding.layout.root, str(tmp_path / "out")
    with pytest.raises(ConfigError, match="--iteration 'last': it is latest or a number from 1"):
        export_rows(root, "sft", "last", out, "dataset")
    with pytest.raises(ConfigError, match="--iteration '0'"):
        export_model(root, "model", "0", out)
    words = "--iteration 'best': it is current, latest or a number from 1"
    with pytest.raises(ConfigError, match=words):
        export_model(root, "model", "best", out)
    with pytest.raises(ConfigError, match="--iteration 'current': it is latest or a number from 1"):
        export_rows(root, "sft", "current", out, "dataset")
    with pytest.raises(ConfigError, match="--format 'csv': it is one of dataset, jsonl, parquet"):
        export_rows(root, "sft", "1", out, "csv")
    with pytest.raises(DataError, match="has no preferences yet"):
        export_rows(taught.layout.root, "preferences", "latest", out, "dataset")
    with pytest.raises(DataError, match=r"no run at .*/out: it has no run\.json"):
        export_rows(out, "sft", "1", out, "dataset")
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(UserError, match="is there already; name another folder"):
        export_rows(root, "sft", "1", str(tmp_path), "dataset")
    assert (tmp_path / "mine.txt").read_text() == "keep me"
    assert not Path(out).exists()


def test_a_model_is_a_plain_folder_without_our_marker(
    rewarding: SelfRewarding, tmp_path: Path
) -> None:
    root = rewarding.layout.root
    number, folder = export_model(root, "model", "latest", str(tmp_path / "model"))
    assert number == 2
    names = ["additional_chat_templates", "config.json", "model.safetensors"]
    assert sorted(p.name for p in Path(folder).iterdir()) == names
    copied = Path(folder) / "model.safetensors"
    assert copied.read_text() == "weights 2"
    copied.write_text("changed")
    kept = Path(rewarding.layout.checkpoint(2)) / "model.safetensors"
    assert kept.read_text() == "weights 2", "an export is a copy, not a link"


def test_the_current_model_need_not_be_the_last_one(tmp_path: Path) -> None:
    run = self_rewarding_run(str(tmp_path / "run"))
    write_checkpoint(run.layout, 1)
    write_checkpoint(run.layout, 2, lora=True)
    root = run.layout.root
    with pytest.raises(DataError, match="has no current model yet; choose one with --iteration"):
        export_model(root, "model", "current", str(tmp_path / "none"))
    assert beside_current(root, 2) == ""
    point(run, 1)
    number, folder = export_model(root, "model", "current", str(tmp_path / "a"))
    assert (number, beside_current(root, number)) == (1, "")
    assert (Path(folder) / "model.safetensors").read_text() == "weights 1"
    with pytest.raises(DataError, match=r"iteration 1 was trained without training\.lora"):
        export_model(root, "adapter", "current", str(tmp_path / "none"))
    number, _ = export_model(root, "adapter", "latest", str(tmp_path / "b"))
    assert number == 2
    assert beside_current(root, number) == "not the current model, which is M1"
    point(run, 0)
    with pytest.raises(UserError) as wrong:
        export_model(root, "model", "current", str(tmp_path / "none"))
    assert str(wrong.value) == (
        f"the current model of run {root} is its seed, tiny/seed; to export one that was trained"
        " choose --iteration latest or a number from 1"
    )
    assert beside_current(root, 2) == "not the current model, which is the seed, tiny/seed"
    point(run, 2)
    files.remove(run.layout.checkpoint(2))
    with pytest.raises(DataError, match=r"no model of iteration 2; it has them of iterations: 1$"):
        export_model(root, "model", "current", str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_an_adapter_is_a_peft_folder_where_lora_was_trained(
    rewarding: SelfRewarding, tmp_path: Path
) -> None:
    root = rewarding.layout.root
    _, folder = export_model(root, "adapter", "2", str(tmp_path / "adapter"))
    names = ["adapter_config.json", "adapter_model.safetensors"]
    assert sorted(p.name for p in Path(folder).iterdir()) == names
    with pytest.raises(DataError, match=r"iteration 1 was trained without training\.lora"):
        export_model(root, "adapter", "1", str(tmp_path / "none"))
    with pytest.raises(DataError, match="no model of iteration 3; it has them of iterations: 1, 2"):
        export_model(root, "model", "3", str(tmp_path / "none"))


def test_a_folder_that_fails_half_way_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_folder(str(tmp_path / "out")) as folder:
        (Path(folder) / "half.txt").write_text("half")
        raise KeyError("x")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with new_folder(str(tmp_path / "out")) as folder:
        (Path(folder) / "whole.txt").write_text("whole")
    assert (tmp_path / "out" / "whole.txt").read_text() == "whole"


def test_a_url_can_be_exported_to(rewarding: SelfRewarding) -> None:
    done = export_rows(rewarding.layout.root, "sft", "1", "memory://bucket/sft", "jsonl")
    with fsspec.open("memory://bucket/sft/sft.jsonl", "rt") as file:
        assert len(file.readlines()) == done.num_rows == 3


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["selfreward", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return run


def test_the_command_says_what_it_wrote(
    rewarding: SelfRewarding, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    out = tmp_path / "out"
    root = rewarding.layout.root
    code, said, err = command("export", root, "--what", "preferences", "--out", str(out))
    assert (code, said, err) == (0, f"2 preferences of iteration 2: {out}\n", "")
    code, said, _ = command("export", root, "--what", "model", "--out", str(tmp_path / "m"))
    assert (code, said) == (0, f"model of iteration 1: {tmp_path / 'm'}\n"), "the current one"
    last = ("--iteration", "latest", "--out", str(tmp_path / "a"))
    code, said, _ = command("export", root, "--what", "adapter", *last)
    where = f"(not the current model, which is M1): {tmp_path / 'a'}"
    assert (code, said) == (0, f"adapter of iteration 2 {where}\n")


COMMAND_MISTAKES = {
    ("--out", "x"): "--what '': it is one of preferences, sft, instructions, judgments, model",
    ("--what", "pairs", "--out", "x"): "--what 'pairs': it is one of preferences",
    ("--what", "sft"): "--out is missing: name the folder to make",
    ("--what", "model", "--out", "x", "--format", "jsonl"): "--format jsonl: a model has only one",
    ("--what", "sft", "--out", "x", "--iteration", "9"): "no sft of iteration 9",
}


@pytest.mark.parametrize("arguments", COMMAND_MISTAKES)
def test_command_mistakes_are_one_line_and_exit_code_2(
    arguments: tuple[str, ...],
    rewarding: SelfRewarding,
    command: Callable[..., tuple[int, str, str]],
) -> None:
    code, _, err = command("export", rewarding.layout.root, *arguments)
    assert code == 2
    assert COMMAND_MISTAKES[arguments] in err
    assert err.count("\n") == 1


def test_a_pool_that_was_selected_from_gives_the_selected_ones(tmp_path: Path) -> None:
    run = self_taught_run(str(tmp_path / "run"))
    write_stage(run.layout.instructions, "select_instructions", [run.instruction])
    found = exported(run, "instructions", tmp_path / "out")
    assert found["id"][:] == [run.instruction.id]
    assert isinstance(run.instruction, Instruction)
