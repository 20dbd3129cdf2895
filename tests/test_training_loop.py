"""The training loop in this process: sharing prompts, resuming, LoRA, checkpoints."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from selfreward.errors import DataError, RecipeChangedError, StorageError, TrainingError
from selfreward.training.checkpoint import commit_folder, is_complete
from selfreward.training.collate import collate
from selfreward.training.encoding import encode_preferences
from selfreward.training.losses import sequence_logps
from selfreward.training.model import ModelSource, load_causal_lm, load_tokenizer
from selfreward.training.policy import Policy, Traits
from selfreward.training.traits import measure
from tests.tiny_model import make_tiny_model
from tests.training_data import (
    curve,
    make_config,
    make_preferences,
    make_task,
    run_here,
    write_data,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("untied"), tied=False)


def load_policy(folder: Path) -> Policy:
    source = ModelSource(path=str(folder))
    return Policy(load_causal_lm(source, dtype=torch.float32, attention="sdpa")).eval()


@pytest.mark.parametrize("model", ["tiny", "untied"])
def test_a_shared_prompt_gives_the_log_probabilities_of_separate_rows(
    model: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(model)
    policy = load_policy(folder)
    tokenizer = load_tokenizer(ModelSource(path=str(folder)))
    rows, _ = encode_preferences(tokenizer, make_preferences(5), 2048)
    sums, gradients = [], []
    for share in (True, False):
        batch = collate(rows, 0, share)
        assert batch.input_ids_BT.shape[0] == (5 if share else 10)
        logps = sequence_logps(policy(batch), batch.sequence_N, batch.num_sequences)
        policy.zero_grad()
        (logps * torch.arange(10.0)).sum().backward()
        sums.append(logps.detach())
        gradients.append(
            {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}
        )
    torch.testing.assert_close(sums[0], sums[1], rtol=0, atol=1e-4)
    for name in gradients[0]:
        torch.testing.assert_close(gradients[0][name], gradients[1][name], rtol=1e-3, atol=1e-3)
    # ... which are those of the model's own logits
    lm = policy.lm
    row = rows[0]
    ids = torch.tensor([[*row.prompt.tolist(), *row.completions[1].tolist()]])
    logps = torch.log_softmax(lm(input_ids=ids).logits[0, :-1].float(), -1)
    wanted = logps.gather(1, ids[0, 1:, None])[len(row.prompt) - 1 :].sum()
    assert sums[0][1].item() == pytest.approx(wanted.item(), abs=1e-4)


def test_what_a_model_allows_is_measured(tiny: Path) -> None:
    policy = load_policy(tiny)
    assert measure(policy, CPU) == Traits()
    head = policy.causal_lm.get_output_embeddings()
    head.register_forward_hook(lambda module, inputs, logits: 3.0 * torch.tanh(logits / 3.0) * 2)
    assert measure(policy, CPU) == Traits(plain_head=False)


def test_a_model_with_capped_logits_trains_on_its_own_logits(tiny: Path) -> None:
    policy = load_policy(tiny)
    rows, _ = encode_preferences(
        load_tokenizer(ModelSource(path=str(tiny))), make_preferences(2), 2048
    )
    batch = collate(rows, 0, True)
    plain = policy(batch)
    policy.traits = Traits(plain_head=False)
    torch.testing.assert_close(policy(batch), plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_training_lowers_the_loss_and_leaves_a_loadable_model(
    objective: str, tiny: Path, data: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = make_config(objective, epochs=4, precision="bf16")
    result = run_here(make_task(tiny, data, config), tmp_path / "s", tmp_path / "kept")
    assert result.steps == 12
    assert curve(result)[-1] < curve(result)[0]
    if objective == "dpo":  # the policy is the reference before the first update
        first = result.history[0]
        assert first["train/preference_loss"] == pytest.approx(0.6931, abs=2e-3)
        assert first["train/reward_margin"] == pytest.approx(0.0, abs=2e-2)
    (folder,) = (tmp_path / "kept").iterdir()
    assert is_complete(str(folder))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32  # the dtype of the checkpoint it came from
    assert AutoTokenizer.from_pretrained(folder).chat_template
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 258


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_a_resumed_run_repeats_the_unbroken_one(
    objective: str, precision: str, tiny: Path, data: Path, tmp_path: Path
) -> None:
    lora = {"rank": 4, "alpha": 8, "dropout": 0.1} if objective == "dpo" else None
    config = make_config(
        objective, precision=precision, checkpoint_every_steps=1, epochs=2, lora=lora
    )
    task = make_task(tiny, data, config)
    whole = run_here(task, tmp_path / "s", tmp_path / "kept")
    again = run_here(task, tmp_path / "s", resume_from=tmp_path / "kept" / "step-2")
    assert len(curve(whole)) == 6
    assert curve(again) == pytest.approx(curve(whole), abs=1e-6)
    assert curve(again, "train/grad_norm") == pytest.approx(
        curve(whole, "train/grad_norm"), rel=1e-5
    )
    finished = run_here(task, tmp_path / "s", resume_from=tmp_path / "kept" / "step-6")
    assert finished.history == whole.history


def test_another_recipe_does_not_go_on_from_old_state(
    tiny: Path, data: Path, tmp_path: Path
) -> None:
    task = make_task(tiny, data, make_config("sft"))
    run_here(task, tmp_path / "s", tmp_path / "kept")
    changed = replace(task, config=make_config("sft", learning_rate=2e-3))
    with pytest.raises(RecipeChangedError, match="another recipe"):
        run_here(changed, tmp_path / "s", resume_from=tmp_path / "kept" / "step-3")
    # How fast it runs is not part of the recipe.
    faster = replace(task, config=make_config("sft", tokens_per_micro_batch=512))
    run_here(faster, tmp_path / "s", resume_from=tmp_path / "kept" / "step-3")


def test_micro_batches_do_not_change_the_numbers(tiny: Path, data: Path, tmp_path: Path) -> None:
    curves = [
        curve(
            run_here(
                make_task(tiny, data, make_config(objective, tokens_per_micro_batch=tokens)),
                tmp_path,
            )
        )
        for objective in ("sft", "dpo")
        for tokens in (64, 4096)
    ]
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)
    assert curves[2] == pytest.approx(curves[3], abs=1e-4)


def test_merged_lora_weights_speak_like_the_adapter(tiny: Path, data: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    config = make_config("sft", lora={"rank": 4, "alpha": 8}, epochs=3)
    run_here(make_task(tiny, data, config), tmp_path / "s", tmp_path / "kept")
    (folder,) = (tmp_path / "kept").iterdir()
    ids = torch.arange(5, 40)[None]
    base = AutoModelForCausalLM.from_pretrained(tiny)
    before = base(input_ids=ids).logits
    adapted = PeftModel.from_pretrained(base, folder / "adapter").eval()(input_ids=ids).logits
    merged = AutoModelForCausalLM.from_pretrained(folder)(input_ids=ids).logits
    assert (adapted - before).abs().max() > 0.01
    torch.testing.assert_close(merged, adapted, rtol=0, atol=1e-4)


def test_rows_too_long_are_counted_and_none_left_is_an_error(
    tiny: Path, data: Path, tmp_path: Path
) -> None:
    # The prompt of row i is 44 bytes and specials around (i % 5 + 1) questions; some exceed 85.
    result = run_here(make_task(tiny, data, make_config("sft", max_length=85)), tmp_path)
    assert result.dropped["too_long"] > 0
    assert result.num_examples + result.dropped["too_long"] == 12
    with pytest.raises(DataError, match=r"12 row.s., all longer than training.max_length=16"):
        run_here(make_task(tiny, data, make_config("sft", max_length=16)), tmp_path)


def test_a_diverged_run_says_what_to_do(tiny: Path, data: Path, tmp_path: Path) -> None:
    config = make_config("sft", learning_rate=1e30, warmup_ratio=0.0, max_grad_norm=1e30)
    with pytest.raises(TrainingError, match=r"lower training\.learning_rate"):
        run_here(make_task(tiny, data, config), tmp_path)


def test_the_deadline_stops_a_run(tiny: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="ran out of time at step 1 of 3"):
        run_here(make_task(tiny, data, make_config("sft"), deadline=0.0), tmp_path)


def test_reference_log_probabilities_are_read_back(
    tiny: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("dpo")
    task = make_task(tiny, data, config, reference_cache=str(tmp_path / "reference"))
    first = run_here(task, tmp_path / "s")
    assert len(list((tmp_path / "reference").iterdir())) == 1

    def computing(*args: object, **kwargs: object) -> torch.Tensor:
        raise AssertionError("computed again")

    monkeypatch.setattr("selfreward.training.reference.completion_logps", computing)
    assert curve(run_here(task, tmp_path / "s")) == curve(first)


def test_a_checkpoint_is_published_whole_or_not_at_all(
    tiny: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("sft", checkpoint_every_steps=1)
    run_here(make_task(tiny, data, config), tmp_path / "s", tmp_path / "kept")
    source, target = str(tmp_path / "kept" / "step-2"), tmp_path / "published"
    copied = []

    def failing(*args: Any) -> None:
        copied.append(args)
        if len(copied) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(*args)

    from selfreward.training import checkpoint

    original = checkpoint._copy_file
    monkeypatch.setattr(checkpoint, "_copy_file", failing)
    with pytest.raises(StorageError, match=r"cannot write .*: No space left on device; free some"):
        commit_folder(source, str(target))
    assert not target.exists() and not is_complete(str(target))
    assert [p.name for p in tmp_path.glob("published*")] == []
    commit_folder(source, str(target))
    assert is_complete(str(target))
    assert not [p.name for p in target.iterdir() if p.name.startswith("trainer_")]

    # On a store without renames the marker comes last.
    commit_folder(source, "memory://bucket/published")
    assert is_complete("memory://bucket/published")
