"""Steps that construct response pairs: respond, corrupt, perturb, gather, score."""

from collections.abc import Sequence
from typing import Any

from selfreward.config_loading import identity
from selfreward.errors import ConfigError
from selfreward.layout import join
from selfreward.loops.pairs import SPLITS
from selfreward.loops.pools import PlacedModel
from selfreward.loops.sources import Source, fill, on_cluster, output_of
from selfreward.loops.steps import Output, Run, run_step, shards_of
from selfreward.stages.corrupt import Corrupt
from selfreward.stages.gather import Gather, write_dropped
from selfreward.stages.perturb import Perturb
from selfreward.stages.respond import Respond
from selfreward.stages.score_pairs import ScorePairs
from selfreward.storage.manifest import open_stage


def build_pairs(
    run: Run, sources: dict[str, Source], generator: PlacedModel, iteration: int
) -> dict[str, Source]:
    """Responds to the instructions of every split and makes pairs of the answers.

    The splits that are never trained on are built once; the training split's slice is the whole
    source, or every `iterations`-th shard where each iteration has pairs of its own.
    """
    config = run.config
    answers = _respond(run, sources, generator, iteration)
    made: list[dict[str, Source]] = []
    if sum(config.corrupt.methods.values()) > 0:
        made.append(_corrupt(run, answers, generator, iteration))
    if config.perturb.pairs_per_instruction:
        made.append(_perturb(run, answers, iteration))
    return _gather(run, made, iteration) if gathers(run) else made[0]


def score_pairs(run: Run, pairs: Source, generator: PlacedModel, iteration: int) -> Source | None:
    """How likely the generator finds both responses of each training pair; None where
    `select.min_likelihood_margin` does not ask."""
    if run.config.select.min_likelihood_margin is None:
        return None
    return fill(
        run,
        "likelihood of the pairs",
        ScorePairs(alone=False),
        output_of(
            run.layout.stage(iteration, "pair_scores"), pairs, _generator_recipe(run, generator)
        ),
        lambda: run.pools.generator(generator),
    )


def check_slices(run: Run, instructions: Source) -> None:
    """Asked before anything is built: the last iteration would find out after hours.

    Raises:
        ConfigError: each iteration is to have its own shards of instructions, and there are too
            few.
    """
    config = run.config
    shards, iterations = len(shards_of(instructions.folder)), config.loop.iterations
    if config.loop.new_pairs_each_iteration and shards < iterations:
        raise ConfigError(
            f"loop.new_pairs_each_iteration: {instructions.num_records} instructions are {shards}"
            f" shards of pool.shard_size={config.pool.shard_size}, too few for loop.iterations="
            f"{iterations}; lower pool.shard_size, or give a larger pool"
        )


def gathers(run: Run) -> bool:
    """Whether what the engines made is not yet all the pairs."""
    return bool(run.config.perturb.pairs_per_instruction) or run.config.length_balance.enabled


def _folders(run: Run, stage: str, iteration: int) -> dict[str, str]:
    layout = run.layout
    return {
        split: layout.stage(iteration, stage) if split == "train" else layout.split(split, stage)
        for split in SPLITS
    }


def _sources(folders: dict[str, str], manifests: list[Any]) -> dict[str, Source]:
    return {
        split: Source.of(folders[split], done)
        for split, done in zip(SPLITS, manifests, strict=True)
    }


def _generator_recipe(run: Run, generator: PlacedModel) -> dict[str, Any]:
    config = run.config
    engine = config.generator.engine if config.generator is not None else config.engine
    return {
        "model": generator.ref.fingerprint,
        "engine": identity(engine),
        "seed": config.loop.seed,
    }


def _respond(
    run: Run, sources: dict[str, Source], generator: PlacedModel, iteration: int
) -> dict[str, Source]:
    config = run.config
    folders = _folders(run, "responses", iteration)
    inputs = {split: shards_of(sources[split].folder) for split in SPLITS}
    slices: dict[str, Any] = {}
    num_rows = {split: sources[split].num_records for split in SPLITS}
    if config.loop.new_pairs_each_iteration:
        inputs["train"] = inputs["train"][iteration - 1 :: config.loop.iterations]
        slices["train"] = {"slice": [iteration, config.loop.iterations]}
        num_rows["train"] = min(num_rows["train"], len(inputs["train"]) * config.pool.shard_size)
    recipe = _generator_recipe(run, generator) | {"respond": identity(config.respond)}
    done = run_step(
        run,
        "respond",
        Respond(config=config.respond, seed=config.loop.seed),
        [
            Output(
                folder=folders[split],
                inputs=inputs[split],
                recipe=recipe | {"input": sources[split].fingerprint} | slices.get(split, {}),
                num_rows=num_rows[split],
            )
            for split in SPLITS
        ],
        lambda: run.pools.generator(generator),
    )
    return _sources(folders, done)


def _outputs(
    folders: dict[str, str],
    sources: dict[str, Source],
    recipe: dict[str, Any],
    splits: Sequence[str] = SPLITS,
) -> list[Output]:
    return [output_of(folders[split], sources[split], recipe) for split in splits]


def _corrupt(
    run: Run, answers: dict[str, Source], generator: PlacedModel, iteration: int
) -> dict[str, Source]:
    config = run.config
    folders = _folders(run, "corrupted" if gathers(run) else "pairs", iteration)
    done = run_step(
        run,
        "corrupt",
        Corrupt(
            config=config.corrupt,
            respond_sampling=config.respond.sampling,
            seed=config.loop.seed,
        ),
        _outputs(
            folders,
            answers,
            _generator_recipe(run, generator) | {"corrupt": identity(config.corrupt)},
        ),
        lambda: run.pools.generator(generator),
    )
    return _sources(folders, done)


def _perturb(run: Run, answers: dict[str, Source], iteration: int) -> dict[str, Source]:
    config = run.config
    folders = _folders(run, "perturbed", iteration)
    # Judges are measured on every kind, also on those that they are trained without.
    every = config.perturb.model_copy(update={"without": ()})
    found: dict[str, Source] = {}
    for title, wanted, splits in (
        ("perturb", config.perturb, ("train", "validation")),
        ("perturb, heldout", every, ("heldout",)),
    ):
        recipe = {"perturb": identity(wanted), "seed": config.loop.seed}
        outputs = _outputs(folders, answers, recipe, splits)
        done = run_step(run, title, Perturb(config=wanted, seed=config.loop.seed), outputs)
        found |= {
            split: Source.of(folders[split], made) for split, made in zip(splits, done, strict=True)
        }
    return found


def _gather(run: Run, made: list[dict[str, Source]], iteration: int) -> dict[str, Source]:
    config = run.config
    folders = _folders(run, "pairs", iteration)
    recipe = {"length_balance": identity(config.length_balance)}
    gathered = {}
    for split in SPLITS:
        sources = [m[split] for m in made]
        inputs = shards_of(*(s.folder for s in sources))
        stage_recipe = recipe | {"inputs": [s.fingerprint for s in sources]}
        url = None
        if config.length_balance.enabled:
            url = join(folders[split], "dropped_for_length.json")
            if not open_stage(folders[split], "gather", stage_recipe).is_complete:
                edges = config.length_balance.ratio_edges
                on_cluster(run, write_dropped, inputs, url, edges)
        gathered[split] = fill(
            run,
            "gather pairs" if split == "train" else f"gather pairs, {split}",
            Gather(dropped_url=url),
            Output(
                folder=folders[split],
                inputs=inputs,
                recipe=stage_recipe,
                num_rows=sum(s.num_records for s in sources),
            ),
        )
    return gathered
