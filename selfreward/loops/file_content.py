"""What of the files a recipe names belongs to the recipe: their content, not where they lie."""

import glob
import hashlib
import platform
from collections.abc import Sequence

from selfreward.errors import DataError
from selfreward.stages.row_files import expand
from selfreward.stages.sources import is_sample, is_shipped, sample_bytes
from selfreward.storage import files


def content_of(path: str) -> str:
    """What tells one state of a file, or of the files of a glob, from another.

    Empty for what is neither: a data set on a hub or saved in a folder.
    """
    if is_sample(path) and not is_shipped(path):
        # Made on the spot of what this Python brings; once read, the run keeps it.
        return platform.python_version()
    if is_sample(path):
        return _digest(sample_bytes(path))
    if not glob.has_magic(path):
        return files.version_of(path)
    try:
        urls = expand(path)
    except DataError:  # said by the step that reads it, which knows the setting's name
        return ""
    return _digest("\n".join(files.version_of(url) for url in urls).encode())


def file_content(path: str) -> list[str]:
    """The name and the content of a file, as they belong to a recipe.

    A file is known by its content and its own name, which its rows carry, wherever it lies; a hub
    id only by itself.
    """
    content = content_of(path)
    has_content = bool(content) and not is_sample(path)
    return [path.rstrip("/").rpartition("/")[2] if has_content else path, content]


def files_content(paths: Sequence[str]) -> list[list[str]]:
    """The same of several files."""
    return [file_content(path) for path in paths]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
