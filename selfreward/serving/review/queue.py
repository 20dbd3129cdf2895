"""Which tasks people are asked, drawn from a run folder of either loop: disagreements first.

Self-taught: pairs with their judgments, of training and held out. Self-rewarding: the responses to
an instruction with their scores, to be ranked, and the pairs that became preferences.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain, combinations, product
from typing import TypeVar

from selfreward.errors import DataError
from selfreward.judging.voting import combine_orders, majority
from selfreward.layout import Layout, join
from selfreward.metrics.agreement import ComparisonLabel
from selfreward.records import (
    Conversation,
    Judgment,
    Outcome,
    Position,
    Preference,
    ResponsePair,
    Verdict,
    content_id,
    derived_seed,
)
from selfreward.records_scores import Rating
from selfreward.records_self_rewarding import SampledInstruction
from selfreward.serving.review.items import JudgedBy, ReviewItem
from selfreward.storage import files
from selfreward.storage.shards import read_records, sealed_shards

RecordT = TypeVar("RecordT")

MAX_RANKED = 4
"""Responses of one ranking: more take people long, and add little."""


def draw_tasks(layout: Layout, max_tasks: int, seed: int) -> list[ReviewItem]:
    """Returns the `max_tasks` tasks of a run on which judges disagree most, the first one first.

    The priority is the sum of up to three disagreements: the entropy of a judge's draws in bits
    (mean over judges and orders), how far the votes of the two orders are apart (0 to 1: the total
    variation distance, mean over judges), and the share of pairs of judges that name different
    winners (0 to 1). Of scored responses it is the entropy alone: every draw of one response is
    compared with every draw of another. Equal priorities are ordered by a hash of id and `seed`.
    In which order a task holds its responses follows from their ids and tells nothing of them.

    Raises:
        DataError: there is no run, nothing in it can be reviewed yet, or its files do not fit.
        StorageError: a file of the run cannot be read.
    """
    iterations = num_iterations(layout)
    found = chain(_pair_tasks(layout, iterations), _response_tasks(layout, iterations))
    tasks = _first(found, max_tasks, seed)
    if not tasks:
        raise DataError(
            f"run {layout.root} has nothing to review yet: no pairs with judgments and no responses"
            " with ratings; let it go on, or set review.enabled=false"
        )
    return tasks


def answered_tasks(layout: Layout, answered: Set[str]) -> list[ReviewItem]:
    """Returns the tasks of a run with these ids, with what its judges said by now.

    Raises:
        DataError: there is no run, or its files do not fit.
        StorageError: a file of the run cannot be read.
    """
    iterations = num_iterations(layout)
    found = chain(_pair_tasks(layout, iterations), _response_tasks(layout, iterations))
    return [task for task in found if task.id in answered]


def num_iterations(layout: Layout) -> int:
    """How many iterations a run is to have. Raises DataError where there is no run."""
    try:
        record = files.read_json(layout.run_json)
    except FileNotFoundError:
        raise DataError(f"no run at {layout.root}: it has no run.json") from None
    if not isinstance(record, dict) or not isinstance(record.get("iterations"), int):
        raise DataError(f"{layout.run_json} does not say how many iterations the run has")
    return int(record["iterations"])


def _first(tasks: Iterable[ReviewItem], num: int, seed: int) -> list[ReviewItem]:
    """The `num` first tasks, one of each id; holds twice as many at most, however many come."""

    def place(task: ReviewItem) -> tuple[float, int, str]:
        return -task.priority, derived_seed(seed, "review", task.id), task.id

    kept: dict[str, ReviewItem] = {}
    for task in tasks:
        kept[task.id] = task
        if len(kept) >= 2 * num:
            kept = {t.id: t for t in sorted(kept.values(), key=place)[:num]}
    return sorted(kept.values(), key=place)[:num]


def _read(url: str, record_type: type[RecordT]) -> list[RecordT]:
    """The records of a shard, none where it is not sealed."""
    try:
        return read_records(url, record_type)
    except FileNotFoundError:
        return []
    except DataError as error:
        raise DataError(f"{url}: {error}") from None


def _judged_pairs(layout: Layout, iterations: int) -> list[tuple[str, list[str]]]:
    """Folders of pairs, each with those of the judgments of its pairs."""
    heldout = [join(layout.evaluation(i), "heldout") for i in range(iterations + 1)]
    found = {layout.split("heldout", "pairs"): heldout}
    pairs: str | None = None
    for iteration in range(1, iterations + 1):
        # Without pairs of its own an iteration judges those of an earlier one again.
        if sealed_shards(layout.pairs(iteration)):
            pairs = layout.pairs(iteration)
        judgments = layout.judgments(iteration)
        if pairs is not None:
            found.setdefault(pairs, []).append(judgments)
        elif sealed_shards(judgments):
            raise DataError(
                f"{judgments}: its pairs are gone; bring {layout.pairs(iteration)} back"
            )
    return list(found.items())


def _pair_tasks(layout: Layout, iterations: int) -> Iterator[ReviewItem]:
    for pairs, judged in _judged_pairs(layout, iterations):
        for url in sealed_shards(pairs):
            name = url.rpartition("/")[2]
            rows = _read(url, ResponsePair)
            readings: dict[str, list[Judgment]] = {row.id: [] for row in rows}
            for folder in judged:
                for judgment in _read(join(folder, name), Judgment):
                    if judgment.pair_id not in readings:
                        raise DataError(
                            f"{join(folder, name)} is about {judgment.pair_id}, which is not in"
                            f" {url}: they are not of one run; judge the pairs again"
                        )
                    readings[judgment.pair_id].append(judgment)
            for row in rows:
                if readings[row.id] and row.chosen.strip() != row.rejected.strip():
                    yield _pair_task(row, readings[row.id])


def _pair_task(pair: ResponsePair, judgments: Sequence[Judgment]) -> ReviewItem:
    chosen_id = pair.chosen_id or content_id("res", pair.id, "chosen")
    rejected_id = pair.rejected_id or content_id("res", pair.id, "rejected")
    texts = {chosen_id: pair.chosen, rejected_id: pair.rejected}
    chosen_is_first = _ordered(pair.id, texts)[0] == chosen_id
    straight = Position.CHOSEN_FIRST if chosen_is_first else Position.REJECTED_FIRST
    by_judge: dict[int, dict[Position, list[Verdict]]] = defaultdict(lambda: defaultdict(list))
    for judgment in judgments:
        by_judge[judgment.judge.iteration][judgment.position].append(judgment.verdict)
    judged, splits, apart = [], [], []
    for iteration, orders in sorted(by_judge.items()):
        said = JudgedBy(judge=f"M{iteration}", label=_label(orders, straight), scores=None)
        judged.append(said)
        votes = [_votes(verdicts, p is straight) for p, verdicts in orders.items()]
        votes = [v for v in votes if v.total()]
        splits += [_entropy(v) for v in votes if v.total() > 1]
        if len(votes) == len(Position):
            apart.append(_distance(*votes))
    labels = [said.label for said in judged if said.label is not None]
    different = [one != other for one, other in combinations(labels, 2)]
    return _task(
        pair.id, pair.instruction_id, pair.messages, texts, judged, splits, apart, different
    )


def _votes(verdicts: Sequence[Verdict], is_straight: bool) -> Counter[ComparisonLabel]:
    """How the draws of one order fell, by the task's order of the responses."""
    votes: Counter[ComparisonLabel] = Counter()
    for verdict in verdicts:
        if verdict.outcome is Outcome.TIE:
            votes["tie"] += 1
        elif verdict.choice is not None:
            votes["first" if (verdict.choice == "first") == is_straight else "second"] += 1
    return votes


def _label(
    orders: Mapping[Position, Sequence[Verdict]], straight: Position
) -> ComparisonLabel | None:
    """The judge's word on the pair: each order's majority, both combined; None of one order."""
    if len(orders) < len(Position):
        return None
    (turned,) = set(Position) - {straight}
    verdict = combine_orders(majority(orders[straight]), majority(orders[turned]))
    return "tie" if verdict.outcome is Outcome.TIE else verdict.choice


def _response_tasks(layout: Layout, iterations: int) -> Iterator[ReviewItem]:
    for iteration in range(1, iterations + 1):
        folders = [layout.stage(iteration, name) for name in ("ratings", "first_ratings")]
        for url in sealed_shards(folders[0]):
            name = url.rpartition("/")[2]
            read = _Ratings.of(chain(*(_read(join(f, name), Rating) for f in folders)))
            for row in _read(join(layout.responses(iteration), name), SampledInstruction):
                # Of equal texts one: nobody can rank them.
                texts = {r.text.strip(): r for r in row.responses if read.mean(r.id) is not None}
                best_first = sorted(texts.values(), key=lambda r: (-(read.mean(r.id) or 0), r.id))
                picked = {r.id: r.text for r in _spread(best_first)}
                if len(picked) > 1:
                    ident = content_id("rank", row.id, sorted(picked))
                    yield read.task(ident, row.id, row.instruction.messages, picked)
            for pair in _read(join(layout.preferences(iteration), name), Preference):
                sides = {pair.chosen_id: pair.chosen, pair.rejected_id: pair.rejected}
                yield read.task(pair.id, pair.pair_id, pair.messages, sides)


def _spread(rows: Sequence[RecordT]) -> list[RecordT]:
    """The first, the last, and others evenly between, `MAX_RANKED` at most."""
    last = min(len(rows), MAX_RANKED) - 1
    return [rows[round(i * (len(rows) - 1) / max(last, 1))] for i in range(last + 1)]


@dataclass(frozen=True, slots=True)
class _Ratings:
    """The scores of a shard's responses: by the judge's iteration and the response, one a draw."""

    by_judge: dict[int, dict[str, list[float]]]

    @classmethod
    def of(cls, ratings: Iterable[Rating]) -> "_Ratings":
        found: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for rating in ratings:
            if rating.verdict.score is not None:
                found[rating.judge.iteration][rating.response_id].append(rating.verdict.score)
        return cls(found)

    def mean(self, response_id: str) -> float | None:
        """Over all draws that gave a score."""
        return _mean([s for found in self.by_judge.values() for s in found.get(response_id, ())])

    def task(
        self, ident: str, instruction_id: str, prompt: Conversation, texts: Mapping[str, str]
    ) -> ReviewItem:
        judged, splits = [], []
        for iteration, found in sorted(self.by_judge.items()):
            draws = [found.get(i, []) for i in _ordered(ident, texts)]
            means = tuple(_mean(d) for d in draws)
            label = _winner(*means) if len(means) == 2 else None
            if any(draws):
                judged.append(JudgedBy(judge=f"M{iteration}", label=label, scores=means))
            for pair in combinations(draws, 2):
                votes = Counter(w for one, other in product(*pair) if (w := _winner(one, other)))
                splits += [_entropy(votes)] if votes.total() > 1 else []
        return _task(ident, instruction_id, prompt, texts, judged, splits)


def _winner(first: float | None, second: float | None) -> ComparisonLabel | None:
    if first is None or second is None:
        return None
    return "tie" if math.isclose(first, second) else "first" if first > second else "second"


def _task(
    ident: str,
    instruction_id: str,
    prompt: Conversation,
    texts: Mapping[str, str],
    judged: Sequence[JudgedBy],
    draws: Sequence[float],
    orders: Sequence[float] = (),
    judges: Sequence[float] = (),
) -> ReviewItem:
    """The task; its priority is the sum of the three means."""
    split, apart, different = (_mean(values) or 0.0 for values in (draws, orders, judges))
    reasons = [
        (split, f"draws are split ({split:.2f} bits)"),
        (apart, f"orders disagree ({apart:.0%})"),
        (different, f"judges disagree ({different:.0%})"),
    ]
    ordered = _ordered(ident, texts)
    return ReviewItem(
        id=ident,
        kind="pair" if len(ordered) == 2 else "rank",
        prompt=prompt,
        responses=tuple(texts[i] for i in ordered),
        response_ids=tuple(ordered),
        instruction_id=instruction_id,
        priority=round(split + apart + different, 6),
        why=", ".join(text for value, text in reasons if value > 0) or "no disagreement",
        judged=tuple(judged),
    )


def _ordered(task_id: str, response_ids: Iterable[str]) -> list[str]:
    return sorted(response_ids, key=lambda i: (derived_seed("shown", task_id, i), i))


def _entropy(votes: Counter[ComparisonLabel]) -> float:
    """Of the shares, in bits: 0 for one voice, 1 for two halves."""
    shares = [count / votes.total() for count in votes.values()]
    return math.fsum(share * math.log2(1 / share) for share in shares)


def _distance(one: Counter[ComparisonLabel], other: Counter[ComparisonLabel]) -> float:
    """Total variation distance of two sets of votes, 0 to 1."""
    shares = ((one[w] / one.total(), other[w] / other.total()) for w in {*one, *other})
    return math.fsum(abs(a - b) for a, b in shares) / 2


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
