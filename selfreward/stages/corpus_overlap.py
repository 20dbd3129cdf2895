"""What of a validation document stands in training documents, by shared runs of five words.

No perplexity is measured on what was trained on (cf. arXiv 2005.14165, appendix C).
"""

from collections.abc import Iterable, Sequence

import numpy as np

from selfreward.judging.filters import shingle_hashes
from selfreward.records import DropReason
from selfreward.records_custom_llm import Document
from selfreward.stages.corpus_files import Drops
from selfreward.text.quality import Flaw

_MAX_SEEN_SHARE = 0.5
"""Largest share of a validation document's shingles that training documents may hold. Below it
stand turns of phrase, above it sections of a chapter and the like; between them is little."""


def unseen(
    chosen: Sequence[Document], training: Iterable[Document], drops: Drops
) -> list[Document]:
    """Those of `chosen` that `training` as a whole does not hold for the most part."""
    if not chosen:
        return []
    hashes = [shingle_hashes(document.text) for document in chosen]
    wanted = np.unique(np.concatenate(hashes))
    is_seen = np.zeros(len(wanted), dtype=bool)
    for document in training:
        found = shingle_hashes(document.text)
        places = np.minimum(np.searchsorted(wanted, found), len(wanted) - 1)
        is_seen[places[wanted[places] == found]] = True
    kept = []
    for document, own in zip(chosen, hashes, strict=True):
        share = float(np.mean(is_seen[np.searchsorted(wanted, own)]))
        if share <= _MAX_SEEN_SHARE:
            kept.append(document)
        else:
            detail = f"{share:.2f} of it stands in training documents"
            drops.add(document, Flaw(reason=DropReason.NEAR_DUPLICATE, detail=detail))
    return kept


class KeptAside:
    """Validation documents that are fixed already, which nothing may train on."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._ids = [document.id for document in documents]
        hashes = [shingle_hashes(document.text) for document in documents]
        self._sizes = np.array([len(own) for own in hashes], dtype=np.int64)
        every = np.concatenate([np.zeros(0, np.uint32), *hashes])
        order = np.argsort(every, kind="stable")
        self._hashes = every[order]
        self._owners = np.repeat(np.arange(len(hashes)), self._sizes)[order]

    def flaw_of(self, document: Document) -> Flaw | None:
        """Says which one a training document holds for the most part, if it does."""
        found = shingle_hashes(document.text)
        begins = np.searchsorted(self._hashes, found, side="left")
        ends = np.searchsorted(self._hashes, found, side="right")
        shared = [self._owners[b:e] for b, e in zip(begins, ends, strict=True) if e > b]
        if not shared:
            return None
        counts = np.bincount(np.concatenate(shared), minlength=len(self._sizes))
        shares = counts / self._sizes
        most = int(np.argmax(shares))
        if shares[most] <= _MAX_SEEN_SHARE:
            return None
        detail = (
            f"holds {shares[most]:.2f} of {self._ids[most]}, which the other corpus keeps aside"
        )
        return Flaw(reason=DropReason.NEAR_DUPLICATE, detail=detail)
