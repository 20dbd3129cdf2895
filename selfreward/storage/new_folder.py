"""A folder that is there whole or not at all: what a command writes outside of a run."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from fsspec.implementations.local import LocalFileSystem

from selfreward.errors import StorageError, UserError
from selfreward.storage import files


@contextmanager
def new_folder(url: str) -> Iterator[str]:
    """Yields where to write what is then found at `url`.

    On a local disk that is a temporary folder, renamed at the end and removed after a failure. On
    an object store it is `url` itself.

    Raises:
        UserError: something is there already.
        StorageError: the folder cannot be made.
    """
    if files.count_files(url):
        raise UserError(f"{url} is there already; name another folder, or remove it")
    fs, path = files.filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        yield url
        return
    temporary = f"{path.rstrip('/')}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        os.makedirs(temporary)
    except OSError as error:
        raise StorageError(f"cannot make {url}: {error.strerror}; name another folder") from error
    try:
        yield temporary
        if os.path.isdir(path):
            os.rmdir(path)  # an empty one
        os.replace(temporary, path)
    finally:
        if os.path.isdir(temporary):
            shutil.rmtree(temporary)
