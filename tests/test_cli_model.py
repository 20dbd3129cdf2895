"""`selfreward predict` and `selfreward chat` as a user types them."""

import io
import json
import signal
import sys
from pathlib import Path

import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner, Result

from selfreward import cli_model
from selfreward.errors import ConfigError, DataError, ModelNotFoundError, UserError
from selfreward.evaluation.named_model import named_model
from selfreward.records import Message
from selfreward.training.chat_session import ChatSession
from selfreward.training.loaded import LoadedModel, load
from tests.tiny_model import make_tiny_model

app = typer.Typer()
app.command()(cli_model.predict)
app.command()(cli_model.chat)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of two stages, whose first model is a folder beside it."""
    root = tmp_path_factory.mktemp("runs")
    seed = make_tiny_model(root / "seed", seed=9)
    run = root / "a"
    for number in (1, 2):
        make_tiny_model(run / f"iter_{number:02d}" / "checkpoint", seed=number, tied=False)
    (run / "run.json").write_text(json.dumps({"iterations": 2}))
    (run / "config.yaml").write_text(yaml.safe_dump({"model": {"name": str(seed)}}))
    return str(run)


@pytest.fixture(scope="module")
def model(run_folder: str) -> LoadedModel:
    return load(f"{run_folder}/iter_01/checkpoint", device=torch.device("cpu"))


def ask(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, [*arguments], input=typed)


def refused(*arguments: str) -> UserError:
    """The error that the command line prints as one line before it exits with 2."""
    error = ask(*arguments).exception
    assert isinstance(error, UserError), error
    assert "\n" not in str(error)
    return error


def test_predict_shows_tokens_with_bars(run_folder: str) -> None:
    shown = ask("predict", f"{run_folder}@1", "The cat sat on the", "--top", "3")
    assert shown.exit_code == 0, shown.output
    assert "Next token after The cat sat on the" in shown.stdout
    # The longest bar belongs to the likeliest token.
    assert shown.stdout.count("█" * 40) == 1


def test_predict_of_two_stages_as_json(run_folder: str) -> None:
    first, second = f"{run_folder}@1", f"{run_folder}@2"
    done = ask("predict", first, second, "The cat", "--top", "4", "--format", "json")
    found = json.loads(done.stdout)
    assert found["text"] == "The cat"
    assert [m["model"] for m in found["models"]] == [first, second]
    for tokens in (m["tokens"] for m in found["models"]):
        probabilities = [t["probability"] for t in tokens]
        assert len(tokens) == 4 and probabilities == sorted(probabilities, reverse=True)
    assert found["models"][0]["tokens"] != found["models"][1]["tokens"]
    behind = ask("predict", first, "The cat", "--top", "4", "--format", "json", "--chat")
    assert json.loads(behind.stdout)["models"][0]["tokens"] != found["models"][0]["tokens"]


def test_what_predict_refuses(run_folder: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    assert isinstance(refused("predict", missing, "The cat"), ModelNotFoundError)
    assert "the text is empty" in str(refused("predict", run_folder, ""))
    assert "the text to continue" in str(refused("predict", run_folder))
    assert "it is table or json" in str(refused("predict", "a", "b", "--format", "xml"))
    assert "at least 1" in str(refused("predict", "a", "b", "--top", "0"))
    late = refused("predict", f"{run_folder}@5", "The cat")
    assert str(late) == (
        f"run {run_folder} has no model of stage 5; there is {run_folder}@1, {run_folder}@2"
    )


def test_which_model_a_run_stands_for(run_folder: str) -> None:
    run = Path(run_folder)
    assert named_model(f"{run}@2") == f"{run}/iter_02/checkpoint"
    # Without a current judge the last stage's; before the first one the model of the recipe.
    assert named_model(str(run)) == f"{run}/iter_02/checkpoint"
    assert named_model(f"{run}@0") == str(run.parent / "seed")
    assert named_model("embedded:smollm2-135m-instruct") == "embedded:smollm2-135m-instruct"
    with pytest.raises(ConfigError, match="no model to load"):
        named_model("baseline:longest")
    with pytest.raises(ConfigError, match="name is empty"):
        named_model(" ")


def test_a_run_that_made_its_first_model_or_points_to_one(tmp_path: Path) -> None:
    run = tmp_path / "b"
    (run / "initial").mkdir(parents=True)
    (run / "initial" / "config.json").write_text("{}")
    (run / "run.json").write_text(json.dumps({"iterations": 1}))
    assert named_model(f"{run}@0") == f"{run}/initial"
    with pytest.raises(DataError, match="no model of stage 1; there is none yet"):
        named_model(str(run))
    current = {"iteration": 1, "checkpoint": "elsewhere", "fingerprint": "f", "reason": "r"}
    pointer = {"current": current | {"accuracy": None}, "history": []}
    (run / "current.json").write_text(json.dumps(pointer))
    assert named_model(str(run)) == "elsewhere"


def test_chat_answers_the_lines_of_a_pipe(run_folder: str) -> None:
    options = ("--temperature", "0", "--max-tokens", "6")
    one = ask("chat", f"{run_folder}@1", *options, typed="Hello?\n")
    assert one.exit_code == 0, one.output
    assert one.stdout.strip() and one.stderr == ""
    # /reset forgets the first question, so the second is answered as if it were the first.
    both = ask("chat", f"{run_folder}@1", *options, typed="Hello?\n\n/reset\nHello?\n")
    assert both.stdout == one.stdout * 2
    # /quit leaves what follows unread, and without /reset the history counts.
    left = ask("chat", f"{run_folder}@1", *options, typed="Hello?\n/quit\nHello?\n")
    assert left.stdout == one.stdout
    told = ask("chat", f"{run_folder}@1", *options, "--system", "Be kind", typed="Hello?\n")
    assert told.stdout != one.stdout


def test_what_chat_refuses(run_folder: str, tmp_path: Path) -> None:
    assert isinstance(refused("chat", str(tmp_path / "none")), ModelNotFoundError)
    assert "--temperature -1" in str(refused("chat", run_folder, "--temperature", "-1"))
    assert "--top-p 0" in str(refused("chat", run_folder, "--top-p", "0"))
    assert "--max-tokens 0" in str(refused("chat", run_folder, "--max-tokens", "0"))


def test_a_long_question_is_refused_and_the_next_one_answered(run_folder: str) -> None:
    long = "x" * 3000
    done = ask("chat", run_folder, "--temperature", "0", "--max-tokens", "4", typed=f"{long}\nHi\n")
    assert done.exit_code == 0
    assert "the model's context 2048" in done.stderr
    alone = ask("chat", run_folder, "--temperature", "0", "--max-tokens", "4", typed="Hi\n")
    assert done.stdout == alone.stdout


def test_an_answer_is_that_of_greedy_generation(model: LoadedModel) -> None:
    asked = [Message(role="user", content="Hi")]
    session = ChatSession(model, temperature=0, max_tokens=12)
    ids = model.chat_ids([{"role": "user", "content": "Hi"}])
    whole = model.lm.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=12)
    wanted = model.tokenizer.decode(whole[0, len(ids) :], skip_special_tokens=True)
    assert "".join(session.reply(asked)) == wanted


def test_the_oldest_turns_make_room(model: LoadedModel) -> None:
    # A turn is its text and 18 bytes or so of frame; 600 of them four times do not fit 2,048.
    turns = [Message(role="system", content="Be kind")]
    for number in range(4):
        turns.append(Message(role="user", content=f"{number}" * 600))
        turns.append(Message(role="assistant", content="yes"))
    turns.append(Message(role="user", content="last"))
    session = ChatSession(model, max_tokens=100)
    kept, left_out = session.fitting(turns)
    assert left_out == 2
    assert [m.content[:1] for m in kept] == ["B", "1", "y", "2", "y", "3", "y", "l"]
    # Longer answers leave room for fewer turns.
    assert ChatSession(model, max_tokens=1000).fitting(turns)[1] == 6
    assert session.fitting(kept) == (kept, 0)
    with pytest.raises(ConfigError, match="context 2048"):
        session.fitting([Message(role="user", content="x" * 2100)])


class _InterruptingOutput(io.StringIO):
    """Where the first piece of an answer is written, Ctrl-C is pressed."""

    def write(self, text: str) -> int:
        if text.strip() and not self.getvalue().strip():
            signal.raise_signal(signal.SIGINT)
        return super().write(text)


def test_ctrl_c_ends_the_answer_and_not_the_session(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    session = ChatSession(model, temperature=1.0, top_p=1.0, max_tokens=1500)
    # Without its end tokens the model talks until it is stopped.
    monkeypatch.setattr(session, "_ends", lambda: set())
    torch.manual_seed(0)
    output = _InterruptingOutput()
    monkeypatch.setattr(sys, "stdout", output)
    asked = [Message(role="user", content="Hi")]
    answer = cli_model._answer(session, asked)
    assert output.getvalue().endswith("\n")
    assert 0 < len(model.text_ids(answer)) < 1000
    assert signal.getsignal(signal.SIGINT) is handler
    # The next answer is not ended by the wish of the last.
    calm = ChatSession(model, temperature=0, max_tokens=5)
    assert cli_model._answer(calm, asked)


def test_an_answer_cannot_steer_the_terminal() -> None:
    assert cli_model._printable("a\x1b[2J\tb\x07\x9bc\nd") == "a[2J\tbc\nd"
