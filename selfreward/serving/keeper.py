"""Keeps what is served: opens the history, follows the run, promotes and rolls back, saves."""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass

from selfreward.config_serving import ServingConfig
from selfreward.errors import DataError, SelfRewardError
from selfreward.layout import Layout
from selfreward.serving.admin_wire import PromoteRequest, VersionHistory
from selfreward.serving.version_store import (
    VersionStore,
    place_model,
    prepare,
    read_pointer,
    resolve_promotion,
    watch,
)
from selfreward.serving.versions import ServedVersion, VersionBook
from selfreward.serving.weights import check_fits
from selfreward.storage.checkpoints import CurrentJudge
from selfreward.storage.manifest import now

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a service was started for: a run, or one model.

    Example: `Served(layout=Layout("runs/a"), model="embedded:smollm2-135m-instruct",
    state_dir="runs/a/serving")`
    """

    layout: Layout | None
    model: str
    """The model where no run is served; of a run its seed."""
    state_dir: str


class VersionKeeper:
    """The one writer of a service's history. Its methods run in one event loop.

    A change is prepared (weights found, fingerprint taken) before it is saved, and saved before
    anybody is told, so that what was served is what a restart serves.
    """

    def __init__(self, served: Served, config: ServingConfig) -> None:
        """Opens the history, or begins one.

        Raises:
            UserError: the history is damaged, or the weights are not there.
        """
        self.problems: Counter[str] = Counter()
        self._served = served
        self._config = config
        self._store = VersionStore(served.state_dir, served.layout)
        self._book = prepare(self._open())
        self._store.save(self._book)
        self._changing = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None

    def _open(self) -> VersionBook:
        if self._served.layout is None:
            model, folder = place_model(self._served.model)
            return self._store.open_model(model, folder, since=now())
        current = read_pointer(self._served.layout)
        if current is None:
            raise DataError(
                f"run {self._served.layout.root} has no current.json: it has no judge yet; let it"
                " run until its first evaluation, or serve a model"
            )
        return self._store.open_run(current, since=now(), follow=self._config.follow)

    @property
    def book(self) -> VersionBook:
        """The history as it stands."""
        return self._book

    def follow(self) -> None:
        """Begins to follow the run's pointer, where there is a run and the config says so."""
        layout = self._served.layout
        if layout is None or not self._config.follow or self._watcher is not None:
            return
        self._watcher = asyncio.get_running_loop().create_task(
            watch(
                lambda: read_pointer(layout),
                self._take_over,
                self._config.follow_interval_s,
                self.problems,
            )
        )

    async def _take_over(self, current: CurrentJudge) -> None:
        async with self._changing:
            await self._turn(self._book.follow(current, since=now()))

    async def current(self) -> ServedVersion:
        return self._book.current

    async def history(self) -> VersionHistory:
        return self._book.history().model_copy(update={"problems": dict(self.problems)})

    def note(self, problem: str) -> None:
        """Counts what stood in the way of a replica, beside what the keeper itself met."""
        self.problems[problem] += 1

    async def promote(self, request: PromoteRequest) -> ServedVersion:
        """Makes an iteration or a model the judge.

        Raises:
            UserError: there is no such thing, or it is not complete.
        """
        async with self._changing:
            try:
                model, folder = await asyncio.to_thread(
                    resolve_promotion, request, self._served.layout
                )
            except SelfRewardError:
                raise
            except Exception as error:  # a name too long for the disk, a folder nobody may read
                raise DataError(f"what is to be promoted cannot be read: {error}") from error
            return await self._turn(self._book.promote(model, folder, since=now()))

    async def rollback(self) -> ServedVersion:
        """Goes back to the judge before this one.

        Raises:
            UserError: there was none.
        """
        async with self._changing:
            return await self._turn(self._book.rollback(since=now()))

    async def _turn(self, book: VersionBook) -> ServedVersion:
        if book.current.number != self._book.current.number:
            book = await asyncio.to_thread(prepare, book)
            await asyncio.to_thread(check_fits, book.current, self._book.current)
        if book != self._book:
            await asyncio.to_thread(self._store.save, book)
            self._book = book
            version = book.current
            _log.info("version %d: %s, by %s", version.number, version.model.name, version.by)
        return self._book.current
