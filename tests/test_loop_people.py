"""People's answers as a condition of promotion (`promotion.min_human_agreement`)."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward.config import RunConfig
from selfreward.config_loading import parse_config
from selfreward.errors import ConfigError
from selfreward.layout import Layout, join
from selfreward.loops.people import refused_by_people
from selfreward.loops.steps import Run
from selfreward.records import Message, Position, ResponsePair
from selfreward.serving.review.queue import draw_tasks
from selfreward.serving.review.store import ReviewStore
from selfreward.serving.review_wire import ReviewAnswer
from tests.run_folders import M1, judgment, new_run, write_stage

NUM_PAIRS = 10


def make_run(layout: Layout, **promotion: Any) -> Run:
    config = RunConfig.model_validate({"run_dir": layout.root, "promotion": promotion})
    unused: Any = SimpleNamespace()
    return Run(config=config, layout=layout, pools=unused, display=unused, board=unused)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A run whose M1 names the chosen response of all ten held-out pairs in both orders."""
    layout = new_run(str(tmp_path / "run"), "self_taught", 1)
    pairs = [
        ResponsePair.new(
            instruction_id=f"ins-{i}",
            messages=(Message(role="user", content=f"Question {i}?"),),
            chosen=f"Good {i}.",
            rejected=f"Bad {i}.",
            corruption="rewrite",
        )
        for i in range(NUM_PAIRS)
    ]
    write_stage(layout.split("heldout", "pairs"), "corrupt", pairs, shard_size=NUM_PAIRS)
    readings = [
        judgment(pair.id, M1, position, 0, letter)
        for pair in pairs
        for position, letter in ((Position.CHOSEN_FIRST, "A"), (Position.REJECTED_FIRST, "B"))
    ]
    write_stage(
        join(layout.evaluation(1), "heldout"), "evaluate", readings, shard_size=2 * NUM_PAIRS
    )
    return layout


def review(layout: Layout, num_right: int) -> None:
    """One reviewer answers every task and names the chosen response in `num_right` of them."""
    folder = Path(layout.root) / "serving"
    folder.mkdir()
    store = ReviewStore(f"sqlite:///{folder / 'review.sqlite'}")
    store.add_tasks(draw_tasks(layout, 100, 0))
    for number in range(NUM_PAIRS):
        served = store.next_task("ada")
        assert served is not None
        shown = [served.item.responses[i] for i in served.order]
        wanted = "Good" if number < num_right else "Bad"
        label = "AB"[[text.startswith(wanted) for text in shown].index(True)]
        store.save_answer("ada", ReviewAnswer(task_id=served.item.id, choice=label))
    store.close()


def test_nobody_is_asked_unless_the_recipe_says_so(layout: Layout) -> None:
    assert refused_by_people(make_run(layout), 1) is None


def test_without_answers_nothing_is_promoted(layout: Layout) -> None:
    run = make_run(layout, min_human_agreement=0.6, min_human_answers=5)
    assert refused_by_people(run, 1) == "people have compared 0 of its choices, 5 are wanted"


@pytest.mark.parametrize(
    ("num_right", "refusal"),
    [(8, None), (6, None), (5, "people agree with 0.500 of 10 choices, below 0.6")],
)
def test_agreement_decides(layout: Layout, num_right: int, refusal: str | None) -> None:
    review(layout, num_right)
    run = make_run(layout, min_human_agreement=0.6, min_human_answers=5)
    assert refused_by_people(run, 1) == refusal


def test_too_few_answers_refuse(layout: Layout) -> None:
    review(layout, NUM_PAIRS)
    run = make_run(layout, min_human_agreement=0.6)
    assert refused_by_people(run, 1) == "people have compared 10 of its choices, 20 are wanted"


def test_a_run_on_cloud_storage_must_name_the_database() -> None:
    raw = {"run_dir": "s3://bucket/run", "promotion": {"min_human_agreement": 0.6}}
    with pytest.raises(ConfigError, match=r"needs promotion\.review_database"):
        parse_config(raw)


def test_the_other_loop_refuses_the_setting() -> None:
    raw = {"loop": {"kind": "self_rewarding"}, "promotion": {"min_human_agreement": 0.5}}
    with pytest.raises(ConfigError, match=r"is for loop\.kind=self_taught"):
        parse_config(raw)
