"""Data-parallel training with a full copy of the model on each worker.

The model computes in bf16 (or fp32) while fp32 master weights, fp32 gradient sums and AdamW's
moments live beside it: an update smaller than bf16 can resolve is kept, and each weight is rounded
once a step instead of once a micro-batch. Gradients are summed over workers once a step, so workers
may run different numbers of micro-batches.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from selfreward.config import TrainingConfig
from selfreward.errors import SelfRewardError
from selfreward.training.faults import training_fault
from selfreward.training.optimizer import clip_, make_adamw
from selfreward.training.policy import Policy

ResultT = TypeVar("ResultT")

BUCKET_ELEMENTS = 1 << 24
"""Gradients are reduced in pieces of so many fp32 numbers (64 MiB)."""


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sums a tensor over workers, in place."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def together(work: Callable[[], ResultT]) -> ResultT:
    """Runs `work` on every worker; if it fails on one, the same error is raised on all of them.

    Without this, a worker that cannot read its data, or write to a full disk, would leave the
    others waiting for it.
    """
    error: SelfRewardError | None = None
    result: ResultT | None = None
    try:
        result = work()
    except Exception as raised:
        error = raised if isinstance(raised, SelfRewardError) else training_fault(raised)
        if error is None:
            raise
    if world_size() > 1:
        errors: list[SelfRewardError | None] = [None] * world_size()
        dist.all_gather_object(errors, error)
        error = next((e for e in errors if e is not None), None)
    if error is not None:
        raise error
    return cast("ResultT", result)


class Parallel(Protocol):
    """How the weights are spread over workers; the loop knows no more than this."""

    policy: Policy
    equal_counts: bool
    """Every worker must run the same number of micro-batches."""
    overhead_tokens: int
    """What one more micro-batch costs, in tokens of computing."""

    def finish_gradients(self, max_norm: float) -> float:
        """Sums gradients over workers, clips them, returns their norm before clipping."""
        ...

    def step(self, learning_rate: float) -> None:
        """Updates the weights and clears the gradients."""
        ...

    def full_state(self) -> dict[str, Tensor]:
        """All weights on the CPU, by the language model's own names; empty off worker 0."""
        ...

    def save(self, folder: Path) -> None:
        """Writes what a resumed run needs into `folder`."""
        ...

    def load(self, folder: Path) -> None: ...


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        bucket.append(tensor)
        size += tensor.numel()
        if size >= BUCKET_ELEMENTS:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


class Replicated:
    """A full copy of the model on each worker, with fp32 masters where it computes in bf16."""

    equal_counts = False

    def __init__(
        self,
        policy: Policy,
        config: TrainingConfig,
        *,
        device: torch.device,
        keep_frozen: bool,
    ):
        """`policy` holds fp32 weights on the CPU. `keep_frozen` keeps fp32 copies of weights that
        do not train, for a checkpoint stored more finely than bf16."""
        self.policy = policy
        # A CPU computes so slowly that padding is dear; a GPU is wasted on small pieces.
        self.overhead_tokens = 128 if device.type == "cpu" else 1024
        compute = torch.bfloat16 if config.precision == "bf16" else torch.float32
        names = [(n, p) for n, p in policy.lm.named_parameters()]
        self._masters: dict[str, Tensor] = {}
        for name, parameter in names:
            if compute != torch.float32 and (parameter.requires_grad or keep_frozen):
                self._masters[name] = parameter.detach().to(device, torch.float32, copy=True)
        policy.to(device=device)
        for _, parameter in names:
            parameter.data = parameter.data.to(compute)
        self._params = {n: p for n, p in names if p.requires_grad}
        self._trained = {n: self._masters.get(n, p) for n, p in self._params.items()}
        if compute != torch.float32:
            for name, parameter in self._params.items():
                parameter.register_post_accumulate_grad_hook(self._collector(name))
        self._optimizer = make_adamw(self._trained.items(), config, fused=True)

    def _collector(self, name: str) -> Any:
        """A hook that moves a fresh bf16 gradient into its fp32 sum."""
        master = self._masters[name]

        def collect(parameter: Tensor) -> None:
            assert parameter.grad is not None
            if master.grad is None:
                master.grad = parameter.grad.float()
            else:
                master.grad.add_(parameter.grad)
            parameter.grad = None

        return collect

    def _gradients(self) -> list[Tensor]:
        for tensor in self._trained.values():
            if tensor.grad is None:  # a worker without rows in this step
                tensor.grad = torch.zeros_like(tensor)
        return [t.grad for t in self._trained.values() if t.grad is not None]

    def finish_gradients(self, max_norm: float) -> float:
        gradients = self._gradients()
        if world_size() > 1:
            for bucket in _buckets(gradients):
                flat = torch.cat([g.flatten() for g in bucket])
                dist.all_reduce(flat)
                parts = flat.split([g.numel() for g in bucket])
                for gradient, part in zip(bucket, parts, strict=True):
                    gradient.copy_(part.view_as(gradient))
        norm = float(torch.nn.utils.get_total_norm(gradients))
        clip_(gradients, norm, max_norm)
        return norm

    def step(self, learning_rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._publish()

    @torch.no_grad()
    def _publish(self) -> None:
        """Rounds the masters into the weights the model computes with."""
        for name, parameter in self._params.items():
            if name in self._masters:
                parameter.copy_(self._masters[name])

    def full_state(self) -> dict[str, Tensor]:
        if rank() != 0:
            return {}
        return {
            name: self._masters.get(name, parameter).detach().cpu()
            for name, parameter in self.policy.lm.named_parameters()
        }

    def save(self, folder: Path) -> None:
        if rank() == 0:
            trained = {name: t.detach() for name, t in self._trained.items()}
            state = {"weights": trained, "optimizer": self._optimizer.state_dict()}
            torch.save(state, folder / "trainer_weights.pt")

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        # Plain tensors and numbers only, so nothing in the file can run code.
        state = torch.load(folder / "trainer_weights.pt", map_location="cpu", weights_only=True)
        for name, tensor in self._trained.items():
            tensor.copy_(state["weights"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        self._publish()
