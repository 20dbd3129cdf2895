"""Which judge is served, and which ones were before it: a history that only grows.

A book is a value: every change gives a new one, and the old one stays true until its successor is
being served. Nothing here reads a file, loads a model or looks at a clock.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, Self

from selfreward.errors import UserError
from selfreward.records import ModelRef
from selfreward.serving.admin_wire import VersionEntry, VersionHistory
from selfreward.serving.wire import JudgeVersion
from selfreward.storage.checkpoints import CurrentJudge

By = Literal["start", "run", "promote", "rollback"]
"""Who made a version the current one: the service as it began, the run that moved its
`current.json`, or an administrator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedVersion:
    """A judge that is or was served.

    Example: `ServedVersion(number=4, model=ModelRef(name="M3", iteration=3, fingerprint="9f3c…"),
    folder="runs/a/iter_03/checkpoint", since="2026-11-22T05:00:00Z", by="run",
    reason="promoted: 31 wins, 4 ties, 12 losses against M2")`
    """

    number: int
    model: ModelRef
    """Named `M3` where a run trained it, else by the name a user gave the model."""
    folder: str
    """What an engine loads: a folder or URL, or a name that is still to be found."""
    since: str
    """ISO 8601 time in UTC."""
    by: By
    reason: str | None = None

    def wire(self) -> JudgeVersion:
        """What every answer says of the judge it comes from."""
        return JudgeVersion(
            version=self.number,
            model=self.model.name,
            iteration=self.model.iteration,
            fingerprint=self.model.fingerprint,
        )

    def entry(self) -> VersionEntry:
        return VersionEntry(judge=self.wire(), since=self.since, by=self.by)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """What tells one state of the pointer that is followed from the next.

    Example: `Pointer(iteration=3, fingerprint="9f3c…", promoted_at="2026-11-22T05:00:00Z")`
    """

    iteration: int
    fingerprint: str
    promoted_at: str
    """Empty for a model named at the start, which has no such time."""


def run_judge(current: CurrentJudge) -> tuple[ModelRef, str]:
    """The judge a run points to, and its folder; the seed model goes by its own name."""
    name = f"M{current.iteration}" if current.iteration else current.checkpoint
    model = ModelRef(name=name, iteration=current.iteration, fingerprint=current.fingerprint)
    return model, current.checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionBook:
    """The history of a service, the current version last.

    Example: `VersionBook(versions=(ServedVersion(…),), seen=Pointer(…))`
    """

    versions: tuple[ServedVersion, ...]
    """Oldest first, at least one; their numbers grow."""
    seen: Pointer
    """The pointer as it was last read: only one that differs from it is news."""

    def __post_init__(self) -> None:
        if not self.versions:
            raise ValueError("a history has at least one version")
        for before, after in pairwise(self.versions):
            if after.number <= before.number:
                raise ValueError(f"version {after.number} comes after version {before.number}")

    @classmethod
    def of_run(cls, current: CurrentJudge, *, since: str) -> Self:
        """Begins a history with the judge a run points to."""
        model, folder = run_judge(current)
        return cls._begin(model, folder, _pointer(current), since, current.reason)

    @classmethod
    def of_model(cls, model: ModelRef, folder: str, *, since: str) -> Self:
        """Begins a history with a model that belongs to no run."""
        return cls._begin(model, folder, _named(model), since, None)

    @property
    def current(self) -> ServedVersion:
        return self.versions[-1]

    def promote(
        self, model: ModelRef, folder: str, *, since: str, reason: str | None = None
    ) -> Self:
        """Makes a model current, by an administrator; what is current already is no new version."""
        return self._next(model, folder, since, "promote", reason)

    def rollback(self, *, since: str) -> Self:
        """Goes back to the latest earlier version that has other weights, under a new number.

        A second one undoes the first: it goes back to what was served before it.

        Raises:
            UserError: no other weights were ever served.
        """
        now = self.current
        for version in reversed(self.versions):
            if version.model.fingerprint != now.model.fingerprint:
                reason = f"back to version {version.number}"
                return self._next(version.model, version.folder, since, "rollback", reason)
        raise UserError(
            f"nothing to roll back to: no judge but {now.model.name} (version {now.number}) was"
            " served here; promote an iteration or a model instead"
        )

    def follow(self, current: CurrentJudge, *, since: str) -> Self:
        """Takes over the judge a run points to, if the pointer has moved since it was last seen.

        What an administrator promoted or rolled back to stays until then.
        """
        model, folder = run_judge(current)
        return self._point(_pointer(current), model, folder, since, "run", current.reason)

    def restart(self, model: ModelRef, folder: str, *, since: str) -> Self:
        """Takes over the model a service was started with, if it was last started with another."""
        return self._point(_named(model), model, folder, since, "start", None)

    def located(self, folder: str) -> Self:
        """The same history, with the current version's weights in `folder`."""
        return replace(self, versions=(*self.versions[:-1], replace(self.current, folder=folder)))

    def history(self) -> VersionHistory:
        return VersionHistory(
            current=self.current.entry(), history=[v.entry() for v in self.versions[:-1]]
        )

    @classmethod
    def _begin(
        cls, model: ModelRef, folder: str, seen: Pointer, since: str, reason: str | None
    ) -> Self:
        first = ServedVersion(
            number=1, model=model, folder=folder, since=since, by="start", reason=reason
        )
        return cls(versions=(first,), seen=seen)

    def _point(
        self,
        pointer: Pointer,
        model: ModelRef,
        folder: str,
        since: str,
        by: By,
        reason: str | None,
    ) -> Self:
        if pointer == self.seen:
            return self
        return replace(self._next(model, folder, since, by, reason), seen=pointer)

    def _next(self, model: ModelRef, folder: str, since: str, by: By, reason: str | None) -> Self:
        # The weights decide: under another name the same ones judge the same.
        if model.fingerprint == self.current.model.fingerprint:
            return self
        version = ServedVersion(
            number=self.current.number + 1,
            model=model,
            folder=folder,
            since=since,
            by=by,
            reason=reason,
        )
        return replace(self, versions=(*self.versions, version))


def _pointer(current: CurrentJudge) -> Pointer:
    return Pointer(
        iteration=current.iteration,
        fingerprint=current.fingerprint,
        promoted_at=current.promoted_at,
    )


def _named(model: ModelRef) -> Pointer:
    return Pointer(iteration=model.iteration, fingerprint=model.fingerprint, promoted_at="")
