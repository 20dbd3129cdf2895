"""Folders of a few small files, such as a tokenizer, on any fsspec URL."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfreward.layout import join
from selfreward.storage import files

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".gguf", ".pt", ".pth")


def publish_folder(local: Path, url: str) -> None:
    """Writes the files right under a local folder to `url`, each whole or not at all."""
    for path in sorted(p for p in local.iterdir() if p.is_file()):
        files.write_bytes(join(url, path.name), path.read_bytes())


@contextmanager
def local_folder(url: str) -> Iterator[str]:
    """A local folder with what lies right under `url`, weights left out; a path stays itself."""
    if "://" not in url:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="selfreward-") as temporary:
        for name in files.list_files(url):
            if not name.endswith(WEIGHT_SUFFIXES):
                Path(temporary, name).write_bytes(files.read_bytes(join(url, name)))
        yield temporary
