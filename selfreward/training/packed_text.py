"""Raw text, packed into sequences of one length and streamed: objective `text`."""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

import torch
import torch.distributed as dist
from torch import Tensor

from selfreward.errors import SelfRewardError
from selfreward.records import content_id
from selfreward.storage.token_shards import PackedRow
from selfreward.training.collate import Batch
from selfreward.training.losses import nll_sum
from selfreward.training.material import Piece, Setting, Share
from selfreward.training.model import ModelKind, ModelSource
from selfreward.training.parallel import Parallel, all_reduce_sum, rank, together, world_size
from selfreward.training.task import Metrics
from selfreward.training.text_batches import MakeBatch, TextBatches, num_targets
from selfreward.training.text_plan import (
    EpochOrder,
    Place,
    TextPlan,
    TokenShard,
    make_text_plan,
    measure_shards,
)
from selfreward.training.text_stream import Reader, packed_stream, read_plainly

MAX_EXPONENT = 700.0
"""Beyond it a perplexity is no float any more."""


def perplexity(nll: float) -> float:
    return math.exp(min(nll, MAX_EXPONENT))


def _measured_once(urls: Sequence[str]) -> list[TokenShard]:
    """What worker 0 finds out about the shards, on every worker."""
    found = [together(lambda: measure_shards(urls) if rank() == 0 else [])]
    if world_size() > 1:
        dist.broadcast_object_list(found, src=0)
    return found[0]


class PackedText:
    """A `Material`: the loss of a step is the mean NLL of all its tokens but each piece's first."""

    kind: ModelKind = "causal_lm"
    reference_s = 0.0

    def __init__(self, setting: Setting):
        """Raises:
        DataError: no sequences to train on, or unreadable shards.
        ConfigError: a share of replay that there is nothing for.
        """
        self._setting, task = setting, setting.task
        shards = _measured_once(task.data)
        replay = _measured_once(task.replay if task.replay_share > 0 else ())
        self._held_out = _measured_once(task.validation)
        self._plan = make_text_plan(task, shards, replay)
        self.dropped: dict[str, int] = {}
        self.num_rows = sum(s.num_sequences for s in shards)
        self.num_steps = len(self._plan)
        self.digest = content_id(
            "text",
            *(f"{s.num_sequences}/{s.digest}" for s in shards),
            "replay",
            task.replay_share,
            *(f"{s.num_sequences}/{s.digest}" for s in replay),
            task.token_budget,
        )

    def prepare(self, load: Callable[[ModelSource], Parallel]) -> None:
        """Nothing: text is compared with no other model."""

    def attach(self, parallel: Parallel) -> None:
        self._parallel = parallel
        self._batches = TextBatches(
            parallel,
            pad_id=self._setting.pad_id,
            max_padded_tokens=self._setting.task.config.tokens_per_micro_batch,
        )

    def names(self) -> tuple[str, ...]:
        return ("train/loss",)

    def steps(self, start: int) -> Generator[Share, None, None]:
        return self._shares(self._plan, start, self._setting.read)

    def _shares(
        self, plan: Sequence[Sequence[Place]], start: int, read: Reader
    ) -> Generator[Share, None, None]:
        stream = packed_stream(
            plan,
            start=start,
            rank=rank(),
            world_size=world_size(),
            limit_s=self._setting.task.config.collective_timeout_s,
            read=read,
        )
        with closing(stream):
            for _ in range(start, len(plan)):
                yield self._share(stream)

    def _share(self, stream: Iterator[list[PackedRow]]) -> Share:
        """The next step: what this worker read of it, and what all of them did."""
        failed: SelfRewardError | None = None
        rows: list[PackedRow] = []
        try:
            rows = next(stream)
        except SelfRewardError as error:
            failed = error
        batches = self._batches.cut(rows)
        facts_WF = torch.zeros(world_size(), 4, dtype=torch.float64, device=self._setting.device)
        facts_WF[rank()] = torch.tensor(
            [
                sum(num_targets(row) for row in rows),
                sum(int(row.lengths.sum()) for row in rows),
                len(batches),
                failed is not None,
            ]
        )
        all_reduce_sum(facts_WF)
        count, num_tokens, _, num_failed = facts_WF.sum(0).tolist()
        if num_failed:
            together(lambda: _raise(failed))
        num_batches = len(batches)
        if self._parallel.equal_counts:
            num_batches = int(facts_WF[:, 2].max())
        return Share(
            pieces=self._pieces(batches, num_batches),
            count=max(1, int(count)),
            num_tokens=int(num_tokens),
        )

    def _pieces(self, batches: Sequence[MakeBatch], count: int) -> Iterator[Piece]:
        for number, make in enumerate(batches):
            yield make(), (number,)
        for _ in range(len(batches), count):
            yield self._batches.filler(), ()

    def loss(self, outputs: Tensor, batch: Batch, piece: Sequence[int]) -> tuple[Tensor, Tensor]:
        if not piece:  # the empty micro-batch still runs backward, with gradients of zero
            return outputs.sum() * 0.0, outputs.new_zeros(1)
        loss = nll_sum(outputs)
        return loss, loss.detach()[None]

    def metrics(self, means: Metrics) -> Metrics:
        nll = means["train/loss"]
        return means | {"train/nll": nll, "train/perplexity": perplexity(nll)}

    @torch.no_grad()
    def evaluate(self) -> Metrics:
        """`eval/loss`, the mean NLL in nats of a token, and `eval/perplexity`, e to the power of
        it; the same on every worker."""
        order = EpochOrder(self._held_out, seed=0)
        if not order.num_sequences:
            return {}
        device = self._setting.device
        tokens_at_once = self._setting.task.config.tokens_per_micro_batch * world_size()
        length = max(s.sequence_length for s in self._held_out)
        plan = TextPlan(
            order, total=order.num_sequences, batch_size=max(world_size(), tokens_at_once // length)
        )
        policy = self._parallel.policy
        policy.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=device)
        for share in self._shares(plan, 0, read_plainly):
            for batch, piece in share.pieces:
                batch = batch.to(device)
                sums[0] += self.loss(policy(batch), batch, piece)[0]
                sums[1] += len(batch.target_N) if piece else 0
        total, count = all_reduce_sum(sums).tolist()
        nll = total / max(1.0, count)
        return {"eval/loss": nll, "eval/perplexity": perplexity(nll)}


def _raise(error: SelfRewardError | None) -> None:
    if error is not None:
        raise error
