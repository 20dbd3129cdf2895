"""The review of a run that goes on while it is served."""

import asyncio
import threading
from pathlib import Path

import pytest

from selfreward.config_serving import ReviewConfig
from selfreward.layout import Layout, join
from selfreward.records import Judgment, Message, ModelRef, Position, ResponsePair
from selfreward.serving import review_desk
from selfreward.serving.http_errors import ApiError
from selfreward.serving.keeper import Served
from selfreward.serving.review.agreement import agreement_report, item_verdicts
from selfreward.serving.review.items import ReviewItem
from selfreward.serving.review_desk import ReviewDesk, open_desk
from selfreward.serving.review_wire import ReviewAnswer
from selfreward.storage.checkpoints import CurrentJudge, write_current
from tests.run_folders import M1, judgment, new_run, write_stage
from tests.serving_tools import serving_config

M2 = ModelRef(name="tiny after iteration 2", iteration=2, fingerprint="cccc3333")


def pairs(first: int, num: int) -> list[ResponsePair]:
    return [
        ResponsePair.new(
            instruction_id=f"ins-{i}",
            messages=(Message(role="user", content=f"Question {i}?"),),
            chosen=f"Good {i}.",
            rejected=f"Bad {i}.",
            corruption="rewrite",
        )
        for i in range(first, first + num)
    ]


def read_by(judge: ModelRef, rows: list[ResponsePair]) -> list[Judgment]:
    orders = ((Position.CHOSEN_FIRST, "A"), (Position.REJECTED_FIRST, "B"))
    return [judgment(pair.id, judge, order, 0, letter) for pair in rows for order, letter in orders]


def point_to(layout: Layout, iteration: int) -> None:
    write_current(
        layout,
        CurrentJudge(
            iteration=iteration,
            checkpoint=layout.checkpoint(iteration),
            fingerprint=f"f{iteration}",
            accuracy=0.8,
            reason="promoted",
        ),
    )


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = new_run(str(tmp_path / "run"), "self_taught", 2)
    rows = pairs(0, 2)
    write_stage(layout.split("heldout", "pairs"), "corrupt", rows, shard_size=2)
    evaluated = join(layout.evaluation(1), "heldout")
    write_stage(evaluated, "evaluate", read_by(M1, rows), shard_size=4)
    point_to(layout, 1)
    return layout


@pytest.fixture
def desk(layout: Layout, tmp_path: Path) -> ReviewDesk:
    served = Served(layout=layout, model="tiny", state_dir=str(tmp_path / "state"))
    desk = open_desk(served, serving_config(review=ReviewConfig()))
    assert desk is not None
    return desk


def agreed(desk: ReviewDesk) -> dict[str, int]:
    tasks = desk.store.answered_tasks()
    report = agreement_report(tasks, desk.store.all_answers(), item_verdicts(tasks))
    return {found.judge: found.num_common for found in report.with_judges}


def test_what_the_run_adds_reaches_the_reviewers(layout: Layout, desk: ReviewDesk) -> None:
    served = desk.store.next_task("ada")
    assert served is not None
    desk.store.save_answer("ada", ReviewAnswer(task_id=served.item.id, choice="A"))
    assert agreed(desk) == {"M1": 1}

    evaluated = join(layout.evaluation(2), "heldout")
    write_stage(evaluated, "evaluate", read_by(M2, pairs(0, 2)), shard_size=4)
    new = pairs(2, 3)
    write_stage(layout.pairs(2), "corrupt", new, shard_size=3)
    write_stage(layout.judgments(2), "judge", read_by(M1, new), shard_size=6)
    point_to(layout, 2)
    desk.refresh()

    assert agreed(desk) == {"M1": 1, "M2": 1}
    assert len(desk.store.task_ids()) == 5
    assert desk.store.counts("ada") == (4, 1)


def test_the_desk_looks_by_itself_and_reads_nothing_twice(
    layout: Layout, desk: ReviewDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review_desk, "LOOK_INTERVAL_S", 0.02)
    read: list[int] = []
    draw = review_desk.draw_tasks

    def counted(layout: Layout, max_tasks: int, seed: int) -> list[ReviewItem]:
        read.append(1)
        return draw(layout, max_tasks, seed)

    monkeypatch.setattr(review_desk, "draw_tasks", counted)

    async def run() -> None:
        following = asyncio.ensure_future(desk.follow())
        await asyncio.sleep(0.2)
        assert read == []
        point_to(layout, 2)
        while not read:
            await asyncio.sleep(0.02)
        following.cancel()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_more_than_the_desk_can_take_are_sent_away(
    desk: ReviewDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    async def run() -> None:
        waiting = [
            asyncio.ensure_future(desk.work(lambda: go.wait(20)))
            for _ in range(review_desk.MAX_AT_ONCE)
        ]
        await asyncio.sleep(0.05)
        with pytest.raises(ApiError) as refused:
            await desk.work(lambda: None)
        assert (refused.value.status, refused.value.detail.code) == (503, "queue_full")
        go.set()
        await asyncio.gather(*waiting)
        await desk.work(lambda: None)

    asyncio.run(asyncio.wait_for(run(), 60))
