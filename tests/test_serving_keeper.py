"""The keeper of a service that follows a run: what it serves, and what it tells of its troubles."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from selfreward.config_serving import ServingConfig
from selfreward.engines.models import model_fingerprint
from selfreward.layout import Layout
from selfreward.serving.admin_wire import VersionHistory
from selfreward.serving.keeper import Served, VersionKeeper
from selfreward.storage.checkpoints import CurrentJudge, write_current
from tests.tiny_model import make_tiny_model


def point_to(layout: Layout, iteration: int, folder: Path) -> None:
    judge = CurrentJudge(
        iteration=iteration,
        checkpoint=str(folder),
        fingerprint=model_fingerprint(str(folder)),
        accuracy=0.8,
        reason="promoted",
    )
    write_current(layout, judge)


async def history_once(
    keeper: VersionKeeper, is_so: Callable[[VersionHistory], bool]
) -> VersionHistory:
    limit = time.monotonic() + 60
    while not is_so(history := await keeper.history()):
        assert time.monotonic() < limit, history
        await asyncio.sleep(0.02)
    return history


def test_a_pointer_that_vanishes_is_told_and_the_judge_stays(
    tmp_path: Path, tiny_model: Path
) -> None:
    layout = Layout(str(tmp_path / "run"))
    point_to(layout, 0, tiny_model)

    async def follow() -> VersionHistory:
        served = Served(layout=layout, model=str(tiny_model), state_dir=str(tmp_path / "state"))
        keeper = VersionKeeper(served, ServingConfig(follow_interval_s=0.05))
        assert (await keeper.history()).problems == {}
        # Of a replica, which tells the keeper.
        keeper.note("load DataError")
        assert (await keeper.history()).problems == {"load DataError": 1}
        keeper.follow()
        Path(layout.current).unlink()
        troubled = await history_once(keeper, lambda h: h.problems.get("missing", 0) >= 2)
        assert troubled.current.judge.version == 1
        # A judge of other shapes cannot be served: told by its kind, and again the old one stays.
        wide = make_tiny_model(Path(layout.checkpoint(1)), hidden=128)
        point_to(layout, 1, wide)
        return await history_once(keeper, lambda h: "apply DataError" in h.problems)

    last = asyncio.run(follow())
    assert (last.current.judge.version, last.history) == (1, [])
