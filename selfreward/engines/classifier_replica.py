"""A replica that holds a reward model: a sequence classifier of transformers with one output.

It scores responses (`GenerationRequest.target`) and writes nothing. Requests that arrive together
are scored together, sorted by length so that little is padding.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from selfreward.engines.classifier import Classifier
from selfreward.engines.engine_loop import RequestRefusedError
from selfreward.engines.models import folder_on_this_node
from selfreward.engines.protocol import Completion, Draw, GenerationRequest, ReplicaHealth
from selfreward.engines.replica import BoardClient, ReplicaSpec, WeightsGate
from selfreward.errors import EngineError
from selfreward.records import ModelRef

BATCH_TOKENS = 8192
"""Padded tokens of one pass through the classifier."""


@dataclass(slots=True)
class _Waiting:
    token_ids: list[int]
    future: "asyncio.Future[float]"


class ClassifierReplica:
    """A reward model behind the same methods as the other replicas; one Ray actor each.

    Raises:
        EngineError, ModelNotFoundError: the model cannot be loaded.
    """

    def __init__(self, spec: ReplicaSpec, board: str) -> None:
        self._spec = spec
        self._board = BoardClient(board)
        wanted = self._board.begin_start(spec.name)
        try:
            self._load(wanted.model, wanted.folder)
        except Exception as error:
            self._board.note_failure(spec.name, f"{type(error).__name__}: {error}")
            raise
        self._gate = WeightsGate(spec.name, wanted.model)
        self._waiting: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None

    def _load(self, model: ModelRef, folder: str) -> None:
        self._classifier = Classifier(
            folder_on_this_node(model, folder),
            dtype=self._spec.engine.dtype,
            device=self._spec.device,
            trust_remote_code=self._spec.trust_remote_code,
        )

    async def generate(self, request: GenerationRequest, expected_fingerprint: str) -> Completion:
        """Scores one request's target; what no retry mends comes back as `Completion.error`.

        Raises:
            StaleWeightsError: this replica holds other weights.
        """
        async with self._gate.request(expected_fingerprint) as model:
            return await self._complete(request, model)

    async def _complete(self, request: GenerationRequest, model: ModelRef) -> Completion:
        def refused(error: str, detail: str, num_tokens: int = 0) -> Completion:
            return Completion(
                request_id=request.id,
                model=model,
                num_prompt_tokens=num_tokens,
                error=error,
                detail=detail,
            )

        if request.target is None:
            return refused("bad_request", "a reward model scores a target; it writes nothing")
        try:
            ids = self._classifier.token_ids(request.messages, request.target)
        except RequestRefusedError as error:
            return refused("bad_request", str(error))
        context = self._spec.engine.max_model_len
        if len(ids) > context:
            detail = f"conversation has {len(ids)} tokens, the context {context}"
            return refused("prompt_too_long", detail, len(ids))
        score = await self._score(ids)
        draw = Draw(text=request.target, finish_reason="stop", num_tokens=0, score=score)
        return Completion(
            request_id=request.id, model=model, draws=(draw,), num_prompt_tokens=len(ids)
        )

    async def _score(self, token_ids: list[int]) -> float:
        waiting = _Waiting(token_ids, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await waiting.future

    async def _work(self) -> None:
        """Scores what is waiting, batch after batch, until nothing is."""
        while self._waiting:
            batch = next_batch(self._waiting, self._spec.engine.max_num_seqs)
            kept = {id(w) for w in batch}
            self._waiting = [w for w in self._waiting if id(w) not in kept]
            try:
                rows = [w.token_ids for w in batch]
                scores = await asyncio.to_thread(self._classifier.scores, rows)
            except Exception as error:
                for waiting in batch:
                    waiting.future.set_exception(EngineError(f"the reward model failed: {error}"))
                continue
            for waiting, score in zip(batch, scores, strict=True):
                if not waiting.future.done():
                    waiting.future.set_result(score)

    async def swap(self, model: ModelRef, folder: str, timeout_s: float) -> float:
        """Loads another classifier; returns the seconds.

        Raises:
            EngineTimeoutError: requests in flight did not finish in time.
        """
        start = time.monotonic()
        async with self._gate.change(timeout_s):
            await asyncio.to_thread(self._load, model, folder)
            self._gate.model = model
        return time.monotonic() - start

    async def health(self) -> ReplicaHealth:
        return self._gate.health(num_starts=1)


def next_batch(waiting: Sequence[_Waiting], max_rows: int) -> list[_Waiting]:
    """The oldest waiting row with its neighbours by length: as many as fit `BATCH_TOKENS` padded.

    Never empty while something waits: the first that came is always part of it.
    """
    oldest = waiting[0]
    by_length = sorted(waiting, key=lambda w: len(w.token_ids))
    batch = [oldest]
    width = len(oldest.token_ids)
    for row in reversed([w for w in by_length if w is not oldest and len(w.token_ids) <= width]):
        if len(batch) == max_rows or (len(batch) + 1) * width > BATCH_TOKENS:
            break
        batch.append(row)
    return batch
