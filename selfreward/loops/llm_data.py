"""Steps that read what the later stages of one's own LLM learn from: exercises and rankings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from selfreward.config_custom_llm import TasksConfig
from selfreward.config_loading import identity
from selfreward.layout import join
from selfreward.loops.file_content import files_content
from selfreward.loops.sources import Source, fill, on_cluster, output_of
from selfreward.loops.steps import Run
from selfreward.stages.rankings import build_rankings
from selfreward.stages.rewards import RankingPreferences
from selfreward.stages.tasks import TaskExamples, build_tasks, heldout_keys
from selfreward.storage.manifest import complete, open_stage
from selfreward.storage.shards import ShardSummary

# Settings of a section that say how a model learns or answers, not what is read.
_NOT_DATA = ("data", "training", "sampling", "pairs", "max_pairs_per_ranking")


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """What is trained on, and what is kept out of it to measure with.

    Example: `Splits(train=Source(…), heldout=Source(…))`
    """

    train: Source
    heldout: Source


def read_tasks(run: Run, sections: Mapping[str, TasksConfig]) -> dict[str, Splits]:
    """The exercises of `finetuning` and `instruction_tuning`, or of one of them, by its name.

    What one holds out, none trains on: every model is measured on the exercises of both.

    Raises:
        UserError: a file is unreadable or lacks columns, or too little of it is usable.
    """
    return {
        name: _read_section(run, name, config, {n: s for n, s in sections.items() if n != name})
        for name, config in sections.items()
    }


def _read_section(
    run: Run, name: str, config: TasksConfig, others: Mapping[str, TasksConfig]
) -> Splits:
    max_chars, seed = run.config.pool.max_instruction_chars, run.config.loop.seed

    def build(folders: dict[str, str]) -> dict[str, list[ShardSummary]]:
        kept_out = [
            key
            for other, section in others.items()
            for key in on_cluster(
                run, heldout_keys, section, max_chars, seed, f"custom_llm.{other}"
            )
        ]
        made: dict[str, list[ShardSummary]] = on_cluster(
            run,
            build_tasks,
            config,
            max_chars,
            run.config.pool.shard_size,
            seed,
            folders,
            f"custom_llm.{name}",
            kept_out,
        )
        return made

    # Which exercises the others hold out follows from what they read.
    beside = {"kept_out": {n: _data_of(s) for n, s in others.items()}} if others else {}
    return _read(run, name, "tasks", config, build, beside)


def read_rankings(run: Run) -> Splits:
    """The answers that people ranked. Errors as in `read_tasks`."""
    config = run.config

    def build(folders: dict[str, str]) -> dict[str, list[ShardSummary]]:
        train, heldout = on_cluster(
            run,
            build_rankings,
            config.custom_llm.rankings,
            config.pool.max_instruction_chars,
            config.pool.shard_size,
            config.loop.seed,
            (folders["train"], folders["heldout"]),
        )
        return {"train": train, "heldout": heldout}

    return _read(run, "rankings", "rankings", config.custom_llm.rankings, build)


def _data_of(config: Any) -> dict[str, Any]:
    """What determines the rows that a section reads."""
    return {
        "data": files_content(config.data),
        "settings": {k: v for k, v in identity(config).items() if k not in _NOT_DATA},
    }


def _read(
    run: Run,
    name: str,
    stage: str,
    config: Any,
    build: Callable[[dict[str, str]], dict[str, list[ShardSummary]]],
    beside: Mapping[str, Any] | None = None,
) -> Splits:
    root = join(run.layout.root, stage, name) if stage != name else join(run.layout.root, stage)
    folders = {split: join(root, split) for split in ("train", "heldout")}
    recipe = {
        **_data_of(config),
        "shard_size": run.config.pool.shard_size,
        "max_chars": run.config.pool.max_instruction_chars,
        "seed": run.config.loop.seed,
        **(beside or {}),
    }
    manifests = {s: open_stage(f, stage, recipe | {"of": s}) for s, f in folders.items()}
    if not all(m.is_complete for m in manifests.values()):
        with run.display.waiting(f"reading {name}"):
            made = build(folders)
        manifests = {s: complete(folders[s], m, made[s], 0.0) for s, m in manifests.items()}
        counts = ", ".join(f"{m.num_records} {s}" for s, m in manifests.items())
        run.display.line(f"{name}: {counts}; dropped {manifests['train'].drops or 'none'}")
    train, heldout = (Source.of(folders[s], manifests[s]) for s in ("train", "heldout"))
    return Splits(train=train, heldout=heldout)


def task_examples(run: Run, number: int, tasks: Source) -> Source:
    """The exercises as what SFT reads."""
    output = output_of(run.layout.examples(number), tasks, {})
    return fill(run, "exercises as examples", TaskExamples(), output)


def ranking_preferences(run: Run, folder: str, rankings: Source) -> Source:
    """The rankings as what DPO and the reward model read."""
    config = run.config.custom_llm.rankings
    logic = RankingPreferences(
        pairs=config.pairs, max_pairs=config.max_pairs_per_ranking, seed=run.config.loop.seed
    )
    recipe = {
        "pairs": config.pairs,
        "max_pairs": config.max_pairs_per_ranking,
        "seed": run.config.loop.seed,
    }
    return fill(run, "rankings as preferences", logic, output_of(folder, rankings, recipe))
