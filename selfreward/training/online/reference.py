"""The frozen model that the policy is kept near to."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from selfreward.config_training import TrainingConfig
from selfreward.training.model import ModelSource, load_causal_lm
from selfreward.training.parallel import Parallel, together
from selfreward.training.policy import Policy
from selfreward.training.setup import attention_of, build, strategy_of


class Reference:
    """The model that training starts from: under LoRA the policy without its adapters, else a
    second copy, spread over the workers as the policy is."""

    def __init__(
        self,
        source: ModelSource,
        config: TrainingConfig,
        trained: Parallel,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        """Called by every worker alike. Raises ModelNotFoundError without a model at `source`."""
        self._own: Policy | None = None
        self._trained = trained.policy
        if config.lora is not None:
            return
        if strategy_of(config) == "fsdp2":
            self._own = build(source, config, seed=seed, device=device).parallel.policy
        else:
            self._own = _frozen_copy(source, config, trained.policy, device)
        self._own.eval()

    @contextmanager
    def policy(self) -> Iterator[Policy]:
        """The frozen model, for passes without gradients."""
        lm: Any = self._trained.lm
        with nullcontext() if self._own is not None else lm.disable_adapter():
            yield self._own if self._own is not None else self._trained


def _frozen_copy(
    source: ModelSource, config: TrainingConfig, trained: Policy, device: torch.device
) -> Policy:
    """The weights alone, rounded as the policy's: no gradients, masters or moments beside them."""
    lm = together(
        lambda: load_causal_lm(source, dtype=torch.float32, attention=attention_of(device))
    )
    policy = Policy(lm, trained.traits)
    policy.requires_grad_(False)
    policy.to(device=device)
    compute = torch.bfloat16 if config.precision == "bf16" else torch.float32
    for parameter in policy.parameters():  # buffers keep their precision, as in training
        parameter.data = parameter.data.to(compute)
    return policy
