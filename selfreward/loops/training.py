"""One training as a step of a loop: its manifest, the engines out of its way, its result."""

import time
from dataclasses import asdict, dataclass

from selfreward.config import TrainingConfig
from selfreward.config_loading import identity
from selfreward.layout import join
from selfreward.loops.pools import PlacedModel
from selfreward.loops.sources import Source
from selfreward.loops.steps import Run
from selfreward.storage.manifest import complete, open_stage
from selfreward.storage.shards import ShardSummary, sealed_shards
from selfreward.training.data import RECORD_OF
from selfreward.training.task import Choice
from selfreward.training.trainer import TrainingJob, train


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What is trained, on what, and where it goes.

    Example: `Training(model="M1", name="iteration-01", config=TrainingConfig(),
    rows=(Source(…),), folder="runs/a/iter_01/training", output="runs/a/iter_01/checkpoint",
    seed=1)`
    """

    model: str
    """What the trained model is called in what is printed."""
    name: str
    config: TrainingConfig
    rows: tuple[Source, ...]
    """Stages of TrainingExample (SFT) or Preference (DPO, reward model) rows, or of packed
    text."""
    folder: str
    output: str
    seed: int
    validation: tuple[str, ...] = ()
    """Shards of TrainingExample rows; of Preference rows for a reward model; of packed text."""
    choose: Choice = "best"
    """Which checkpoint is published; `last` where the validation rows are those that the model is
    reported on: the best on them would flatter it."""
    replay: Source | None = None
    """Packed text that is mixed in, against forgetting."""
    replay_share: float = 0.0
    token_budget: int | None = None
    """Text: tokens to train on; None: as many passes as `config.epochs`."""
    reference: PlacedModel | None = None
    """DPO with `dpo_reference: first`: the model that stands in for the start as the reference."""


def train_model(run: Run, start: PlacedModel, wanted: Training) -> None:
    """Trains from `start` and publishes the chosen checkpoint; a finished training is not repeated.

    Raises:
        TrainingError: it failed after its retries, or ran out of time.
    """
    config, reference = wanted.config, wanted.reference
    recipe = {
        "training": identity(config),
        "start": start.ref.fingerprint,
        "input": [rows.fingerprint for rows in wanted.rows],
        "seed": run.config.loop.seed,
    }
    if reference is not None:
        recipe["reference"] = reference.ref.fingerprint
    if config.objective == "text":
        recipe["token_budget"] = wanted.token_budget
        if wanted.replay is not None:
            recipe |= {"replay": wanted.replay.fingerprint, "share": wanted.replay_share}
    if len(wanted.rows) == 1:
        recipe["input"] = wanted.rows[0].fingerprint
    manifest = open_stage(wanted.folder, "train", recipe)
    if manifest.is_complete:
        return
    run.pools.release_for_training()
    job = TrainingJob(
        name=wanted.name,
        model=_location(start),
        trust_remote_code=run.config.model.trust_remote_code,
        data=tuple(url for rows in wanted.rows for url in sealed_shards(rows.folder)),
        record=RECORD_OF[config.objective],
        validation=wanted.validation,
        choose=wanted.choose,
        config=config,
        output=wanted.output,
        storage_path=join(wanted.folder, "ray_train"),
        seed=wanted.seed,
        reference_cache=join(wanted.folder, "reference"),
        model_fingerprint=start.ref.fingerprint,
        reference_model=None if reference is None else _location(reference),
        reference_fingerprint="" if reference is None else reference.ref.fingerprint,
        replay=() if wanted.replay is None else tuple(sealed_shards(wanted.replay.folder)),
        replay_share=wanted.replay_share,
        token_budget=wanted.token_budget,
        say=run.board.open(f"train {wanted.folder}").say,
    )
    begin = time.monotonic()
    num_rows = sum(rows.num_records for rows in wanted.rows)
    title = f"train {wanted.model} ({config.objective}, {num_rows} rows)"
    with run.display.waiting(title, run.board.said):
        result = train(job)
    summary = ShardSummary(
        index=0,
        num_inputs=num_rows,
        num_records=result.num_examples,
        drops={reason: n for reason, n in result.dropped.items() if n},
        ledger={"train_tokens": result.num_tokens},
    )
    extra = {k: v for k, v in asdict(result).items() if k != "history"}
    complete(wanted.folder, manifest, [summary], time.monotonic() - begin, extra)
    run.display.line(
        f"{wanted.model}: {result.steps} steps, {result.tokens_per_s:.0f} tok/s,"
        + ", ".join(f" {k} {v:.3f}" for k, v in result.metrics.items() if k.startswith("eval/"))
    )


def _location(model: PlacedModel) -> str:
    """A seed by its name, since every node has its own copy of it."""
    return model.ref.name if model.ref.iteration == 0 else model.location
