"""A full disk, or one that may not be written, as what it is: a user's mistake, not retried."""

from typing import Any

from selfreward.errors import SelfRewardError, StorageError
from selfreward.storage.files import storage_fault

_ELSEWHERE = "set run_dir, or TMPDIR where the path is a node's own, elsewhere"


def training_fault(error: BaseException) -> StorageError | None:
    """The storage that `error` of a training tells of; None if it tells of something else."""
    return storage_fault(error, "training cannot go on", _ELSEWHERE)


def fault_of_ray_train(error: BaseException) -> StorageError | None:
    """The same of what Ray Train raised once its retries were used up."""
    causes = [*getattr(error, "worker_failures", {}).values(), error]
    causes.append(getattr(error, "controller_failure", error))
    return next((fault for cause in causes if (fault := training_fault(cause))), None)


def as_result(error: Exception) -> dict[str, Any]:
    """What a training worker returns for an error that no retry mends; raises it if one may."""
    own = error if isinstance(error, SelfRewardError) else training_fault(error)
    if own is None:
        raise error
    return {"error": type(own).__name__, "message": str(own)}
