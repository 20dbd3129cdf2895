"""A replica of an engine that stands alone: what is needed of it, and how it is started."""

from collections.abc import AsyncIterator
from typing import Protocol

from selfreward.engines.protocol import Completion, Delta, GenerationRequest
from selfreward.engines.replica import ReplicaSpec, Wanted
from selfreward.records import ModelRef
from selfreward.serving.versions import ServedVersion
from selfreward.serving.weights import check_weights


class Replica(Protocol):
    """What is needed of an engine's replica; the pool's classes have it."""

    async def generate(
        self, request: GenerationRequest, expected_fingerprint: str
    ) -> Completion: ...

    def generate_stream(
        self, request: GenerationRequest, expected_fingerprint: str
    ) -> AsyncIterator[Delta | Completion]: ...

    async def fetch(self, model: ModelRef, folder: str) -> None: ...

    async def swap(self, model: ModelRef, folder: str, timeout_s: float) -> float: ...

    def stalled_s(self) -> float: ...


class OneBoard:
    """What a replica asks its pool, answered for a replica that stands alone."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.failure = ""

    def begin_start(self, replica: str) -> Wanted:
        return self._wanted

    def note_failure(self, replica: str, text: str) -> None:
        self.failure = f"{replica}: {text}"


def start_replica(spec: ReplicaSpec, version: ServedVersion) -> Replica:
    """Starts an engine in this process with the weights of a version; blocks until it is up.

    Raises:
        EngineError, ModelNotFoundError: it cannot be started.
        DataError: the folder holds other weights than the version names.
    """
    check_weights(version)
    board = OneBoard(Wanted(model=version.model, folder=version.folder))
    if spec.engine.kind == "scripted":
        from selfreward.engines.scripted_replica import ScriptedReplica

        return ScriptedReplica(spec, board)
    from selfreward.engines.vllm_replica import VLLMReplica

    return VLLMReplica(spec, board)
