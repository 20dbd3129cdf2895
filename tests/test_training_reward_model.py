"""The Bradley-Terry reward model: its loss, where its score is read, and the folder it becomes."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from selfreward.config import TrainingConfig
from selfreward.engines.classifier import Classifier
from selfreward.errors import ConfigError, ModelNotFoundError
from selfreward.records import Message
from selfreward.training.checkpoint import write_model
from selfreward.training.collate import Batch, collate
from selfreward.training.encoding import EncodedRow, encode_preferences
from selfreward.training.model import ModelSource, load_tokenizer
from selfreward.training.reward_model import (
    empty_reward_model,
    load_reward_model,
    pooled_at_end_of_turn,
)
from selfreward.training.reward_objective import RewardObjective, bradley_terry_loss
from selfreward.training.reward_policy import RewardPolicy
from selfreward.training.setup import Trainee, build
from tests.tiny_model import CHATML_TEMPLATE, make_tiny_model, make_tiny_tokenizer
from tests.training_data import make_config, make_preferences

CPU = torch.device("cpu")
LORA = {"rank": 4, "alpha": 8}
PREFERENCES = make_preferences(6, confidences=(1.0, 0.8))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def reward_config(**changes: Any) -> TrainingConfig:
    return make_config("reward_model", **({"max_length": 1024} | changes))


def build_here(folder: Path, seed: int = 0, **changes: Any) -> Trainee:
    config = reward_config(**changes)
    source = ModelSource(path=str(folder))
    return build(source, config, seed=seed, device=CPU, kind="reward_model")


def encoded(folder: Path) -> list[EncodedRow]:
    rows, too_long = encode_preferences(
        load_tokenizer(ModelSource(path=str(folder))), PREFERENCES, 1024
    )
    assert too_long == 0
    return rows


def batch_of(rows: list[EncodedRow], share_prompt: bool = True) -> Batch:
    return collate(rows, 256, share_prompt)


def ends_of(rows: list[EncodedRow], share_prompt: bool) -> list[int]:
    last_S = batch_of(rows, share_prompt).last_S
    assert last_S is not None
    return [int(place) for place in last_S]


def train_steps(
    trainee: Trainee, rows: list[EncodedRow], config: TrainingConfig, steps: int
) -> list[float]:
    """Steps on all rows at once; returns the mean losses before each."""
    objective, parallel, losses = RewardObjective(config, rows), trainee.parallel, []
    for _ in range(steps):
        batch = batch_of(rows, parallel.policy.traits.shares_prompt)
        loss, _ = objective(parallel.policy(batch), batch, range(len(rows)))
        (loss / len(rows)).backward()
        parallel.finish_gradients(1.0)
        parallel.step(1e-2)
        losses.append(loss.item() / len(rows))
    return losses


def save(trainee: Trainee, source: Path, folder: Path, config: TrainingConfig) -> Path:
    lm: Any = trainee.parallel.policy.lm
    origin = ModelSource(path=str(source))
    write_model(
        folder,
        trainee.parallel.full_state(),
        source=origin,
        tokenizer=load_tokenizer(origin),
        dtype=trainee.dtype,
        lora=config.lora,
        peft_config=lm.peft_config["default"] if config.lora else None,
        kind="reward_model",
    )
    return folder


@torch.no_grad()
def scores_in_training(trainee: Trainee, rows: list[EncodedRow]) -> list[float]:
    policy = trainee.parallel.policy.eval()
    scores: list[float] = policy(batch_of(rows, policy.traits.shares_prompt)).tolist()
    return scores


def scores_when_served(folder: Path) -> list[float]:
    classifier = Classifier(str(folder), dtype="auto", device="cpu")
    ids = [
        classifier.token_ids(p.messages, text)
        for p in PREFERENCES
        for text in (p.chosen, p.rejected)
    ]
    return classifier.scores(ids)


# --- where the score is read ---------------------------------------------------------------------


def test_the_last_token_of_every_completion() -> None:
    def row(prompt: int, *completions: int) -> EncodedRow:
        return EncodedRow(
            id="r",
            pair_id="p",
            prompt=torch.arange(prompt, dtype=torch.int32).numpy(),
            completions=tuple(torch.arange(n, dtype=torch.int32).numpy() for n in completions),
        )

    rows = [row(2, 3, 1), row(4, 1, 4)]
    # Each alone in a row of 8: ends 2 + 3, 2 + 1, 4 + 1 and 4 + 4, less one, after 0, 8, 16, 24.
    assert ends_of(rows, False) == [4, 8 + 2, 16 + 4, 24 + 7]
    # Two rows of 9: completions of the first end at 5 and 6, of the second at 5 and 9, less one.
    assert ends_of(rows, True) == [4, 5, 9 + 4, 9 + 8]
    assert ends_of([], True) == []


def test_scores_are_those_of_transformers_with_the_prompt_shared_or_not(tiny: Path) -> None:
    rows = encoded(tiny)
    policy = build_here(tiny).parallel.policy.eval()
    assert isinstance(policy, RewardPolicy)
    assert policy.traits.shares_prompt
    with torch.no_grad():
        shared, alone = policy(batch_of(rows, True)), policy(batch_of(rows, False))
        wanted = []
        for row in rows:
            for completion in row.completions:
                ids = torch.tensor([[*row.prompt.tolist(), *completion.tolist()]])
                # A single row is pooled at its last token, whatever pads.
                wanted.append(policy.causal_lm(input_ids=ids).logits[0, 0])
    torch.testing.assert_close(alone, torch.stack(wanted), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(shared, alone, atol=1e-5, rtol=1e-5)
    assert shared.dtype == torch.float32


def test_bf16_with_checkpointed_activations_gives_fp32_scores(tiny: Path) -> None:
    trainee = build_here(tiny, precision="bf16", activation_checkpointing=True)
    batch = batch_of(encoded(tiny))
    trainee.parallel.policy.train()
    scores = trainee.parallel.policy(batch)
    assert scores.dtype == torch.float32
    scores.sum().backward()
    assert math.isfinite(trainee.parallel.finish_gradients(1.0))


def test_an_empty_micro_batch_has_gradients_of_zero(tiny: Path) -> None:
    trainee = build_here(tiny)
    batch = batch_of([])
    loss, parts = RewardObjective(reward_config(), [])(trainee.parallel.policy(batch), batch, [])
    loss.backward()
    assert (loss.item(), parts.tolist()) == (0.0, [0.0] * 4)
    assert trainee.parallel.finish_gradients(1.0) == 0.0


def test_a_batch_without_ends_is_refused(tiny: Path) -> None:
    batch = copy.copy(batch_of(encoded(tiny)))
    object.__setattr__(batch, "last_S", None)
    with pytest.raises(ValueError, match="does not say where its sequences end"):
        build_here(tiny).parallel.policy(batch)


# --- the loss ------------------------------------------------------------------------------------


def losses_of(confidence: float = 1.0, centering: float = 0.0) -> list[float]:
    loss_P = bradley_terry_loss(
        chosen_scores_P=torch.tensor([1.0, 0.0]),
        rejected_scores_P=torch.tensor([0.0, 2.0]),
        label_confidence_P=torch.tensor([confidence, confidence]),
        centering=centering,
    )
    values: list[float] = loss_P.tolist()
    return values


def test_bradley_terry_by_hand() -> None:
    # log(1 + e^-1) = 0.313262 and log(1 + e^2) = 2.126928.
    assert losses_of() == pytest.approx([0.313262, 2.126928], abs=1e-6)
    # 0.75 of each and 0.25 of its opposite, 1.313262 and 0.126928.
    assert losses_of(confidence=0.75) == pytest.approx([0.563262, 1.626928], abs=1e-6)
    # 0.1 * (1 + 0)² and 0.1 * (0 + 2)².
    assert losses_of(centering=0.1) == pytest.approx([0.413262, 2.526928], abs=1e-6)


def test_metrics_of_a_step_by_hand(tiny: Path) -> None:
    rows = encoded(tiny)
    objective = RewardObjective(reward_config(reward_centering=0.1), rows)
    batch = batch_of([rows[0], rows[3]])
    # Row 3 has a confidence of 0.8: 0.8 * 2.126928 + 0.2 * 0.126928 + 0.1 * 4 = 2.126928.
    loss, parts = objective(torch.tensor([1.0, 0.0, 0.0, 2.0]), batch, [0, 3])
    assert loss.item() == pytest.approx(0.413262 + 2.126928, abs=1e-5)
    sums = dict(zip(objective.names(), parts.tolist(), strict=True))
    assert sums == pytest.approx(
        {
            "train/loss": 2.54019,
            "train/accuracy": 1.0,
            "train/score_chosen": 1.0,
            "train/score_rejected": 2.0,
        },
        abs=1e-5,
    )
    assert objective.count([0, 3]) == 2


def test_loss_and_gradients_equal_trl(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    config = reward_config(reward_centering=0.05)
    trainee = build_here(tiny, reward_centering=0.05)
    folder = save(trainee, tiny, tmp_path / "reward", config)
    rows = [r for r in encoded(tiny) if r.label_confidence == 1.0]
    batch = batch_of(rows)
    loss, parts = RewardObjective(config, rows)(
        trainee.parallel.policy(batch), batch, range(len(rows))
    )
    (loss / len(rows)).backward()
    texts = [[(*r.prompt.tolist(), *c.tolist()) for c in r.completions] for r in rows]
    trainer = RewardTrainer(
        AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32),
        args=RewardConfig(
            output_dir=str(tmp_path / "trl"),
            center_rewards_coefficient=0.05,
            per_device_train_batch_size=len(rows),
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([{"chosen_ids": c, "rejected_ids": r} for c, r in texts]),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    (inputs,) = trainer.get_train_dataloader()
    trainer.model.train()
    theirs = trainer.compute_loss(trainer.model, inputs)
    theirs.backward()
    assert loss.item() / len(rows) == pytest.approx(theirs.item(), abs=1e-5)
    accuracy = trainer._metrics["train"]["accuracy"][0]
    assert parts[1].item() / len(rows) == pytest.approx(accuracy)
    wanted = dict(trainer.model.named_parameters())
    for name, parameter in trainee.parallel.policy.lm.named_parameters():
        torch.testing.assert_close(
            parameter.grad, wanted[name].grad, atol=1e-5, rtol=1e-3, msg=name
        )


# --- the head, new or not ------------------------------------------------------------------------


def head_of(trainee: Trainee) -> torch.Tensor:
    policy = trainee.parallel.policy
    assert isinstance(policy, RewardPolicy)
    weight: torch.Tensor = policy.causal_lm.score.weight
    return weight.detach()


def test_a_new_head_is_small_and_drawn_by_the_seed(tiny: Path) -> None:
    one, same, other = (build_here(tiny, seed=s) for s in (0, 0, 1))
    assert torch.equal(head_of(one), head_of(same))
    assert not torch.equal(head_of(one), head_of(other))
    # Hidden size 64: a deviation of 0.1 / 8.
    assert head_of(one).std().item() == pytest.approx(0.0125, rel=0.3)
    rows = encoded(tiny)
    (loss,) = train_steps(one, rows, reward_config(), 1)
    assert loss == pytest.approx(math.log(2), abs=0.05)


def test_the_decoder_learns_from_the_first_step(tiny: Path) -> None:
    trainee = build_here(tiny)
    batch = batch_of(encoded(tiny))
    trainee.parallel.policy(batch).square().sum().backward()
    for name, parameter in trainee.parallel.policy.lm.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_training_goes_on_from_a_reward_model(tiny: Path, tmp_path: Path) -> None:
    config = reward_config()
    first = build_here(tiny)
    losses = train_steps(first, encoded(tiny), config, 3)
    assert losses[2] < losses[0]
    folder = save(first, tiny, tmp_path / "reward", config)
    again = build_here(folder, seed=5)
    assert torch.equal(head_of(again), head_of(first))
    assert scores_in_training(again, encoded(folder)) == pytest.approx(
        scores_in_training(first, encoded(tiny)), abs=1e-5
    )


def test_what_cannot_be_a_reward_model_is_one_line(tiny: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, BartConfig, MambaConfig

    two = AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=2)
    two.save_pretrained(tmp_path / "two")
    with pytest.raises(ModelNotFoundError, match="is a classifier with 2 outputs"):
        build_here(tmp_path / "two")
    with pytest.raises(ModelNotFoundError, match="no model at"):
        build_here(tmp_path / "nothing")
    one = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 8}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
    BartConfig(vocab_size=8, **one, **heads).save_pretrained(tmp_path / "bart")
    source = ModelSource(path=str(tmp_path / "bart"))
    with torch.device("meta"), pytest.raises(ConfigError, match=r"has no plain score head$"):
        empty_reward_model(source, dtype=torch.float32)
    MambaConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1).save_pretrained(tmp_path / "s")
    source = ModelSource(path=str(tmp_path / "s"))
    with pytest.raises(ConfigError, match="no reward model can be made from") as caught:
        load_reward_model(source, dtype=torch.float32, attention="eager", seed=0)
    assert "\n" not in str(caught.value)


def test_a_folder_without_its_decoder_is_refused(tiny: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "cut"
    folder.mkdir()
    (folder / "config.json").write_text((tiny / "config.json").read_text())
    weights = load_file(tiny / "model.safetensors")
    kept = {n: w for n, w in weights.items() if "layers.1." not in n}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelNotFoundError, match=r"lacks 9 weight\(s\) of its decoder"):
        build_here(folder)


# --- the folder ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [None, LORA])
@pytest.mark.parametrize("pads_with", ["<|endoftext|>", "<|im_end|>"])
def test_a_served_score_is_the_one_of_training(
    tmp_path: Path, lora: dict[str, int] | None, pads_with: str
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    start = make_tiny_model(tmp_path / "start")
    tokenizer = make_tiny_tokenizer()
    tokenizer.pad_token = pads_with  # some pad with what ends a turn
    tokenizer.save_pretrained(start)
    config = reward_config(lora=lora)
    trainee = build_here(start, lora=lora)
    losses = train_steps(trainee, encoded(start), config, 2)
    assert losses[1] < losses[0]
    folder = save(trainee, start, tmp_path / "reward", config)
    wanted = scores_in_training(trainee, encoded(start))
    assert max(wanted) - min(wanted) > 0.01
    assert scores_when_served(folder) == pytest.approx(wanted, abs=1e-4)

    # And through transformers alone, padded by the folder's own tokenizer, as anybody would.
    saved = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert (model.config.num_labels, model.config.pad_token_id) == (1, saved.pad_token_id)
    turns = [
        [
            *({"role": m.role, "content": m.content} for m in p.messages),
            {"role": "assistant", "content": text},
        ]
        for p in PREFERENCES
        for text in (p.chosen, p.rejected)
    ]
    texts = saved.apply_chat_template(turns, tokenize=False)
    inputs = saved(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    assert logits.logits[:, 0].tolist() == pytest.approx(wanted, abs=1e-4)


def test_the_adapter_alone_gives_the_merged_scores(tiny: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    config = reward_config(lora=LORA)
    trainee = build_here(tiny, lora=LORA)
    rows = encoded(tiny)
    train_steps(trainee, rows, config, 2)
    folder = save(trainee, tiny, tmp_path / "reward", config)
    assert not [n for n in json.loads((folder / "config.json").read_text()) if "lora" in n]
    base = AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=1)
    adapted = RewardPolicy(PeftModel.from_pretrained(base, folder / "adapter")).eval()
    with torch.no_grad():
        scores = adapted(batch_of(rows)).tolist()
    assert scores == pytest.approx(scores_when_served(folder), abs=1e-4)


def test_the_template_still_writes_prompts_as_before(tiny: Path, tmp_path: Path) -> None:
    config = reward_config()
    folder = save(build_here(tiny), tiny, tmp_path / "reward", config)
    again = save(build_here(folder), folder, tmp_path / "again", config)
    turns = [{"role": "user", "content": "a \n"}, {"role": "assistant", "content": "b"}]
    for path in (folder, again):
        tokenizer = load_tokenizer(ModelSource(path=str(path)))
        before = make_tiny_tokenizer()
        assert tokenizer.apply_chat_template(
            turns[:1], tokenize=False, add_generation_prompt=True
        ) == before.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(turns, tokenize=False)
        assert whole == before.apply_chat_template(turns, tokenize=False).rstrip()
        assert whole.endswith("b<|im_end|>")
        # Wrapped once, however often a reward model is trained further.
        assert tokenizer.chat_template.count("endset") == 1
        assert CHATML_TEMPLATE in tokenizer.chat_template


@pytest.mark.parametrize("template", ["\n" + CHATML_TEMPLATE, CHATML_TEMPLATE + "\n \n"])
def test_white_space_of_a_template_stays_in_its_prompts(template: str) -> None:
    from transformers import LlamaConfig

    before = make_tiny_tokenizer()
    before.chat_template = template
    after = pooled_at_end_of_turn(LlamaConfig(), before)
    turns = [{"role": "user", "content": "a"}]
    prompt = before.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert after.chat_template != before.chat_template == template
    assert after.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) == prompt


def test_other_reward_models_get_the_whole_conversation(tiny: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    other = AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=1)
    other.save_pretrained(tmp_path)
    tokenizer = make_tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    classifier = Classifier(str(tmp_path), dtype="float32", device="cpu")
    ids = classifier.token_ids((Message(role="user", content="q"),), "a")
    assert tokenizer.decode(ids).endswith("a<|im_end|>\n")
