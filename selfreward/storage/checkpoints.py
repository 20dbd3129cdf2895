"""Which checkpoints count: the marker of a whole one, and the `current.json` pointer to the judge.

Directories only, no tensors.
"""

from dataclasses import asdict, dataclass
from typing import Any

from selfreward.errors import StorageError
from selfreward.layout import Layout
from selfreward.storage import files
from selfreward.storage.manifest import now

COMPLETE = "COMPLETE"
"""The file written last into a checkpoint: a folder without it exists for no reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentJudge:
    """Which checkpoint is the judge of a run.

    Example: `CurrentJudge(iteration=1, checkpoint="runs/a/iter_01/checkpoint",
    fingerprint="9f3c…", accuracy=0.81, reason="…", promoted_at="2026-11-22T05:00:00Z")`
    """

    iteration: int
    checkpoint: str
    """The folder or model name to load; the seed model's name for iteration 0."""
    fingerprint: str
    accuracy: float | None
    reason: str
    promoted_at: str = ""


def read_current(layout: Layout) -> CurrentJudge | None:
    """The promoted judge, None before the first evaluation."""
    try:
        data = files.read_json(layout.current)
    except FileNotFoundError:
        return None
    return CurrentJudge(**data["current"])


def read_pointers(layout: Layout) -> list[CurrentJudge]:
    """What the run has pointed to, the newest last; none before the first evaluation.

    Raises:
        StorageError: `current.json` cannot be read.
    """
    try:
        data = files.read_json(layout.current)
        return [CurrentJudge(**row) for row in (*data["history"], data["current"])]
    except FileNotFoundError:
        return []
    except (KeyError, TypeError):
        raise StorageError(
            f"{layout.current} is no pointer of this version; put a backup of it back, or remove"
            " it and run the loop again"
        ) from None


def write_current(layout: Layout, judge: CurrentJudge) -> None:
    """Moves the pointer in one atomic write and keeps the earlier ones as history."""
    history: list[dict[str, Any]] = []
    try:
        previous = files.read_json(layout.current)
        history = [*previous["history"], previous["current"]]
    except FileNotFoundError:
        pass
    current = asdict(judge) | {"promoted_at": now()}
    files.write_json(layout.current, {"current": current, "history": history})
