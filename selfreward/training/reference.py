"""Reference log-probabilities of preferences: computed once, by weights that stay, and kept."""

import gc
import hashlib
import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from selfreward.layout import join
from selfreward.storage import files
from selfreward.training.encoding import EncodedRow, digest
from selfreward.training.parallel import Parallel, rank, world_size
from selfreward.training.scoring import completion_logps


def reference_key(
    rows: Sequence[EncodedRow], *, model_fingerprint: str, max_length: int, precision: str
) -> str:
    """The name under which the log-probabilities of these rows under this model are kept."""
    text = f"{model_fingerprint}/{digest(rows)}/{max_length}/{precision}"
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _read(url: str) -> Tensor | None:
    try:
        content = files.read_bytes(url)
    except FileNotFoundError:
        return None
    return torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False))


def reference_logps(
    load: Callable[[], Parallel],
    rows: Sequence[EncodedRow],
    *,
    cache: str | None,
    key: str,
    pad_id: int,
    max_padded_tokens: int,
    device: torch.device,
) -> Tensor:
    """Returns the log-probabilities (rows, 2) of chosen and rejected under the model of `load`.

    `cache` is a folder URL; a file `reference-<key>.npy` there is used instead of computing, and
    written after computing. `load` is called only to compute, then by every worker; a model that
    nobody else holds is gone when this returns.
    """
    url = join(cache, f"reference-{key}.npy") if cache else None
    found: list[Tensor | None] = [None]
    if url is not None and rank() == 0:
        found = [_read(url)]
    if world_size() > 1:
        dist.broadcast_object_list(found, src=0)
    if found[0] is not None:
        return found[0]
    logps = completion_logps(
        load(), rows, pad_id=pad_id, max_padded_tokens=max_padded_tokens, device=device
    )
    gc.collect()  # a sharded model holds itself in circles
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if url is not None and rank() == 0:
        buffer = io.BytesIO()
        np.save(buffer, logps.numpy(), allow_pickle=False)
        files.write_bytes(url, buffer.getvalue())
    return logps
