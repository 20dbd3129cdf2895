"""Who is let in: a known key, its rate and its role, and a place in the queue.

Routes say `Depends(require("user"))` and, where the engine has work to do, `Depends(admitted)`;
`install_access` gives an application what these need. `guard.Guard` reads both and asks what the
headers alone can tell, by `let_in`, before a body is read.
"""

import base64
import binascii
import logging
from dataclasses import dataclass
from typing import Annotated

from fastapi import FastAPI, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers

from selfreward.config_serving import ServingConfig
from selfreward.errors import ConfigError
from selfreward.serving.admission import Admission
from selfreward.serving.http_errors import api_error
from selfreward.serving.keys import Caller, KeyEntry, KeyRing, Role
from selfreward.serving.rate_limits import RateLimiter

_LOG = logging.getLogger("selfreward.serving")
_CHALLENGE = {"www-authenticate": "Bearer"}
_BEARER = HTTPBearer(auto_error=False, description="An API key, `sr-…`.")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
IN_PROCESS = "testclient"
"""The peer of a client in the same process, which no address on a network can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may come in, how often, how many at once.

    Example: `Access(keys=KeyRing.load(auth), limiter=RateLimiter("600/minute", "memory://"),
    admission=Admission(256))`
    """

    keys: KeyRing | None
    """None is a service without keys, on loopback: everybody is admin."""
    limiter: RateLimiter | None
    admission: Admission
    origins: tuple[str, ...] = ()
    """Of pages that may call the service besides its own."""

    @classmethod
    def of(cls, config: ServingConfig, fixed: tuple[KeyEntry, ...] | None = None) -> "Access":
        """`fixed` are the keys of the environment, read from this process's if None.

        Raises:
            ConfigError: of the keys or of `limits.rate_storage`.
        """
        return cls(
            keys=KeyRing.load(config.auth, fixed) if config.auth.enabled else None,
            limiter=RateLimiter.of(config.limits),
            admission=Admission(config.limits.max_queued),
            origins=config.cors_origins,
        )


def install_access(app: FastAPI, access: Access) -> None:
    """Gives an application what `require` and `admitted` work with."""
    app.state.access = access


class Require:
    """A dependency that gives the `Caller` whom the guard has let in; an admin's key serves as a
    user's too.

    Raises (the dependency):
        ApiError: 403 for a caller of the wrong role. Where no guard stands before the route nobody
            has been let in, and it fails.
    """

    def __init__(self, role: Role) -> None:
        self._role = role

    async def __call__(
        self,
        request: Request,
        # For the OpenAPI document, which then says where a key goes.
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
    ) -> Caller:
        who: Caller = request.state.caller
        if self._role == "admin" and who.role != "admin":
            raise api_error(403, "admin_only", "this route wants an admin's key")
        return who


def require(role: Role) -> Require:
    """Makes the dependency of routes for this role."""
    return Require(role)


async def admitted() -> None:
    """Marks a route whose requests hold a place in the queue from before their body is read until
    the answer is sent, a stream to its end (`guard.Guard`)."""


async def let_in(access: Access, request: Request) -> None:
    """Finds out who sends a request, by its headers alone, and counts it.

    A key comes as `Authorization: Bearer KEY`, or as the password of `Basic`, which is what an
    address `http://any:KEY@host/…` is turned into by clients that cannot be given headers.
    `request.state.caller` is the `Caller`, of a request that comes too often as well.

    Raises:
        ApiError: 401 without a key or with one that is not known, 403 for pages of other sites and,
            without keys, for other hosts, 429 beyond the rate, 503 where keys or rate cannot be
            looked up.
    """
    scheme, token = _sent_key(request.headers)
    if scheme != "bearer" or not token:
        _refuse_other_sites(request, access.origins)
    if access.keys is None:
        _refuse_other_hosts(request)
        who = Caller(name="anonymous", role="admin")
        counted = f"host:{request.client.host if request.client else 'unknown'}"
    else:
        who = _identified(access.keys, token)
        counted = f"key:{who.name}"
    request.state.caller = who
    if access.limiter is not None:
        await access.limiter.count(counted)


def _identified(keys: KeyRing, token: str) -> Caller:
    if not token:
        message = "no API key: send the header `Authorization: Bearer sr-…`"
        raise api_error(401, "missing_api_key", message, headers=_CHALLENGE)
    try:
        who = keys.identify(token)
    except ConfigError as error:
        _LOG.error("nobody is let in: %s", error)
        raise api_error(
            503, "keys_unavailable", "API keys cannot be checked now", retry_after_s=5
        ) from None
    if who is None:
        message = "this API key is not known here, or was revoked"
        raise api_error(401, "invalid_api_key", message, headers=_CHALLENGE)
    return who


def _sent_key(headers: Headers) -> tuple[str, str]:
    """The scheme in small letters, and the key; empty where none can be read."""
    scheme, _, sent = headers.get("authorization", "").partition(" ")
    scheme, sent = scheme.lower(), sent.strip()
    if scheme == "basic":
        try:
            return scheme, base64.b64decode(sent, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return scheme, ""
    return scheme, sent if scheme == "bearer" else ""


def _refuse_other_hosts(request: Request) -> None:
    """Without keys only what calls itself local is answered: a name of the attacker's that leads
    to the loopback address would make any page one of this very site."""
    peer = request.client.host if request.client else ""
    if request.url.hostname not in LOOPBACK or peer not in (*LOOPBACK, IN_PROCESS):
        raise api_error(403, "other_host", "without keys this service answers to localhost only")


def _refuse_other_sites(request: Request, origins: tuple[str, ...]) -> None:
    """Without a key in a header, which only a page that knows it can set, any web page the user
    has open could send a request from the user's machine. Browsers tell where one comes from."""
    if request.method in _SAFE_METHODS or request.headers.get("origin") in origins:
        return
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise api_error(403, "other_site", "pages of other sites may not call: see cors_origins")
