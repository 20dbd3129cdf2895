"""A task from what judges said of its responses: the more they disagree, the sooner it comes."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from selfreward.judging.voting import combine_orders, majority
from selfreward.metrics.agreement import ComparisonLabel
from selfreward.records import (
    Conversation,
    Judgment,
    Outcome,
    Position,
    ResponsePair,
    Verdict,
    content_id,
    derived_seed,
)
from selfreward.records_scores import Rating
from selfreward.serving.review.items import JudgedBy, ReviewItem


def pair_task(pair: ResponsePair, judgments: Sequence[Judgment]) -> ReviewItem:
    """The task to compare a pair, from all judgments of it."""
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


@dataclass(frozen=True, slots=True)
class Ratings:
    """The scores of a shard's responses: by the judge's iteration and the response, one a draw."""

    by_judge: dict[int, dict[str, list[float]]]

    @classmethod
    def of(cls, ratings: Iterable[Rating]) -> "Ratings":
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
        """The task to compare these responses, by id; what each judge gave them stands beside."""
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
