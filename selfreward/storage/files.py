"""Files on any fsspec URL: atomic writes, bounded retries, one kind of error.

A local write goes to a temporary name beside the target and is renamed; object stores publish an
object only when it is whole, so there the write is the rename.
"""

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from selfreward.errors import StorageError

T = TypeVar("T")

ATTEMPTS = 5
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
# What libraries with writers of their own say of a full disk, without a number; torch the last.
_FULL_TEXTS = ("No space left on device", "Disk quota exceeded", "] . unexpected pos ")
# What no retry mends.
_FINAL_ERRNOS = {*_NO_ROOM, *_NOT_ALLOWED, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}


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
    # By class too: object stores raise these without a number.
    final = (FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError)
    if isinstance(error, (*final, IsADirectoryError)):
        return False
    return isinstance(error, Exception) and getattr(error, "errno", None) not in _FINAL_ERRNOS


def guarded(action: str, url: str, call: Callable[[], T]) -> T:
    """Runs a storage call with retries for transient faults; `StorageError` for the rest."""
    retrying = Retrying(
        retry=retry_if_exception(_transient),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=0.2, max=5),
        reraise=True,
    )
    try:
        return retrying(call)
    except Exception as error:  # each object store has exceptions of its own, few are OSErrors
        if isinstance(error, FileNotFoundError) and action == "read":
            raise
        text = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        why = text or type(error).__name__
        raise StorageError(f"cannot {action} {url}: {why}{_mend(error)}") from error


def _mend(error: BaseException, elsewhere: str = "set run_dir elsewhere") -> str:
    if is_full(error):
        return f"; free some space or {elsewhere}"
    if getattr(error, "errno", None) in _NOT_ALLOWED or isinstance(error, PermissionError):
        return f"; change its permissions or {elsewhere}"
    return ""


def is_full(error: BaseException) -> bool:
    """Whether an error, of a system call or of a library, tells of a full disk."""
    number = getattr(error, "errno", None)
    return number in _NO_ROOM or any(text in str(error) for text in _FULL_TEXTS)


def storage_fault(error: BaseException, what: str, elsewhere: str) -> StorageError | None:
    """The full disk or the missing permission that `error` tells of; None if it tells of neither.

    For what libraries write by themselves. `what` begins the message, `elsewhere` ends its mend.

    Example: `storage_fault(error, "training job iteration-01", "set run_dir elsewhere")`
    """
    cause: BaseException | None = error
    while cause is not None:
        if mend := _mend(cause, elsewhere):
            # Where there is no number, the text is a library's own.
            why = getattr(cause, "strerror", None) or os.strerror(errno.ENOSPC)
            name = getattr(cause, "filename", None)
            return StorageError(f"{what}: {why}{f' ({name})' if name else ''}{mend}")
        cause = cause.__cause__
    return None


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

    guarded("write", url, local if isinstance(fs, LocalFileSystem) else remote)


def read_bytes(url: str) -> bytes:
    """Reads a whole file; FileNotFoundError where there is none."""
    fs, path = filesystem(url)
    return guarded("read", url, lambda: bytes(fs.cat_file(path)))


def exists(url: str) -> bool:
    fs, path = filesystem(url)

    def look() -> bool:
        fs.invalidate_cache()  # as in `list_files`
        return bool(fs.exists(path))

    return guarded("look at", url, look)


def list_files(url: str, suffix: str = "") -> list[str]:
    """Returns the names (not paths) of the files right under a folder, sorted; [] if absent."""
    return [n for n, kind in _entries(url) if kind == "file" and n.endswith(suffix)]


def list_names(url: str) -> list[str]:
    """The same of files and folders."""
    return [name for name, _ in _entries(url)]


def _entries(url: str) -> list[tuple[str, str]]:
    fs, path = filesystem(url)

    def look() -> list[tuple[str, str]]:
        # A cached listing would hide what another process has just written.
        fs.invalidate_cache()
        try:
            entries = fs.ls(path, detail=True)
        except FileNotFoundError:
            return []
        return sorted((e["name"].rstrip("/").rpartition("/")[2], e["type"]) for e in entries)

    return guarded("list", url, look)


def find_files(url: str, name: str) -> list[str]:
    """Returns the paths, relative to a folder, of the files of one name in and below it, sorted;
    [] if absent."""
    fs, path = filesystem(url)

    def look() -> list[str]:
        fs.invalidate_cache()  # as in `list_files`
        root = path.rstrip("/")
        found = (p[len(root) :].lstrip("/") for p in fs.find(root))
        return sorted(p for p in found if p.rpartition("/")[2] == name)

    return guarded("list", url, look)


def count_files(url: str) -> int:
    """Returns how many files a folder holds, those in folders inside it too; 0 if absent."""
    fs, path = filesystem(url)

    def look() -> int:
        fs.invalidate_cache()  # as in `list_files`
        return len(fs.find(path))

    return guarded("list", url, look)


def remove(url: str) -> None:
    """Removes a file or a whole folder, if it is there."""
    fs, path = filesystem(url)

    def drop() -> None:
        fs.invalidate_cache()  # as in `list_files`
        # Another process may remove the same at the same time.
        with suppress(FileNotFoundError):
            if fs.exists(path):
                fs.rm(path, recursive=True)

    guarded("remove", url, drop)


def version_of(url: str) -> str:
    """What changes when a file's content does: its digest, or what an object store says of it.

    Empty for what is no single file (a pattern, a saved data set, a name on a hub).
    """
    fs, path = filesystem(url)

    def look() -> str:
        fs.invalidate_cache()
        if not fs.isfile(path):
            return ""
        if "://" in url and not url.startswith("file://"):
            return str(fs.ukey(path))
        with fs.open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]

    return guarded("look at", url, look)


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
