"""The only file that imports vLLM: a replica that drives its engine in this very process.

Beyond 300 lines, since whatever imports vLLM has to stand here.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from selfreward.config import EngineConfig
from selfreward.engines.chat_prompts import ChatPrompts
from selfreward.engines.engine_loop import EngineLoop, RequestRefusedError, one_line
from selfreward.engines.models import folder_on_this_node
from selfreward.engines.protocol import (
    Completion,
    Delta,
    Draw,
    GenerationRequest,
    ReplicaHealth,
    Sampling,
)
from selfreward.engines.replica import Board, BoardClient, ReplicaSpec, WeightsGate
from selfreward.engines.token_prompts import GrownOutput, TokenPrompt, refused
from selfreward.errors import EngineError
from selfreward.judging.token_logps import TokenLogps, token_starts
from selfreward.records import ModelRef

GIB = 1 << 30
CPU_KV_CACHE_GIB = 2.0
CPU_BATCHED_TOKENS = 4096
CPU_BLOCK_SIZE = 32


def engine_arguments(
    folder: str, engine: EngineConfig, device: str, trust_remote_code: bool = False
) -> dict[str, Any]:
    """Returns the keyword arguments of vLLM's EngineArgs; `engine.engine_kwargs` has the last word.

    On CPU the KV cache has a fixed size: without one vLLM demands a share of all the memory of
    the machine, which the trainer needs too.
    """
    on_cpu = device == "cpu"
    arguments: dict[str, Any] = {
        "model": folder,
        "dtype": engine.dtype,
        "max_model_len": engine.max_model_len,
        "max_num_seqs": engine.max_num_seqs,
        "tensor_parallel_size": engine.tensor_parallel_size,
        "enforce_eager": on_cpu if engine.enforce_eager is None else engine.enforce_eager,
        "gpu_memory_utilization": engine.gpu_memory_utilization,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "trust_remote_code": trust_remote_code,
    }
    kv_cache_gib = engine.kv_cache_gib or (CPU_KV_CACHE_GIB if on_cpu else None)
    if kv_cache_gib is not None:
        arguments["kv_cache_memory_bytes"] = int(kv_cache_gib * GIB)
    if on_cpu:
        # A seeded request whose prompt is cut into chunks makes vLLM rewind its random generator,
        # which CPU generators cannot do ("CPU Generator does not use offset").
        arguments["enable_chunked_prefill"] = False
        arguments["max_num_batched_tokens"] = max(engine.max_model_len, CPU_BATCHED_TOKENS)
        # vLLM's own choice here is 128. A draw computes anew what its last, partly filled block
        # holds: with small blocks eight draws of a one-letter verdict take half the time.
        arguments["block_size"] = CPU_BLOCK_SIZE
    if engine.tensor_parallel_size > 1:
        # Inside an actor vLLM would otherwise ask Ray for workers of its own.
        arguments["distributed_executor_backend"] = "mp"
    return arguments | engine.engine_kwargs


def sampling_params(
    sampling: Sampling, room: int, logps_ids: dict[str, int], deltas: bool = False
) -> Any:
    """Returns vLLM's SamplingParams; `room` is the number of tokens the context has left.

    `deltas`: outputs come as they grow, each with what is new; without it only the finished one.

    vLLM samples child i of n with seed + i, which is what `Sampling.seed` promises. Greedy draws
    get no seed: a generator per request costs time and decides nothing.

    Raises:
        RequestRefusedError: a value vLLM does not accept.
    """
    from vllm import SamplingParams
    from vllm.exceptions import VLLMClientError
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    guided: dict[str, Any] = {}
    if sampling.choices:
        guided = {"choice": list(sampling.choices)}
    elif sampling.regex is not None:
        guided = {"regex": sampling.regex}
    elif sampling.json_schema is not None:
        guided = {"json": sampling.json_schema}
    try:
        return SamplingParams(
            n=sampling.n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            seed=sampling.seed if sampling.temperature > 0 else None,
            max_tokens=min(sampling.max_tokens, room),
            stop=list(sampling.stop),
            structured_outputs=StructuredOutputsParams(**guided) if guided else None,
            logprob_token_ids=list(logps_ids.values()) or None,
            output_kind=RequestOutputKind.DELTA if deltas else RequestOutputKind.FINAL_ONLY,
        )
    except VLLMClientError as error:
        raise RequestRefusedError(one_line(error)) from error


def scoring_params() -> Any:
    """vLLM's SamplingParams for scoring a text: the log-probability of every token fed in."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=1,  # vLLM cannot produce nothing
        temperature=0.0,
        prompt_logprobs=0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _scored(text: str, output: Any, num_before: int, target: list[int]) -> Draw:
    at = output.prompt_logprobs[num_before:]
    score = sum(logprobs[token].logprob for token, logprobs in zip(target, at, strict=True))
    return Draw(text=text, finish_reason="stop", num_tokens=len(target), score=float(score))


def read_draw(output: Any, logps_ids: dict[str, int], sampling: Sampling) -> Draw:
    """Reads one of vLLM's outputs.

    Raises:
        RequestRefusedError: vLLM gave the request up; what it calls an output is then an empty
            text, which must not pass for one the model wrote.
    """
    if output.finish_reason in ("error", "abort"):
        raise RequestRefusedError(
            f"vLLM gave the request up (finish_reason {output.finish_reason!r}); where it is"
            " guided, its pattern may take too long to compile"
        )
    return Draw(
        text=output.text,
        finish_reason="length" if output.finish_reason == "length" else "stop",
        num_tokens=len(output.token_ids),
        logps=_logps(output, logps_ids) if logps_ids else (),
        token_ids=tuple(output.token_ids) if sampling.wants_token_ids else None,
    )


def _logps(output: Any, logps_ids: dict[str, int]) -> tuple[TokenLogps, ...]:
    """Log-probabilities wherever one of the wanted tokens was produced.

    They are those the token was drawn from before temperature, and after the mask of a guided
    decoding: over the choices alone they add up to 1.
    """
    texts = {token_id: text for text, token_id in logps_ids.items()}
    drawn = list(zip(output.token_ids, output.logprobs or [], strict=False))
    written = [at[i].decoded_token or "" if i in at else "" for i, at in drawn]
    return tuple(
        TokenLogps(
            produced=texts[token_id],
            start=start,
            logps={text: at[i].logprob for text, i in logps_ids.items() if i in at},
        )
        for (token_id, at), start in zip(drawn, token_starts(output.text, written), strict=True)
        if token_id in texts and start is not None
    )


class VLLMReplica:
    """One vLLM engine behind async methods; requests of all callers share its batches.

    Made a Ray actor by the pool. Weights are those the board wants at the moment of the start.

    Raises:
        EngineError, ModelNotFoundError: the engine cannot be started.
    """

    def __init__(self, spec: ReplicaSpec, board: str | Board) -> None:
        self._spec = spec
        self._board: Board = BoardClient(board) if isinstance(board, str) else board
        self._loop = EngineLoop(self._build, self._last_words, spec.engine.start_timeout_s)
        self._gate = WeightsGate(spec.name, self._model)

    def _build(self) -> Any:
        wanted = self._board.begin_start()
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
                draw = _scored(request.target or "", output, len(prompt.ids), prompt.target)
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
        return self._gate.health(num_starts=1)


def start_engine(arguments: dict[str, Any]) -> Any:
    """Starts vLLM's LLMEngine; the result is stepped by the thread that calls this."""
    from vllm import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    _sample_by_inverse_cdf_on_cpu()
    return LLMEngine.from_engine_args(EngineArgs(**arguments))


def _sample_by_inverse_cdf_on_cpu() -> None:
    """Replaces the sampler vLLM takes on CPUs; see inverse_cdf.py for why. GPUs keep their own."""
    import torch
    from vllm.v1.sample.ops import topk_topp_sampler as sampler

    # Here, since the driver reads this module and needs no torch.
    from selfreward.engines.inverse_cdf import sample_inverse_cdf

    def forward_cpu(
        self: Any, logits: Any, generators: dict[int, Any], k: Any, p: Any
    ) -> tuple[Any, Any]:
        logits = sampler.apply_top_k_top_p(logits, k, p)
        processed = None
        if self.logprobs_mode == "processed_logits":
            processed = logits
        elif self.logprobs_mode == "processed_logprobs":
            processed = logits.log_softmax(dim=-1, dtype=torch.float32)
        return sample_inverse_cdf(logits, generators), processed

    sampler.TopKTopPSampler.forward_cpu = forward_cpu


def reload_weights(engine: Any, folder: str) -> None:
    """Loads the weights of `folder` in place and forgets what the old ones computed."""
    engine.collective_rpc("reload_weights", kwargs={"weights_path": folder})
    if not engine.reset_prefix_cache():
        raise EngineError(f"the prefix cache could not be reset after loading {folder!r}")


def run_raw(
    arguments: dict[str, Any], requests: list[GenerationRequest], warmup: int, our_sampler: bool
) -> dict[str, float]:
    """Runs requests through `vllm.LLM` in one call; tokens per second without our pool.

    `LLM` gets the same arguments, prompts and sampling as a replica does, and on CPU, if
    `our_sampler`, its way of drawing too. The first `warmup` requests are run once before the
    clock starts.
    """
    from vllm import LLM

    if our_sampler:
        _sample_by_inverse_cdf_on_cpu()
    llm = LLM(**arguments)
    prompts = ChatPrompts(llm.get_tokenizer(), arguments["model"])
    ids = [prompts.token_ids(r.messages) for r in requests]
    params = [
        sampling_params(
            r.sampling,
            arguments["max_model_len"] - len(i),
            prompts.single_token_ids(r.sampling.logps_of),
        )
        for r, i in zip(requests, ids, strict=True)
    ]
    inputs = [{"prompt_token_ids": i} for i in ids]
    llm.generate(inputs[:warmup], params[:warmup], use_tqdm=False)
    llm.reset_prefix_cache()
    start = time.perf_counter()
    outputs = llm.generate(inputs, params, use_tqdm=False)
    seconds = time.perf_counter() - start
    tokens = sum(len(o.token_ids) for output in outputs for o in output.outputs)
    return {
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_s": tokens / seconds,
        "all_tokens_per_s": (tokens + sum(len(i) for i in ids)) / seconds,
    }
