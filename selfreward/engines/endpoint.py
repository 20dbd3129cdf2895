"""A judge behind somebody's HTTP endpoint, spoken to in the form of OpenAI's chat completions.

Guided decoding is asked for in vLLM's way. What becomes of fields that a server refuses is in
`endpoint_fields.py`.
"""

import asyncio
import hashlib
import json
import math
import os
from dataclasses import replace
from typing import Any

import httpx
import tenacity

from selfreward.engines.endpoint_fields import refused_fields
from selfreward.engines.protocol import Completion, Draw, GenerationRequest
from selfreward.errors import ConfigError, EngineError, EngineTimeoutError, TransientEngineError
from selfreward.judging.token_logps import TokenLogps, token_starts
from selfreward.records import ModelRef

API_KEY = "SELFREWARD_ENDPOINT_KEY"
"""Environment variable with the key to send, where the endpoint wants one."""
TRANSIENT_STATUS = (408, 409, 425, 429, 500, 502, 503, 504)
_CONTEXT_WORDS = ("context length", "maximum context", "too long", "max_model_len")


class EndpointClient:
    """Sends requests to one endpoint; picklable, one copy per shard task.

    Each copy has at most `max_in_flight` requests under way. The same call as `EngineClient`, so a
    stage cannot tell the two apart.
    """

    def __init__(
        self,
        *,
        url: str,
        model: str,
        max_in_flight: int = 32,
        request_timeout_s: float = 600.0,
        recovery_timeout_s: float = 300.0,
    ) -> None:
        self.url = completions_url(url)
        self._model = model
        digest = hashlib.sha256(f"{self.url} {model}".encode()).hexdigest()[:16]
        self.model = ModelRef(name=f"{self.url}#{model}", iteration=0, fingerprint=digest)
        self._max_in_flight = max_in_flight
        self._request_timeout_s = request_timeout_s
        self._recovery_timeout_s = recovery_timeout_s
        self._gate: asyncio.Semaphore | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_gate": None}

    async def generate(self, requests: list[GenerationRequest]) -> list[Completion]:
        """Returns one completion per request, in the order of the requests.

        Raises:
            EngineTimeoutError: the endpoint did not answer in time.
            EngineError: it kept failing for `recovery_timeout_s`, or refuses the key or the model.
            ConfigError: it refuses a field that the requests are not the same without.
        """
        if self._gate is None:
            # Made in the task's own event loop, and shared by all its calls.
            self._gate = asyncio.Semaphore(self._max_in_flight)
        gate = self._gate
        headers = {"Authorization": f"Bearer {key}"} if (key := os.environ.get(API_KEY)) else {}
        async with httpx.AsyncClient(timeout=self._request_timeout_s, headers=headers) as http:

            async def one(request: GenerationRequest) -> Completion:
                async with gate:
                    return await self._complete(http, request)

            return list(await asyncio.gather(*(one(r) for r in requests)))

    async def _complete(self, http: httpx.AsyncClient, request: GenerationRequest) -> Completion:
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(TransientEngineError),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=20.0),
            stop=lambda state: state.idle_for >= self._recovery_timeout_s,
        )
        try:
            completion: Completion = await retrying(self._send, http, request)
            # Many servers answer with one choice whatever `n` is.
            while completion.error is None and len(completion.draws) < request.sampling.n:
                rest = _rest(request, len(completion.draws))
                completion = _joined(completion, await retrying(self._send, http, rest))
        except tenacity.RetryError as error:
            cause = error.last_attempt.exception()
            raise EngineError(
                f"endpoint {self.url} kept failing for {self._recovery_timeout_s:.0f} s: {cause}"
            ) from cause
        return completion

    async def _send(self, http: httpx.AsyncClient, request: GenerationRequest) -> Completion:
        if request.target is not None:
            return self._refused(request, "an endpoint cannot score a given text")
        refused = refused_fields(self.url, self._model)
        while True:
            body = refused.body(request)
            response = await self._post(http, request, body)
            if response.status_code in TRANSIENT_STATUS:
                raise TransientEngineError(f"HTTP {response.status_code}: {response.text[:200]}")
            is_refusal = response.status_code in (400, 403, 413, 422)
            if is_refusal and _is_too_long(response.text):
                return self._refused(request, response.text[:300])
            # Each answer names another field of the body, so this ends.
            if not (is_refusal and refused.learn(body, response.text)):
                break
        if is_refusal and body.get("n", 1) > 1:
            response = await self._without_n(http, request, body, response)
            is_refusal = response.status_code != 200
        if is_refusal and response.status_code != 403:
            return self._refused(request, response.text[:300])
        if response.status_code != 200:
            raise EngineError(
                f"endpoint {self.url} answered HTTP {response.status_code}: {response.text[:200]};"
                f" check the URL, the model name {self._model!r} and ${API_KEY}"
            )
        return completion_of(request, self.model, response.text)

    async def _without_n(
        self,
        http: httpx.AsyncClient,
        request: GenerationRequest,
        body: dict[str, Any],
        response: httpx.Response,
    ) -> httpx.Response:
        """What an endpoint says to one draw, where it refused several in words of its own; its
        first answer where that helps nothing."""
        one = {name: value for name, value in body.items() if name != "n"}
        again = await self._post(http, request, one)
        if again.status_code != 200:
            return response
        refused_fields(self.url, self._model).said["n"] = " ".join(response.text[:300].split())
        return again

    async def _post(
        self, http: httpx.AsyncClient, request: GenerationRequest, body: dict[str, Any]
    ) -> httpx.Response:
        try:
            return await http.post(self.url, json=body)
        except httpx.TimeoutException:
            raise EngineTimeoutError(
                f"endpoint {self.url} did not answer request {request.id} within"
                f" {self._request_timeout_s:.0f} s"
            ) from None
        except httpx.InvalidURL as error:
            raise ConfigError(f"{self.url} is no URL: {error}") from None
        except httpx.HTTPError as error:
            raise TransientEngineError(f"{type(error).__name__}: {error}") from error

    def _refused(self, request: GenerationRequest, detail: str) -> Completion:
        return Completion(
            request_id=request.id,
            model=self.model,
            error="prompt_too_long" if _is_too_long(detail) else "bad_request",
            detail=" ".join(detail.split()),
        )


def _rest(request: GenerationRequest, num_drawn: int) -> GenerationRequest:
    """Asks for the draws that are missing, with the seeds they would have had."""
    sampling = request.sampling
    return replace(
        request,
        sampling=replace(sampling, n=sampling.n - num_drawn, seed=sampling.seed + num_drawn),
    )


def _joined(found: Completion, more: Completion) -> Completion:
    """The draws of two answers to one prompt; what the second failed of, both fail of."""
    if more.error is not None:
        return more
    return replace(found, draws=(*found.draws, *more.draws))


def _is_too_long(text: str) -> bool:
    return any(words in text.lower() for words in _CONTEXT_WORDS)


def completions_url(url: str) -> str:
    """The chat completions URL of a server's root, its `/v1`, or the URL itself."""
    url = url.rstrip("/")
    if url.endswith("/chat/completions"):
        return url
    return f"{url}/chat/completions" if url.endswith("/v1") else f"{url}/v1/chat/completions"


def first_model(url: str, timeout_s: float = 30.0) -> str:
    """The name of the first model an endpoint serves.

    Raises:
        ConfigError: nothing answers there, or it serves no model.
    """
    models = completions_url(url).removesuffix("/chat/completions") + "/models"
    headers = {"Authorization": f"Bearer {key}"} if (key := os.environ.get(API_KEY)) else {}
    try:
        response = httpx.get(models, timeout=timeout_s, headers=headers)
        response.raise_for_status()
        return str(response.json()["data"][0]["id"])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, TypeError, LookupError) as error:
        raise ConfigError(
            f"no model behind {models}: {type(error).__name__}: {error}; name it as URL#MODEL"
        ) from None


def completion_of(request: GenerationRequest, model: ModelRef, text: str) -> Completion:
    """Reads an endpoint's answer.

    Raises:
        EngineError: it is not what a chat completions endpoint answers.
    """
    try:
        data = json.loads(text)
        usage = data.get("usage") or {}
        num_choices = len(data["choices"])
        draws = tuple(
            Draw(
                text=choice["message"].get("content") or "",
                finish_reason="length" if choice.get("finish_reason") == "length" else "stop",
                num_tokens=int(usage.get("completion_tokens") or 0) // num_choices,
                logps=_logps(
                    request, choice["message"].get("content") or "", choice.get("logprobs")
                ),
            )
            for choice in sorted(data["choices"], key=lambda c: c.get("index", 0))
        )[: request.sampling.n]
        if not draws:
            raise ValueError("no choices")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EngineError(
            f"the endpoint's answer to {request.id} is no chat completion:"
            f" {type(error).__name__}: {error}"
        ) from None
    return Completion(
        request_id=request.id,
        model=model,
        draws=draws,
        num_prompt_tokens=int(usage.get("prompt_tokens") or 0),
    )


def _logps(request: GenerationRequest, text: str, logprobs: Any) -> tuple[TokenLogps, ...]:
    """Log-probabilities of the wanted texts wherever one was produced."""
    wanted = request.sampling.logps_of
    positions = (logprobs or {}).get("content") or []
    places = []
    starts = token_starts(text, [position["token"] for position in positions])
    for position, start in zip(positions, starts, strict=True):
        produced = position["token"].strip()
        if produced not in wanted or start is None:
            continue
        found: dict[str, float] = {}
        for entry in [position, *position.get("top_logprobs", [])]:
            name = entry["token"].strip()
            # A letter may come with and without a space in front: both are that letter.
            if name in wanted and math.isfinite(entry["logprob"]):
                found[name] = max(found.get(name, -math.inf), entry["logprob"])
        places.append(TokenLogps(produced=produced, start=start, logps=found))
    return tuple(places)
