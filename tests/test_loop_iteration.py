"""What a recipe's judge section makes of the judging of training pairs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward.config import RunConfig
from selfreward.layout import Layout
from selfreward.loops import iteration
from selfreward.loops.pools import PlacedModel
from selfreward.loops.sources import Source
from selfreward.records import ModelRef, Position, ResponsePair
from selfreward.stages.judge import positions_of


@pytest.mark.parametrize(("orders", "readings"), [("both", 2), ("random", 1)])
def test_training_pairs_are_judged_in_the_orders_the_recipe_names(
    orders: str, readings: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig.model_validate({"judge": {"orders": orders}, "loop": {"seed": 5}})
    layout = Layout(str(tmp_path))
    run: Any = SimpleNamespace(config=config, layout=layout)
    judge = PlacedModel(ref=ModelRef(name="m", iteration=2, fingerprint="f"), location="at/it")
    made: list[Any] = []
    monkeypatch.setattr(
        iteration, "fill", lambda _run, _title, logic, _output, _engine: made.append(logic)
    )
    pairs = Source(folder=str(tmp_path / "pairs"), fingerprint="p", num_records=0)
    iteration.judge_pairs(run, 3, judge, pairs)
    (logic,) = made
    pair = ResponsePair.new(
        instruction_id="ins", messages=(), chosen="a", rejected="b", corruption="rewrite"
    )
    found = positions_of(pair.id, logic.orders, logic.seed)
    assert len(found) == readings
    assert set(found) <= set(Position)
    assert logic.seed == 8, "the loop's seed and the iteration: drawn anew each time"
