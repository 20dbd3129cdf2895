"""Benchmarks of the pipeline, printed as JSON.

python -m ray_jobs.benchmark [throughput] [evaluation] [adaptive] [training] [text] [memory]
                             [self_instruct] [injection] [service_load] [service_swap]
                             [service_recovery] [service_overload] (none named: all)
                             [section.key=value ...]
"""

import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfreward.benchmarks import service
from selfreward.benchmarks.generation import (
    adaptive_drawing,
    evaluation_throughput,
    judge_throughput,
)
from selfreward.benchmarks.injection import injection_flips
from selfreward.benchmarks.memory import driver_memory
from selfreward.benchmarks.rows import training_on_rows
from selfreward.benchmarks.self_instruct import filter_throughput
from selfreward.benchmarks.text import training_on_text
from selfreward.config import RunConfig
from selfreward.config_loading import load_config, parse_config
from selfreward.config_serving import ServiceConfig
from selfreward.engines.models import resolve_model
from selfreward.storage.manifest import now, versions


def main() -> None:
    overrides = [argument for argument in sys.argv[1:] if "=" in argument]
    config = load_config(Path(__file__).parent / "configs" / "quickstart.yaml", overrides)
    with tempfile.TemporaryDirectory(prefix="selfreward-benchmark-") as scratch:
        # Evaluating takes no recipe by itself, so it is measured without one.
        parts = _parts(config, parse_config({}, overrides), Path(scratch))
        chosen = [name for name in sys.argv[1:] if "=" not in name] or list(parts)
        unknown = [name for name in chosen if name not in parts]
        if unknown:
            sys.exit(f"no benchmark {unknown[0]!r}; there are {', '.join(parts)}")
        machine = {"python": platform.python_version(), "cores": os.cpu_count(), "at": now()}
        figures: dict[str, Any] = {"machine": machine | versions()}
        for name in chosen:
            figures[name] = parts[name]()
    print(json.dumps(figures, indent=2))


def _parts(config: RunConfig, bare: RunConfig, scratch: Path) -> dict[str, Callable[[], Any]]:
    served = ServiceConfig(model=config.model, engine=config.engine)
    return {
        "throughput": lambda: judge_throughput(config, scratch),
        "evaluation": lambda: evaluation_throughput(bare, scratch),
        "adaptive": lambda: adaptive_drawing(config, scratch),
        "training": lambda: training_on_rows(resolve_model(config.model.name)),
        "text": lambda: training_on_text(scratch),
        "memory": lambda: driver_memory(config),
        "self_instruct": filter_throughput,
        "injection": lambda: injection_flips(config),
        "service_load": lambda: service.against_vllm(served),
        "service_swap": lambda: service.swap_under_load(served),
        "service_recovery": lambda: service.replica_killed(served),
        "service_overload": lambda: service.beyond_capacity(served),
    }


if __name__ == "__main__":
    main()
