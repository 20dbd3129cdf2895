"""Steps that read data: instructions from the pool, and the user's labelled pairs."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from selfreward.config_loading import identity
from selfreward.layout import join
from selfreward.loops.file_content import file_content
from selfreward.loops.in_training import in_training, told_of
from selfreward.loops.pools import PlacedModel
from selfreward.loops.sources import Source, build_folder, on_cluster, output_of
from selfreward.loops.steps import Run, run_step
from selfreward.stages.categorise import (
    Categorise,
    KeepCategories,
    category_cutoffs,
    category_ranks,
)
from selfreward.stages.held_out import NOTHING, HeldOut
from selfreward.stages.labelled import build_labelled
from selfreward.stages.pool import SplitSizes, build_pool
from selfreward.stages.row_limit import RowLimit
from selfreward.storage.manifest import complete, open_stage
from selfreward.storage.shards import sealed_shards

ASIDE = ("heldout", "validation")
# What stands beside the labelled sets in an evaluation's folder.
_TAKEN = {
    *ASIDE,
    *("responses", "perplexity", "scored"),
    *("own_ratings", "seed_ratings"),
    *("kl_responses", "own_likelihood", "seed_likelihood"),
}
SPLITS = ("train", *ASIDE)


def build_instructions(
    run: Run,
    generator: PlacedModel,
    held_out: HeldOut = NOTHING,
    selected: Sequence[str] = SPLITS,
) -> dict[str, Source]:
    """Pool without what is `held_out`, then selection of instructions: the sources of each
    split.

    `selected` are the splits that are selected from, `train` among them.
    """
    pools = _build_pool(run, held_out)
    if not run.config.select_instructions.enabled:
        return pools
    return pools | _select(run, {split: pools[split] for split in selected}, generator)


def _build_pool(run: Run, held_out: HeldOut) -> dict[str, Source]:
    config, layout = run.config, run.layout
    folders = {
        "train": layout.pool,
        "validation": layout.split("validation", "pool"),
        "heldout": layout.split("heldout", "pool"),
    }
    sizes = SplitSizes(
        validation=config.evaluation.validation_pairs, heldout=config.evaluation.heldout_pairs
    )
    name, content = file_content(config.pool.path)
    recipe = {
        "pool": identity(config.pool) | {"path": name},
        "content": content,
        "split": asdict(sizes),
        "seed": config.loop.seed,
    }
    recipe["held_out"] = list(held_out.fingerprints)
    manifests = {s: open_stage(f, "pool", recipe | {"of": s}) for s, f in folders.items()}
    if not all(m.is_complete for m in manifests.values()):
        begin = time.monotonic()
        with run.display.waiting("reading the pool"):
            made = on_cluster(
                run, build_pool, config.pool, sizes, config.loop.seed, folders, held_out
            )
        # All of them are read in one go.
        seconds = (time.monotonic() - begin) / len(folders)
        manifests = {s: complete(folders[s], m, made[s], seconds) for s, m in manifests.items()}
        counts = ", ".join(f"{m.num_records} {s}" for s, m in manifests.items())
        run.display.line(f"pool: {counts}; dropped {manifests['train'].drops or 'none'}")
    return {split: Source.of(folders[split], manifests[split]) for split in SPLITS}


def _select(run: Run, pools: dict[str, Source], generator: PlacedModel) -> dict[str, Source]:
    """Sorts and selects the instructions of every split by one rule, with the quotas of `train`:
    what a judge is measured on is drawn like what it is trained on, however few are kept aside."""
    config, layout = run.config.select_instructions, run.layout
    section = identity(config)
    asked: dict[str, Any] = {
        "sampling": section["sampling"],
        "model": generator.ref.fingerprint,
        "seed": run.config.loop.seed,
    }
    sorted_in = {s: _folder(layout.categorised, layout.split(s, "categorised"), s) for s in pools}
    done = run_step(
        run,
        "categorise",
        Categorise(config=config, seed=run.config.loop.seed),
        [output_of(sorted_in[s], pool, asked) for s, pool in pools.items()],
        lambda: run.pools.generator(generator),
    )
    categorised = {s: Source.of(sorted_in[s], m) for s, m in zip(pools, done, strict=True)}
    folders = {s: _folder(layout.instructions, layout.split(s, "instructions"), s) for s in pools}
    recipes = {
        s: {"select_instructions": section, "input": source.fingerprint}
        | ({} if s == "train" else {"quotas": categorised["train"].fingerprint})
        for s, source in categorised.items()
    }
    cutoffs: dict[str, int] = {}
    opened = [open_stage(folders[s], "select_instructions", recipes[s]) for s in pools]
    if not all(manifest.is_complete for manifest in opened):
        ranks: dict[str, list[int]] = {}
        for url in sealed_shards(categorised["train"].folder):
            for category, values in on_cluster(run, category_ranks, url, config).items():
                ranks.setdefault(category, []).extend(values)
        cutoffs = category_cutoffs(ranks, config)
    kept = run_step(
        run,
        "select",
        KeepCategories(config=config, cutoffs=cutoffs),
        [output_of(folders[s], source, recipes[s]) for s, source in categorised.items()],
    )
    return {s: Source.of(folders[s], m) for s, m in zip(pools, kept, strict=True)}


def _folder(of_train: str, aside: str, split: str) -> str:
    return of_train if split == "train" else aside


def labelled_names(paths: Sequence[str]) -> dict[str, str]:
    """A short name for each labelled file: its own, with a number where that is taken.

    Example: `labelled_names(["a/x.jsonl", "b/x.jsonl"])` is `{"x": "a/x.jsonl",
    "x_2": "b/x.jsonl"}`.
    """
    names: dict[str, str] = {}
    for path in paths:
        stem = path.removeprefix("sample:").rstrip("/").rpartition("/")[2].partition(".")[0]
        name, number = stem, 1
        while name in names or name in _TAKEN or name.startswith("versus_"):
            number += 1
            name = f"{stem}_{number}"
        names[name] = path
    return names


def build_labelled_pairs(run: Run) -> dict[str, Source]:
    """The user's labelled files as pairs, by their short names.

    Pairs with prompts that the run trains on by now are left out. That is in no recipe: a pool
    that is built later leaves out the prompts of the pairs.

    Raises:
        DataError: a file is unreadable, lacks the columns, or nothing of it is left.
    """
    sources: dict[str, Source] = {}
    config, trained = run.config, in_training(run)
    most = config.evaluation.max_labelled_pairs
    for name, path in labelled_names(config.evaluation.labelled_pairs).items():
        folder = join(run.layout.root, "labelled", name)
        known_as, content = file_content(path)
        recipe = {
            "path": known_as,
            "content": content,
            "max": most,
            "max_chars": config.evaluation.max_prompt_chars,
        }
        manifest = build_folder(
            run,
            folder,
            "labelled",
            recipe,
            build_labelled,
            path,
            folder,
            config.pool.shard_size,
            None if most is None else RowLimit(most),
            config.evaluation.max_prompt_chars,
            None,
            trained,
            told=partial(told_of, name, "pairs"),
        )
        sources[name] = Source.of(folder, manifest)
    return sources
