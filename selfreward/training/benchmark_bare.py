"""Training on rows as one writes it by hand, to measure a trainer by: padded sequences, the model
as transformers has it, autocast, AdamW.

Shape suffixes: _B sequences of a micro-batch, _T positions, _V the vocabulary, _P pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from selfreward.config import TrainingConfig
from selfreward.training.benchmark_turns import Turn, this_device, timed
from selfreward.training.encoding import EncodedRow
from selfreward.training.model import ModelSource
from selfreward.training.reward_model import load_reward_model


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedRows:
    """Whole sequences, each a prompt and one completion, padded on the right.

    `is_target_BT` marks the tokens of completions, `last_B` is where each sequence ends, `rows` are
    what they were made of: with two completions a row, sequence 2 n is the first of row n.
    """

    input_ids_BT: Tensor
    attention_mask_BT: Tensor
    is_target_BT: Tensor
    last_B: Tensor
    rows: Sequence[EncodedRow]


Loss = Callable[[Any, Any, PaddedRows], Tensor]
"""Of (model, frozen model, rows): their loss, summed, in what `train_bare` counts."""


def pad_rows(rows: Sequence[EncodedRow], pad_id: int, device: torch.device) -> PaddedRows:
    sequences = [(row.prompt.tolist(), c.tolist()) for row in rows for c in row.completions]
    lengths = [len(prompt) + len(completion) for prompt, completion in sequences]
    shape = (len(sequences), max(lengths))
    input_ids = torch.full(shape, pad_id)
    mask, is_target = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    for i, (prompt, completion) in enumerate(sequences):
        input_ids[i, : lengths[i]] = torch.tensor(prompt + completion)
        mask[i, : lengths[i]] = 1
        is_target[i, len(prompt) : lengths[i]] = True
    return PaddedRows(
        input_ids_BT=input_ids.to(device),
        attention_mask_BT=mask.to(device),
        is_target_BT=is_target.to(device),
        last_B=torch.tensor(lengths, device=device) - 1,
        rows=rows,
    )


def target_logps(model: Any, batch: PaddedRows) -> Tensor:
    """Log-probabilities of the completions' tokens, 0 elsewhere, shape (B, T - 1)."""
    out = model(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT)
    logps_BTV = functional.log_softmax(out.logits[:, :-1].float(), dim=-1)
    logps_BT = logps_BTV.gather(2, batch.input_ids_BT[:, 1:, None])[:, :, 0]
    return logps_BT * batch.is_target_BT[:, 1:]


def sft_loss(model: Any, frozen: Any, batch: PaddedRows) -> Tensor:
    return -target_logps(model, batch).sum()


def dpo_loss(beta: float) -> Loss:
    """DPO (arXiv 2305.18290, equation 7) against the frozen model."""

    def loss(model: Any, frozen: Any, batch: PaddedRows) -> Tensor:
        with torch.no_grad():
            reference_B = target_logps(frozen, batch).sum(1)
        reward_B = beta * (target_logps(model, batch).sum(1) - reference_B)
        return -functional.logsigmoid(reward_B[0::2] - reward_B[1::2]).sum()

    return loss


def bradley_terry_loss(model: Any, frozen: Any, batch: PaddedRows) -> Tensor:
    hidden_BTD = model.model(
        input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT
    ).last_hidden_state
    places_B = torch.arange(len(hidden_BTD), device=hidden_BTD.device)
    scores_B = model.score(hidden_BTD[places_B, batch.last_B])[:, 0].float()
    return -functional.logsigmoid(scores_B[0::2] - scores_B[1::2]).sum()


def plain_adamw(model: Any, config: TrainingConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,
    )


def load_language_model(path: str) -> Any:
    """The model at `path` in fp32 with transformers' own attention, on this device, in training."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    model.config.use_cache = False
    return model.to(this_device()).train()


def load_scorer(path: str, seed: int) -> Any:
    """The model at `path` with the score head that training gives it."""
    source = ModelSource(path=path)
    model = load_reward_model(source, dtype=torch.float32, attention="sdpa", seed=seed)
    return model.to(this_device()).train()


def micro_batches_in_order(
    rows: Sequence[EncodedRow], max_padded_tokens: int
) -> list[list[EncodedRow]]:
    """Rows as they come, as many at once as are `max_padded_tokens` with their padding."""
    out: list[list[EncodedRow]] = []
    for row in rows:
        grown = [*(out[-1] if out else []), row]
        padded = len(grown) * max(r.padded_length(False) for r in grown)
        if out and padded <= max_padded_tokens:
            out[-1] = grown
        else:
            out.append([row])
    return out


def train_bare(
    model: Any,
    steps: Sequence[Sequence[EncodedRow]],
    loss: Loss,
    counts: Sequence[float],
    config: TrainingConfig,
    *,
    pad_id: int,
    frozen: Any = None,
) -> Turn:
    """Trains `model` on the rows of each step; its loss is divided by the step's `counts`."""
    device = this_device()
    optimizer = plain_adamw(model, config)
    seconds: list[float] = []
    losses: list[float] = []
    for rows, count in zip(steps, counts, strict=True):
        with timed(seconds):
            total = torch.zeros((), device=device)
            for piece in micro_batches_in_order(rows, config.tokens_per_micro_batch):
                batch = pad_rows(piece, pad_id, device)
                with torch.autocast(
                    device.type, torch.bfloat16, enabled=config.precision == "bf16"
                ):
                    value = loss(model, frozen, batch)
                (value / count).backward()
                total += value.detach()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(total) / count)
    return Turn(seconds=seconds, losses=losses)
