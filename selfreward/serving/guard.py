"""What is asked of a request before its body is read: who sends it, whether that is too often, and
a place in the queue.

A body may take a minute to arrive. Whoever has no key, or sends more than its rate, must not make
the service read one, and whoever is let in holds a place that is counted.
"""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from selfreward.serving.access import Access, Require, admitted, let_in
from selfreward.serving.http_errors import ApiError, error_response


class Guard:
    """ASGI middleware: refuses by the headers alone what can be refused by them.

    What a route wants is read from its dependencies, `require` and `admitted`. Who is let in stands
    in `state["caller"]`, a `Caller`. For a route that takes no body, and where there is no route,
    `state["takes_body"]` is false, and nothing is read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = _route_of(scope)
        scope["state"]["takes_body"] = route is not None and route.body_field is not None
        if route is not None:
            # Routing does the same, but what is refused here never gets there.
            scope["route"] = route
        wants_caller, wants_place = _wants(route)
        access: Access = scope["app"].state.access
        async with AsyncExitStack() as stack:
            try:
                if wants_caller:
                    await let_in(access, Request(scope))
                if wants_place:
                    await stack.enter_async_context(access.admission.admit())
            except ApiError as error:
                await error_response(error)(scope, receive, send)
                return
            await self._app(scope, receive, send)


def _route_of(scope: Scope) -> APIRoute | None:
    for route in scope["app"].router.routes:
        if isinstance(route, APIRoute) and route.matches(scope)[0] is Match.FULL:
            return route
    return None


def _wants(route: APIRoute | None) -> tuple[bool, bool]:
    """Whether a known caller, and whether a place in the queue."""
    if route is None:
        return False, False
    calls = list(_calls(route.dependant))
    return any(isinstance(call, Require) for call in calls), admitted in calls


def _calls(dependant: Dependant) -> Iterator[Any]:
    yield dependant.call
    for part in dependant.dependencies:
        yield from _calls(part)
