"""As much of a run as its steps need, in this process: no Ray, an engine written by hand."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from selfreward.config import RunConfig
from selfreward.errors import own_error_in
from selfreward.layout import Layout
from selfreward.loops import evaluate, pairs, sources, steps
from selfreward.loops.steps import Run


@dataclass
class Told:
    """A display that only keeps what it was told."""

    lines: list[str] = field(default_factory=list)

    def line(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def waiting(self, title: str, *_: Any) -> Iterator[None]:
        yield

    @contextmanager
    def stage(self, title: str, *_: Any) -> Iterator[None]:
        yield


def run_in(tmp_path: Path, config: dict[str, Any], generate: Any = None) -> Run:
    """`generate` answers what any pool is asked."""
    parsed = RunConfig.model_validate({"run_dir": str(tmp_path / "run"), **config})
    client = SimpleNamespace(generate=generate)
    unused: Any = SimpleNamespace(generator=lambda _: client, judge=lambda _: client)
    board: Any = SimpleNamespace(open=lambda _: lambda _: None, read=None)
    display: Any = Told()
    return Run(
        config=parsed,
        layout=Layout(parsed.run_dir),
        pools=unused,
        display=display,
        board=board,
    )


def without_ray(patch: pytest.MonkeyPatch) -> None:
    """Tasks and shards of steps are done here, one after the other."""

    def shards_here(jobs: Any, task: Any, *_: Any) -> Iterator[Any]:
        for job in jobs:
            try:
                summary = asyncio.run(task._run(job))
            except Exception as error:
                # As on a worker: what a group of tasks wraps around an error stays there.
                raise own_error_in(error) or error from None
            yield job.folder, summary

    for module in (pairs, sources):
        patch.setattr(module, "on_cluster", lambda run, function, *args: function(*args))
    patch.setattr(steps, "run_shards", shards_here)


def evaluating_here(patch: pytest.MonkeyPatch, tmp_path: Path, generate: Any = None) -> Told:
    """`selfreward evaluate` is done in this process; returns what its display is told."""
    told = Told()

    @contextmanager
    def opened(config: Any, layout: Any, *_: Any) -> Iterator[Run]:
        changes = config.model_dump(exclude={"run_dir"}, exclude_unset=True)
        yield replace(run_in(tmp_path, changes, generate), layout=layout, display=cast(Any, told))

    without_ray(patch)
    patch.setattr(evaluate, "open_cluster", opened)
    return told
