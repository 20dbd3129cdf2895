"""Steps that make text ready to train on: corpora, tokenizer, random model, packed sequences."""

import time
from dataclasses import dataclass
from typing import Any

from selfreward.config_custom_llm import CorpusConfig
from selfreward.config_loading import identity
from selfreward.engines.models import fetch_folder, model_fingerprint
from selfreward.layout import join
from selfreward.loops.file_content import files_content
from selfreward.loops.pools import PlacedModel
from selfreward.loops.sources import Source, on_cluster
from selfreward.loops.steps import Run, shards_of
from selfreward.records import ModelRef
from selfreward.stages.corpus import build_corpus
from selfreward.stages.pack import Pack, pack_shards
from selfreward.stages.runner import ShardJob
from selfreward.stages.tokenizer import existing_tokenizer, train_tokenizer
from selfreward.storage.manifest import complete, open_stage
from selfreward.storage.shards import ShardSummary, sealed_shards
from selfreward.training.initialise import initialise_model

GENERAL, DOMAIN = "general", "domain"
SPLITS = ("train", "validation")
NOTHING = ShardSummary(index=0, num_inputs=0, num_records=0, drops={}, ledger={})
"""For the manifest of a folder that holds no records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Documents to train on, and those kept out of it.

    Example: `Corpus(train=Source(…), validation=Source(…))`
    """

    train: Source
    validation: Source


def build_corpora(run: Run) -> dict[str, Corpus]:
    """Reads, cleans and splits the general text, and the domain text beside it: no document that
    one keeps aside is trained on by the other.

    Raises:
        DataError: a source is unreadable, or too little of it is usable.
    """
    section = run.config.custom_llm
    general = _build(run, GENERAL, section.general)
    return {GENERAL: general, DOMAIN: _build(run, DOMAIN, section.domain, beside=general)}


def _build(run: Run, name: str, config: CorpusConfig, beside: Corpus | None = None) -> Corpus:
    folders = {split: join(run.layout.root, "corpus", name, split) for split in SPLITS}
    recipe = {
        "corpus": {k: v for k, v in identity(config).items() if k != "sources"},
        "sources": files_content(config.sources),
        "seed": run.config.loop.seed,
    }
    others = {} if beside is None else {"train": beside.train, "validation": beside.validation}
    if others:
        recipe["beside"] = {split: source.fingerprint for split, source in others.items()}
    manifests = {s: open_stage(f, "corpus", recipe | {"of": s}) for s, f in folders.items()}
    if not all(m.is_complete for m in manifests.values()):
        begin = time.monotonic()
        with run.display.waiting(f"reading the {name} text"):
            urls = {split: sealed_shards(source.folder) for split, source in others.items()}
            made = on_cluster(run, build_corpus, config, run.config.loop.seed, folders, urls)
        share = (time.monotonic() - begin) / len(folders)
        manifests = {s: complete(folders[s], m, made[s], share) for s, m in manifests.items()}
        counts = ", ".join(f"{m.num_records} {s}" for s, m in manifests.items())
        run.display.line(
            f"{name} text: {counts} documents; dropped {manifests['train'].drops or 'none'}"
        )
    train, validation = (Source.of(folders[s], manifests[s]) for s in SPLITS)
    return Corpus(train=train, validation=validation)


def prepare_tokenizer(run: Run, corpora: dict[str, Corpus], start: PlacedModel | None) -> Source:
    """The tokenizer of the run: trained on its text, a named one, or that of the model to start
    from."""
    section = run.config.custom_llm
    config, context = section.tokenizer, section.architecture.context_length
    folder = join(run.layout.root, "tokenizer")
    texts = tuple(corpus.train for corpus in corpora.values())
    recipe = {
        "tokenizer": identity(config),
        "input": [text.fingerprint for text in texts],
        "context_length": context if start is None else None,
        "of": None if start is None else start.ref.fingerprint,
    }
    manifest = open_stage(folder, "tokenizer", recipe)
    if not manifest.is_complete:
        begin = time.monotonic()
        urls = [url for text in texts for url in sealed_shards(text.folder)]
        named = config.path if start is None else start.location
        with run.display.waiting("tokenizer"):
            if named is None:
                figures = on_cluster(run, train_tokenizer, config, urls, context, folder)
            else:
                figures = on_cluster(run, existing_tokenizer, named, folder, urls)
        seconds = time.monotonic() - begin
        manifest = complete(folder, manifest, [NOTHING], seconds, figures)
    for line in tokenizer_lines(manifest.extra):
        run.display.line(line)
    return Source.of(folder, manifest)


def tokenizer_lines(told: dict[str, Any]) -> list[str]:
    """What is said of a tokenizer, from the figures of its stage; a warning if it loses text."""
    share = told["round_trip_share"]
    lines = [
        f"tokenizer: {told['vocab_size']:.0f} tokens, {told['tokens_per_word']:.2f} a word,"
        f" {told['bytes_per_token']:.2f} bytes each; {share:.1%} of the documents come back"
        " unchanged"
    ]
    if share < 1:
        lines.append(
            "tokenizer: it changes the other documents (unknown characters, letter case, white"
            " space); what it changes no model learns or writes; a byte-level one changes nothing"
        )
    return lines


def initial_model(run: Run, tokenizer: Source) -> PlacedModel:
    """The random model that pretraining starts from."""
    layout, section = run.layout, run.config.custom_llm
    folder = join(layout.root, "initial")
    recipe = {
        "architecture": identity(section.architecture),
        "tokenizer": tokenizer.fingerprint,
        "seed": run.config.loop.seed,
    }
    stage = join(layout.root, "initialise")
    manifest = open_stage(stage, "initialise", recipe)
    if not manifest.is_complete:
        begin = time.monotonic()
        with run.display.waiting("random model"):
            facts = on_cluster(
                run,
                initialise_model,
                section.architecture,
                tokenizer.folder,
                folder,
                run.config.loop.seed,
                section.architecture.dtype,
            )
        manifest = complete(stage, manifest, [NOTHING], time.monotonic() - begin, facts)
        run.display.line(f"random model: {facts['num_parameters']:,} parameters")
    local = fetch_folder(folder, key=manifest.fingerprint) if "://" in folder else folder
    ref = ModelRef(name=folder, iteration=0, fingerprint=model_fingerprint(local))
    return PlacedModel(ref=ref, location=folder)


def pack(run: Run, name: str, text: Source, folder: str, tokenizer: Source, length: int) -> Source:
    """Packs a corpus split into sequences of `length` tokens."""
    recipe = {"input": text.fingerprint, "tokenizer": tokenizer.fingerprint, "length": length}
    manifest = open_stage(folder, "pack", recipe)
    if not manifest.is_complete:
        jobs = [
            ShardJob(folder=folder, index=index, inputs=inputs)
            for index, inputs in enumerate(shards_of(text.folder))
        ]
        begin, title = time.monotonic(), f"pack {name}"
        made: list[ShardSummary] = []
        logic = Pack(tokenizer=tokenizer.folder, sequence_length=length)
        tell = run.board.open(f"{title} {folder}")
        with run.display.stage(title, text.num_records, run.board.read):
            for _, summary in pack_shards(
                jobs, logic, run.config.ray, run.config.open_shards, tell
            ):
                made.append(summary)
        manifest = complete(folder, manifest, made, time.monotonic() - begin)
        tokens = manifest.ledger["tokens"]
        share = tokens / max(1, tokens + manifest.ledger["padding"])
        run.display.line(
            f"{name}: {manifest.num_records} sequences of {length} tokens, {share:.1%} of them used"
        )
    return Source.of(folder, manifest)
