"""How a replica that is gone shows itself to who calls it, and what is told of its end."""

from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayActorError

GONE = (RayActorError, OutOfMemoryError)
"""What calls of a replica end with that is gone, for now or for good. Ray's error of one that it
ended because the node ran out of memory is no RayActorError."""

OUT_OF_MEMORY = (
    "Ray ended it because its node ran out of memory; lower engine.kv_cache_gib, or set"
    " engine.placement=shared, with which no engine is up while a training runs"
)


def is_back_soon(error: Exception) -> bool:
    """Whether Ray is starting the actor anew: it says that it cannot be reached now, or that its
    node was taken away, whose actors it brings up elsewhere."""
    if isinstance(error, ActorUnavailableError):
        return True
    return isinstance(error, ActorDiedError) and error.preempted


def death_words(error: object) -> str:
    """What is known of a replica's end, in one line."""
    if isinstance(error, OutOfMemoryError) or "OOM" in str(error):
        return OUT_OF_MEMORY
    return last_line(error)


def last_line(error: object) -> str:
    """The last line of an error or traceback that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
