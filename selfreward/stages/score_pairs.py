"""The scoring stage: both responses of a pair scored on their own, by likelihood or by reward.

A judge without a prompt: a language model says how likely each response is, a reward model how
good. What is made of the numbers is decided later (`judging/likelihood.py`), so four ways of
comparing likelihoods cost one pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from selfreward.engines.protocol import (
    Completion,
    Draw,
    Generate,
    GenerationRequest,
    Sampling,
)
from selfreward.errors import EngineError
from selfreward.records import Conversation, DroppedRow, Message, ResponsePair, content_id
from selfreward.records_scores import PairScore
from selfreward.stages.sampling import failed
from selfreward.storage.shards import RowResult, read_records

NOTHING_ASKED = (Message(role="user", content=""),)
"""What a response is scored behind when its likelihood without the task is wanted: the frame of
the chat template stays, the task is gone."""

SCORING = Sampling(temperature=0.0, max_tokens=1)
"""How a target is asked for: nothing is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePairs:
    alone: bool
    """Whether each response is scored without its task too: likelihoods, not rewards."""
    name: str = "score"
    out_type: type[PairScore] = PairScore

    def read(self, inputs: Sequence[str]) -> list[ResponsePair]:
        return read_records(inputs[0], ResponsePair)

    async def process(
        self, rows: Sequence[ResponsePair], generate: Generate
    ) -> list[RowResult[PairScore]]:
        wanted = [self._requests(row) for row in rows]
        # Pairs may share responses: the nine of a prompt in three styles have six.
        asked: dict[tuple[Conversation, str | None], GenerationRequest] = {}
        for request in (request for found in wanted for request in found):
            asked.setdefault(_text(request), request)
        answers = await generate(list(asked.values()))
        by_text = dict(zip(asked, answers, strict=True))
        return [
            self._result(row, [by_text[_text(request)] for request in found])
            for row, found in zip(rows, wanted, strict=True)
        ]

    def _requests(self, pair: ResponsePair) -> list[GenerationRequest]:
        prompts: dict[str, Conversation] = {"": pair.messages}
        if self.alone:
            prompts["/alone"] = NOTHING_ASKED
        return [
            GenerationRequest(
                id=f"{pair.id}/{side}{suffix}",
                purpose="score",
                messages=messages,
                sampling=SCORING,
                target=text,
            )
            for suffix, messages in prompts.items()
            for side, text in (("chosen", pair.chosen), ("rejected", pair.rejected))
        ]

    def _result(
        self, pair: ResponsePair, completions: Sequence[Completion]
    ) -> RowResult[PairScore]:
        result = RowResult[PairScore](pair.id)
        drops = [failed(c, pair.id, self.name) for c in completions]
        drop: DroppedRow | None = next((d for d in drops if d is not None), None)
        if drop is not None:
            result.dropped.append(drop)
            return result
        draws = [c.draws[0] for c in completions]
        scores = [score_of(d) for d in draws]
        judge = completions[0].model
        result.records.append(
            PairScore(
                id=content_id("psc", pair.id, judge.fingerprint),
                pair_id=pair.id,
                judge=judge,
                chosen=scores[0],
                rejected=scores[1],
                chosen_alone=scores[2] if self.alone else None,
                rejected_alone=scores[3] if self.alone else None,
                chosen_tokens=draws[0].num_tokens,
                rejected_tokens=draws[1].num_tokens,
            )
        )
        return result


def _text(request: GenerationRequest) -> tuple[Conversation, str | None]:
    return request.messages, request.target


def score_of(draw: Draw) -> float:
    """The score of a scored target.

    Raises:
        EngineError: the engine gave none.
    """
    if draw.score is None:
        raise EngineError("the engine was asked to score a text and gave no score")
    return draw.score
