"""A bound on the requests that are let in and not answered yet.

Nobody waits at the door: a request gets a place or a 503 at once. So memory stays flat however
much is asked, and a caller knows from the first second that it must come back.
"""

import statistics
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from selfreward.serving.http_errors import api_error

NUM_RECENT = 64
MAX_RETRY_S = 60.0


class Admission:
    """Places for `max_queued` requests. For one event loop."""

    def __init__(self, max_queued: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_queued = max_queued
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=NUM_RECENT)
        self.in_flight = 0
        """Requests that hold a place now."""
        self.num_refused = 0
        """Since the start."""

    @property
    def retry_after_s(self) -> float:
        """Seconds after which coming back makes sense: the median time of the last requests, within
        which about half of those inside have left; 1 as long as none has."""
        return min(statistics.median(self._recent), MAX_RETRY_S) if self._recent else 1.0

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """Holds a place while its block runs, however the block ends.

        Raises:
            ApiError: 503 `queue_full`, with Retry-After.
        """
        if self.in_flight >= self._max_queued:
            self.num_refused += 1
            raise api_error(
                503,
                "queue_full",
                f"{self._max_queued} requests are being worked on: come back later",
                retry_after_s=self.retry_after_s,
            )
        self.in_flight += 1
        start = self._clock()
        try:
            yield
        finally:
            self.in_flight -= 1
            self._recent.append(self._clock() - start)
