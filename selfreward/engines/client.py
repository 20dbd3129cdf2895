"""How a stage talks to the pool: spreads requests, retries what a retry can mend, in order."""

import asyncio
import os
import time
from typing import Any

import ray
import tenacity
from ray.exceptions import (
    ActorUnavailableError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
)

from selfreward.engines.deaths import GONE, death_words, is_back_soon, last_line
from selfreward.engines.protocol import Completion, GenerationRequest
from selfreward.engines.replica import BOARD_TIMEOUT_S
from selfreward.errors import (
    EngineError,
    EngineTimeoutError,
    StaleWeightsError,
    TransientEngineError,
)
from selfreward.records import ModelRef

TRANSIENT = (
    ActorUnavailableError,
    ObjectLostError,
    StaleWeightsError,
    TransientEngineError,
)
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0
PROBE_TIMEOUT_S = 30.0
"""How long a replica that is late with an answer may take to say that it is well."""
STALLED_SHARE = 0.25
"""An engine that did nothing for this share of `request_timeout_s` hangs: no step takes so long."""
MAX_HANGS = 2
"""Replicas that one request may hang: it may be the request that hangs them."""


class EngineClient:
    """Sends requests to the replicas of a pool; picklable, one copy per stage task.

    Every request is a call of its own: whatever fails, only requests without a completion are
    sent again, and the least busy replica gets the next one. The weights a client expects are
    those the pool held when the client was made. A replica that hangs is ended, and Ray starts it
    anew; one that is only slow is left alone.
    """

    def __init__(
        self,
        *,
        replicas: dict[str, Any],
        board: Any,
        model: ModelRef,
        request_timeout_s: float,
        recovery_timeout_s: float,
    ) -> None:
        self.model = model
        self._replicas = replicas
        self._board = board
        self._request_timeout_s = request_timeout_s
        self._recovery_timeout_s = recovery_timeout_s
        self._reset()

    def _reset(self) -> None:
        self._in_flight = dict.fromkeys(self._replicas, 0)
        self._deaths: dict[str, str] = {}
        self._probes: dict[str, asyncio.Task[bool]] = {}
        self._ended_at: dict[str, float] = {}
        self._failed_at: dict[str, float] = {}
        # Clients of several tasks must not all begin with the first replica.
        self._turn = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in _OWN_TO_A_PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    async def __call__(self, requests: list[GenerationRequest]) -> list[Completion]:
        return await self.generate(requests)

    async def generate(self, requests: list[GenerationRequest]) -> list[Completion]:
        """Returns one completion per request, in the order of the requests.

        Raises:
            EngineTimeoutError: a request took longer than `request_timeout_s` on a replica that is
                well, or hung one replica after the other.
            EngineError: no replica answered within `recovery_timeout_s`, or all died for good.
        """
        tasks = [asyncio.ensure_future(self._complete(request)) for request in requests]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _complete(self, request: GenerationRequest) -> Completion:
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(TRANSIENT),
            wait=tenacity.wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
            # Time spent waiting, not working: a long generation must not use up its own rescue.
            stop=lambda state: state.idle_for >= self._recovery_timeout_s,
        )
        try:
            hung: list[str] = []
            completion: Completion = await retrying(self._send, request, hung)
        except tenacity.RetryError as error:
            cause = error.last_attempt.exception()
            raise EngineError(
                f"request {request.id}: no replica of {', '.join(self._replicas)} answered within"
                f" engine.recovery_timeout_s={self._recovery_timeout_s:.0f}: {last_line(cause)}"
            ) from cause
        return completion

    async def _send(self, request: GenerationRequest, hung: list[str]) -> Completion:
        """One attempt; `hung` are the replicas that hung at this request, to be added to."""
        name = await self._pick()
        sent_at = time.monotonic()
        self._in_flight[name] += 1
        reference = self._replicas[name].generate.remote(request, self.model.fingerprint)
        try:
            completion: Completion = await asyncio.wait_for(
                _result(reference), self._request_timeout_s
            )
            return completion
        except TimeoutError:
            ray.cancel(reference)
            late = (
                f"replica {name} did not answer request {request.id} within"
                f" engine.request_timeout_s={self._request_timeout_s:.0f}"
            )
            if not await self._ended_as_hung(name, sent_at):
                raise EngineTimeoutError(late) from None
            hung.append(name)
            if len(hung) >= MAX_HANGS:
                raise EngineTimeoutError(f"{late}; it hung, as {hung[0]} did before") from None
            raise TransientEngineError(f"{late}; it hung and was ended") from None
        except GONE as error:
            self._failed_at[name] = time.monotonic()
            if not await self._is_back_soon(name, error):
                self._deaths[name] = death_words(error)
            raise TransientEngineError(f"replica {name} is gone: {death_words(error)}") from error
        finally:
            self._in_flight[name] -= 1

    async def _is_back_soon(self, name: str, error: Exception) -> bool:
        """Whether a replica that a request was lost with is there again or being started anew.

        Out of memory is said of the calls it was ended with, which does not tell, and of every
        call after it has used up its restarts.
        """
        if not isinstance(error, OutOfMemoryError):
            return is_back_soon(error)
        try:
            health = self._replicas[name].health.remote()
            await asyncio.wait_for(_result(health), PROBE_TIMEOUT_S)
        except OutOfMemoryError:
            return False
        except RayActorError as later:
            return is_back_soon(later)
        except TimeoutError:
            pass
        return True

    async def _ended_as_hung(self, name: str, sent_at: float) -> bool:
        """Ends a replica that does not answer or whose engine stands still; whether it did so,
        then or since a request was sent."""
        # Requests that are late together ask once: the second kill would hit the new process.
        if self._ended_at.get(name, 0.0) > sent_at:
            return True
        probe = self._probes.get(name)
        if probe is None:
            probe = self._probes[name] = asyncio.ensure_future(self._end_if_hung(name))
            probe.add_done_callback(lambda _: self._probes.pop(name, None))
        return await asyncio.shield(probe)

    async def _end_if_hung(self, name: str) -> bool:
        replica = self._replicas[name]
        try:
            health = await asyncio.wait_for(_result(replica.health.remote()), PROBE_TIMEOUT_S)
        except TimeoutError:
            pass
        except GONE:  # another client has ended it meanwhile
            return True
        else:
            if health.stalled_s < STALLED_SHARE * self._request_timeout_s:
                return False
        ray.kill(replica, no_restart=False)
        self._ended_at[name] = time.monotonic()
        return True

    async def _pick(self) -> str:
        """The least busy replica that is not dead for good; ties go round."""
        alive = [n for n in self._replicas if n not in self._deaths]
        if not alive:
            raise EngineError(await self._obituary())
        # One that is being started anew fails its calls at once, so it would always be the least
        # busy, and a request could use up its patience there beside a replica that is well.
        calm_since = time.monotonic() - LONGEST_WAIT_S
        alive = [n for n in alive if self._failed_at.get(n, 0.0) < calm_since] or alive
        self._turn += 1
        order = alive[self._turn % len(alive) :] + alive[: self._turn % len(alive)]
        return min(order, key=self._in_flight.__getitem__)

    async def _obituary(self) -> str:
        lines = []
        for name, reported in self._deaths.items():
            try:
                said = await asyncio.wait_for(
                    _result(self._board.last_failure.remote(name)), BOARD_TIMEOUT_S
                )
            except (RayError, TimeoutError):
                said = ""  # the replicas' end is the news, not the board's
            lines.append(f"replica {name} died for good: {said or reported}")
        return "; ".join(lines)


_OWN_TO_A_PROCESS = ("_in_flight", "_deaths", "_probes", "_ended_at", "_failed_at", "_turn")


async def _result(reference: Any) -> Any:
    return await reference
