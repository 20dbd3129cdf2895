"""Training on packed text: its numbers by hand, resuming, replay, budgets, mistakes."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from selfreward.errors import DataError, RecipeChangedError
from selfreward.storage.token_shards import PackedRow
from selfreward.training import setup
from selfreward.training.loop import run_training
from selfreward.training.model import ModelSource, load_causal_lm
from selfreward.training.policy import Policy, Traits
from selfreward.training.task import Choice, selection_score
from tests.tiny_model import make_tiny_model, make_tiny_tokenizer
from tests.training_data import (
    curve,
    make_config,
    make_packed,
    make_task,
    run_here,
    write_packed,
    write_text,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    write_text(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def nll_of_pieces(model: Path, rows: Sequence[PackedRow]) -> tuple[float, int]:
    """Summed NLL of every token that has one before it in its piece, each piece fed alone."""
    source = ModelSource(path=str(model))
    lm = load_causal_lm(source, dtype=torch.float32, attention="sdpa").eval()
    total, count = 0.0, 0
    for row in rows:
        start = 0
        for length in row.lengths.tolist():
            ids = torch.tensor(row.tokens[None, start : start + length]).long()
            start += length
            with torch.no_grad():
                logps = torch.log_softmax(lm(input_ids=ids).logits[0, :-1].float(), -1)
            total -= float(logps.gather(1, ids[0, 1:, None]).sum())
            count += length - 1
    return total, count


def test_losses_are_those_of_the_pieces_alone(tiny: Path, data: Path, tmp_path: Path) -> None:
    config = make_config("text", batch_size=13, learning_rate=1e-9)
    result = run_here(make_task(tiny, data, config), tmp_path)
    packed = [row for seed, n in enumerate((5, 5, 3)) for row in make_packed(n, seed=seed)]
    total, count = nll_of_pieces(tiny, packed)
    (first,) = result.history
    assert first["train/loss"] == pytest.approx(total / count, abs=1e-4)
    assert first["train/nll"] == first["train/loss"]
    assert first["train/perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
    assert result.num_examples == 13
    assert result.num_tokens == sum(int(row.lengths.sum()) for row in packed)
    # A rate of 1e-9 leaves the model where it was.
    total, count = nll_of_pieces(tiny, make_packed(5, seed=99))
    assert first["eval/loss"] == pytest.approx(total / count, abs=1e-3)
    assert first["eval/perplexity"] == pytest.approx(math.exp(first["eval/loss"]))


def test_training_lowers_the_loss_and_leaves_a_loadable_model(
    tiny: Path, data: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = make_config("text", epochs=6, precision="bf16", lr_schedule="wsd")
    result = run_here(make_task(tiny, data, config), tmp_path / "s", tmp_path / "kept")
    assert result.steps == 20  # ceil(6 * 13 / 4)
    assert curve(result)[-1] < curve(result)[0] - 0.1
    (folder,) = (tmp_path / "kept").iterdir()
    AutoModelForCausalLM.from_pretrained(folder)
    assert len(AutoTokenizer.from_pretrained(folder)) == 259


def test_neither_micro_batches_nor_padded_rows_change_the_numbers(
    tiny: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = []
    for packs in (True, False):
        # A model that takes no ready mask gets each piece as a row of its own.
        def measured(policy: Policy, device: torch.device, packs: bool = packs) -> Traits:
            policy.traits = Traits(plain_head=True, shares_prompt=packs)
            return policy.traits

        monkeypatch.setattr(setup, "measure", measured)
        for tokens in (64, 4096):
            config = make_config("text", tokens_per_micro_batch=tokens)
            result = run_here(make_task(tiny, data, config), tmp_path)
            curves.append([*curve(result), result.history[-1]["eval/loss"]])
    assert len(curves[0]) == 5
    for other in curves[1:]:
        assert other == pytest.approx(curves[0], abs=1e-4)


def test_the_published_checkpoint_is_the_best_or_the_last() -> None:
    # Best by loss at step 2; accuracy counts before it, and what was evaluated before what was not.
    history = [{"eval/loss": 3.0}, {"eval/loss": 2.0}, {"eval/loss": 2.5}, {}]

    def published(choose: Choice) -> int:
        scores = [selection_score(m, step + 1, choose) for step, m in enumerate(history)]
        return scores.index(max(scores)) + 1

    assert published("best") == 2
    # Where the evaluated rows are those that are reported, the best on them is not looked for.
    assert published("last") == 4


def test_of_checkpoints_without_an_evaluation_the_last_one_is_published() -> None:
    scores = [selection_score({}, step) for step in range(1, 5001)]
    assert all(later > earlier for earlier, later in pairwise(scores))
    # Any evaluated one is better, however bad it is.
    assert selection_score({"eval/loss": 1e9}, 1) > scores[-1]
    # Among equally good ones it is the later one.
    equal = {"eval/loss": 0.5, "eval/accuracy": 0.75}
    assert selection_score(equal, 31) > selection_score(equal, 30)


def test_a_run_interrupted_at_three_steps_repeats_the_unbroken_one(
    tiny: Path, data: Path, tmp_path: Path
) -> None:
    config = make_config("text", epochs=2, checkpoint_every_steps=1, eval_every_steps=4)
    general = tuple(make_task(tiny, data, config).data[:1])
    task = replace(make_task(tiny, data, config), replay=general, replay_share=0.25)
    whole = run_here(task, tmp_path / "s", tmp_path / "kept")
    assert whole.steps == 9  # 2 * 13 sequences and 9 of replay
    for step in (1, 4, 7):
        again = run_here(task, tmp_path / "s", resume_from=tmp_path / "kept" / f"step-{step}")
        for name in ("train/loss", "train/grad_norm", "train/lr"):
            assert curve(again, name) == pytest.approx(curve(whole, name), abs=1e-6)
        assert again.history[-1]["eval/loss"] == pytest.approx(
            whole.history[-1]["eval/loss"], abs=1e-6
        )
        assert again.num_tokens == whole.num_tokens
    finished = run_here(task, tmp_path / "s", resume_from=tmp_path / "kept" / "step-9")
    assert finished.history == whole.history
    # Other text, another budget or another share of replay are another recipe.
    for changed in (
        replace(task, token_budget=1000),
        replace(task, replay_share=0.5),
        replace(task, data=task.data[::-1]),
    ):
        with pytest.raises(RecipeChangedError, match="another recipe"):
            run_here(changed, tmp_path / "s", resume_from=tmp_path / "kept" / "step-4")


def test_a_token_budget_decides_the_steps(tiny: Path, data: Path, tmp_path: Path) -> None:
    # 500 tokens in steps of 4 * 24 tokens: 6 steps, nearly two epochs of 13 sequences.
    task = replace(make_task(tiny, data, make_config("text")), token_budget=500, validation=())
    result = run_here(task, tmp_path)
    assert result.steps == 6
    assert "eval/loss" not in result.history[-1]


def test_text_needs_no_chat_template(data: Path, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "base")
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = None
    (model / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(model)
    assert run_here(make_task(model, data, make_config("text")), tmp_path / "s").steps == 4


def test_mistakes_are_told(tiny: Path, data: Path, tmp_path: Path) -> None:
    task = make_task(tiny, data, make_config("text"))
    with pytest.raises(DataError, match=r"no training text at .*gone"):
        run_here(replace(task, data=(str(data / "gone.parquet"),)), tmp_path)
    # A shard that goes while the run is on: the step that needs it tells.
    shard = tmp_path / "some.parquet"
    write_packed(shard, make_packed(5))
    long = make_config("text", batch_size=128, epochs=300, checkpoint_every_steps=1)
    with pytest.raises(DataError, match=r"no training text at .*some\.parquet"):
        run_training(
            replace(task, data=(str(shard),), config=long, validation=()),
            device=torch.device("cpu"),
            scratch=tmp_path / "s",
            report=lambda metrics, folder: shard.unlink(missing_ok=True),
        )
