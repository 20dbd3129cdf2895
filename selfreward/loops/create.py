"""The step that gives an iteration its instructions: written by a model in rounds, or a slice of
the pool."""

from dataclasses import dataclass
from typing import Any

from selfreward.config_loading import identity
from selfreward.errors import DataError, NothingToLearnError
from selfreward.layout import join
from selfreward.loops.pools import PlacedModel
from selfreward.loops.seeds import Seeds
from selfreward.loops.sources import Source, build_folder, fill, output_of
from selfreward.loops.steps import Run
from selfreward.metrics.collapse import nothing_left
from selfreward.stages.create import Create, RoundPlan, build_prompts, filter_round
from selfreward.stages.held_out import HeldOut
from selfreward.stages.sample import Stored
from selfreward.storage.manifest import Manifest, read_manifest
from selfreward.storage.shards import sealed_shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructions:
    """Shards of an iteration's instructions.

    Example: `Instructions(shards=("…/iter_02/kept/00/00000.parquet",), stored="created",
    fingerprint="9f3c…", num_rows=57)`
    """

    shards: tuple[str, ...]
    stored: Stored
    fingerprint: str
    num_rows: int


def created_folder(run: Run, iteration: int, stage: str, number: int) -> str:
    return join(run.layout.stage(iteration, stage), f"{number:02d}")


def pool_slice(run: Run, iteration: int, pool: Source) -> Instructions:
    """Every n-th shard of the pool, n being the iterations that learn from it.

    Raises:
        DataError: the pool has fewer shards than iterations.
    """
    learning = max(1, run.config.loop.iterations - 1)
    shards = sealed_shards(pool.folder)[iteration - 2 :: learning]
    if not shards:
        raise DataError(
            f"iteration {iteration} has no shard of the pool: {pool.num_records} instructions in"
            f" shards of pool.shard_size={run.config.pool.shard_size} for {learning} iterations;"
            " lower pool.shard_size"
        )
    return Instructions(
        shards=tuple(shards),
        stored="instruction",
        fingerprint=f"{pool.fingerprint}/{iteration - 2}/{learning}",
        num_rows=min(pool.num_records, len(shards) * run.config.pool.shard_size),
    )


def create_instructions(
    run: Run,
    iteration: int,
    seeds: Seeds,
    held_out: HeldOut,
    writer: PlacedModel,
    by_generator: bool,
) -> Instructions:
    """Runs the rounds of one iteration (arXiv 2401.10020, section 2.2; arXiv 2212.10560).

    Raises:
        NothingToLearnError: the filters left nothing.
    """
    config = run.config.self_instruct
    kept: list[str] = [
        url
        for earlier in range(2, iteration)
        for number in range(config.rounds)
        for url in sealed_shards(created_folder(run, earlier, "kept", number))
    ]
    parts: list[Manifest] = []
    shards: list[str] = []
    for number in range(config.rounds):
        plan = RoundPlan(
            iteration=iteration,
            round=number,
            num_prompts=_share(config.completions, config.rounds, number),
            seeds=tuple(sealed_shards(seeds.ift.folder)),
            kept=tuple(kept),
            held_out=held_out,
            seed=run.config.loop.seed,
        )
        before = [seeds.ift.fingerprint, *held_out.fingerprints, *(m.fingerprint for m in parts)]
        done = _round(run, plan, writer, by_generator, before)
        parts.append(done)
        new = sealed_shards(created_folder(run, iteration, "kept", number))
        kept += new
        shards += new
    num_rows = sum(m.num_records for m in parts)
    if num_rows == 0:
        counts = creation_counts(run, iteration)
        drops = {reason: n for reason, n in counts.items() if reason not in ("created", "kept")}
        told = nothing_left(config.completions, "completions is a new instruction", drops)
        raise NothingToLearnError(
            f"{told}; raise self_instruct.completions, or take the pool's with"
            " self_instruct.enabled=false"
        )
    return Instructions(
        shards=tuple(shards),
        stored="created",
        fingerprint=parts[-1].fingerprint,
        num_rows=num_rows,
    )


def _share(total: int, parts: int, number: int) -> int:
    """The size of part `number` where `total` is cut into parts as equal as can be."""
    return total // parts + (number < total % parts)


def _round(
    run: Run,
    plan: RoundPlan,
    writer: PlacedModel,
    by_generator: bool,
    earlier: list[str],
) -> Manifest:
    config = run.config
    section = identity(config.self_instruct)
    begin: dict[str, Any] = {
        "iteration": plan.iteration,
        "round": plan.round,
        "self_instruct": section,
        "earlier": earlier,
        "before": _before(run, plan.iteration),
        "seed": plan.seed,
    }
    folders = {
        stage: created_folder(run, plan.iteration, stage, plan.round)
        for stage in ("prompts", "created", "kept")
    }
    prompts = build_folder(
        run,
        folders["prompts"],
        "prompts",
        begin,
        build_prompts,
        plan,
        config.self_instruct,
        folders["prompts"],
        config.pool.shard_size,
    )
    engine = config.generator.engine if by_generator and config.generator else config.engine
    created = fill(
        run,
        f"create instructions, round {plan.round + 1} of {config.self_instruct.rounds}",
        Create(
            sampling=config.self_instruct.sampling,
            several=config.self_instruct.several,
            seed=plan.seed,
        ),
        output_of(
            folders["created"],
            Source.of(folders["prompts"], prompts),
            {
                "sampling": section["sampling"],
                "several": config.self_instruct.several,
                "model": writer.ref.fingerprint,
                "engine": identity(engine),
            },
        ),
        lambda: run.pools.generator(writer) if by_generator else run.pools.judge(writer),
    )
    return build_folder(
        run,
        folders["kept"],
        "filter",
        {"self_instruct": section, "input": created.fingerprint, "earlier": earlier},
        filter_round,
        plan,
        config.self_instruct,
        sealed_shards(created.folder),
        folders["kept"],
        config.pool.shard_size,
        told=lambda kept: (
            f"iteration {plan.iteration}, round {plan.round + 1}: {kept.num_records} new of"
            f" {created.num_records} instructions; dropped {kept.drops or 'none'}"
        ),
    )


def _before(run: Run, iteration: int) -> str | None:
    """The fingerprint of what the iteration before ended with, since that is compared with."""
    if iteration <= 2:
        return None
    last = created_folder(run, iteration - 1, "kept", run.config.self_instruct.rounds - 1)
    manifest = read_manifest(last)
    return None if manifest is None else manifest.fingerprint


def creation_counts(run: Run, iteration: int) -> dict[str, int]:
    """How many instructions were written and kept, and what was dropped why, over the rounds."""
    counts: dict[str, int] = {"created": 0, "kept": 0}
    for number in range(run.config.self_instruct.rounds):
        for stage in ("created", "kept"):
            manifest = read_manifest(created_folder(run, iteration, stage, number))
            if manifest is None:
                continue
            counts[stage] += manifest.num_records
            for reason, count in manifest.drops.items():
                counts[reason] = counts.get(reason, 0) + count
    return counts
