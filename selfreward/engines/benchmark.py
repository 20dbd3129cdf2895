"""What plain `vllm.LLM` reaches on the same work, to measure the pool against."""

from typing import Any

import ray

from selfreward.config import EngineConfig
from selfreward.engines.protocol import GenerationRequest
from selfreward.engines.replica_env import replica_env, replica_resources, resolve_device
from selfreward.engines.vllm_engine import engine_arguments, run_raw
from selfreward.errors import EngineError, EngineTimeoutError


def raw_vllm_tokens_per_s(
    folder: str,
    requests: list[GenerationRequest],
    engine: EngineConfig,
    warmup: int = 8,
    our_sampler: bool = False,
) -> dict[str, float]:
    """Runs the requests through `vllm.LLM` in a fresh process with the same engine settings.

    `our_sampler` replaces vLLM's CPU sampler by the replicas' own (`inverse_cdf.py`), so that
    what is left of a difference is the pipeline's.

    Returns `tokens`, `seconds`, `tokens_per_s` and, prompts counted too, `all_tokens_per_s` of one
    `LLM.generate` call over all requests, after `warmup` requests that are not counted. Start-up
    and tokenisation are not counted.

    Raises:
        EngineError: it failed; EngineTimeoutError: it took too long.
    """
    device = resolve_device(engine)
    resources = replica_resources(engine, device)
    # One call a process: vLLM's memory goes with it.
    task: Any = ray.remote(max_calls=1)(run_raw).options(
        num_cpus=resources["CPU"],
        num_gpus=resources.get("GPU", 0),
        max_retries=0,
        runtime_env={"env_vars": replica_env(engine, device)},
    )
    limit_s = engine.start_timeout_s + engine.request_timeout_s
    reference = task.remote(engine_arguments(folder, engine, device), requests, warmup, our_sampler)
    try:
        result: dict[str, float] = ray.get(reference, timeout=limit_s)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(reference, force=True)
        raise EngineTimeoutError(f"plain vllm.LLM did not finish within {limit_s:.0f} s") from None
    except ray.exceptions.RayError as error:
        raise EngineError(f"plain vllm.LLM failed: {error}") from error
    return result
