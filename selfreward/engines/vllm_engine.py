"""The only file that imports vLLM: its engine, and what it is asked with.

How a replica drives the engine is in `vllm_replica.py`, and what it made is read, without any of
vLLM's names, in `vllm_outputs.py`.
"""

import time
from typing import Any

from selfreward.config import EngineConfig
from selfreward.engines.chat_prompts import ChatPrompts
from selfreward.engines.engine_loop import RequestRefusedError, one_line
from selfreward.engines.protocol import GenerationRequest, Sampling
from selfreward.errors import EngineError

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


def start_engine(arguments: dict[str, Any]) -> Any:
    """Starts vLLM's LLMEngine; the result is stepped by the thread that calls this."""
    from vllm import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    _sample_by_inverse_cdf_on_cpu()
    return LLMEngine.from_engine_args(EngineArgs(**arguments))


def is_engine_dead(error: Exception) -> bool:
    """Whether vLLM says that the process of the engine is gone: no request brings it back."""
    from vllm.v1.engine.exceptions import EngineDeadError

    return isinstance(error, EngineDeadError)


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
    from vllm.platforms import current_platform

    engine.collective_rpc("reload_weights", kwargs={"weights_path": folder})
    if current_platform.is_cpu():
        engine.collective_rpc(_repack_heads)
    if not engine.reset_prefix_cache():
        raise EngineError(f"the prefix cache could not be reset after loading {folder!r}")


def _repack_heads(worker: Any) -> None:
    """Makes the output heads of a worker's model compute with the weights they now have.

    On CPUs a head computes with a packed copy of its weights. A head tied to the embeddings has no
    weights of its own in a checkpoint, so vLLM 0.29 loads nothing into it and leaves the copy that
    was packed at the start: new layers would speak through the first model's head.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for layer in worker.get_model().modules():
        if isinstance(layer, ParallelLMHead) and hasattr(layer, "cpu_linear"):
            layer.quant_method.process_weights_after_loading(layer)


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
