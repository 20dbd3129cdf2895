"""The record of a run, `run.json` and `config.yaml`: what it lets be done in its folder, and when
it changes.

An attempt that is refused leaves the record of the run it was refused for.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from selfreward.config import RunConfig
from selfreward.config_loading import dump_config
from selfreward.errors import ConfigError, RecipeChangedError
from selfreward.layout import Layout
from selfreward.loops.force import check_force, remove_from
from selfreward.loops.steps import Run
from selfreward.records import ModelRef, content_id
from selfreward.storage import files
from selfreward.storage.manifest import now, versions


def check_record(layout: Layout, config: RunConfig, force: str | None) -> None:
    """Refuses a recipe, or a stage to redo, that cannot be of the run in its folder; writes
    nothing.

    Raises:
        ConfigError: the run in the folder is of another loop.
        UserError: `force` names no stage or iteration of the run.
    """
    kind = config.loop.kind
    loop = _read(layout).get("loop", kind)
    if loop != kind:
        raise ConfigError(
            f"{layout.root} holds a run of loop.kind={loop}, this recipe is of {kind}; set another"
            " run_dir"
        )
    if force is not None:
        check_force(layout, force, kind)


def check_seed(layout: Layout, seed: ModelRef, force: str | None) -> None:
    """Refuses a recipe that goes on from another seed model than the run in its folder.

    With `force` the stages compare: what it does not redo may be of no model, or of the
    generator's.

    Raises:
        RecipeChangedError: the seed model's weights are not those that the run began with.
    """
    record = _read(layout)
    began = record.get("seed_fingerprint") or seed.fingerprint
    made = (layout.categorised, layout.iteration(0), layout.iteration(1))
    if force is not None or began == seed.fingerprint or not any(map(files.exists, made)):
        return
    raise RecipeChangedError(
        f"{layout.root} began with {record['seed_model']} (fingerprint {began}), model.name="
        f"{seed.name} has the fingerprint {seed.fingerprint}; use another run_dir, change it back,"
        " or redo what the seed made with --force STAGE"
    )


@contextmanager
def recorded(run: Run, facts: Mapping[str, Any], force: str | None) -> Iterator[None]:
    """Removes what `force` names, records the attempt, and adds in the end what it cost.

    To be entered last of what can refuse a run: nothing comes back.

    Raises:
        UserError: `force` names no stage or iteration of the run.
    """
    layout = run.layout
    if force is not None:
        remove_from(layout, force, run.config.loop.kind)
    urls = [url for url in (layout.run_json, layout.config) if files.exists(url)]
    before = {url: files.read_bytes(url) for url in urls}
    _write(layout, run.config, facts)
    try:
        yield
    except RecipeChangedError:
        for url, data in before.items():
            files.write_bytes(url, data)
        raise
    finally:
        _add_costs(run)


def _write(layout: Layout, config: RunConfig, facts: Mapping[str, Any]) -> None:
    record = _read(layout) or {"id": content_id("run", layout.root, now()), "created_at": now()}
    record |= {"loop": config.loop.kind, **facts, "versions": versions()}
    files.write_json(layout.run_json, record)
    files.write_bytes(layout.config, dump_config(config).encode())


def _add_costs(run: Run) -> None:
    """Stops the engines; an attempt that did nothing adds nothing."""
    layout, pools = run.layout, run.pools
    pools.stop()
    if pools.engine_starts == 0:
        return
    record = _read(layout)
    attempt = {
        "finished_at": now(),
        "engine_starts": pools.engine_starts,
        "swap_seconds": [round(s, 2) for s in pools.swap_seconds],
    }
    record["attempts"] = [*record.get("attempts", []), attempt]
    files.write_json(layout.run_json, record)


def _read(layout: Layout) -> dict[str, Any]:
    try:
        record: dict[str, Any] = files.read_json(layout.run_json)
        return record
    except FileNotFoundError:
        return {}
