"""The baseline stage: judgments by rules that need no model, such as "the longer one"."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selfreward.engines.protocol import Generate
from selfreward.judging.baselines import BASELINES
from selfreward.records import Judgment, ModelRef, Position, ResponsePair
from selfreward.stages.judge import positions_of
from selfreward.storage.shards import RowResult, read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    baseline: str
    """A name in `judging.baselines.BASELINES`."""
    seed: int
    orders: Literal["both", "random"] = "both"
    name: str = "evaluate"
    out_type: type[Judgment] = Judgment

    def read(self, inputs: Sequence[str]) -> list[ResponsePair]:
        return read_records(inputs[0], ResponsePair)

    async def process(
        self, rows: Sequence[ResponsePair], generate: Generate
    ) -> list[RowResult[Judgment]]:
        results = []
        for row in rows:
            positions = positions_of(row.id, self.orders, self.seed)
            records = [self._judgment(row, position) for position in positions]
            results.append(RowResult[Judgment](row.id, records))
        return results

    def _judgment(self, pair: ResponsePair, position: Position) -> Judgment:
        name = f"baseline:{self.baseline}"
        return Judgment.new(
            pair_id=pair.id,
            judge=ModelRef(name=name, iteration=0, fingerprint=name),
            rubric_id=name,
            position=position,
            draw=0,
            text="",
            finish_reason="stop",
            num_tokens=0,
            num_prompt_tokens=0,
            verdict=BASELINES[self.baseline](pair, position, self.seed),
        )
