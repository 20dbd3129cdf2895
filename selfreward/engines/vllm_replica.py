"""A replica that drives vLLM's engine in this very process."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from selfreward.engines.chat_prompts import ChatPrompts
from selfreward.engines.engine_loop import EngineLoop, RequestRefusedError
from selfreward.engines.models import folder_on_this_node
from selfreward.engines.protocol import Completion, Delta, GenerationRequest, ReplicaHealth
from selfreward.engines.replica import Board, BoardClient, ReplicaSpec, WeightsGate
from selfreward.engines.token_prompts import GrownOutput, TokenPrompt, refused
from selfreward.engines.vllm_engine import (
    engine_arguments,
    is_engine_dead,
    reload_weights,
    sampling_params,
    scoring_params,
    start_engine,
)
from selfreward.engines.vllm_outputs import read_draw, read_score
from selfreward.records import ModelRef


class VLLMReplica:
    """One vLLM engine behind async methods; requests of all callers share its batches.

    Made a Ray actor by the pool. Weights are those the board wants at the moment of the start.

    Raises:
        EngineError, ModelNotFoundError: the engine cannot be started.
    """

    def __init__(self, spec: ReplicaSpec, board: str | Board) -> None:
        self._spec = spec
        self._board: Board = BoardClient(board) if isinstance(board, str) else board
        self._loop = EngineLoop(
            self._build, self._last_words, spec.engine.start_timeout_s, is_fatal=is_engine_dead
        )
        self._gate = WeightsGate(spec.name, self._model)

    def _build(self) -> Any:
        wanted = self._board.begin_start(self._spec.name)
        folder = folder_on_this_node(wanted.model, wanted.folder)
        engine = start_engine(
            engine_arguments(
                folder, self._spec.engine, self._spec.device, self._spec.trust_remote_code
            )
        )
        self._model = wanted.model
        self._prompts = ChatPrompts(engine.get_tokenizer(), folder)
        return engine

    def _last_words(self, text: str) -> None:
        self._board.note_failure(self._spec.name, text)

    async def generate(self, request: GenerationRequest, expected_fingerprint: str) -> Completion:
        """Answers one request; what no retry mends comes back as `Completion.error`.

        Raises:
            StaleWeightsError: this replica holds other weights.
            TransientEngineError: the engine broke down.
        """
        async with self._gate.request(expected_fingerprint) as model:
            return await self._complete(request, model)

    async def generate_stream(
        self, request: GenerationRequest, expected_fingerprint: str
    ) -> AsyncIterator[Delta | Completion]:
        """Answers one request piece by piece, the whole `Completion` last; errors as `generate`.

        Weights do not change before the last piece is out or the caller has left.
        """
        async with self._gate.request(expected_fingerprint) as model:
            try:
                prompt = self._read(request)
                if prompt.error is not None:
                    yield prompt.completion(request, model)
                    return
                params = sampling_params(request.sampling, prompt.room, prompt.logps_ids, True)
                grown = [GrownOutput() for _ in range(request.sampling.n)]
                stream = self._loop.stream({"prompt_token_ids": prompt.ids}, params)
                # Closed before the gate is: what was left must be gone when weights change.
                async with aclosing(stream) as outputs:
                    async for output in outputs:
                        for piece in output.outputs:
                            grown[piece.index].add(piece)
                            if piece.text:
                                yield Delta(draw=piece.index, text=piece.text)
                draws = tuple(read_draw(o, prompt.logps_ids, request.sampling) for o in grown)
            except RequestRefusedError as error:
                yield refused(request, model, 0, error)
                return
            yield prompt.completion(request, model, draws)

    async def _complete(self, request: GenerationRequest, model: ModelRef) -> Completion:
        num_prompt_tokens = 0
        try:
            prompt = self._read(request)
            num_prompt_tokens = prompt.num_tokens
            if prompt.error is not None:
                return prompt.completion(request, model)
            if prompt.target:
                output = await self._loop.generate(
                    {"prompt_token_ids": prompt.ids + prompt.target}, scoring_params()
                )
                draw = read_score(request.target or "", output, len(prompt.ids), prompt.target)
                return prompt.completion(request, model, (draw,))
            params = sampling_params(request.sampling, prompt.room, prompt.logps_ids)
            output = await self._loop.generate({"prompt_token_ids": prompt.ids}, params)
            draws = tuple(read_draw(o, prompt.logps_ids, request.sampling) for o in output.outputs)
        except RequestRefusedError as error:
            return refused(request, model, num_prompt_tokens, error)
        return prompt.completion(request, model, draws)

    def _read(self, request: GenerationRequest) -> TokenPrompt:
        context = self._spec.engine.max_model_len
        target: list[int] = []
        if request.target is None:
            ids = self._prompts.token_ids(request.messages)
        else:
            ids, target = self._prompts.target_ids(request.messages, request.target)
        logps_ids = self._prompts.single_token_ids(request.sampling.logps_of)
        return TokenPrompt(ids=ids, target=target, logps_ids=logps_ids, context=context)

    async def fetch(self, model: ModelRef, folder: str) -> None:
        """Brings weights to this node, where they are not yet; requests go on meanwhile.

        Raises:
            ModelNotFoundError: this node does not see them.
        """
        await asyncio.to_thread(folder_on_this_node, model, folder)

    async def swap(self, model: ModelRef, folder: str, timeout_s: float) -> float:
        """Loads other weights of the same shapes into the running engine; returns the seconds.

        Raises:
            EngineTimeoutError: requests in flight did not finish in time.
            TransientEngineError: the weights could not be loaded; the replica starts anew.
        """
        start = time.monotonic()
        local = await asyncio.to_thread(folder_on_this_node, model, folder)
        async with self._gate.change(timeout_s):
            if self._gate.model.fingerprint != model.fingerprint:
                # Loading takes what a start takes for it, at most.
                await self._loop.change(
                    lambda engine: reload_weights(engine, local), self._spec.engine.start_timeout_s
                )
            self._gate.model = model
        return time.monotonic() - start

    def stalled_s(self) -> float:
        """Seconds since the engine last did something, 0 where it has nothing to do."""
        return self._loop.stalled_s()

    async def health(self) -> ReplicaHealth:
        return self._gate.health(num_starts=1, stalled_s=self.stalled_s())
