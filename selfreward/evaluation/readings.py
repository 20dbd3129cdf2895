"""What a judge said to each row of a file, for people to look at: one JSON object a row.

The verdicts are those the figures are made of; the texts come from the judge's stage.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from selfreward.evaluation.evaluated import mean_rating
from selfreward.evaluation.outcomes import compared_scores
from selfreward.metrics.best_of import BestOfOutcome
from selfreward.metrics.pairwise import PairOutcome, accuracy_per_pair
from selfreward.records import DroppedRow, Judgment, Outcome, Position, ResponsePair, Verdict
from selfreward.records_scores import BestOfReading, PairScore, Rating, ScoredResponse
from selfreward.stages.best_of import Question
from selfreward.storage import files
from selfreward.storage.shards import dropped_rows, read_records, sealed_shards

Row = dict[str, Any]
Texts = dict[tuple[str, Position], list[str]]
"""By pair and order: what the judge wrote, draw by draw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairReadings:
    """Pairs of one file and what was said to them.

    Example: `PairReadings(data="pairs", rows="w/data/pairs", folder="w/evaluate/pairs",
    outcomes=(PairOutcome(…),))`
    """

    data: str
    rows: str
    """Folder of the file's records."""
    folder: str
    """Folder of the judge's stage."""
    outcomes: Sequence[PairOutcome]
    scores_alone: bool = False
    """Whether the responses were scored one by one."""
    likelihood: str | None = None
    """How log-probabilities were compared."""

    def __iter__(self) -> Iterator[Row]:
        outcomes = {o.pair_id: o for o in self.outcomes}
        drops = {d.row_id: d for d in dropped_rows(self.folder)}
        shards = zip(sealed_shards(self.rows), sealed_shards(self.folder), strict=True)
        for rows_url, made_url in shards:
            said = {} if self.scores_alone else _texts(read_records(made_url, Judgment))
            scores = read_records(made_url, PairScore) if self.scores_alone else []
            by_pair = {s.pair_id: compared_scores(s, self.likelihood) for s in scores}
            for pair in read_records(rows_url, ResponsePair):
                row = self._row(pair, outcomes.get(pair.id), said)
                if pair.id in by_pair:
                    chosen, rejected = by_pair[pair.id]
                    row["scores"] = {"chosen": chosen, "rejected": rejected}
                yield row | _dropped(drops.get(pair.id))

    def _row(self, pair: ResponsePair, outcome: PairOutcome | None, said: Texts) -> Row:
        verdicts: dict[Position, Verdict | None] = {}
        if outcome is not None:
            verdicts[Position.CHOSEN_FIRST] = outcome.chosen_first
            verdicts[Position.REJECTED_FIRST] = outcome.rejected_first
        return {
            "kind": "pair",
            "data": self.data,
            "id": pair.source_id or pair.id,
            "pair_id": pair.id,
            "subset": pair.corruption,
            "accuracy": None if outcome is None else float(accuracy_per_pair([outcome])[0]),
        } | {
            position.value: _order(position, verdicts.get(position), said.get((pair.id, position)))
            for position in Position
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreReadings:
    """Scored responses of one file and the ratings they got.

    Example: `ScoreReadings(data="points", rows="w/data/points", folder="w/rate/points")`
    """

    data: str
    rows: str
    folder: str
    subset: str | None = None
    """Which alone were rated, where not all were."""

    def __iter__(self) -> Iterator[Row]:
        drops = {d.row_id: d for d in dropped_rows(self.folder)}
        shards = zip(sealed_shards(self.rows), sealed_shards(self.folder), strict=True)
        for rows_url, ratings_url in shards:
            ratings: dict[str, list[Rating]] = defaultdict(list)
            for rating in read_records(ratings_url, Rating):
                ratings[rating.response_id].append(rating)
            for found in read_records(rows_url, ScoredResponse):
                if self.subset is None or found.subset == self.subset:
                    yield self._row(found, ratings[found.id]) | _dropped(drops.get(found.id))

    def _row(self, found: ScoredResponse, ratings: Sequence[Rating]) -> Row:
        return {
            "kind": "response",
            "data": self.data,
            "id": found.source_id or found.id,
            "response_id": found.id,
            "group": found.group,
            "subset": found.subset,
            "human": found.score,
            "score": mean_rating(ratings),
            "outcomes": [r.verdict.outcome.value for r in ratings],
            "texts": [r.text for r in ratings],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceReadings:
    """Questions with several responses that were asked as one choice.

    Example: `ChoiceReadings(data="rb2", folder="w/best_of/rb2", questions=(Question(…),),
    outcomes=(BestOfOutcome(…),))`
    """

    data: str
    folder: str
    questions: Sequence[Question]
    outcomes: Sequence[BestOfOutcome]

    def __iter__(self) -> Iterator[Row]:
        outcomes = {o.question_id: o for o in self.outcomes}
        drops = {d.row_id: d for d in dropped_rows(self.folder)}
        texts: dict[str, list[str]] = defaultdict(list)
        for url in sealed_shards(self.folder):
            for reading in read_records(url, BestOfReading):
                texts[reading.question_id].append(reading.text)
        for question in self.questions:
            row: Row = {"kind": "choice", "data": self.data}
            row |= {"id": question.source_id or question.id, "question_id": question.id}
            row["subset"] = question.subset
            outcome = outcomes.get(question.id)
            if outcome is not None:
                row |= {
                    "right_slot": outcome.gold,
                    "slot": outcome.verdict.slot,
                    "outcome": outcome.verdict.outcome.value,
                    "is_right": outcome.is_right,
                    "texts": texts[question.id],
                }
            yield row | _dropped(drops.get(question.id))


Readings = PairReadings | ScoreReadings | ChoiceReadings


def write_readings(url: str, found: Iterable[Iterable[Row]]) -> None:
    """Writes a line of JSON for every row of every file that the judge was asked about."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for rows in found for row in rows)
    files.write_bytes(url, "".join(lines).encode())


def _texts(judgments: Sequence[Judgment]) -> Texts:
    texts: Texts = defaultdict(list)
    for judgment in sorted(judgments, key=lambda j: j.draw):
        texts[judgment.pair_id, judgment.position].append(judgment.text)
    return texts


def _order(position: Position, verdict: Verdict | None, texts: Sequence[str] | None) -> Row | None:
    """One order of a pair: which response was named, and P(the better one)."""
    if verdict is None:
        return None
    chosen_is_first = position is Position.CHOSEN_FIRST
    named = verdict.outcome.value
    if verdict.outcome is Outcome.CHOICE:
        named = "chosen" if (verdict.choice == "first") is chosen_is_first else "rejected"
    first = verdict.probability_first
    return {
        "verdict": named,
        "is_right": named == "chosen",
        "probability_chosen": first if first is None or chosen_is_first else 1 - first,
        "texts": list(texts or ()),
    }


def _dropped(drop: DroppedRow | None) -> Row:
    if drop is None:
        return {}
    return {"dropped": {"reason": drop.reason.value, "detail": drop.detail}}
