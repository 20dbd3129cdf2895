"""What a run says of replicas that ended by themselves."""

from types import SimpleNamespace
from typing import Any

from selfreward.config import RunConfig
from selfreward.engines.replica import Loss, Wanted, WeightsBoard
from selfreward.loops.pools import Pools
from selfreward.records import ModelRef


def test_a_board_tells_starts_of_the_pool_from_losses() -> None:
    model = ModelRef(name="m", iteration=0, fingerprint="f")
    board = WeightsBoard(Wanted(model=model, folder="w"))
    board.expect(["judge-0", "judge-1"])
    for name in ("judge-0", "judge-1", "judge-1"):
        board.begin_start(name)
    board.note_failure("judge-0", "ValueError: a bad step")
    board.begin_start("judge-0")
    assert board.list_losses() == [
        Loss(replica="judge-1", said=""),
        Loss(replica="judge-0", said="ValueError: a bad step"),
    ]
    # Said of that end, and of no later one.
    assert (board.last_failure("judge-0"), board.num_starts()) == ("", 4)
    # Released and started again by the pool itself.
    board.expect(["judge-1"])
    board.begin_start("judge-1")
    assert len(board.list_losses()) == 2


def test_every_loss_is_told_once_with_what_usually_mends_it() -> None:
    lines: list[str] = []
    display: Any = SimpleNamespace(line=lines.append)
    pools = Pools(RunConfig(), "run", display)
    losses = [Loss(replica="judge-0", said="")]
    pools._judge = SimpleNamespace(losses=lambda: list(losses))  # type: ignore[assignment]
    pools.tell_losses()
    pools.tell_losses()
    losses.append(Loss(replica="judge-1", said="ValueError: a bad step"))
    pools.tell_losses()
    assert lines == [
        "replica judge-0 ended and was started anew: without a word; most often Ray ended it"
        " because its node ran out of memory; lower engine.kv_cache_gib, or set"
        " engine.placement=shared, with which no engine is up while a training runs",
        "replica judge-1 ended and was started anew: ValueError: a bad step",
    ]
