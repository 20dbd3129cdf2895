"""The driver's memory while the scripted engine works through pools of growing size.

Each size runs in a process of its own, up to the balanced training rows (training itself keeps
nothing on the driver), while a thread samples the resident memory of that process alone.
"""

import multiprocessing
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from selfreward.benchmarks.data import write_pool
from selfreward.config import RunConfig
from selfreward.config_loading import parse_config
from selfreward.loops.construct import build_pairs
from selfreward.loops.iteration import judge_pairs, select_rows
from selfreward.loops.pairs import build_instructions
from selfreward.loops.session import open_run

SIZES = (1_000, 10_000, 100_000)
SAMPLE_EVERY_S = 0.25
LIMIT_S = 3 * 3600.0
MIB = 1024**2


def driver_memory(config: RunConfig, sizes: tuple[int, ...] = SIZES) -> list[dict[str, Any]]:
    """Peak resident memory of the driver, in MiB, for each pool size.

    Raises:
        TimeoutError: a size took longer than three hours.
    """
    figures = []
    context = multiprocessing.get_context("spawn")
    for size in sizes:
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(config.model.name, size, send))
        process.start()
        if not receive.poll(LIMIT_S):
            process.kill()
            raise TimeoutError(f"a pool of {size} instructions took longer than {LIMIT_S:.0f} s")
        figures.append(receive.recv())
        process.join(timeout=60)
    return figures


def _run(model: str, size: int, send: Any) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        pool = Path(scratch) / "pool.jsonl"
        write_pool(pool, size)
        config = parse_config(
            {
                "run_dir": f"{scratch}/run",
                "model": {"name": model},
                "engine": {"kind": "scripted", "num_cpus": 0.5, "replicas": 2},
                "pool": {"path": str(pool), "shard_size": 512, "near_duplicate_threshold": None},
                # Rows count here, not draws.
                "judge": {"rubric": "pairwise_verdict_only", "num_draws": 1},
                "evaluation": {"heldout_pairs": 16, "validation_pairs": 0},
                "ray": {"rows_per_call": 64},
            }
        )
        peak = _Peak()
        begin = time.monotonic()
        with peak, open_run(config) as (run, models):
            at_start = peak.now()
            instructions = build_instructions(run, models.generator)
            pairs = build_pairs(run, instructions, models.generator, iteration=1)
            judgments = judge_pairs(run, 1, models.seed, pairs["train"])
            rows = select_rows(run, 1, pairs["train"], judgments)
        send.send(
            {
                "instructions": size,
                "training_rows": rows.num_records,
                "driver_start_mib": round(at_start / MIB),
                "driver_peak_mib": round(peak.highest / MIB),
                "seconds": round(time.monotonic() - begin, 1),
            }
        )


class _Peak:
    """Samples this process's resident memory in a thread."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.highest = 0

    def now(self) -> int:
        return int(self._process.memory_info().rss)

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            self.highest = max(self.highest, self.now())

    def __enter__(self) -> "_Peak":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
