"""The judge stage: N draws in both orders, in rounds that stop when training has what it needs.

Draw j of a pair's order is always sampled with the same seed, however the draws fall into rounds,
so adaptive judging keeps a prefix of what fixed-N judging would draw: the kept judgment is the
first right one of N independent draws, which has the same distribution as one right draw of N
taken at random (arXiv 2408.02666, section 3.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selfreward.config import SamplingConfig
from selfreward.engines.protocol import Completion, Generate, GenerationRequest
from selfreward.judging.rubrics import get_pairwise_rubric, verdict_choices, verdict_regex
from selfreward.judging.selection import judged_prompt, needs_more
from selfreward.judging.verdicts import parse_pairwise
from selfreward.records import (
    DroppedRow,
    Judgment,
    Position,
    ResponsePair,
    derived_seed,
)
from selfreward.stages.sampling import failed, sampling_of
from selfreward.storage.shards import RowResult, read_records

# "A" and an end of turn, with room for a tokenizer that splits the letter from a space.
_LETTER_TOKENS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    rubric_id: str
    sampling: SamplingConfig
    guided: bool
    num_draws: int
    seed: int
    objective: Literal["sft", "dpo"]
    adaptive: bool
    draws_per_round: int = 1
    max_draws_per_round: int = 8
    orders: Literal["both", "random"] = "both"
    """`random`: each pair is read in one order, by its id: half the cost, no bias figures."""
    by_probability: bool = False
    """Whether verdicts are made of probabilities: a reading without them is then of no use."""
    name: str = "judge"
    out_type: type[Judgment] = Judgment

    def read(self, inputs: Sequence[str]) -> list[ResponsePair]:
        return read_records(inputs[0], ResponsePair)

    async def process(
        self, rows: Sequence[ResponsePair], generate: Generate
    ) -> list[RowResult[Judgment]]:
        results = [RowResult[Judgment](row.id) for row in rows]
        open_orders = [
            _Order(i, row, p) for i, row in enumerate(rows) for p in self._positions(row)
        ]
        drawn, size = 0, min(self.draws_per_round, self.max_draws_per_round)
        if not self.adaptive or verdict_choices(get_pairwise_rubric(self.rubric_id)):
            # N letters cost less than reading the prompt for a second round.
            size = self.num_draws
        while open_orders and drawn < self.num_draws:
            size = min(size, self.num_draws - drawn)
            requests = [self._request(order, drawn, size) for order in open_orders]
            for order, completion in zip(open_orders, await generate(requests), strict=True):
                order.drop = failed(completion, order.pair.id, self.name)
                order.judgments += self._judgments(order, completion, drawn)
            drawn += size
            size = min(2 * size, self.max_draws_per_round)
            finished = [o for o in open_orders if self._is_done(o)]
            for order in finished:
                _close(order, results[order.row])
            open_orders = [o for o in open_orders if o not in finished]
        for order in open_orders:
            _close(order, results[order.row])
        for result in results:
            # Rounds end in any order; what is written must not depend on it.
            result.records.sort(key=lambda j: (j.position, j.draw))
        return results

    def _positions(self, pair: ResponsePair) -> tuple[Position, ...]:
        return positions_of(pair.id, self.orders, self.seed)

    def _is_done(self, order: "_Order") -> bool:
        if order.drop is not None:
            return True
        return self.adaptive and not needs_more(order.judgments, self.objective)

    def _request(self, order: "_Order", first_draw: int, size: int) -> GenerationRequest:
        rubric = get_pairwise_rubric(self.rubric_id)
        choices = verdict_choices(rubric)
        seed = derived_seed(self.seed, "judge", order.pair.id, order.position.value)
        return GenerationRequest(
            id=f"{order.pair.id}/{order.position.value}/{first_draw}",
            purpose="judge",
            messages=judged_prompt(rubric, order.pair, order.position),
            sampling=sampling_of(
                self.sampling,
                # Draw j has the seed of the order plus j, whatever the round it falls into.
                seed=seed + first_draw,
                n=size,
                max_tokens=_LETTER_TOKENS if choices else None,
                choices=choices if self.guided else (),
                regex=verdict_regex(rubric) if self.guided and not choices else None,
                logps_of=("A", "B"),
                needs_logps=self.by_probability,
            ),
        )

    def _judgments(
        self, order: "_Order", completion: Completion, first_draw: int
    ) -> list[Judgment]:
        rubric = get_pairwise_rubric(self.rubric_id)
        return [
            Judgment.new(
                pair_id=order.pair.id,
                judge=completion.model,
                rubric_id=self.rubric_id,
                position=order.position,
                draw=first_draw + i,
                text=draw.text,
                finish_reason=draw.finish_reason,
                num_tokens=draw.num_tokens,
                num_prompt_tokens=completion.num_prompt_tokens,
                verdict=parse_pairwise(rubric, draw.text, draw.finish_reason, draw.logps),
            )
            for i, draw in enumerate(completion.draws)
        ]


def positions_of(
    pair_id: str, orders: Literal["both", "random"], seed: int
) -> tuple[Position, ...]:
    """The orders in which a pair is read."""
    if orders == "both":
        return tuple(Position)
    return (tuple(Position)[derived_seed(seed, "order", pair_id) % 2],)


@dataclass(slots=True, eq=False)
class _Order:
    """One pair in one order, while it is being judged."""

    row: int
    pair: ResponsePair
    position: Position
    judgments: list[Judgment]
    drop: DroppedRow | None

    def __init__(self, row: int, pair: ResponsePair, position: Position) -> None:
        self.row, self.pair, self.position = row, pair, position
        self.judgments, self.drop = [], None


def _close(order: _Order, result: RowResult[Judgment]) -> None:
    result.records += order.judgments
    if order.drop is not None and not result.dropped:
        result.dropped.append(order.drop)
