"""People's answers as training data: preferences, and ranked responses as `seeds.ranked` wants."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from selfreward.metrics.agreement import Comparison, ComparisonLabel, ranking_comparisons
from selfreward.records import Preference, content_id
from selfreward.records_scores import ScoredResponse
from selfreward.schemas import to_row
from selfreward.serving.review.items import Ranking, ReviewItem, StoredAnswer

SCALE = (1.0, 5.0)
"""Of exported scores, whatever the number of responses: the loop takes one scale for all."""
SOURCE = "review"


def human_preferences(
    items: Sequence[ReviewItem], answers: Iterable[StoredAnswer]
) -> list[Preference]:
    """Returns what most reviewers of a task prefer, in the order of the tasks.

    A ranking of n responses counts as its n (n - 1) / 2 comparisons. A comparison becomes a row
    where more than half of the task's reviewers name the same response, and nobody has flagged
    that one as harmful. `label_confidence` is their share of the reviewers, those with a tie among
    them. Raises KeyError for an answer to a task that is not among `items`.
    """
    rows: list[Preference] = []
    for item, given in _by_item(items, answers):
        harmful = _harmful(given)
        votes: dict[Comparison, Counter[ComparisonLabel]] = {}
        for answer in given:
            for pair, label in ranking_comparisons(answer.placed.ranking).items():
                votes.setdefault(pair, Counter())[label] += 1
        for (one, other), counts in votes.items():
            ((label, num),) = counts.most_common(1)
            chosen, rejected = (one, other) if label == "first" else (other, one)
            if label == "tie" or 2 * num <= len(given) or chosen in harmful:
                continue
            ids = item.response_ids[chosen], item.response_ids[rejected]
            rows.append(
                Preference(
                    id=content_id("pre", "human", item.id, *ids),
                    messages=item.prompt,
                    chosen=item.responses[chosen],
                    rejected=item.responses[rejected],
                    pair_id=item.instruction_id,
                    chosen_id=ids[0],
                    rejected_id=ids[1],
                    label_confidence=num / len(given),
                )
            )
    return rows


def human_rankings(
    items: Sequence[ReviewItem], answers: Iterable[StoredAnswer]
) -> list[ScoredResponse]:
    """Returns the responses of each task, scored 1 to 5 by the reviewers' mean ranking.

    5 is better than all others for every reviewer, 1 worse than all; between them the score grows
    with the share of the others that a response beats, a tie counting half (Borda's count). One
    that anybody flagged as harmful goes last in every ranking. Tasks whose responses come out all
    equal say nothing and are left out. The responses of a task are a group, as `seeds.ranked`
    wants them. Raises KeyError for an answer to a task that is not among `items`.
    """
    rows: list[ScoredResponse] = []
    for item, given in _by_item(items, answers):
        harmful = _harmful(given)
        points = [0.0] * len(item.responses)
        for answer in given:
            ranking = _harmful_last(answer.placed.ranking, harmful)
            for (one, other), label in ranking_comparisons(ranking).items():
                points[one] += {"first": 1.0, "tie": 0.5, "second": 0.0}[label]
                points[other] += {"first": 0.0, "tie": 0.5, "second": 1.0}[label]
        if len(set(points)) < 2:
            continue
        low, high = SCALE
        most = len(given) * (len(points) - 1)
        rows += [
            ScoredResponse.new(
                messages=item.prompt,
                # The reader strips too: so the same row has the same id there.
                response=text.strip(),
                score=round(low + (high - low) * number / most, 4),
                low=low,
                high=high,
                group=item.id,
                source=SOURCE,
            )
            for text, number in zip(item.responses, points, strict=True)
        ]
    return rows


def jsonl(rows: Iterable[Preference | ScoredResponse]) -> Iterator[str]:
    """Yields a line of JSON, with its line end, for each row.

    Scored responses are read again by `seeds.ranked` and `evaluation.scored_responses`,
    preferences by `evaluation.labelled_pairs`.
    """
    for row in rows:
        data: dict[str, Any] = to_row(row)
        if isinstance(row, ScoredResponse):
            data["scale"] = [data.pop("low"), data.pop("high")]
            # Of rows that come from a file.
            del data["meta"], data["source_id"]
        yield json.dumps(data, ensure_ascii=False) + "\n"


def _by_item(
    items: Sequence[ReviewItem], answers: Iterable[StoredAnswer]
) -> Iterator[tuple[ReviewItem, list[StoredAnswer]]]:
    """The tasks that have answers, each with the latest of every reviewer."""
    by_task: dict[str, dict[str, StoredAnswer]] = {item.id: {} for item in items}
    for answer in answers:
        known = by_task[answer.task_id].get(answer.reviewer)
        if known is None or known.revision < answer.revision:
            by_task[answer.task_id][answer.reviewer] = answer
    for item in items:
        if by_task[item.id]:
            yield item, list(by_task[item.id].values())


def _harmful(answers: Iterable[StoredAnswer]) -> set[int]:
    return {place for answer in answers for place in answer.placed.harmful}


def _harmful_last(ranking: Ranking, harmful: set[int]) -> list[list[int]]:
    kept = [[place for place in group if place not in harmful] for group in ranking]
    return [*(group for group in kept if group), sorted(harmful)]
