"""The judge service for callers that wait."""

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal, Self, Unpack

import httpx
import tenacity

from selfreward.client import calls
from selfreward.client.calls import Answer, Chunk, JudgeOptions, Judgments, Piece, PromptLike, Route
from selfreward.client.errors import JudgeError
from selfreward.client.events import ScoreStreamItem, StreamItem, items_of
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
)
from selfreward.serving.admin_wire import VersionEntry, VersionHistory
from selfreward.serving.judge_wire import (
    PairwiseJudgment,
    PairwiseRequest,
    RankJudgment,
    RankRequest,
    ScoreJudgment,
    ScoreRequest,
)


class JudgeClient:
    """Asks a judge service and waits for its answers. May be shared by threads, and pickled.

    Every call raises a `JudgeError`: `InvalidRequestError` before sending what cannot be right,
    otherwise what the service or the network said after the tries allowed. A judgment that failed
    is returned, with its `outcome` and `detail`.

    Args:
        base_url: e.g. `http://127.0.0.1:8000`, with the route prefix if the service has one.
        api_key: sent as a bearer token; None takes the variable `SELFREWARD_API_KEY` if it is set.
        timeout_s: seconds for one try. Longer than the service's own limit, so that the service's
            answer about its limit arrives.
        total_timeout_s: seconds for all tries of a call and the waits between them; of each chunk
            of a batch.
        max_tries: tries of a call.
        max_batch: requests sent together. A batch of more is cut into chunks, and a chunk that the
            service finds too large into halves, in order.
        max_body_bytes: size of a body of several requests.
        transport: where requests go instead of the network, e.g. in tests.
        sleep: how to wait between two tries.

    Example:
        with JudgeClient("http://127.0.0.1:8000", api_key="sr-1") as client:
            client.pairwise("2+2?", "4", "5", votes=3).choice
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
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
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
        self._transport = transport
        self._sleep = sleep
        self._http = self._connect()

    def pairwise(
        self, prompt: PromptLike, first: str, second: str, **options: Unpack[JudgeOptions]
    ) -> PairwiseJudgment:
        """Which of two responses is better."""
        request = calls.pairwise_request(prompt, first, second, options)
        return self._call(calls.PAIRWISE, request.model_dump_json().encode())

    def score(
        self, prompt: PromptLike, response: str, **options: Unpack[JudgeOptions]
    ) -> ScoreJudgment:
        """How good a response is, on the scale of the rubric."""
        request = calls.score_request(prompt, response, options)
        return self._call(calls.SCORE, request.model_dump_json().encode())

    def rank(
        self,
        prompt: PromptLike,
        responses: Sequence[str],
        *,
        method: Literal["tournament", "scores"] = "tournament",
        **options: Unpack[JudgeOptions],
    ) -> RankJudgment:
        """Two or more responses from best to worst."""
        request = calls.rank_request(prompt, responses, method, options)
        return self._call(calls.RANK, request.model_dump_json().encode())

    def pairwise_batch(
        self, requests: Iterable[PairwiseRequest | Mapping[str, Any]]
    ) -> list[PairwiseJudgment]:
        """One judgment per request, in order. Chunks go one after another; one that gets no
        answer ends the call."""
        chunks = self._chunks(PairwiseRequest, requests)
        return [j for answer in self._each(calls.PAIRWISE_BATCH, chunks) for j in answer.batch]

    def score_batch(
        self, requests: Iterable[ScoreRequest | Mapping[str, Any]]
    ) -> list[ScoreJudgment]:
        """As `pairwise_batch`, of scores."""
        chunks = self._chunks(ScoreRequest, requests)
        return [j for answer in self._each(calls.SCORE_BATCH, chunks) for j in answer.batch]

    def rank_batch(self, requests: Iterable[RankRequest | Mapping[str, Any]]) -> list[RankJudgment]:
        """As `pairwise_batch`, of rankings."""
        chunks = self._chunks(RankRequest, requests)
        return [j for answer in self._each(calls.RANK_BATCH, chunks) for j in answer.batch]

    def stream_pairwise(
        self, prompt: PromptLike, first: str, second: str, **options: Unpack[JudgeOptions]
    ) -> Generator[StreamItem, None, None]:
        """What the judge writes as it writes it, and the judgment as the last item.

        The stream is asked for again until its first item is there; one that breaks later raises,
        since what was given cannot be taken back. Closing the generator closes the connection.
        """
        options = JudgeOptions(rationale=True) | options
        request = calls.pairwise_request(prompt, first, second, options)
        return self._events(calls.PAIRWISE_STREAM, request.model_dump_json().encode())

    def stream_score(
        self, prompt: PromptLike, response: str, **options: Unpack[JudgeOptions]
    ) -> Generator[ScoreStreamItem, None, None]:
        """As `stream_pairwise`, of a score."""
        options = JudgeOptions(rationale=True) | options
        request = calls.score_request(prompt, response, options)
        return self._events(calls.SCORE_STREAM, request.model_dump_json().encode())

    def models(self) -> list[str]:
        """Ids of the models that `/v1/chat/completions` takes."""
        return [model.id for model in self._call(calls.MODELS).data]

    def version(self) -> VersionHistory:
        """Which judge answers now, and which did before."""
        return self._call(calls.VERSION)

    def promote(self, *, iteration: int | None = None, model: str | None = None) -> VersionEntry:
        """Makes an iteration of the served run, or a model, the judge. Wants an admin's key, and is
        sent again only when the service has certainly not acted on it."""
        request = calls.promote_request(iteration, model)
        return self._call(calls.PROMOTE, request.model_dump_json(exclude_none=True).encode())

    def rollback(self) -> VersionEntry:
        """Makes the judge before the current one the judge again; otherwise as `promote`."""
        return self._call(calls.ROLLBACK)

    def health(self) -> bool:
        """Whether the service is alive: False where it cannot be reached. One try."""
        return self._probe(calls.HEALTH_PATH)

    def ready(self) -> bool:
        """Whether the service can judge by now; otherwise as `health`."""
        return self._probe(calls.READY_PATH)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        # Connections stay where they are; the copy opens its own.
        return {name: value for name, value in self.__dict__.items() if name != "_http"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._http = self._connect()

    def _connect(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.settings.address,
            auth=self.settings.auth,
            headers=self.settings.headers(),
            transport=self._transport,
        )

    def _chunks(self, kind: type[calls.Body], requests: Iterable[Any]) -> list[Chunk]:
        return calls.chunks_of(
            kind,
            requests,
            max_batch=self.settings.max_batch,
            max_body_bytes=self.settings.max_body_bytes,
        )

    def _each(self, route: Route[Judgments], chunks: Iterable[Chunk]) -> list[Judgments]:
        return [answer for chunk in chunks for answer in self._judged(route, chunk)]

    def _judged(self, route: Route[Judgments], chunk: Chunk) -> list[Judgments]:
        try:
            return [read_judgments(route, self._fetch(route, chunk.content), chunk)]
        except JudgeError as error:
            if not may_split(error, chunk):
                raise
        return self._each(route, chunk.halves())

    def _call(self, route: Route[Answer], content: bytes = b"") -> Answer:
        return read_answer(route, self._fetch(route, content))

    def _fetch(self, route: Route[Any], content: bytes) -> bytes:
        total = Deadline.after(self.settings.total_timeout_s)

        def attempt() -> bytes:
            deadline = total.within(self.settings.timeout_s)
            response = self._open(route, content, deadline)
            try:
                return _read(response, deadline)
            finally:
                response.close()

        with own_errors(self.settings):
            return self._retrying(route)(attempt)

    def _events(
        self, route: calls.StreamRoute[Answer, Piece], content: bytes
    ) -> Generator[Piece | Answer, None, None]:
        total = Deadline.after(self.settings.total_timeout_s)

        def attempt() -> tuple[Piece | Answer, Generator[Piece | Answer, None, None]]:
            deadline = total.within(self.settings.timeout_s)
            items = items_of(self._open(route, content, deadline), route, deadline)
            return next(items), items

        with own_errors(self.settings):
            first, items = self._retrying(route)(attempt)
            with closing(items):
                yield first
                yield from items

    def _open(self, route: Route[Any], content: bytes, deadline: Deadline) -> httpx.Response:
        """An answer under status 200, its body not read yet."""
        request = self._http.build_request(
            route.method, route.path, content=content, timeout=deadline.left()
        )
        response = self._http.send(request, stream=True)
        if response.status_code == 200:
            return response
        try:
            raise error_of_response(response, _read(response, deadline))
        finally:
            response.close()

    def _retrying(self, route: Route[Any]) -> tenacity.Retrying:
        policy = retry_policy(self.settings, route)
        return tenacity.Retrying(
            retry=policy.retry,
            wait=policy.wait,
            stop=policy.stop,
            sleep=self._sleep,
            reraise=True,
        )

    def _probe(self, path: str) -> bool:
        try:
            return probe_says(self._http.get(path, timeout=PROBE_TIMEOUT_S))
        except httpx.TransportError:
            return False


def _read(response: httpx.Response, deadline: Deadline) -> bytes:
    # httpx limits the wait for each piece; the deadline is for all of them.
    pieces = []
    for piece in response.iter_bytes():
        deadline.left()
        pieces.append(piece)
    return b"".join(pieces)
