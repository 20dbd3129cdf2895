"""Files on any fsspec URL: atomic writes, bounded retries, one kind of error.

A local write goes to a temporary name beside the target and is renamed; object stores publish an
object only when it is whole, so there the write is the rename.
"""

import errno
import json
import os
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from selfreward.errors import StorageError

T = TypeVar("T")

ATTEMPTS = 5
# What no retry mends: no room, no permission, not a folder, a read-only disk.
_FINAL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}


def filesystem(url: str) -> tuple[Any, str]:
    """Returns the fsspec filesystem of a URL and the path inside it.

    Raises:
        StorageError: the URL's protocol is unknown or its package is not installed.
    """
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise StorageError(f"cannot use {url}: {error}") from None
    return fs, path


def _transient(error: BaseException) -> bool:
    if isinstance(error, FileNotFoundError | IsADirectoryError | FileExistsError):
        return False
    return isinstance(error, OSError) and error.errno not in _FINAL_ERRNOS


def _guarded(action: str, url: str, call: Callable[[], T]) -> T:
    """Runs a storage call with retries for transient faults; `StorageError` for the rest."""
    retrying = Retrying(
        retry=retry_if_exception(_transient),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=0.2, max=5),
        reraise=True,
    )
    try:
        return retrying(call)
    except FileNotFoundError:
        raise
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        mend = "; free some space or set run_dir elsewhere" if error.errno == errno.ENOSPC else ""
        raise StorageError(f"cannot {action} {url}: {why}{mend}") from error


def write_bytes(url: str, data: bytes) -> None:
    """Writes a file that is whole or absent, making its folders."""
    fs, path = filesystem(url)

    def local() -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise

    def remote() -> None:
        fs.pipe_file(path, data)

    _guarded("write", url, local if isinstance(fs, LocalFileSystem) else remote)


def read_bytes(url: str) -> bytes:
    """Reads a whole file; FileNotFoundError where there is none."""
    fs, path = filesystem(url)
    return _guarded("read", url, lambda: bytes(fs.cat_file(path)))


def exists(url: str) -> bool:
    fs, path = filesystem(url)
    return bool(_guarded("look at", url, lambda: fs.exists(path)))


def list_files(url: str, suffix: str = "") -> list[str]:
    """Returns the names (not paths) of the files right under a folder, sorted; [] if absent."""
    fs, path = filesystem(url)

    def look() -> list[str]:
        # A cached listing would hide what another process has just written.
        fs.invalidate_cache()
        try:
            entries = fs.ls(path, detail=True)
        except FileNotFoundError:
            return []
        names = [e["name"].rstrip("/").rpartition("/")[2] for e in entries if e["type"] == "file"]
        return sorted(n for n in names if n.endswith(suffix))

    return _guarded("list", url, look)


def remove(url: str) -> None:
    """Removes a file or a whole folder, if it is there."""
    fs, path = filesystem(url)

    def drop() -> None:
        if fs.exists(path):
            fs.rm(path, recursive=True)

    _guarded("remove", url, drop)


def write_json(url: str, data: Any) -> None:
    write_bytes(url, (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(url: str) -> Any:
    """Reads JSON.

    Raises:
        FileNotFoundError: there is none.
        StorageError: it is not JSON.
    """
    data = read_bytes(url)
    try:
        return json.loads(data)
    except ValueError:
        raise StorageError(f"{url} is not readable as JSON; remove it and run again") from None
