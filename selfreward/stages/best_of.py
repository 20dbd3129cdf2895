"""The stage that asks a judge for the best of several responses, of which one is known to be right.

The right response stands at a slot drawn from the seed and the question's id, the wrong ones around
it in the file's order (arXiv 2506.01937 draws a slot too). The slot is recorded with each reading.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from selfreward.config import SamplingConfig
from selfreward.engines.protocol import Completion, Generate, GenerationRequest
from selfreward.judging.best_of import (
    MAX_SHOWN,
    BestOfRubric,
    best_of_choices,
    best_of_regex,
    parse_best_of,
    render_best_of,
)
from selfreward.records import Conversation, content_id, derived_seed
from selfreward.records_scores import BestOfReading, ScoredResponse
from selfreward.stages.labelled import write_shards
from selfreward.stages.sampling import failed, sampling_of
from selfreward.storage.shards import RowResult, ShardSummary, read_records

# A letter and an end of turn, with room for a tokenizer that splits the letter from a space.
_LETTER_TOKENS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One right response to a prompt and the wrong ones beside it.

    Example: `Question(id="que-21…", messages=(Message(…),), right="Paris.", wrong=("Lyon.",
    "Nice.", "Brest."), subset="Factuality")`
    """

    id: str
    messages: Conversation
    right: str
    wrong: tuple[str, ...]
    """As the file has them."""
    subset: str
    source_id: str | None = None
    """The `id` of the file's row."""


def read_questions(urls: Sequence[str], apart: str) -> list[Question]:
    """Puts the scored responses of one file together by question, in the file's order.

    Right responses score 1 and wrong ones 0. Those of the subset `apart` make no questions.

    Raises:
        ValueError: a question has not exactly one right response and one to three wrong ones.
    """
    return [_question(*key, rows) for key, rows in _groups(urls, apart).items()]


def build_questions(
    urls: Sequence[str], folder: str, shard_size: int, apart: str
) -> list[ShardSummary]:
    """Writes the responses of one file anew, as shards of `shard_size` whole questions each."""
    groups = list(_groups(urls, apart).values())
    shards = [
        [row for rows in groups[i : i + shard_size] for row in rows]
        for i in range(0, len(groups), shard_size)
    ]
    return list(write_shards(folder, shards, [], ScoredResponse))


def _groups(urls: Sequence[str], apart: str) -> dict[tuple[str, str], list[ScoredResponse]]:
    groups: dict[tuple[str, str], list[ScoredResponse]] = {}
    for url in urls:
        for row in read_records(url, ScoredResponse):
            if row.subset != apart:
                groups.setdefault((row.group, row.subset), []).append(row)
    return groups


def _question(group: str, subset: str, rows: Sequence[ScoredResponse]) -> Question:
    known = [row for row in rows if (row.low, row.high) == (0, 1)]
    right = [row.response for row in known if row.score == 1]
    wrong = tuple(row.response for row in known if row.score == 0)
    if len(right) != 1 or not 1 <= len(wrong) < MAX_SHOWN or len(wrong) + 1 < len(rows):
        raise ValueError(
            f"question {group!r} has {len(right)} right and {len(rows) - len(right)} other"
            f" responses: it takes one right and 1 to {MAX_SHOWN - 1} wrong ones"
        )
    return Question(
        id=content_id("que", group, subset),
        messages=rows[0].messages,
        right=right[0],
        wrong=wrong,
        subset=subset,
        source_id=rows[0].source_id,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOf:
    """N draws of each question's best response. Inputs: shards of responses in which questions
    are whole, as `build_questions` writes them."""

    rubric: BestOfRubric
    sampling: SamplingConfig
    guided: bool
    num_draws: int
    seed: int
    apart: str
    """Subset that is left out."""
    name: str = "best_of"
    out_type: type[BestOfReading] = BestOfReading

    def read(self, inputs: Sequence[str]) -> list[Question]:
        return read_questions(inputs, self.apart)

    async def process(
        self, rows: Sequence[Question], generate: Generate
    ) -> list[RowResult[BestOfReading]]:
        completions = await generate([self._request(row) for row in rows])
        results = []
        for row, completion in zip(rows, completions, strict=True):
            drop = failed(completion, row.id, self.name)
            readings = self._readings(row, completion)
            results.append(RowResult(row.id, readings, [] if drop is None else [drop]))
        return results

    def _request(self, row: Question) -> GenerationRequest:
        num_shown = len(row.wrong) + 1
        shown = list(row.wrong)
        shown.insert(slot_of(row, self.seed), row.right)
        choices = best_of_choices(self.rubric, num_shown)
        regex = best_of_regex(self.rubric, num_shown)
        return GenerationRequest(
            id=f"{row.id}/best_of",
            purpose="best_of",
            messages=render_best_of(self.rubric, row.messages, shown),
            sampling=sampling_of(
                self.sampling,
                seed=derived_seed(self.seed, "best_of", row.id),
                n=self.num_draws,
                max_tokens=_LETTER_TOKENS if choices else None,
                choices=choices if self.guided else (),
                regex=regex if self.guided else None,
            ),
        )

    def _readings(self, row: Question, completion: Completion) -> list[BestOfReading]:
        num_shown = len(row.wrong) + 1
        return [
            BestOfReading.new(
                question_id=row.id,
                judge=completion.model,
                rubric_id=self.rubric.id,
                draw=i,
                gold=slot_of(row, self.seed),
                num_shown=num_shown,
                text=draw.text,
                finish_reason=draw.finish_reason,
                num_tokens=draw.num_tokens,
                num_prompt_tokens=completion.num_prompt_tokens,
                verdict=parse_best_of(self.rubric, num_shown, draw.text, draw.finish_reason),
            )
            for i, draw in enumerate(completion.draws)
        ]


def slot_of(question: Question, seed: int) -> int:
    """The slot in which a question's right response is shown, from 0."""
    return derived_seed(seed, "slot", question.id) % (len(question.wrong) + 1)
