"""Training with the weights, gradients and moments sharded over workers (FSDP2).

Each transformer block is gathered in bf16 when it runs; the shards, the gradient reduction and the
moments are fp32. Worker 0 alone reads the checkpoint and broadcasts it shard by shard.
"""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)

from selfreward.config import TrainingConfig
from selfreward.training.optimizer import clip_, make_adamw
from selfreward.training.parallel import rank
from selfreward.training.policy import Policy

_PREFIX = "lm."


def _blocks(lm: nn.Module, causal_lm: Any) -> list[nn.Module]:
    """The transformer blocks: the units that are gathered and freed one after another."""
    names = set(causal_lm._no_split_modules or ())
    return [m for m in lm.modules() if type(m).__name__ in names]


class Sharded:
    """FSDP2 over all workers: shards of each block, of embeddings and head."""

    equal_counts = True
    overhead_tokens = 4096  # each micro-batch gathers every weight from all workers

    def __init__(
        self,
        policy: Policy,
        loaded: Policy | None,
        config: TrainingConfig,
        *,
        device: torch.device,
    ):
        """`policy` is on the meta device; `loaded` holds the fp32 weights on worker 0 and is None
        elsewhere."""
        from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

        self.policy = policy
        mixed = MixedPrecisionPolicy()
        if config.precision == "bf16":
            mixed = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        for block in _blocks(policy.lm, policy.causal_lm):
            fully_shard(block, mp_policy=mixed)
        fully_shard(policy, mp_policy=mixed)
        for module in policy.modules():
            if isinstance(module, FSDPModule):
                # Losses are divided by the counts of the whole step, so gradients are summed.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        policy.to_empty(device=device)
        state = dict(loaded.state_dict()) if loaded is not None else {}
        set_model_state_dict(
            policy,
            state,
            options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True),
        )
        _broadcast_buffers(policy, loaded, device)
        self._trained = {n: p for n, p in policy.named_parameters() if p.requires_grad}
        self._optimizer = make_adamw(self._trained.items(), config, fused=False)

    def finish_gradients(self, max_norm: float) -> float:
        gradients = [p.grad for p in self._trained.values() if p.grad is not None]
        total: Any = torch.nn.utils.get_total_norm(gradients)
        norm = float(total.full_tensor() if hasattr(total, "full_tensor") else total)
        clip_(gradients, norm, max_norm)
        return norm

    def step(self, learning_rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def full_state(self) -> dict[str, Tensor]:
        state = get_model_state_dict(
            self.policy, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
        )
        if rank() != 0:
            return {}
        named = {n.removeprefix(_PREFIX): p for n, p in state.items()}
        kept = {n.removeprefix(_PREFIX) for n, _ in self.policy.named_parameters()}
        return {n: p for n, p in named.items() if n in kept and isinstance(p, Tensor)}

    def _state(self) -> dict[str, Any]:
        weights, moments = get_state_dict(self.policy, self._optimizer)
        return {"weights": weights, "optimizer": moments}

    def save(self, folder: Path) -> None:
        import torch.distributed.checkpoint as dcp

        # Each worker writes its own shards; a later run may have another number of workers.
        dcp.save(self._state(), checkpoint_id=str(folder / "trainer_shards"))

    def load(self, folder: Path) -> None:
        import torch.distributed.checkpoint as dcp

        state = self._state()
        dcp.load(state, checkpoint_id=str(folder / "trainer_shards"))
        set_state_dict(
            self.policy,
            self._optimizer,
            model_state_dict=state["weights"],
            optim_state_dict=state["optimizer"],
        )


def _broadcast_buffers(policy: Policy, loaded: Policy | None, device: torch.device) -> None:
    """Fills buffers that no checkpoint holds, such as rotary frequencies, from worker 0."""
    source = dict(loaded.named_buffers()) if loaded is not None else {}
    for name, buffer in policy.named_buffers():
        if name in source:
            buffer.copy_(source[name].to(device))
        dist.broadcast(buffer, src=0)
