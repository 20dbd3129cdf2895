"""Steps that read the seeds of the self-rewarding loop, and make of them what M1 learns."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from selfreward.config_loading import identity
from selfreward.errors import DataError
from selfreward.judging.eft import modal_cutoff
from selfreward.judging.pointwise import PointwiseRubric
from selfreward.judging.rubric_files import rubric_recipe
from selfreward.layout import join
from selfreward.loops.file_content import files_content
from selfreward.loops.pools import PlacedModel
from selfreward.loops.sources import Source, build_folder, fill, on_cluster, output_of
from selfreward.loops.steps import Output, Run, shards_of
from selfreward.records import DropReason
from selfreward.stages.eft import SelectEft, agreeing_ranks
from selfreward.stages.held_out import HeldOut
from selfreward.stages.ranked_seeds import FromRanked, build_ranked
from selfreward.stages.rate import Rate
from selfreward.stages.seeds import IftExamples, build_ift
from selfreward.storage.manifest import complete, open_stage, read_manifest
from selfreward.storage.shards import sealed_shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeds:
    """Where the seeds lie.

    Example: `Seeds(ift=Source(…), heldout=Source(…), ranked=None)`
    """

    ift: Source
    heldout: Source
    """Answered seeds kept out of training, for perplexity."""
    ranked: Source | None


def build_seeds(run: Run, held_out: HeldOut, pool: Source | None) -> Seeds:
    """Reads the files of `seeds` once into shards; what is held out is no seed.

    `pool` is what later iterations are trained on, where they take their instructions from it: a
    seed that is in it too is not held out.

    Raises:
        DataError: a file is unreadable or lacks the columns, or too little is usable.
    """
    config, layout = run.config, run.layout
    seeds = config.seeds
    from_ranked = None
    if seeds.ift_from_ranked is not None:
        from_ranked = FromRanked(paths=seeds.ranked, part=seeds.ift_from_ranked)
    elif not seeds.ift:
        raise DataError(
            "seeds.ift names no file: the loop starts from instructions with answers; name one, or"
            " set seeds.ift_from_ranked"
        )
    folders = (join(layout.root, "seeds", "ift"), layout.split("heldout", "ift"))
    recipe = _files_recipe(run, seeds.ift) | {
        "max": seeds.max_ift,
        "heldout": seeds.ift_heldout,
        "held_out": list(held_out.fingerprints),
        "pool": None if pool is None else pool.fingerprint,
        "seed": config.loop.seed,
    }
    if from_ranked is not None:
        recipe["from_ranked"] = [files_content(from_ranked.paths), from_ranked.part]
    manifests = [open_stage(f, "seeds", recipe | {"of": n}) for n, f in enumerate(folders)]
    if not all(m.is_complete for m in manifests):
        begin = time.monotonic()
        made = on_cluster(
            run,
            build_ift,
            seeds.ift,
            folders,
            config.pool.shard_size,
            seeds.max_ift,
            seeds.ift_heldout,
            config.pool.max_instruction_chars,
            config.loop.seed,
            held_out,
            () if pool is None else sealed_shards(pool.folder),
            from_ranked,
        )
        # Both are read in one go.
        seconds = (time.monotonic() - begin) / len(folders)
        manifests = [
            complete(f, m, s, seconds) for f, m, s in zip(folders, manifests, made, strict=True)
        ]
        counts = f"{manifests[0].num_records} to train on, {manifests[1].num_records} held out"
        run.display.line(f"answered seeds: {counts}; dropped {manifests[0].drops or 'none'}")
    ift, heldout = (Source.of(f, m) for f, m in zip(folders, manifests, strict=True))
    held_out += answered_aside(heldout)
    ranked = _ranked(run, ift, held_out) if seeds.ranked else None
    return Seeds(ift=ift, heldout=heldout, ranked=ranked)


def answered_aside(source: Source) -> HeldOut:
    """Answered seeds kept aside, as what is held out."""
    return HeldOut(answered=sealed_shards(source.folder), fingerprints=(source.fingerprint,))


def _files_recipe(run: Run, paths: tuple[str, ...]) -> dict[str, Any]:
    return {
        "files": files_content(paths),
        "shard_size": run.config.pool.shard_size,
        "max_chars": run.config.pool.max_instruction_chars,
    }


def _ranked(run: Run, ift: Source, held_out: HeldOut) -> Source:
    config = run.config
    folder = join(run.layout.root, "seeds", "ranked")
    recipe = _files_recipe(run, config.seeds.ranked) | {
        "max": config.seeds.max_ranked,
        "ift": ift.fingerprint,
        "held_out": list(held_out.fingerprints),
    }
    if config.seeds.max_ranked is not None:
        recipe["seed"] = config.loop.seed
    manifest = build_folder(
        run,
        folder,
        "seeds",
        recipe,
        build_ranked,
        config.seeds.ranked,
        folder,
        config.pool.shard_size,
        config.seeds.max_ranked,
        config.pool.max_instruction_chars,
        sealed_shards(ift.folder),
        held_out,
        config.loop.seed,
        told=lambda m: f"ranked responses: {m.num_records}; dropped {m.drops or 'none'}",
    )
    return Source.of(folder, manifest)


def ift_examples(run: Run, seeds: Seeds) -> Source:
    """The answered seeds as training examples."""
    output = output_of(run.layout.examples(1), seeds.ift, {})
    return fill(run, "answered seeds as examples", IftExamples(), output)


def seed_examples(run: Run) -> list[Source]:
    """What M1 was trained on, which is made by now: the answers, and the judgments that agree with
    people, where there are some."""
    folders = [run.layout.examples(1)]
    if run.config.seeds.ranked:
        folders.append(run.layout.stage(1, "eft"))
    found = [(folder, read_manifest(folder)) for folder in folders]
    return [Source.of(f, made) for f, made in found if made is not None and made.num_records]


def eft_examples(
    run: Run, ranked: Source, judge: PlacedModel, rubric: PointwiseRubric
) -> Source | None:
    """Judgments of the ranked responses that agree with people; None if none does.

    A model that never agrees teaches nothing about judging: the loop goes on with the answers
    alone and says so.
    """
    config = run.config
    ratings = _ratings(run, ranked, judge, rubric)
    inputs = shards_of(ranked.folder, ratings.folder)
    folder = run.layout.stage(1, "eft")
    recipe = {
        "input": ratings.fingerprint,
        "min_agreement": config.seeds.min_agreement,
        "max_modal_share": config.seeds.max_modal_share,
    }
    cutoff = None
    if not open_stage(folder, "eft", recipe).is_complete:
        found: list[tuple[float, int]] = []
        for shard in inputs:
            found += on_cluster(run, agreeing_ranks, shard, config.seeds.min_agreement)
        scores, ranks = [score for score, _ in found], [rank for _, rank in found]
        cutoff = modal_cutoff(scores, ranks, config.seeds.max_modal_share)
        counts = sorted(Counter(scores).items())
        told = ", ".join(f"{score:g}: {count}" for score, count in counts)
        run.display.line(f"judgments that agree with people, by score: {told or 'none'}")
    selected = fill(
        run,
        "select judgments",
        SelectEft(
            rubric=rubric,
            min_agreement=config.seeds.min_agreement,
            cutoff=cutoff,
        ),
        Output(folder=folder, inputs=inputs, recipe=recipe, num_rows=ranked.num_records),
    )
    if selected.num_records == 0:
        run.display.line(_no_judgment(folder))
        return None
    return selected


def _no_judgment(folder: str) -> str:
    """Why M1 learns no judging, and what to change."""
    manifest = read_manifest(folder)
    drops = manifest.drops if manifest is not None else {}
    unread, disagree = (
        drops.get(reason, 0)
        for reason in (DropReason.UNREAD_JUDGMENTS, DropReason.DISAGREES_WITH_PEOPLE)
    )
    if unread > disagree:
        return (
            f"of {unread} of {unread + disagree} ranked prompts no draw could be read for every"
            " response: M1 learns from the answers alone; set rating.guided=true, or raise"
            " rating.sampling.max_tokens"
        )
    return (
        f"no judgment agrees with people's rankings of {disagree} prompts: M1 learns from the"
        " answers alone; raise seeds.draws_per_response or lower seeds.min_agreement"
    )


def _ratings(run: Run, ranked: Source, judge: PlacedModel, rubric: PointwiseRubric) -> Source:
    config = run.config
    logic = Rate(
        rubric=rubric,
        sampling=config.rating.sampling,
        guided=config.rating.guided,
        # What is learnt is the text of a judgment: its own score, not an expected one.
        expected=False,
        num_draws=config.seeds.draws_per_response,
        seed=config.loop.seed,
        name="eft",
    )
    recipe = {
        "rubric": rubric_recipe(rubric),
        "sampling": identity(config.rating.sampling),
        "guided": config.rating.guided,
        "draws": config.seeds.draws_per_response,
        "model": judge.ref.fingerprint,
        "engine": identity(config.engine),
        "seed": config.loop.seed,
    }
    output = output_of(run.layout.stage(1, "eft_ratings"), ranked, recipe)
    return fill(run, "judge ranked responses", logic, output, lambda: run.pools.judge(judge))
