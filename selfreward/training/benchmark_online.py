"""Policy-gradient updates beside a bare PyTorch loop: the same rollouts, the same loss."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from selfreward.config_custom_llm import OnlineConfig
from selfreward.records import Preference
from selfreward.training.benchmark_bare import (
    Loss,
    PaddedRows,
    load_language_model,
    target_logps,
    train_bare,
)
from selfreward.training.benchmark_rows import LEARNING_RATE
from selfreward.training.benchmark_turns import (
    Turn,
    largest_difference,
    this_device,
    timed,
    tokens_per_s,
)
from selfreward.training.encoding import EncodedRow, encode_preferences
from selfreward.training.model import ModelSource, load_tokenizer
from selfreward.training.online.reference import Reference
from selfreward.training.online.update import Learner, Sample
from selfreward.training.setup import build, quiet_libraries, set_threads


def policy_gradient_loss(advantages: dict[str, float], kl_weight: float) -> Loss:
    """-A ratio + kl_weight (exp(d) - d - 1) of each token, with the rollouts' own probabilities as
    the ratio's lower half and d the frozen model's log-probability less the policy's."""

    def loss(model: Any, frozen: Any, batch: PaddedRows) -> Tensor:
        with torch.no_grad():
            reference_BT = target_logps(frozen, batch)
        logps_BT = target_logps(model, batch)
        ratio_BT = torch.exp(logps_BT - logps_BT.detach())
        weight_B = torch.tensor([advantages[r.id] for r in batch.rows], device=logps_BT.device)
        difference_BT = reference_BT - logps_BT
        kl_BT = torch.exp(difference_BT) - difference_BT - 1.0
        each_BT = kl_weight * kl_BT - weight_B[:, None] * ratio_BT
        return (each_BT * batch.is_target_BT[:, 1:]).sum()

    return loss


def _train_ours(
    model_path: str,
    steps: Sequence[Sequence[EncodedRow]],
    advantages: dict[str, float],
    config: OnlineConfig,
    pad_id: int,
    seed: int,
) -> Turn:
    source, device = ModelSource(path=model_path), this_device()
    parallel = build(source, config.training, seed=seed, device=device).parallel
    reference = Reference(source, config.training, parallel, seed=seed, device=device)
    learner = Learner(parallel, reference, config, pad_id=pad_id, device=device)
    seconds: list[float] = []
    losses = []
    for number, step in enumerate(steps):
        samples = [Sample(row=row, advantage=advantages[row.id], part=0) for row in step]
        with timed(seconds):
            losses.append(learner.update(samples, number, len(steps))["train/loss"])
    return Turn(seconds=seconds, losses=losses)


def compare_updates(
    model_path: str,
    rows: Sequence[Preference],
    *,
    rollouts_per_step: int = 16,
    num_steps: int = 5,
    num_exact_steps: int = 2,
    max_length: int = 1024,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
) -> dict[str, float]:
    """Makes policy-gradient updates of the model at `model_path` with our learner and with a bare
    loop; sampling and rewarding are in neither.

    The chosen and rejected completions of `rows` stand for rollouts, with random advantages.

    Returns `num_tokens`, `tokens_per_s`, `bare_tokens_per_s`, `share_of_bare`, all in bf16, and
    `max_loss_difference` of the first `num_exact_steps` updates in fp32.
    """
    set_threads(1)
    quiet_libraries()
    tokenizer = load_tokenizer(ModelSource(path=model_path))
    rollouts = [
        EncodedRow(id=f"{row.id}/{i}", pair_id=row.id, prompt=row.prompt, completions=(completion,))
        for row in encode_preferences(tokenizer, rows, max_length)[0]
        for i, completion in enumerate(row.completions)
    ]
    rng = random.Random(seed)
    advantages = {row.id: rng.gauss(0.0, 1.0) for row in rollouts}
    steps = [
        [
            rollouts[(number * rollouts_per_step + i) % len(rollouts)]
            for i in range(rollouts_per_step)
        ]
        for number in range(num_steps)
    ]
    num_tokens = [sum(row.num_sequence_tokens for row in step) for step in steps]
    counts = [float(sum(row.num_targets for row in step)) for step in steps]

    def both(precision: str, count: int) -> tuple[Turn, Turn]:
        config = OnlineConfig.model_validate(
            {
                "training": {
                    "precision": precision,
                    "learning_rate": learning_rate,
                    "final_lr_ratio": 1.0,
                    "warmup_ratio": 0.0,
                    "weight_decay": 0.0,
                    "max_grad_norm": 1e9,
                }
            }
        )
        ours = _train_ours(
            model_path, steps[:count], advantages, config, tokenizer.pad_token_id, seed
        )
        bare = train_bare(
            load_language_model(model_path),
            steps[:count],
            policy_gradient_loss(advantages, config.kl_weight),
            counts[:count],
            config.training,
            pad_id=tokenizer.pad_token_id,
            frozen=load_language_model(model_path).eval(),
        )
        return ours, bare

    ours, bare = both("bf16", num_steps)
    speeds = [tokens_per_s([turn], num_tokens) for turn in (ours, bare)]
    exact, bare_exact = both("fp32", num_exact_steps)
    return {
        "num_tokens": float(sum(num_tokens)),
        "tokens_per_s": speeds[0],
        "bare_tokens_per_s": speeds[1],
        "share_of_bare": speeds[0] / speeds[1],
        "max_loss_difference": largest_difference([bare_exact.losses], exact.losses),
    }
