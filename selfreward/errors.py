"""Every error this project raises on purpose.

`UserError` and its subclasses are mistakes a user can mend: the command line prints their one
line and exits with 2. Each message names the thing and the mend. All errors survive pickling
(Ray carries them between processes), so each takes exactly the message it shows.
"""


class SelfRewardError(Exception):
    """Base of every error raised on purpose by this project."""


class UserError(SelfRewardError):
    """Something the user can mend; shown as one line, exit code 2."""


class ConfigError(UserError):
    """A config file, key or value that cannot be used."""


class DataError(UserError):
    """A missing, unreadable, misshapen or empty data file."""


class NothingToLearnError(DataError):
    """A round of a loop left no row to train on, or its figures tell a collapse; the message says
    why."""


class ModelNotFoundError(UserError):
    """A model reference that leads to no loadable model."""


class ResourceError(UserError):
    """The run asks for more CPUs, GPUs or memory than the cluster has."""


class StorageError(UserError):
    """The run folder cannot be read or written (unreachable, full, not permitted)."""


class RecipeChangedError(UserError):
    """A run folder holds the output of another recipe; the message lists what differs."""


class EngineError(SelfRewardError):
    """The engine pool failed in a way that retries did not mend."""


class EngineTimeoutError(EngineError):
    """A wait for the engine pool ran out of time; the message names what was waited for."""


class StaleWeightsError(EngineError):
    """A replica holds other weights than the request expects. Transient: the pool mends it."""


class TransientEngineError(EngineError):
    """A replica failed a request in a way that sending it again mends."""


class TrainingError(SelfRewardError):
    """Training failed after its retries."""


def own_error_in(error: BaseException) -> SelfRewardError | None:
    """Digs an error of this project out of what Ray and task groups wrapped around it."""
    queue: list[BaseException | None] = [error]
    seen: set[int] = set()
    while queue:
        found = queue.pop(0)
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        # Ray re-raises a task's error as a class made on the fly, with the original as `cause`.
        if isinstance(found, SelfRewardError) and type(found).__module__ == __name__:
            return found
        if isinstance(found, BaseExceptionGroup):
            queue.extend(found.exceptions)
        queue += [getattr(found, "cause", None), found.__cause__, found.__context__]
    return None
