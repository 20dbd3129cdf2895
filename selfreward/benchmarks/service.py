"""The judge service measured: against plain `vllm serve`, during a swap of weights, after the
death of a replica, and beyond its capacity."""

import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from safetensors.torch import load_file, save_file

from selfreward.benchmarks.load import Answered, latency, run_load, statuses
from selfreward.benchmarks.servers import engine_processes, judge_service, memory_mib, vllm_server
from selfreward.config_serving import ServiceConfig
from selfreward.engines.models import resolve_model

CLIENTS = (1, 8, 32)
SECONDS = 30.0
NEW_TOKENS = 32
_TOPICS = ("tides", "compost", "chess openings", "rainbows", "sourdough", "maps", "glaciers")


def _prompt(number: int) -> str:
    return f"Explain {_TOPICS[number % len(_TOPICS)]} to a child in {20 + number % 50} words."


def _chat(model: str) -> Any:
    def body(number: int) -> dict[str, Any]:
        return {
            "model": model,
            "messages": [{"role": "user", "content": _prompt(number)}],
            # Greedy: seeded draws would compare this project's CPU sampler with vLLM's own.
            "temperature": 0,
            "max_tokens": NEW_TOKENS,
        }

    return body


def _pair(number: int) -> dict[str, Any]:
    return {
        "prompt": _prompt(number),
        "first": f"It is a long story about {_TOPICS[number % len(_TOPICS)]}.",
        "second": "I do not know.",
    }


def against_vllm(config: ServiceConfig, seconds: float = SECONDS) -> dict[str, Any]:
    """The same chat requests to the service and to `vllm serve`, which run one after the other."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, judge_service(config, Path(folder)) as (base, _):
        found["service"] = _measured(base, seconds)
    with vllm_server(config) as base:
        found["vllm"] = _measured(base, seconds)
    found["compared"] = {
        clients: {
            "throughput_ratio": round(ours["requests_per_s"] / theirs["requests_per_s"], 3),
            "added_p50_ms": round(ours["p50_ms"] - theirs["p50_ms"], 1),
        }
        for (clients, ours), theirs in zip(
            found["service"].items(), found["vllm"].values(), strict=True
        )
    }
    return found


def _measured(base: str, seconds: float) -> dict[str, Any]:
    url = f"{base}/v1/chat/completions"
    asyncio.run(run_load(url, _chat("judge"), clients=4, seconds=5))  # warm
    found = {}
    for clients in CLIENTS:
        begin = time.monotonic()
        answers = asyncio.run(run_load(url, _chat("judge"), clients=clients, seconds=seconds))
        took = time.monotonic() - begin
        good = [a for a in answers if a.status == 200]
        found[str(clients)] = latency(good) | {
            "requests_per_s": round(len(good) / took, 3),
            "tokens_per_s": round(
                sum(a.body["usage"]["completion_tokens"] for a in good) / took, 1
            ),
            "statuses": statuses(answers),
        }
    return found


def swap_under_load(
    config: ServiceConfig, seconds: float = 60.0, clients: int = 8
) -> dict[str, Any]:
    """Judgments all the while: promotion after a third, rollback after two thirds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        other = _nudged(resolve_model(config.model.name), folder / "other")
        with judge_service(config, folder / "state") as (base, _):

            async def drive() -> tuple[list[Answered], list[tuple[float, float]]]:
                begin = time.monotonic()
                load = asyncio.create_task(
                    run_load(f"{base}/v1/judge/pairwise", _pair, clients=clients, seconds=seconds)
                )
                changes = []
                async with httpx.AsyncClient(timeout=120) as http:
                    for path, body in (
                        ("promote", {"model": str(other)}),
                        ("rollback", None),
                    ):
                        await asyncio.sleep(seconds / 3)
                        asked = time.monotonic() - begin
                        (await http.post(f"{base}/admin/{path}", json=body)).raise_for_status()
                        changes.append((asked, time.monotonic() - begin))
                return await load, changes

            answers, changes = asyncio.run(drive())
    return _swap_figures(answers, changes)


def _swap_figures(answers: list[Answered], changes: list[tuple[float, float]]) -> dict[str, Any]:
    good = [a for a in answers if a.status == 200]
    versions = [a.body["judge"]["version"] for a in good]
    (first, told), (second, _) = changes
    # From the promotion's request to the last answer of the version before it.
    last_old = max(a.end for a in good if a.body["judge"]["version"] == 1)
    during = [a for a in good if a.end > first and a.start < last_old + 1]
    return {
        "requests": len(answers),
        "failed": sum(a.status != 200 for a in answers),
        "no_choice": sum(a.body["outcome"] != "choice" for a in good),
        "versions": {str(v): versions.count(v) for v in sorted(set(versions))},
        # Admitted after the promotion was confirmed, yet judged by the version before.
        "stale": sum(
            a.body["judge"]["version"] < (3 if a.start > changes[1][1] else 2)
            for a in good
            if a.start > told
        ),
        "promotion_s": round(told - first, 2),
        "last_of_version_1_after_s": round(last_old - first, 2),
        "before": latency([a for a in good if a.end <= first]),
        "during": latency(during),
        "after": latency([a for a in good if last_old + 1 < a.start and a.end < second]),
    }


def _nudged(folder: str, target: Path) -> Path:
    """The same model with one number changed: other weights that judge alike."""
    shutil.copytree(folder, target)
    path = sorted(target.glob("*.safetensors"))[0]
    weights = load_file(path)
    name = sorted(weights)[0]
    weights[name].view(-1)[0] += 0.01
    save_file(weights, path, metadata={"format": "pt"})
    return target


def replica_killed(
    config: ServiceConfig, seconds: float = 90.0, clients: int = 4
) -> dict[str, Any]:
    """`kill -9` of the only engine replica after a third of the time."""
    with (
        tempfile.TemporaryDirectory() as folder,
        judge_service(config, Path(folder)) as (base, pid),
    ):

        async def drive() -> tuple[list[Answered], float]:
            begin = time.monotonic()
            load = asyncio.create_task(
                run_load(f"{base}/v1/judge/pairwise", _pair, clients=clients, seconds=seconds)
            )
            await asyncio.sleep(seconds / 3)
            (victim,) = await asyncio.to_thread(engine_processes, pid)
            victim.kill()
            killed = time.monotonic() - begin
            return await load, killed

        answers, killed = asyncio.run(drive())
    good = [a for a in answers if a.status == 200]
    judged = [a for a in good if a.body["outcome"] in ("choice", "tie")]
    after = [a.end for a in judged if a.start > killed]
    return {
        "requests": len(answers),
        "statuses": statuses(answers),
        "failed": sum(a.status != 200 for a in answers),
        "no_verdict": len(good) - len(judged),
        "first_answer_after_s": round(min(after) - killed, 1) if after else None,
        "longest_wait_s": round(max(a.seconds for a in answers), 1),
    }


def beyond_capacity(config: ServiceConfig, seconds: float = 30.0) -> dict[str, Any]:
    """Far more clients than the queue takes: who is refused, how, and what it costs in memory."""
    overrides = ("serving.limits.max_queued=16",)
    with (
        tempfile.TemporaryDirectory() as folder,
        judge_service(config, Path(folder), *overrides) as (base, pid),
    ):
        url = f"{base}/v1/judge/pairwise"
        asyncio.run(run_load(url, _pair, clients=8, seconds=5))
        before = memory_mib(pid)

        async def drive() -> tuple[list[Answered], int]:
            load = asyncio.create_task(
                run_load(url, _pair, clients=64, seconds=seconds, max_requests=20_000)
            )
            peak = before
            while not load.done():
                peak = max(peak, await asyncio.to_thread(memory_mib, pid))
                await asyncio.sleep(1)
            return await load, peak

        answers, peak = asyncio.run(drive())
        after = memory_mib(pid)
    refused = [a for a in answers if a.status in (429, 503)]
    return {
        "requests": len(answers),
        "statuses": statuses(answers),
        "refused_with_retry_after": sum(a.retry_after is not None for a in refused),
        "refused": len(refused),
        "without_answer": sum(a.status == 0 for a in answers),
        "seconds": round(max(a.end for a in answers), 1),
        "memory_mib": {"before": before, "peak": peak, "after": after},
    }
