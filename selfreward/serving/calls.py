"""What the HTTP routes need of the rest of the service, whether it is in this process or not."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from selfreward.engines.protocol import GenerationRequest
from selfreward.serving.admin_wire import PromoteRequest, VersionHistory
from selfreward.serving.engine import Answer, ChatPiece, Judgment
from selfreward.serving.judge_wire import StreamEvent, StreamRequest
from selfreward.serving.rubric_choice import JudgeRequest
from selfreward.serving.versions import ServedVersion


class EngineCalls(Protocol):
    """`JudgeEngine`'s methods; over Ray Serve one of its replicas answers."""

    async def judge(
        self, requests: Sequence[JudgeRequest], wanted: ServedVersion, request_id: str
    ) -> list[Judgment]: ...

    def judge_stream(
        self, request: StreamRequest, wanted: ServedVersion, request_id: str
    ) -> AsyncIterator[StreamEvent]: ...

    async def chat(self, request: GenerationRequest, wanted: ServedVersion) -> Answer: ...

    def chat_stream(
        self, request: GenerationRequest, wanted: ServedVersion
    ) -> AsyncIterator[ChatPiece]: ...


class VersionCalls(Protocol):
    """Which judge is served, and who changes it."""

    async def current(self) -> ServedVersion: ...

    async def history(self) -> VersionHistory: ...

    async def promote(self, request: PromoteRequest) -> ServedVersion: ...

    async def rollback(self) -> ServedVersion: ...
