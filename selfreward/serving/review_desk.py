"""The review of a service: its store, kept filled with tasks from the run that is served."""

import asyncio
import logging
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from selfreward.config_serving import ReviewConfig, ServingConfig
from selfreward.errors import ConfigError, DataError, StorageError
from selfreward.layout import Layout
from selfreward.serving.admission import Admission
from selfreward.serving.http_errors import api_error
from selfreward.serving.keeper import Served
from selfreward.serving.review.queue import answered_tasks, draw_tasks
from selfreward.serving.review.run_tasks import num_iterations
from selfreward.serving.review.store import ReviewStore
from selfreward.serving.version_store import read_pointer
from selfreward.storage import files

T = TypeVar("T")

STORE_TIMEOUT_S = 60.0
MAX_AT_ONCE = 32
"""Requests that work with the store at once: each takes a thread while it does."""
LOOK_INTERVAL_S = 20.0
"""Between two looks whether the run has gone on."""

_log = logging.getLogger("selfreward.serving")


class ReviewDesk:
    """The store, and the run whose judges it is about (None: a model is served)."""

    def __init__(self, store: ReviewStore, layout: Layout | None, config: ReviewConfig) -> None:
        self.store = store
        self.layout = layout
        self._config = config
        self._admission = Admission(MAX_AT_ONCE)
        self._seen: object = None

    async def work(self, function: Callable[[], T]) -> T:
        """Runs what waits for the database or the storage outside the event loop.

        Raises:
            ApiError: 503 where too many do so already or the store is not there, 504 where it does
                not answer.
        """
        async with self._admission.admit():
            try:
                async with asyncio.timeout(STORE_TIMEOUT_S):
                    return await asyncio.to_thread(function)
            except TimeoutError:
                message = f"the review store did not answer within {STORE_TIMEOUT_S:g} s"
                raise api_error(504, "timed_out", message, retry_after_s=5) from None
            except (SQLAlchemyError, StorageError) as error:
                _log.error("the review store failed: %s", type(error).__name__)
                message = "the review store is not there"
                raise api_error(503, "review_unavailable", message, retry_after_s=5) from None

    def refresh(self) -> None:
        """Takes new tasks and new verdicts from the run, if it has gone on since the last time.

        A run that has nothing to review yet is told in the log.
        """
        if self.layout is None:
            return
        try:
            state = _state(self.layout)
            if state == self._seen:
                return
            known = answered_tasks(self.layout, self.store.task_ids())
            drawn = draw_tasks(self.layout, self._config.max_tasks, self._config.seed)
        except DataError as error:
            _log.warning("no review tasks: %s", error)
            return
        _log.info("%d new review tasks", self.store.add_tasks(chain(known, drawn)))
        self._seen = state

    async def follow(self) -> None:
        """Refreshes again and again, until it is cancelled."""
        while self.layout is not None:
            await asyncio.sleep(LOOK_INTERVAL_S)
            try:
                await asyncio.to_thread(self.refresh)
            except Exception as error:  # whatever it is, what is there is reviewed meanwhile
                _log.warning("review tasks were not drawn anew: %s", type(error).__name__)


def _state(layout: Layout) -> object:
    """What tells whether a run has gone on: its pointer, and what has been evaluated."""
    iterations = range(num_iterations(layout) + 1)
    return read_pointer(layout), [files.count_files(layout.evaluation(i)) for i in iterations]


def database_url(served: Served, config: ServingConfig) -> str:
    """SQLAlchemy's URL of the review answers.

    Raises:
        ConfigError: the state folder is no local one, where SQLite cannot be.
    """
    if config.review.database_url is not None:
        return config.review.database_url
    if "://" in served.state_dir:
        raise ConfigError(
            f"review answers cannot lie in {served.state_dir}: set serving.review.database_url to"
            " a PostgreSQL or SQLite URL, or serving.review.enabled=false"
        )
    folder = Path(served.state_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder.absolute() / 'review.sqlite'}"


def open_desk(served: Served, config: ServingConfig) -> ReviewDesk | None:
    """Returns the desk, None where review is switched off.

    Raises:
        ConfigError: the database does not open.
        StorageError: the run cannot be read.
    """
    if not config.review.enabled:
        return None
    store = ReviewStore(database_url(served, config), seed=config.review.seed)
    desk = ReviewDesk(store, served.layout, config.review)
    desk.refresh()
    return desk
