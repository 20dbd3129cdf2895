"""A small file that several processes change: one writer at a time, never read half-written."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def locked(path: str, *, create: bool) -> Iterator[None]:
    """Keeps other writers out while its block runs.

    The lock is on the file itself, so that none lies beside it. A file that was replaced while we
    waited is the wrong one to hold, and we take hold of the new one.

    Args:
        create: makes an empty file, for its owner alone, and its folder, where there is none.

    Raises:
        OSError: FileNotFoundError where there is no file to lock, others as the system has them.
    """
    if create:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    flags = os.O_RDWR | (os.O_CREAT if create else 0)
    while True:
        handle = os.open(path, flags, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(handle, path):
                yield
                return
        finally:
            os.close(handle)


def _is_at(handle: int, path: str) -> bool:
    return os.path.exists(path) and os.path.samestat(os.fstat(handle), os.stat(path))


def replace_private(path: str, text: str) -> None:
    """Replaces a file at once by a text, with mode 0600 and the owner it had.

    Raises:
        OSError: it cannot be written; the old file is left as it was.
    """
    owner = os.stat(path).st_uid
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if owner != os.geteuid():  # root changes a service's file, which must stay its own
                os.fchown(file.fileno(), owner, -1)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
