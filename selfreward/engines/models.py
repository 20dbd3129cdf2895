"""From a model's name to a local folder, and from a folder to a fingerprint of its content."""

import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from selfreward.engines.embedded import EMBEDDED_PREFIX, convert_gguf, embedded_source
from selfreward.errors import ModelNotFoundError
from selfreward.records import ModelRef
from selfreward.storage.files import is_full, storage_fault

LOCK_TIMEOUT_S = 3600.0
WHOLE_FILE_BYTES = 512 << 20
HEAD_BYTES = 8 << 20
BLOCK_BYTES = 64 << 10
NUM_BLOCKS = 256
WEIGHT_SUFFIXES = (".safetensors", ".bin")
MODEL_FILE_PATTERNS = ("*.json", "*.safetensors", "*.bin", "*.model", "*.txt", "*.jinja", "*.py")
HUB_PATTERNS = tuple(p for p in MODEL_FILE_PATTERNS if p != "*.bin")
"""Old repositories hold their weights twice; the safetensors are enough."""
NOT_THE_MODEL = ("manifest.json",)
"""JSON files that may lie in a checkpoint folder and say nothing of its weights."""


def cache_folder(cache_dir: str | None = None) -> Path:
    """Where models are kept: `cache_dir`, $SELFREWARD_CACHE or ~/.cache/selfreward/models."""
    chosen = cache_dir or os.environ.get("SELFREWARD_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache/selfreward/models"


def resolve_model(
    name: str,
    revision: str | None = None,
    cache_dir: str | None = None,
    key: str | None = None,
) -> str:
    """Returns a local folder with the model's config, weights and tokenizer.

    `name` is `embedded:smollm2-135m-instruct`, a local folder, a cloud URL of a folder (`s3://…`)
    or a Hugging Face id, with `@revision` behind it where it is not the newest. What has to be
    converted or downloaded is done once and cached; of a cloud URL once for each `key`, the
    fingerprint of what is expected there (see `fetch_folder`).

    Raises:
        ModelNotFoundError: the name leads to no loadable model; one line with the mend.
        StorageError: the cache is full or may not be written.
    """
    if name.startswith(EMBEDDED_PREFIX):
        source = embedded_source(name)
        return _cached(
            cache_dir, name.removeprefix(EMBEDDED_PREFIX), lambda d: convert_gguf(source, d)
        )
    if "://" in name:
        return fetch_folder(name, key=key, cache_dir=cache_dir)
    if Path(name).expanduser().is_dir():
        return check_model_folder(str(Path(name).expanduser().resolve()))
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelNotFoundError(f"model {name!r} looks like a path, but there is no such folder")
    name, _, named_revision = name.partition("@")
    return _from_hub(name, revision or named_revision or None)


def folder_on_this_node(model: ModelRef, folder: str) -> str:
    """Returns `folder` where this node sees it, else an equal copy on this node.

    A replica may run on another node than the driver that resolved the folder: a cloud URL is
    downloaded there, a seed model resolved again from its name.

    Raises:
        ModelNotFoundError: a local folder of a trained model that this node cannot see.
    """
    if "://" in folder:
        return fetch_folder(folder, key=model.fingerprint)
    if Path(folder).is_dir():
        return check_model_folder(folder)
    if model.iteration == 0 and model.name != folder:
        return resolve_model(model.name)
    raise ModelNotFoundError(
        f"model folder {folder!r} is not visible on node {socket.gethostname()}:"
        " put run_dir on storage that every node shares"
    )


def check_model_folder(folder: str) -> str:
    """Returns `folder` if it holds a config.json and weights.

    Raises:
        ModelNotFoundError: one of them is missing.
    """
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise ModelNotFoundError(f"model folder {folder!r} has no config.json")
    if not any(p.suffix in WEIGHT_SUFFIXES for p in path.iterdir()):
        raise ModelNotFoundError(
            f"model folder {folder!r} has no weights (*.safetensors); it holds a config only"
        )
    return folder


def fetch_folder(url: str, key: str | None = None, cache_dir: str | None = None) -> str:
    """Downloads a folder of a cloud URL once and returns the local copy.

    `key` names the content where the caller knows it (a fingerprint); without it the URL does.

    Raises:
        ModelNotFoundError: the URL cannot be read or holds no model.
    """
    return _cached(cache_dir, _copy_name(url, key), lambda target: _download(url, target))


def _copy_name(url: str, key: str | None) -> str:
    digest = hashlib.sha256(f"{url}\n{key or ''}".encode()).hexdigest()[:16]
    return f"url-{digest}"


def fetch_listed(url: str, listing: str, cache_dir: str | None = None) -> tuple[str, str]:
    """Downloads a folder of a cloud URL; returns the local copy and its fingerprint.

    `listing` names the state the URL is in (names and versions of its files), for a caller who
    does not know the fingerprint yet. The copy lies where `fetch_folder` looks for the fingerprint,
    so that one node holds the weights once.

    Raises:
        ModelNotFoundError: the URL cannot be read or holds no model.
    """
    cache = cache_folder(cache_dir)
    note = cache / f"{_copy_name(url, listing)}.fingerprint"
    with _writing_to(cache), _locked(note.with_name(f".{note.name}.lock")):
        if note.is_file():
            fingerprint = note.read_text()
            local = cache / _copy_name(url, fingerprint)
            if local.is_dir():
                return str(local), fingerprint
        found = Path(fetch_folder(url, listing, cache_dir))
        fingerprint = model_fingerprint(str(found))
        local = cache / _copy_name(url, fingerprint)
        try:
            found.rename(local)
        except OSError:  # a replica has fetched the same weights meanwhile
            shutil.rmtree(found)
        note.write_text(fingerprint)
    return str(local), fingerprint


def _download(url: str, target: Path) -> None:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        files = filesystem.find(path)
        for file in files:
            local = target / os.path.relpath(file, path)
            local.parent.mkdir(parents=True, exist_ok=True)
            filesystem.get_file(file, str(local))
    except (OSError, ImportError, ValueError) as error:
        if is_full(error):  # this node's cache, not what is at the URL
            raise
        raise ModelNotFoundError(f"model {url!r} cannot be read: {_first_line(error)}") from error
    if not files:
        raise ModelNotFoundError(f"model {url!r}: there is nothing at this URL")


def _from_hub(name: str, revision: str | None) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    at = f" at revision {revision!r}" if revision else ""
    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=list(HUB_PATTERNS))
    except HFValidationError:
        reason = "it is neither an existing folder nor a valid Hugging Face id"
    except LocalEntryNotFoundError:
        reason = "it is not in the local cache and the Hugging Face hub cannot be reached"
    except (HfHubHTTPError, OSError, ValueError) as error:
        fault = storage_fault(error, "the Hugging Face cache", "set HF_HOME elsewhere")
        if fault is not None:
            raise fault from error
        reason = _first_line(error)
    else:
        return check_model_folder(folder)
    raise ModelNotFoundError(
        f"model {name!r}{at} cannot be had: {reason}. Name a folder, a cloud URL, a downloaded"
        " Hugging Face id (HF_TOKEN set for gated ones) or embedded:smollm2-135m-instruct"
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _cached(cache_dir: str | None, name: str, make: Callable[[Path], None]) -> str:
    """Runs `make` into a temporary folder once, renames it to its place and returns that.

    Whoever sees the final name sees a whole model, however many processes start at once and
    wherever one of them is killed.
    """
    final = cache_folder(cache_dir) / name
    if not final.is_dir():
        with _writing_to(final.parent), _locked(final.with_name(f".{name}.lock")):
            if not final.is_dir():
                temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=final.parent))
                try:
                    make(temporary)
                    check_model_folder(str(temporary))
                    temporary.chmod(0o755)
                    temporary.rename(final)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
    return str(final)


@contextmanager
def _writing_to(cache: Path) -> Iterator[None]:
    """Makes the folder of the cache; StorageError where there is no room or no permission."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        fault = storage_fault(error, f"model cache {cache}", "set SELFREWARD_CACHE elsewhere")
        if fault is None:
            raise
        raise fault from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        with FileLock(str(path), timeout=LOCK_TIMEOUT_S):
            yield
    except Timeout as error:
        raise ModelNotFoundError(
            f"another process has held {path} for {LOCK_TIMEOUT_S:.0f} s; delete it if none runs"
        ) from error


def model_fingerprint(folder: str) -> str:
    """Returns a digest of a model folder's content (20 hex digits), cheap for 140 GB too.

    Weights, configs, tokenizer and chat template count; notes beside them (a manifest, a read-me)
    do not. Files up to 512 MiB count with every byte. Of larger ones the size, the first 8 MiB
    (which hold the header of a safetensors file) and 256 blocks of 64 KiB at even steps to the
    very end count: training moves every weight matrix, so no trained checkpoint keeps them all.

    Raises:
        ModelNotFoundError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ModelNotFoundError(f"model folder {folder!r} does not exist")
    digest = hashlib.sha256()
    for path in sorted(p for p in root.iterdir() if _is_part_of_model(p)):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= WHOLE_FILE_BYTES:
                digest.update(hashlib.file_digest(file, "sha256").digest())
                continue
            digest.update(file.read(HEAD_BYTES))
            span = size - HEAD_BYTES - BLOCK_BYTES
            for i in range(NUM_BLOCKS):
                file.seek(HEAD_BYTES + span * i // (NUM_BLOCKS - 1))
                digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()[:20]


def _is_part_of_model(path: Path) -> bool:
    return (
        path.is_file()
        and path.name not in NOT_THE_MODEL
        and not path.name.startswith(".")
        and any(path.match(pattern) for pattern in MODEL_FILE_PATTERNS)
    )
