"""Where versions meet the disk: the saved history, a run's pointer, the weights of a promotion."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from selfreward.engines.models import (
    check_model_folder,
    fetch_listed,
    model_fingerprint,
    resolve_model,
)
from selfreward.errors import DataError, StorageError
from selfreward.layout import Layout, join
from selfreward.records import ModelRef, content_id
from selfreward.serving.admin_wire import PromoteRequest
from selfreward.serving.versions import ServedVersion, VersionBook
from selfreward.storage import files
from selfreward.storage.checkpoints import COMPLETE, CurrentJudge, read_pointers

STATE_FILE = "versions.json"
MAX_RETRY_S = 60.0

_log = logging.getLogger(__name__)
_BOOK = TypeAdapter(VersionBook)


@dataclass(frozen=True, slots=True)
class VersionStore:
    """Keeps the history of a service in one file of its state folder, any fsspec URL.

    Example: `VersionStore("runs/a/serving", Layout("runs/a"))`
    """

    state_dir: str
    layout: Layout | None = None
    """The run that is served, if one is: its checkpoints are looked for where it lies now."""

    @property
    def url(self) -> str:
        return join(self.state_dir, STATE_FILE)

    def save(self, book: VersionBook) -> None:
        """Writes the history; the file is the old one or the new one, whenever it is read."""
        files.write_json(self.url, _BOOK.dump_python(book, mode="json"))

    def load(self) -> VersionBook | None:
        """Reads the history, None where there is none yet.

        Raises:
            DataError: the file is damaged; it is left as it is.
            StorageError: it cannot be reached.
        """
        try:
            data = files.read_bytes(self.url)
        except FileNotFoundError:
            return None
        try:
            book = _BOOK.validate_json(data)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(str(part) for part in problem["loc"])
            raise DataError(
                f"{self.url} is damaged ({place + ': ' if place else ''}{problem['msg']}): put a"
                " backup of it back, or move it away to begin a new history at version 1"
            ) from None
        return replace(book, versions=tuple(self._where_it_lies(v) for v in book.versions))

    def _where_it_lies(self, version: ServedVersion) -> ServedVersion:
        iteration = version.model.iteration
        if self.layout is None or iteration == 0:
            return version
        return replace(version, folder=self.layout.checkpoint(iteration))

    def open_run(self, current: CurrentJudge, *, since: str, follow: bool = True) -> VersionBook:
        """The history to go on with when a run is served; not saved yet.

        The judge is the one that was served last, unless the run's pointer has moved meanwhile
        and is followed. Errors as in `load`.
        """
        book = self.load()
        if book is None:
            return VersionBook.of_run(current, since=since)
        return book.follow(current, since=since) if follow else book

    def open_model(self, model: ModelRef, folder: str, *, since: str) -> VersionBook:
        """The history to go on with when a model is served; not saved yet.

        The judge is the one that was served last, unless the service was then started with
        another model. Errors as in `load`.
        """
        book = self.load()
        if book is None:
            return VersionBook.of_model(model, folder, since=since)
        return book.restart(model, folder, since=since)


def read_pointer(layout: Layout) -> CurrentJudge | None:
    """The judge a run points to, its checkpoint where the run lies now; None if there is none.

    Raises:
        StorageError: `current.json` cannot be read.
    """
    *_, current = [None, *read_pointers(layout)]
    if current is None or current.iteration == 0:
        return current
    return replace(current, checkpoint=layout.checkpoint(current.iteration))


def prepare(book: VersionBook) -> VersionBook:
    """Makes sure that the current version's weights can be loaded and are those it names.

    Returns the book with the folder that an engine loads. Weights behind a URL are not read here:
    each node fetches them itself.

    Raises:
        ModelNotFoundError: they are not there.
        DataError: they are others by now, as after a training that was redone.
    """
    model, folder = book.current.model, book.current.folder
    if "://" in folder:
        return book
    if model.iteration == 0 and not (Path(folder).is_absolute() and Path(folder).is_dir()):
        folder = resolve_model(model.name)
    found = model_fingerprint(folder)
    if found != model.fingerprint:
        raise DataError(
            f"{folder} holds other weights ({found}) than version {book.current.number},"
            f" {model.name} ({model.fingerprint}); promote what it holds now, or put them back"
        )
    return book.located(folder)


async def watch(
    read: Callable[[], CurrentJudge | None],
    apply: Callable[[CurrentJudge], Awaitable[None]],
    interval_s: float,
    errors: Counter[str],
) -> None:
    """Hands the pointer to `apply` each time it was read, until it is cancelled.

    `read` runs in a thread. A pointer that cannot be read, or is not there, changes nothing: it is
    read again after `interval_s` seconds. An `apply` that fails is tried again too, at growing
    intervals, since it may have begun to load a model. Each kind of error is counted in `errors`
    (`missing`, `read StorageError`, `apply EngineError`) and told once, until all goes well again.
    """
    told: set[tuple[str, int | None]] = set()
    delay = interval_s
    while True:
        current, kind, problem = None, "", ""
        try:
            current = await asyncio.to_thread(read)
            if current is None:
                kind, problem = "missing", "there is no current.json"
        except Exception as error:  # a store has errors of its own; all are counted and told
            kind, problem = f"read {type(error).__name__}", _last_line(error)
        if current is not None:
            try:
                await apply(current)
            except Exception as error:  # whatever it is, the judge that is served goes on
                kind, problem = f"apply {type(error).__name__}", _last_line(error)
        if kind:
            errors[kind] += 1
            about = (kind, None if current is None else current.iteration)
            if about not in told:
                told.add(about)
                _log.warning("the run's judge was not taken over (%s): %s", kind, problem)
        else:
            told.clear()
        failed_to_apply = kind and current is not None
        delay = max(interval_s, min(2 * delay, MAX_RETRY_S)) if failed_to_apply else interval_s
        await asyncio.sleep(delay)


def _last_line(error: BaseException) -> str:
    # An error that came through Ray has the remote traceback in front of what it says.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def place_model(name: str) -> tuple[ModelRef, str]:
    """Finds a model by its name and takes its fingerprint; returns it with what an engine loads.

    Raises:
        ModelNotFoundError: the name leads nowhere.
        StorageError: its URL cannot be listed.
    """
    if "://" in name:
        # By its URL every node fetches these weights for itself.
        return ModelRef(name=name, iteration=0, fingerprint=_fetched(name)), name
    local = resolve_model(name)
    return ModelRef(name=name, iteration=0, fingerprint=model_fingerprint(local)), local


def resolve_promotion(request: PromoteRequest, layout: Layout | None) -> tuple[ModelRef, str]:
    """Finds what is to be promoted; returns it with what an engine loads.

    `layout` is that of the run that is served, None where a model is.

    Raises:
        DataError: the run has no such iteration, or it is not complete.
        ModelNotFoundError, StorageError: as in `place_model`.
    """
    if request.model is not None:
        return place_model(request.model)
    assert request.iteration is not None
    if layout is None:
        raise DataError(
            f"iteration {request.iteration}: no run is served here; name a model to promote"
        )
    if request.iteration == 0:
        return _seed(layout)
    return _trained(layout, request.iteration)


def _trained(layout: Layout, iteration: int) -> tuple[ModelRef, str]:
    folder = layout.checkpoint(iteration)
    if not _is_complete(layout, iteration):
        if files.count_files(folder) > 0:
            raise DataError(
                f"run {layout.root}: the checkpoint of iteration {iteration} is not complete; wait"
                " until it is written, or run the loop again to go on"
            )
        try:
            numbers = range(1, files.read_json(layout.run_json)["iterations"] + 1)
        except FileNotFoundError:
            raise DataError(f"no run at {layout.root}: it has no run.json") from None
        there = ", ".join(str(i) for i in numbers if _is_complete(layout, i))
        raise DataError(
            f"run {layout.root} has no checkpoint of iteration {iteration}; it has them of"
            f" iterations: {there or 'none'}"
        )
    if "://" in folder:
        fingerprint = _fetched(folder)
    else:
        fingerprint = model_fingerprint(check_model_folder(folder))
    return ModelRef(name=f"M{iteration}", iteration=iteration, fingerprint=fingerprint), folder


def _is_complete(layout: Layout, iteration: int) -> bool:
    return files.exists(join(layout.checkpoint(iteration), COMPLETE))


def _seed(layout: Layout) -> tuple[ModelRef, str]:
    recorded = next((p for p in reversed(read_pointers(layout)) if p.iteration == 0), None)
    model, folder = place_model(recorded.checkpoint if recorded else _seed_name(layout))
    if recorded is not None and model.fingerprint != recorded.fingerprint:
        raise DataError(
            f"the seed model {model.name} of run {layout.root} has other weights now"
            f" ({model.fingerprint}) than the run began with ({recorded.fingerprint}); if you mean"
            " these, promote them as a model"
        )
    return model, folder


def _seed_name(layout: Layout) -> str:
    """The seed as the run's config names it, with its revision, as in `current.json`."""
    try:
        config: Any = yaml.safe_load(files.read_bytes(layout.config))
        name, revision = config["model"]["name"], config["model"].get("revision")
    except FileNotFoundError:
        raise DataError(f"no run at {layout.root}: it has no config.yaml") from None
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(
            f"{layout.config} names no model.name; run the loop again to have it written anew"
        ) from None
    return f"{name}@{revision}" if revision else str(name)


def _fetched(url: str) -> str:
    """Fetches a folder as it is now and returns its fingerprint: by its URL alone, an older copy
    would be found."""
    fs, path = files.filesystem(url)
    fs.invalidate_cache()
    try:
        listing = [[name, fs.ukey(name)] for name in sorted(fs.find(path))]
    except OSError as error:
        raise StorageError(f"cannot list {url}: {error.strerror or error}") from error
    _, fingerprint = fetch_listed(url, content_id("listing", listing))
    return fingerprint
