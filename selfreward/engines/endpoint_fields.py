"""What an endpoint is sent, and how it is asked without a field that it refuses.

Servers that speak OpenAI's form take different parts of it: reasoning models want
`max_completion_tokens` for `max_tokens` and no temperature but 1, and many tell no
log-probabilities. What can be left out without another meaning is left out from then on; the rest
is the user's to change.
"""

import json
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from selfreward.engines.protocol import GenerationRequest, Sampling
from selfreward.errors import ConfigError

TOP_LOGPROBS = 20
_LOGPROBS = ("logprobs", "top_logprobs")
_GUIDED = "leave guided decoding out with judge.guided=false rating.guided=false"
_NAMES = (
    *(*_LOGPROBS, "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed"),
    "structured_outputs",
)
# Of the short names, which are words too, only a quoted one is meant.
_NAMED = re.compile(rf"\b({'|'.join(_NAMES)})\b|['\"`](n|stop)['\"`]")
_REFUSING = (
    "unsupported",
    "not supported",
    "not support",
    "not enabled",
    "not allowed",
    "unrecognized",
    "unknown parameter",
    "unknown name",
    "extra inputs",
)
_UNKNOWN_FIELD = ("unrecognized request argument", "unknown parameter", "extra inputs")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedFields:
    """The fields of a request that one endpoint refuses.

    Example: `RefusedFields(url="http://host/v1/chat/completions", model="m",
    said={"logprobs": "Unsupported parameter: 'logprobs' …"})`
    """

    url: str
    model: str
    said: dict[str, str] = field(default_factory=dict)
    """By field: the endpoint's own words."""

    def learn(self, body: dict[str, Any], text: str) -> bool:
        """Notes the field of `body` that an answer refuses; False where it refuses none.

        Raises:
            ConfigError: it refuses one whose name it does not tell.
        """
        name = _refused_field(body, text)
        detail = " ".join(text[:300].split())
        if name is None:
            if any(words in text.lower() for words in _UNKNOWN_FIELD):
                raise ConfigError(
                    f"endpoint {self.url} does not take every field of the request ({detail});"
                    f" {_GUIDED}"
                )
            return False
        self.said[name] = detail
        return True

    def body(self, request: GenerationRequest) -> dict[str, Any]:
        """The JSON body of a request, without what is refused.

        Raises:
            ConfigError: a refused field is one that this request is not the same without.
        """
        body = body_of(request, self.model)
        for name in [name for name in self.said if name in body]:
            mend = _mend(name, request.sampling)
            if mend is not None:
                raise ConfigError(
                    f"endpoint {self.url} takes no {name}={json.dumps(body[name])}"
                    f" ({self.said[name]}); {mend}"
                )
            value = body.pop(name)
            if name == "max_tokens":
                body["max_completion_tokens"] = value
        if "logprobs" not in body or "top_logprobs" not in body:
            # One without the other tells nothing of the verdict that was not written.
            body = {key: value for key, value in body.items() if key not in _LOGPROBS}
        return body


@cache
def refused_fields(url: str, model: str) -> RefusedFields:
    """What this process knows of an endpoint: one object, since every task has its own client."""
    return RefusedFields(url=url, model=model)


def body_of(request: GenerationRequest, model: str) -> dict[str, Any]:
    """The JSON body of a request, with every field it needs."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "n": sampling.n,
        "seed": sampling.seed,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    if sampling.min_p:
        body["min_p"] = sampling.min_p
    if sampling.logps_of:
        body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    if sampling.choices:
        body["structured_outputs"] = {"choice": list(sampling.choices)}
    elif sampling.regex is not None:
        body["structured_outputs"] = {"regex": sampling.regex}
    elif sampling.json_schema is not None:
        body["structured_outputs"] = {"json": sampling.json_schema}
    return body


def _refused_field(body: dict[str, Any], text: str) -> str | None:
    """The field of `body` that an endpoint's answer says it does not take."""
    text = text.lower()
    named = _param(text)
    if named in _LOGPROBS and named in body:
        # Whatever is wrong with it, e.g. that so many are not told.
        return named
    if not any(words in text for words in _REFUSING):
        return None
    if named is not None and named in body and named in (*_NAMES, "n", "stop"):
        return named
    found = (match[1] or match[2] for match in _NAMED.finditer(text))
    return next((name for name in found if name in body), None)


def _param(text: str) -> str | None:
    """The field that an answer in OpenAI's form names apart from its message."""
    try:
        param = json.loads(text)["error"]["param"]
    except (ValueError, TypeError, LookupError):
        return None
    return param if isinstance(param, str) else None


def _mend(name: str, sampling: Sampling) -> str | None:
    """What the user can do about a refused field; None where it can be left out or replaced."""
    match name:
        case "logprobs" | "top_logprobs":
            if sampling.needs_logps:
                return (
                    "probabilities are made of it: ask without them, --verdict greedy or sampled,"
                    " and rating.expected=false"
                )
            return None
        case "max_tokens" | "seed" | "n":
            # Without `n` one draw comes back, and the client asks for the others.
            return None
        case "temperature":
            if sampling.temperature == 1.0:
                return None
            return (
                "reasoning models take only 1: ask with --verdict sampled"
                " judge.sampling.temperature=1 rating.sampling.temperature=1"
            )
        case "top_p":
            if sampling.top_p == 1.0:
                return None
            return "set judge.sampling.top_p=1 rating.sampling.top_p=1"
        case "structured_outputs":
            return _GUIDED
        case _:
            return f"leave {name} out of judge.sampling and rating.sampling"
