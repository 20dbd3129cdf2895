"""Generation benchmarks: the judge stage against plain vLLM, adaptive against fixed drawing."""

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

from selfreward.benchmarks.data import make_pairs
from selfreward.config import EngineConfig, RunConfig, SamplingConfig
from selfreward.engines.benchmark import raw_vllm_tokens_per_s
from selfreward.engines.pool import EnginePool
from selfreward.engines.protocol import Completion, Draw, GenerationRequest
from selfreward.loops.pools import PlacedModel
from selfreward.loops.session import place
from selfreward.preflight import ray_session
from selfreward.records import Judgment, ModelRef, ResponsePair
from selfreward.stages.judge import Judge
from selfreward.stages.progress import BoardHandle
from selfreward.stages.runner import ShardJob, ShardTask, run_shards
from selfreward.storage.shards import ShardSummary, add_ledgers, read_records, write_records

REF = ModelRef(name="none", iteration=0, fingerprint="none")


def _judge(num_draws: int, adaptive: bool, max_tokens: int) -> Judge:
    return Judge(
        rubric_id="pairwise_reasoned",
        sampling=SamplingConfig(temperature=0.7, max_tokens=max_tokens),
        guided=True,
        num_draws=num_draws,
        seed=0,
        objective="sft",
        adaptive=adaptive,
    )


def _stage(
    config: RunConfig, pool: EnginePool, logic: Judge, folder: Path, pairs: list[ResponsePair]
) -> tuple[float, list[ShardSummary]]:
    """Runs the stage over shards as a run does; returns seconds and the shards' summaries."""
    jobs = []
    size = config.pool.shard_size
    for index, start in enumerate(range(0, len(pairs), size)):
        url = str(folder / f"pairs-{index}.parquet")
        write_records(url, pairs[start : start + size], ResponsePair)
        jobs.append(ShardJob(folder=str(folder / "out"), index=index, inputs=(url,)))
    board = BoardHandle()
    task = ShardTask(
        logic, pool.client().generate, config.ray.rows_per_call, board.open("benchmark")
    )
    begin = time.monotonic()
    # As many open shards as a run has: each is a worker process, whose start takes a second of a
    # core that the engine wants too.
    summaries = [s for _, s in run_shards(jobs, task, config.ray, config.open_shards)]
    seconds = time.monotonic() - begin
    board.stop()
    return seconds, summaries


def _requests_of(logic: Judge, pairs: list[ResponsePair]) -> list[GenerationRequest]:
    """The very requests the stage sends, caught by a generate that answers nothing."""
    caught: list[GenerationRequest] = []

    async def catch(requests: list[GenerationRequest]) -> list[Completion]:
        caught.extend(requests)
        empty = Draw(text="", finish_reason="stop", num_tokens=0)
        return [Completion(request_id=r.id, model=REF, draws=(empty,)) for r in requests]

    asyncio.run(logic.process(pairs, catch))
    return caught


def _pool(model: PlacedModel, engine: EngineConfig) -> EnginePool:
    return EnginePool.start(
        role="judge", run_id="benchmark", model=model.ref, folder=model.location, engine=engine
    )


def judge_throughput(
    config: RunConfig, folder: Path, num_pairs: int = 48, repeats: int = 2
) -> dict[str, Any]:
    """Generated tokens a second of the judge stage over `vllm.LLM`, in turn, `repeats` times.

    All get the same prompts, sampling and seeds. vLLM runs with the replicas' sampler, which
    leaves the pipeline's own cost as the difference, and once as it comes. The stage's time is all
    of it: Ray Data, reading the pairs, the pool, parsing and writing the shards.
    """
    model = place(config.model)
    logic = _judge(num_draws=1, adaptive=False, max_tokens=160)
    pairs = make_pairs(num_pairs)
    requests = _requests_of(logic, pairs)

    def plain(our_sampler: bool) -> float:
        figures = raw_vllm_tokens_per_s(
            model.location, requests, config.engine, our_sampler=our_sampler
        )
        return figures["tokens_per_s"]

    raw, ours = [], []
    with ray_session(config.ray):
        for repeat in range(repeats):
            raw.append(plain(our_sampler=True))
            with _pool(model, config.engine) as pool:
                # The same warm-up that the plain engine gets before its clock starts.
                asyncio.run(pool.client().generate(requests[:8]))
                here = folder / f"throughput-{repeat}"
                seconds, summaries = _stage(config, pool, logic, here, pairs)
            tokens = add_ledgers(s.ledger for s in summaries)["completion_tokens"]
            ours.append(tokens / seconds)
        as_it_comes = plain(our_sampler=False)
    ratios = [a / b for a, b in zip(ours, raw, strict=True)]
    return {
        "num_requests": len(requests),
        "stage_tokens_per_s": [round(v, 1) for v in ours],
        "vllm_tokens_per_s": [round(v, 1) for v in raw],
        "vllm_own_sampler_tokens_per_s": round(as_it_comes, 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(r, 3) for r in ratios],
        "ratio_to_own_sampler": round(statistics.median(ours) / as_it_comes, 3),
    }


def evaluation_throughput(config: RunConfig, folder: Path, num_pairs: int = 500) -> dict[str, Any]:
    """Tokens a second, prompts included, of `selfreward evaluate` over `vllm.LLM`.

    One greedy verdict of one letter in both orders of each pair, which is nearly all prompt. The
    evaluation's time is that of its judge stage, reading and writing shards included. `config` is
    what `selfreward evaluate` takes without a recipe.
    """
    model = place(config.model)
    logic = Judge(
        rubric_id="pairwise_verdict_only",
        sampling=SamplingConfig(temperature=0.0, max_tokens=8),
        guided=True,
        num_draws=1,
        seed=0,
        objective="sft",
        adaptive=False,
        name="evaluate",
    )
    pairs = make_pairs(num_pairs, seed=2)
    requests = _requests_of(logic, pairs)
    with ray_session(config.ray):
        plain = raw_vllm_tokens_per_s(model.location, requests, config.engine, our_sampler=True)
        with _pool(model, config.engine) as pool:
            asyncio.run(pool.client().generate(requests[:8]))
            seconds, summaries = _stage(config, pool, logic, folder / "evaluation", pairs)
    ledger = add_ledgers(s.ledger for s in summaries)
    ours = (ledger["prompt_tokens"] + ledger["completion_tokens"]) / seconds
    return {
        "num_requests": len(requests),
        "evaluate_tokens_per_s": round(ours, 1),
        "vllm_tokens_per_s": round(plain["all_tokens_per_s"], 1),
        "ratio": round(ours / plain["all_tokens_per_s"], 3),
    }


def adaptive_drawing(config: RunConfig, folder: Path, num_pairs: int = 12) -> dict[str, Any]:
    """Tokens per accepted example, adaptive drawing up to 8 over always 8."""
    model = place(config.model)
    pairs = make_pairs(num_pairs, seed=1)
    figures: dict[str, Any] = {}
    with ray_session(config.ray), _pool(model, config.engine) as pool:
        for name, adaptive in (("fixed", False), ("adaptive", True)):
            logic = _judge(num_draws=8, adaptive=adaptive, max_tokens=160)
            seconds, summaries = _stage(config, pool, logic, folder / name, pairs)
            ledger = add_ledgers(s.ledger for s in summaries)
            judgments = [
                j
                for path in sorted((folder / name / "out").glob("shard-*.parquet"))
                for j in read_records(str(path), Judgment)
            ]
            accepted = len({(j.pair_id, j.position) for j in judgments if j.is_right})
            figures[name] = {
                "draws": ledger["draws"],
                "new_tokens": ledger["completion_tokens"],
                "accepted": accepted,
                "tokens_per_accepted": round(ledger["completion_tokens"] / max(1, accepted), 1),
                "seconds": round(seconds, 1),
            }
    fixed, adaptive_cost = (figures[n]["tokens_per_accepted"] for n in ("fixed", "adaptive"))
    figures["ratio"] = round(adaptive_cost / fixed, 3)
    return figures
