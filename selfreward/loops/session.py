"""Opening a run: its folder, its seed model, Ray, the engine pools; and closing all of it."""

import getpass
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from selfreward.config import ModelConfig, RunConfig
from selfreward.engines.models import fetch_folder, model_fingerprint, resolve_model
from selfreward.engines.outside_judge import full_name
from selfreward.layout import Layout, absolute_path
from selfreward.loops.pools import PlacedModel, Pools
from selfreward.loops.record import check_record, check_seed, recorded
from selfreward.loops.steps import Run
from selfreward.preflight import Bundle, check_resources, ray_session, release_resources
from selfreward.records import ModelRef, content_id
from selfreward.reports.progress import Display
from selfreward.stages.progress import BoardHandle
from selfreward.storage.manifest import now, read_manifest

_TRAINED = ("checkpoint", "training")


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    seed: PlacedModel
    generator: PlacedModel


@contextmanager
def open_run(
    config: RunConfig, display: Display | None = None, force: str | None = None
) -> Iterator[tuple[Run, Models]]:
    """Checks what can be checked, joins Ray, and yields the run; always stops what it started.

    `force` names a stage to redo, `STAGE` or `STAGE@ITERATION`; its output is removed once
    everything else has been checked.

    Raises:
        UserError: storage, model, resources or the run in the folder do not fit; nothing was
            started then, and nothing written or removed.
    """
    layout = Layout(absolute_path(config.run_dir))
    check_record(layout, config, force)
    models = _models(config)
    seed = models.seed.ref
    check_seed(layout, seed, force)
    facts = {
        "iterations": config.loop.iterations,
        "seed_model": seed.name,
        "seed_fingerprint": seed.fingerprint,
        "generator": models.generator.ref.name,
    }
    with open_cluster(config, layout, display or Display()) as run, recorded(run, facts, force):
        yield run, models


@contextmanager
def open_cluster(
    config: RunConfig,
    layout: Layout,
    display: Display,
    phases: Callable[[], Sequence[Sequence[Bundle]]] | None = None,
) -> Iterator[Run]:
    """Joins Ray and yields what steps need; engines start when first asked for.

    `phases` says which resources are held at once, where they are not those of a whole run; it is
    asked once Ray is there, since an engine's device may depend on the cluster.

    Raises:
        ResourceError: the cluster cannot hold what the config asks for; nothing was started then.
    """
    with ray_session(config.ray):
        try:
            # Inside, since it may ask an autoscaler for nodes, which only the release gives back.
            check_resources(config, phases() if phases is not None else None)
            board = BoardHandle()
            pools = Pools(config, content_id("run", layout.root, getpass.getuser(), now()), display)
            try:
                yield Run(config=config, layout=layout, pools=pools, display=display, board=board)
            finally:
                pools.stop()
                board.stop()
        finally:
            release_resources(config)


def _models(config: RunConfig) -> Models:
    seed = place(config.model)
    if config.generator is None:
        return Models(seed=seed, generator=seed)
    return Models(seed=seed, generator=place(config.generator.model))


def place(model: ModelConfig) -> PlacedModel:
    """Finds a seed model and takes its fingerprint.

    Raises:
        ModelNotFoundError: the name leads nowhere.
    """
    name = full_name(model)
    folder = resolve_model(name)
    ref = ModelRef(name=name, iteration=0, fingerprint=model_fingerprint(folder))
    return PlacedModel(ref=ref, location=folder)


def run_model(
    layout: Layout, seed: ModelConfig, iteration: int, part: str | None = None
) -> PlacedModel:
    """The judge of an iteration of a run: its seed, or what the iteration trained.

    `part` names a model trained on the way to it, in folders of that prefix.

    Raises:
        ModelNotFoundError: there is no such model.
    """
    if iteration == 0:
        return place(seed)
    location, training = layout.checkpoint(iteration), layout.training(iteration)
    if part is not None:
        location, training = (layout.stage(iteration, f"{part}_{x}") for x in _TRAINED)
    local = location
    if "://" in location:
        manifest = read_manifest(training)
        # The time is part of the key: a training that is redone must not find the old copy.
        key = f"{manifest.fingerprint} {manifest.finished_at}" if manifest else ""
        local = fetch_folder(location, key=key)
    # Where the run lies is no part of the name: the same run elsewhere makes the same records.
    name = f"{seed.name} after iteration {iteration}{f', {part}' if part else ''}"
    ref = ModelRef(name=name, iteration=iteration, fingerprint=model_fingerprint(local))
    return PlacedModel(ref=ref, location=location)
