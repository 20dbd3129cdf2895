"""A replica without a model: deterministic answers, planned faults, real Ray processes to kill."""

import asyncio
import math
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

from selfreward.engines.protocol import Completion, Delta, Draw, GenerationRequest, ReplicaHealth
from selfreward.engines.replica import Board, BoardClient, ReplicaSpec, WeightsGate
from selfreward.engines.scripted_draws import draw, scored
from selfreward.errors import TransientEngineError
from selfreward.records import ModelRef

CHARS_PER_TOKEN = 4


class ScriptedReplica:
    """The scripted engine behind the same methods as `VLLMReplica`; one Ray actor each."""

    def __init__(self, spec: ReplicaSpec, board: str | Board) -> None:
        self._spec = spec
        self._config = spec.engine.scripted
        board = BoardClient(board) if isinstance(board, str) else board
        self._gate = WeightsGate(spec.name, board.begin_start(spec.name).model)
        self._asked = 0
        self._journal = None
        if self._config.journal is not None:
            folder = Path(self._config.journal)
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{spec.name}-{os.getpid()}.log"
            self._journal = (folder / name).open("a", encoding="utf-8")

    async def generate(self, request: GenerationRequest, expected_fingerprint: str) -> Completion:
        """Answers one request.

        Raises:
            StaleWeightsError: this replica holds other weights.
            TransientEngineError: a planned fault (`fail_every`).
        """
        async with self._gate.request(expected_fingerprint) as model:
            self._asked += 1
            if self._config.fail_every and self._asked % self._config.fail_every == 0:
                raise TransientEngineError(f"replica {self._spec.name}: planned fault")
            if self._config.delay_s:
                await asyncio.sleep(self._config.delay_s)
            completion = self._complete(request, model)
            if self._journal is not None:
                self._journal.write(f"{request.id}\t{request.sampling.n}\n")
                self._journal.flush()
            return completion

    async def generate_stream(
        self, request: GenerationRequest, expected_fingerprint: str
    ) -> AsyncIterator[Delta | Completion]:
        """The same answer word by word, the whole `Completion` last; `delay_s` is between words."""
        async with self._gate.request(expected_fingerprint) as model:
            completion = self._complete(request, model)
            for index, drawn in enumerate(completion.draws):
                for word in re.findall(r"\s*\S+|\s+$", drawn.text):
                    await asyncio.sleep(self._config.delay_s)
                    yield Delta(draw=index, text=word)
            yield completion

    def _complete(self, request: GenerationRequest, model: ModelRef) -> Completion:
        num_chars = sum(len(m.content) for m in request.messages)
        num_prompt_tokens = math.ceil(num_chars / CHARS_PER_TOKEN)
        context = self._spec.engine.max_model_len
        if num_prompt_tokens > context:
            return Completion(
                request_id=request.id,
                model=model,
                num_prompt_tokens=num_prompt_tokens,
                error="prompt_too_long",
                detail=f"prompt has {num_prompt_tokens} tokens, the context {context}",
            )
        if request.target is not None:
            draws: tuple[Draw, ...] = (scored(request, request.target, model),)
        else:
            draws = tuple(draw(request, i, model, self._config) for i in range(request.sampling.n))
        return Completion(
            request_id=request.id, model=model, draws=draws, num_prompt_tokens=num_prompt_tokens
        )

    async def fetch(self, model: ModelRef, folder: str) -> None:
        """Nothing is to be brought: there are no weights."""

    async def swap(self, model: ModelRef, folder: str, timeout_s: float) -> float:
        """Changes the weights the replica says it holds; returns the seconds it took."""
        start = time.monotonic()
        async with self._gate.change(timeout_s):
            self._gate.model = model
        return time.monotonic() - start

    def stalled_s(self) -> float:
        """Seconds without a step while there is work: it never stands still."""
        return 0.0

    async def health(self) -> ReplicaHealth:
        return self._gate.health(num_starts=1, stalled_s=self.stalled_s())
