"""How many requests one key may send in a time: a moving window, counted by the library `limits`.

In a moving window any stretch of the given length holds at most the given number of requests;
fixed windows would let twice as many through around each full minute.
"""

import logging
import time
from importlib.util import find_spec
from typing import Any

from limits import parse
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string

from selfreward.config_serving import LimitsConfig
from selfreward.errors import ConfigError
from selfreward.serving.http_errors import api_error

_LOG = logging.getLogger("selfreward.serving")
STORAGE_TIMEOUT_S = 2.0
"""A store that does not answer within this is taken to be down."""


class RateLimiter:
    """Counts requests by key.

    Example: `RateLimiter("600/minute", "memory://")`
    """

    def __init__(self, rate: str, storage: str) -> None:
        """Raises:
        ConfigError: the storage is of no known kind or its package is missing.
        """
        self._rate = rate
        self._limit = parse(rate)
        self._window = MovingWindowRateLimiter(_opened(storage))

    @classmethod
    def of(cls, limits: LimitsConfig) -> "RateLimiter | None":
        """Makes the limiter of a config; None where there is no limit."""
        return None if limits.rate is None else cls(limits.rate, limits.rate_storage)

    async def count(self, key: str) -> None:
        """Counts one request of a key.

        Raises:
            ApiError: 429 `rate_limited`, with the seconds until the oldest counted request leaves
                the window; 503 `rate_storage_down` where nothing can be counted, since a limit
                that cannot be kept must not be passed over.
        """
        try:
            if await self._window.hit(self._limit, key):
                return
            stats = await self._window.get_window_stats(self._limit, key)
        except StorageError as error:
            # The address may hold a password, and the library's message the address.
            _LOG.error("limits.rate_storage is down: %s", type(error.storage_error).__name__)
            raise api_error(
                503, "rate_storage_down", "requests cannot be counted now", retry_after_s=5
            ) from None
        raise api_error(
            429,
            "rate_limited",
            f"more than {self._rate.replace('/', ' requests a ')}: slow down",
            retry_after_s=stats.reset_time - time.time(),
        )


def _opened(storage: str) -> Any:
    scheme = storage.partition("://")[0]
    if scheme not in ("memory", "redis", "rediss"):
        # What else it is, is not said: it may be an address with a password in it.
        raise ConfigError("limits.rate_storage: it is memory:// or redis://HOST:PORT")
    options: dict[str, Any] = {}
    if scheme != "memory":
        if find_spec("redis") is None:
            raise ConfigError(
                f"limits.rate_storage={scheme}://… needs a package: pip install 'selfreward[redis]'"
            )
        options = {
            "implementation": "redispy",
            "socket_timeout": STORAGE_TIMEOUT_S,
            "socket_connect_timeout": STORAGE_TIMEOUT_S,
        }
    try:
        return storage_from_string(f"async+{storage}", wrap_exceptions=True, **options)
    except (ConfigurationError, ValueError):
        raise ConfigError(
            f"limits.rate_storage={scheme}://…: not an address, it is {scheme}://HOST:PORT"
        ) from None
