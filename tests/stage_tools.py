"""A hand-written engine for stages, and ways to read what a stage made."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfreward.engines.protocol import Completion, Draw, GenerationRequest
from selfreward.layout import join
from selfreward.records import DroppedRow, ModelRef
from selfreward.records_self_rewarding import SampledInstruction
from selfreward.storage.shards import (
    RowResult,
    read_records,
    sealed_shards,
    shard_name,
    write_records,
)
from tests.run_folders import answer, ask

MODEL = ModelRef(name="m", iteration=0, fingerprint="f0")


@dataclass
class Fake:
    """Answers draw j of a request with `answer(request, j)`."""

    answer: Callable[[GenerationRequest, int], str | Draw]
    errors: dict[str, str] = field(default_factory=dict)
    """Part of a request's id to the error code it gets."""
    asked: list[GenerationRequest] = field(default_factory=list)

    async def __call__(self, requests: list[GenerationRequest]) -> list[Completion]:
        self.asked += requests
        return [self._complete(request) for request in requests]

    def _complete(self, request: GenerationRequest) -> Completion:
        for part, code in self.errors.items():
            if part in request.id:
                return Completion(request_id=request.id, model=MODEL, error=code, detail="why")
        made = [self.answer(request, j) for j in range(request.sampling.n)]
        draws = tuple(d if isinstance(d, Draw) else whole(d) for d in made)
        return Completion(request_id=request.id, model=MODEL, draws=draws, num_prompt_tokens=10)


def whole(text: str) -> Draw:
    return Draw(text=text, finish_reason="stop", num_tokens=len(text.split()))


def cut(text: str) -> Draw:
    return Draw(text=text, finish_reason="length", num_tokens=len(text.split()))


def no_engine(request: GenerationRequest, draw: int) -> str:
    raise AssertionError(f"nothing should be asked, but {request.id} was")


def run(logic: Any, rows: Sequence[Any], generate: Fake | None = None) -> list[RowResult[Any]]:
    results: list[RowResult[Any]] = asyncio.run(logic.process(rows, generate or Fake(no_engine)))
    assert [r.row_id for r in results] == [row.id for row in rows]
    return results


def reasons(results: Sequence[RowResult[Any]]) -> list[str]:
    return [d.reason.value for r in results for d in r.dropped]


def records_in(folder: str, record_type: type[Any]) -> list[Any]:
    return [row for url in sealed_shards(folder) for row in read_records(url, record_type)]


def drops_in(folder: str) -> list[DroppedRow]:
    return read_records(join(folder, "dropped", shard_name(0)), DroppedRow)


def shard(tmp_path: Path, name: str, rows: list[Any], kind: type[Any]) -> str:
    url = join(str(tmp_path), name, shard_name(0))
    write_records(url, rows, kind)
    return url


def sampled(task: str, *texts: str, by: ModelRef = MODEL) -> SampledInstruction:
    q = ask(task)
    responses = tuple(answer(q, text, by, draw) for draw, text in enumerate(texts))
    return SampledInstruction(id=q.id, instruction=q, responses=responses)
