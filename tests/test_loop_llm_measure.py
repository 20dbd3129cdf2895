"""How far a stage's model is from the one before: which answers KL is estimated from."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward.config import RunConfig
from selfreward.evaluation.stage_figures import Measured
from selfreward.layout import Layout
from selfreward.loops import custom_llm, llm_measure
from selfreward.loops.llm_data import Splits
from selfreward.loops.llm_measure import Measuring, Yardsticks
from selfreward.loops.pools import PlacedModel
from selfreward.loops.sources import Source
from selfreward.loops.turns import turn_end
from selfreward.records import Message, ModelRef, Response
from selfreward.records_custom_llm import TaskItem
from selfreward.stages.likelihood import Likelihood, ScoredRow
from selfreward.stages.rewards import AnswerRankings
from selfreward.stages.tasks import AnswerTasks
from tests.stage_tools import Fake, whole
from tests.tiny_model import make_tiny_model


def model(number: int) -> PlacedModel:
    ref = ModelRef(name=f"m{number}", iteration=number, fingerprint=f"f{number}")
    return PlacedModel(ref=ref, location=f"at/{number}")


def splits(folder: Path) -> Splits:
    source = Source(folder=str(folder), fingerprint="s", num_records=80)
    return Splits(train=source, heldout=source)


def config(**section: Any) -> RunConfig:
    return RunConfig.model_validate({"loop": {"kind": "custom_llm"}, "custom_llm": section})


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, dict[str, Any]]]:
    """The folder, the logic and the recipe of each step that was asked for."""
    steps: list[tuple[str, Any, dict[str, Any]]] = []

    def fill(_run: Any, _title: str, logic: Any, output: Any, _ask: Any) -> Source:
        steps.append((output.folder.rpartition("/")[2], logic, dict(output.recipe)))
        return Source(folder=output.folder, fingerprint="o", num_records=1)

    monkeypatch.setattr(llm_measure, "fill", fill)
    monkeypatch.setattr(llm_measure, "on_cluster", lambda *_: "<end>")
    monkeypatch.setattr(llm_measure, "sealed_shards", lambda _: ["0", "1", "2"])
    return steps


def measuring(tmp_path: Path, sticks: Yardsticks) -> Measuring:
    run: Any = SimpleNamespace(config=config(), layout=Layout(str(tmp_path)))
    made = Measuring(run, sticks)
    made._measured[6] = Measured(stage="6 reinforce")
    return made


@pytest.mark.parametrize(
    ("stages", "length"),
    [
        (("pretrain", "continue"), 64),
        (("continue", "finetune"), 128),
        # Nothing trains on text: what `pretraining` says of it.
        (("finetune",), 64),
    ],
)
def test_text_is_read_as_the_first_stage_on_text_reads_it(
    stages: tuple[str, ...], length: int
) -> None:
    section = config(
        stages=stages,
        pretraining={"sequence_length": 64},
        continued_pretraining={"sequence_length": 128},
    ).custom_llm
    assert llm_measure._text_section(section).sequence_length == length


def test_kl_is_of_answers_drawn_from_the_whole_distribution(
    tmp_path: Path, filled: list[tuple[str, Any, dict[str, Any]]]
) -> None:
    sticks = Yardsticks(rankings=splits(tmp_path), reference=model(4))
    made = measuring(tmp_path, sticks)
    made.distance(6, model(6), start=model(5))
    (name, logic, _), *scored = filled
    assert name == "kl_answers" and isinstance(logic, AnswerRankings)
    assert (logic.sampling.temperature, logic.sampling.top_p) == (1.0, 1.0)
    assert logic.max_rows == 22  # of each of three shards: 64 together, rounded up
    assert [(step, recipe["model"]) for step, _, recipe in scored] == [
        ("kl_own_likelihood", "f6"),
        ("kl_reference_likelihood", "f4"),
        ("kl_start_likelihood", "f5"),
    ]
    assert all(logic.end == "<end>" for _, logic, _ in scored)
    assert made._measured[6].start_likelihoods is not None


def test_without_preferences_kl_is_to_the_start_alone(
    tmp_path: Path, filled: list[tuple[str, Any, dict[str, Any]]]
) -> None:
    sticks = Yardsticks(instructions=splits(tmp_path), reference=model(5))
    made = measuring(tmp_path, sticks)
    made.distance(6, model(6), start=model(5))
    assert isinstance(filled[0][1], AnswerTasks)
    assert len(filled) == 3
    assert made._measured[6].likelihoods is not None
    assert made._measured[6].start_likelihoods is None


def test_the_end_of_a_turn_is_scored_where_the_model_drew_it() -> None:
    prompt = (Message(role="user", content="Why?"),)
    responses = tuple(
        Response(
            id=f"r-{why}",
            instruction_id="i",
            text="So",
            model=model(1).ref,
            draw=0,
            finish_reason=why,
            num_tokens=1,
        )
        for why in ("stop", "length")
    )
    fake = Fake(answer=lambda *_: _scored())
    row = ScoredRow(id="i", messages=prompt, responses=responses)
    asyncio.run(Likelihood(stored="tasks", end="<end>").process([row], fake))
    assert [request.target for request in fake.asked] == ["So<end>", "So"]


def _scored() -> Any:
    draw = whole("So")
    return type(draw)(text="So", finish_reason="stop", num_tokens=2, score=-1.0)


def test_the_end_of_a_turn_is_that_of_the_models_template(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    ref = ModelRef(name="tiny", iteration=1, fingerprint="f")
    assert turn_end(PlacedModel(ref=ref, location=str(tmp_path)), False) == "<|im_end|>"


def test_as_many_rows_of_a_shard_are_answered_as_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        TaskItem.new(
            task="t", template="t", messages=(Message(role="user", content=c),), target="x"
        )
        for c in "abc"
    ]
    monkeypatch.setattr("selfreward.stages.tasks.read_records", lambda *_: rows)
    sampling = config().custom_llm.finetuning.sampling
    assert AnswerTasks(sampling=sampling, seed=0, max_rows=2).read(["u"]) == rows[:2]
    assert AnswerTasks(sampling=sampling, seed=0).read(["u"]) == rows


@pytest.mark.parametrize(
    ("reward", "ranked", "purpose"),
    [
        ("reward_model", True, "rewards"),
        ("reward_model", False, "online"),
        ("judge", True, "online"),
        ("checks", True, "online"),
        ("verdict", False, "online"),
    ],
)
def test_reinforce_is_measured_by_the_reward_it_learns_from(
    reward: str, ranked: bool, purpose: str, tmp_path: Path
) -> None:
    stages = object.__new__(custom_llm._Stages)
    stages.run = SimpleNamespace(config=config(online={"reward": reward}))  # type: ignore[assignment]
    stages.sticks = Yardsticks(rankings=splits(tmp_path) if ranked else None)
    assert stages._purpose("reinforce") == purpose
    assert stages._purpose("instruct") == "instructions"
