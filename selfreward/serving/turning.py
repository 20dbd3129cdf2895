"""How a replica changes its weights while it answers: fetched beside the requests, loaded between
two of them. What cannot be fetched leaves the version that is loaded in service.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from selfreward.engines.replica import WeightsGate
from selfreward.errors import TransientEngineError
from selfreward.records import ModelRef
from selfreward.serving.versions import ServedVersion
from selfreward.serving.weights import check_weights

TURN_GRACE_S = 2.0
"""How long requests wait for a change that has begun: weights that lie on this node are there
sooner, and then the first request after a promotion is judged by what was promoted."""
RETRY_S = 5.0
MAX_RETRY_S = 60.0

_log = logging.getLogger("selfreward.serving")


class ReplicaLostError(Exception):
    """The engine broke down under a request, which another replica can take over.

    None of this project's errors, so that no judgment is made of it on its way to the ingress.
    """


class Swapping(Protocol):
    """What is needed of a replica here."""

    async def fetch(self, model: ModelRef, folder: str) -> None: ...

    async def swap(self, model: ModelRef, folder: str, timeout_s: float) -> float: ...


class TurningWeights:
    """The version a replica holds, and its change to a later one. Lives in one event loop."""

    def __init__(
        self,
        replica: Swapping,
        version: ServedVersion,
        *,
        fetch_timeout_s: float,
        drain_timeout_s: float,
        tell: Callable[[str], object],
    ) -> None:
        """`drain_timeout_s` is for what is in flight when weights are there; `tell` gets the kind
        of each failure."""
        self.version = version
        self.broken = ""
        """Why the engine cannot be used any more; empty while it can."""
        self._replica = replica
        self._fetch_timeout_s = fetch_timeout_s
        self._drain_timeout_s = drain_timeout_s
        self._tell = tell
        self._gate = WeightsGate("engine", version.model)
        self._turning: asyncio.Task[None] | None = None
        self._is_loading = False
        self._aim = version.number
        self._begun_at = 0.0
        self._try_at = 0.0
        self._delay_s = RETRY_S

    @asynccontextmanager
    async def session(self, wanted: ServedVersion) -> AsyncIterator[ServedVersion]:
        """Holds the weights still for one request, which begins under `wanted` or a later version
        if this replica has those weights, else under the one it holds.

        Raises:
            ReplicaLostError: the engine broke down while its weights changed.
        """
        if wanted.number > self.version.number:
            self._begin(wanted)
            left = self._begun_at + TURN_GRACE_S - asyncio.get_running_loop().time()
            if self._turning is not None and left > 0:
                # It is a task of its own: who leaves here leaves no half of a change behind.
                await asyncio.wait({self._turning}, timeout=left)
        async with self._gate.request(None):
            if self.broken:
                raise ReplicaLostError(self.broken)
            yield self.version

    def _begin(self, wanted: ServedVersion) -> None:
        now = asyncio.get_running_loop().time()
        is_turning = self._turning is not None and not self._turning.done()
        if wanted.number < self._aim or self._is_loading:
            return
        if wanted.number == self._aim:
            if is_turning or now < self._try_at:
                return
        else:
            self._delay_s = RETRY_S
            if self._turning is not None:
                # Only fetching, for what nobody wants any more.
                self._turning.cancel()
        self._aim, self._begun_at = wanted.number, now
        self._turning = asyncio.ensure_future(self._turn(wanted))

    async def _turn(self, wanted: ServedVersion) -> None:
        try:
            async with asyncio.timeout(self._fetch_timeout_s):
                await self._replica.fetch(wanted.model, wanted.folder)
                await asyncio.to_thread(check_weights, wanted)
            self._is_loading = True
            try:
                async with self._gate.change(self._drain_timeout_s):
                    await self._load(wanted)
            finally:
                self._is_loading = False
        except Exception as error:  # whatever it is, what is loaded is served on
            kind = f"load {type(error).__name__}"
            _log.error("version %d was not loaded (%s): %s", wanted.number, kind, error)
            self._try_at = asyncio.get_running_loop().time() + self._delay_s
            self._delay_s = min(2 * self._delay_s, MAX_RETRY_S)
            self._tell(kind)

    async def _load(self, wanted: ServedVersion) -> None:
        try:
            await self._replica.swap(wanted.model, wanted.folder, self._drain_timeout_s)
        except TransientEngineError as error:
            self.broken = str(error)
            raise
        self.version = wanted
