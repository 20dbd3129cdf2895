"""The corpus stage: from raw text to clean, deduplicated, shuffled shards of documents.

Runs as one task on the cluster, never on the driver, since duplicates are found against
everything that was kept. Texts stream through: pieces wait in the temporary folder of the task's
node (TMPDIR), which needs as much room as the corpus, and in memory are one text, one of 64 parts
of the corpus, validation as a whole, and of each document its keys and its place in the index of
near-duplicates (some 7 kB). That carries a corpus of about a million documents; of a larger one
near-duplicates are better found beforehand by a tool made for it, and
`near_duplicate_threshold: null` leaves some 200 bytes a document.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from selfreward.config_custom_llm import CorpusConfig
from selfreward.errors import DataError
from selfreward.judging.filters import NearDuplicateIndex, normalised_text
from selfreward.layout import join
from selfreward.records import DropReason, content_id
from selfreward.records_custom_llm import Document
from selfreward.stages.corpus_files import Drops, Piece, Spool
from selfreward.stages.corpus_overlap import KeptAside, unseen
from selfreward.stages.corpus_sources import read_documents
from selfreward.storage.shards import (
    ShardSummary,
    read_records,
    remove_shards_from,
    shard_name,
    write_records,
)
from selfreward.text.quality import Flaw, clean, cut, flaw_of


def build_corpus(
    config: CorpusConfig,
    seed: int,
    folders: dict[str, str],
    beside: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, list[ShardSummary]]:
    """Writes shards of `Document` into `folders["train"]` and `folders["validation"]`.

    A text goes to validation where a hash of all of it falls below `validation_share`: pieces of
    one text stay together, and a text stays where it is whatever else is added. Where no text falls
    there, as among a handful, the one with the least hash does. Validation documents that repeat
    a training one, or of which most stands somewhere in the training documents, are dropped, so
    that no perplexity is measured on what was trained on; so are those beyond
    `max_validation_documents`, which would else move between the splits. All drops are written to
    and counted with the training shards. Nothing is written before all is read.

    `beside` has the shards, by split, of a corpus of the same run that is there already: what its
    training documents hold is no validation here, and what it keeps aside is not trained on here.
    As all that looks into texts, this is left out without `near_duplicate_threshold`.

    Raises:
        DataError: a source is unreadable, or too little of it is usable.
    """
    with (
        tempfile.TemporaryDirectory(prefix="selfreward-corpus-") as folder,
        Spool(Path(folder, "train"), seed) as train,
        Spool(Path(folder, "validation"), seed) as aside,
        Drops(Path(folder, "dropped.jsonl")) as drops,
    ):
        seen = _Seen(config, seed)
        of_other = _Other(config, beside or {})
        spools = {"train": train, "validation": aside}
        texts = _read(config, seen, of_other.aside, spools, drops)
        moved = None
        chosen = list(_measurable(aside.pieces(), config, seen, drops))
        validation = of_other.unseen(chosen, train.without(moved), drops)
        if not validation and config.validation_share > 0 and texts.least < texts.greatest:
            moved = texts.least
            pieces = (p for p in train.pieces() if p.place == moved)
            chosen = list(_measurable(pieces, config, None, drops))
            validation = of_other.unseen(chosen, train.without(moved), drops)
        _check_usable(config, texts, len(validation), drops)
        summaries = {
            "train": _write(folders["train"], train.without(moved), config.shard_size),
            "validation": _write(folders["validation"], validation, config.shard_size),
        }
        counts = drops.write(join(folders["train"], "dropped"))
    # The drops belong to the corpus as a whole; they are counted with the first training shard.
    first = summaries["train"][0]
    num_inputs = first.num_inputs + sum(counts.values())
    summaries["train"][0] = replace(first, num_inputs=num_inputs, drops=counts)
    return summaries


@dataclass(slots=True)
class _Texts:
    """Texts of which a piece was kept, and the range of the places of those for training."""

    num_train: int = 0
    num_validation: int = 0
    least: float = 1.0
    greatest: float = 0.0


def _place(text: str) -> float:
    # Of the normalised text: copies that differ in case and spaces land in the same split.
    digest = hashlib.sha256(normalised_text(text).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


class _Other:
    """The corpus beside this one: what it keeps aside, and what it trains on."""

    def __init__(self, config: CorpusConfig, urls: Mapping[str, Sequence[str]]) -> None:
        self._is_exact_only = config.near_duplicate_threshold is None
        self._urls = {} if self._is_exact_only else urls
        self.aside = KeptAside(list(self._documents("validation")))

    def unseen(
        self, chosen: list[Document], training: Iterable[Document], drops: Drops
    ) -> list[Document]:
        """Those of `chosen` that neither corpus trains on."""
        if self._is_exact_only:
            return chosen
        return unseen(chosen, chain(training, self._documents("train")), drops)

    def _documents(self, split: str) -> Iterator[Document]:
        return (d for url in self._urls.get(split, ()) for d in read_records(url, Document))


def _read(
    config: CorpusConfig,
    seen: "_Seen",
    elsewhere: KeptAside,
    spools: dict[str, Spool],
    drops: Drops,
) -> _Texts:
    texts = _Texts()
    num_kept = 0
    for source, raw in read_documents(config):
        text = clean(raw)
        place = _place(text)
        split = "validation" if place < config.validation_share else "train"
        num_before = num_kept
        for piece in cut(text, config.max_chars):
            document = Document.new(text=piece, source=source)
            flaw = flaw_of(piece, config)
            if flaw is None and split == "train":
                flaw = elsewhere.flaw_of(document) or seen.repetition(document)
            if flaw is not None:
                drops.add(document, flaw)
                continue
            spools[split].add(Piece(document=document, place=place))
            num_kept += 1
            if num_kept == config.max_documents:
                break
        if num_kept > num_before and split == "train":
            texts.num_train += 1
            texts.least = min(texts.least, place)
            texts.greatest = max(texts.greatest, place)
        elif num_kept > num_before:
            texts.num_validation += 1
        if num_kept == config.max_documents:
            break
    return texts


def _measurable(
    pieces: Iterable[Piece], config: CorpusConfig, seen: "_Seen | None", drops: Drops
) -> Iterator[Document]:
    num_kept = 0
    for piece in pieces:
        if num_kept == config.max_validation_documents:
            flaw: Flaw | None = Flaw(
                reason=DropReason.NOT_SELECTED, detail=f"{num_kept} documents are kept aside"
            )
        else:
            flaw = None if seen is None else seen.repetition(piece.document)
        if flaw is None:
            num_kept += 1
            yield piece.document
        else:
            drops.add(piece.document, flaw)


def _check_usable(config: CorpusConfig, texts: _Texts, num_validation: int, drops: Drops) -> None:
    reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(drops.counts.items()))
    why = f"; dropped: {reasons}" if reasons else ""
    name = ", ".join(config.sources)
    if texts.num_train + texts.num_validation == 0:
        raise DataError(f"{name}: no usable document{why}")
    if texts.num_train == 0:
        raise DataError(
            f"{name}: all {texts.num_validation} usable texts fell to validation; give more texts"
            f" or lower the corpus's `validation_share`{why}"
        )
    if num_validation == 0 and config.validation_share > 0:
        raise DataError(
            f"{name}: nothing is left for validation that is not trained on; give more texts"
            f" (several files, or JSONL with a document a row){why}"
        )


def _write(folder: str, documents: Iterable[Document], shard_size: int) -> list[ShardSummary]:
    summaries: list[ShardSummary] = []
    rest = iter(documents)
    while shard := list(islice(rest, shard_size)):
        index = len(summaries)
        write_records(join(folder, shard_name(index)), shard, Document)
        summaries.append(
            ShardSummary(
                index=index, num_inputs=len(shard), num_records=len(shard), drops={}, ledger={}
            )
        )
    remove_shards_from(folder, len(summaries))
    return summaries


class _Seen:
    """Documents kept so far: says which one a document repeats, or remembers it."""

    def __init__(self, config: CorpusConfig, seed: int) -> None:
        self._exact = config.exact_dedupe
        self._ids: dict[str, str] = {}
        self._near = None
        if config.near_duplicate_threshold is not None:
            self._near = NearDuplicateIndex(config.near_duplicate_threshold, seed=seed)

    def repetition(self, document: Document) -> Flaw | None:
        # Equal ids are equal texts; two of them would collide in every later stage.
        key = document.id
        if self._exact:
            key = content_id("key", normalised_text(document.text))
        earlier = self._ids.get(key)
        if earlier is not None:
            return Flaw(reason=DropReason.EXACT_DUPLICATE, detail=f"of {earlier}")
        if self._near is not None:
            earlier = self._near.is_duplicate_then_add(document.id, document.text)
            if earlier is not None:
                return Flaw(reason=DropReason.NEAR_DUPLICATE, detail=f"of {earlier}")
        self._ids[key] = document.id
        return None
