"""The judge service for callers with an event loop. The same calls as `JudgeClient`'s."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, Self, Unpack

import httpx
import tenacity

from selfreward.client import calls
from selfreward.client.calls import Answer, Chunk, JudgeOptions, Judgments, Piece, PromptLike, Route
from selfreward.client.errors import JudgeError
from selfreward.client.events import ScoreStreamItem, StreamItem, items_of_async
from selfreward.client.transport import (
    PROBE_TIMEOUT_S,
    Deadline,
    Settings,
    error_of_response,
    key_or_environment,
    may_split,
    own_errors,
    probe_says,
    read_answer,
    read_judgments,
    retry_policy,
    until,
)
from selfreward.errors import ConfigError
from selfreward.serving.admin_wire import VersionEntry, VersionHistory
from selfreward.serving.judge_wire import (
    PairwiseJudgment,
    PairwiseRequest,
    RankJudgment,
    RankRequest,
    ScoreJudgment,
    ScoreRequest,
)


class AsyncJudgeClient:
    """Asks a judge service without blocking; belongs to the event loop it is first used in.

    Errors and arguments are those of `JudgeClient`. Cancelling a call closes its connection, which
    tells the service to stop.

    Args:
        max_in_flight: chunks of one batch that are under way at a time.

    Example:
        async with AsyncJudgeClient("http://127.0.0.1:8000", api_key="sr-1") as client:
            (await client.score("2+2?", "4")).score
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 330.0,
        total_timeout_s: float = 900.0,
        max_tries: int = 5,
        max_batch: int = 64,
        max_body_bytes: int = 2_000_000,
        max_in_flight: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.settings = Settings(
            base_url=base_url,
            api_key=key_or_environment(api_key),
            timeout_s=timeout_s,
            total_timeout_s=total_timeout_s,
            max_tries=max_tries,
            max_batch=max_batch,
            max_body_bytes=max_body_bytes,
        )
        if max_in_flight < 1:
            raise ConfigError(f"max_in_flight={max_in_flight} must be above 0")
        self._max_in_flight = max_in_flight
        self._sleep = sleep
        self._http = httpx.AsyncClient(
            base_url=self.settings.address,
            auth=self.settings.auth,
            headers=self.settings.headers(),
            transport=transport,
        )

    async def pairwise(
        self, prompt: PromptLike, first: str, second: str, **options: Unpack[JudgeOptions]
    ) -> PairwiseJudgment:
        """Which of two responses is better."""
        request = calls.pairwise_request(prompt, first, second, options)
        return await self._call(calls.PAIRWISE, request.model_dump_json().encode())

    async def score(
        self, prompt: PromptLike, response: str, **options: Unpack[JudgeOptions]
    ) -> ScoreJudgment:
        """How good a response is, on the scale of the rubric."""
        request = calls.score_request(prompt, response, options)
        return await self._call(calls.SCORE, request.model_dump_json().encode())

    async def rank(
        self,
        prompt: PromptLike,
        responses: Sequence[str],
        *,
        method: Literal["tournament", "scores"] = "tournament",
        **options: Unpack[JudgeOptions],
    ) -> RankJudgment:
        """Two or more responses from best to worst."""
        request = calls.rank_request(prompt, responses, method, options)
        return await self._call(calls.RANK, request.model_dump_json().encode())

    async def pairwise_batch(
        self, requests: Iterable[PairwiseRequest | Mapping[str, Any]]
    ) -> list[PairwiseJudgment]:
        """One judgment per request, in order. A chunk without an answer ends the call."""
        chunks = self._chunks(PairwiseRequest, requests)
        answers = await self._each(calls.PAIRWISE_BATCH, chunks)
        return [j for answer in answers for j in answer.batch]

    async def score_batch(
        self, requests: Iterable[ScoreRequest | Mapping[str, Any]]
    ) -> list[ScoreJudgment]:
        """As `pairwise_batch`, of scores."""
        chunks = self._chunks(ScoreRequest, requests)
        answers = await self._each(calls.SCORE_BATCH, chunks)
        return [j for answer in answers for j in answer.batch]

    async def rank_batch(
        self, requests: Iterable[RankRequest | Mapping[str, Any]]
    ) -> list[RankJudgment]:
        """As `pairwise_batch`, of rankings."""
        chunks = self._chunks(RankRequest, requests)
        answers = await self._each(calls.RANK_BATCH, chunks)
        return [j for answer in answers for j in answer.batch]

    def stream_pairwise(
        self, prompt: PromptLike, first: str, second: str, **options: Unpack[JudgeOptions]
    ) -> AsyncGenerator[StreamItem, None]:
        """What the judge writes as it writes it, and the judgment as the last item.

        As `JudgeClient`'s. Who leaves early should do so inside `contextlib.aclosing`, which
        closes the connection at once.
        """
        options = JudgeOptions(rationale=True) | options
        request = calls.pairwise_request(prompt, first, second, options)
        return self._events(calls.PAIRWISE_STREAM, request.model_dump_json().encode())

    def stream_score(
        self, prompt: PromptLike, response: str, **options: Unpack[JudgeOptions]
    ) -> AsyncGenerator[ScoreStreamItem, None]:
        """As `stream_pairwise`, of a score."""
        options = JudgeOptions(rationale=True) | options
        request = calls.score_request(prompt, response, options)
        return self._events(calls.SCORE_STREAM, request.model_dump_json().encode())

    async def models(self) -> list[str]:
        """Ids of the models that `/v1/chat/completions` takes."""
        return [model.id for model in (await self._call(calls.MODELS)).data]

    async def version(self) -> VersionHistory:
        """Which judge answers now, and which did before."""
        return await self._call(calls.VERSION)

    async def promote(
        self, *, iteration: int | None = None, model: str | None = None
    ) -> VersionEntry:
        """Makes an iteration of the served run, or a model, the judge. See `JudgeClient`'s."""
        request = calls.promote_request(iteration, model)
        return await self._call(calls.PROMOTE, request.model_dump_json(exclude_none=True).encode())

    async def rollback(self) -> VersionEntry:
        """Makes the judge before the current one the judge again; otherwise as `promote`."""
        return await self._call(calls.ROLLBACK)

    async def health(self) -> bool:
        """Whether the service is alive: False where it cannot be reached. One try."""
        return await self._probe(calls.HEALTH_PATH)

    async def ready(self) -> bool:
        """Whether the service can judge by now; otherwise as `health`."""
        return await self._probe(calls.READY_PATH)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()

    def _chunks(self, kind: type[calls.Body], requests: Iterable[Any]) -> list[Chunk]:
        return calls.chunks_of(
            kind,
            requests,
            max_batch=self.settings.max_batch,
            max_body_bytes=self.settings.max_body_bytes,
        )

    async def _each(self, route: Route[Judgments], chunks: list[Chunk]) -> list[Judgments]:
        gate = asyncio.Semaphore(self._max_in_flight)

        async def one(chunk: Chunk) -> list[Judgments]:
            async with gate:
                return await self._judged(route, chunk)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(chunk)) for chunk in chunks]
        except ExceptionGroup as failed:
            # The first one cancelled the rest, so that it is the one to tell.
            raise failed.exceptions[0] from None
        return [answer for task in tasks for answer in task.result()]

    async def _judged(self, route: Route[Judgments], chunk: Chunk) -> list[Judgments]:
        try:
            return [read_judgments(route, await self._fetch(route, chunk.content), chunk)]
        except JudgeError as error:
            if not may_split(error, chunk):
                raise
        return [answer for half in chunk.halves() for answer in await self._judged(route, half)]

    async def _call(self, route: Route[Answer], content: bytes = b"") -> Answer:
        return read_answer(route, await self._fetch(route, content))

    async def _fetch(self, route: Route[Any], content: bytes) -> bytes:
        total = Deadline.after(self.settings.total_timeout_s)

        async def attempt() -> bytes:
            deadline = total.within(self.settings.timeout_s)
            response = await self._open(route, content, deadline)
            try:
                async with until(deadline):
                    return await response.aread()
            finally:
                await response.aclose()

        with own_errors(self.settings):
            return await self._retrying(route)(attempt)

    async def _events(
        self, route: calls.StreamRoute[Answer, Piece], content: bytes
    ) -> AsyncGenerator[Piece | Answer, None]:
        total = Deadline.after(self.settings.total_timeout_s)

        async def attempt() -> tuple[Piece | Answer, AsyncGenerator[Piece | Answer, None]]:
            deadline = total.within(self.settings.timeout_s)
            response = await self._open(route, content, deadline)
            items = items_of_async(response, route, deadline)
            return await anext(items), items

        with own_errors(self.settings):
            opened: tuple[Piece | Answer, AsyncGenerator[Piece | Answer, None]]
            opened = await self._retrying(route)(attempt)
            first, items = opened
            async with aclosing(items):
                yield first
                async for item in items:
                    yield item

    async def _open(self, route: Route[Any], content: bytes, deadline: Deadline) -> httpx.Response:
        """An answer under status 200, its body not read yet."""
        request = self._http.build_request(
            route.method, route.path, content=content, timeout=deadline.left()
        )
        async with until(deadline):
            response = await self._http.send(request, stream=True)
        if response.status_code == 200:
            return response
        try:
            async with until(deadline):
                body = await response.aread()
            raise error_of_response(response, body)
        finally:
            await response.aclose()

    def _retrying(self, route: Route[Any]) -> tenacity.AsyncRetrying:
        policy = retry_policy(self.settings, route)
        return tenacity.AsyncRetrying(
            retry=policy.retry,
            wait=policy.wait,
            stop=policy.stop,
            sleep=self._sleep,
            reraise=True,
        )

    async def _probe(self, path: str) -> bool:
        try:
            return probe_says(await self._http.get(path, timeout=PROBE_TIMEOUT_S))
        except httpx.TransportError:
            return False
