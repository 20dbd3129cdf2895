"""Blind tasks: in which order responses are shown, under which letters, and the way back.

The order is a matter of the reviewer and of how many tasks with as many responses that reviewer
was shown before. These are taken in blocks, as many tasks as there are responses. A block has one
shuffle, drawn by a hash, and each task of the block turns it on by one place. So every response
place stands at every position once a block: of the pairs of a reviewer half are shown one way and
half the other, up to one, at every moment, and the next order cannot be told from the last ones
before its block has begun.
"""

import random
from collections.abc import Sequence

from selfreward.errors import DataError
from selfreward.records import derived_seed
from selfreward.serving.review.items import PlacedAnswer, Ranking, ReviewItem, ServedItem
from selfreward.serving.review_wire import ReviewAnswer, ReviewTask, ShownResponse
from selfreward.serving.wire import ChatMessage


def shown_order(*, reviewer: str, number: int, num_responses: int, seed: int) -> tuple[int, ...]:
    """Returns the places of the responses in the order in which they are shown.

    `number` counts from 0 the tasks with `num_responses` responses this reviewer was shown.
    Example: `(1, 0)` shows the second response as A.
    """
    block, turn = divmod(number, num_responses)
    shuffle = list(range(num_responses))
    random.Random(derived_seed("shown", seed, reviewer, num_responses, block)).shuffle(shuffle)
    return tuple(shuffle[turn:] + shuffle[:turn])


def letters(num_responses: int) -> tuple[str, ...]:
    """Returns the letters responses are shown under: A, B, …"""
    return tuple(chr(ord("A") + i) for i in range(num_responses))


def blind_task(served: ServedItem) -> ReviewTask:
    """Returns what the reviewer gets to see: prompt and texts, and nothing of who wrote or judged
    them."""
    item = served.item
    return ReviewTask(
        id=item.id,
        kind=item.kind,
        prompt=[ChatMessage(role=m.role, content=m.content) for m in item.prompt],
        responses=[
            ShownResponse(label=letter, text=item.responses[place])
            for letter, place in zip(letters(len(served.order)), served.order, strict=True)
        ],
        num_left=served.num_left,
        num_done=served.num_done,
    )


def placed_answer(item: ReviewItem, order: Sequence[int], answer: ReviewAnswer) -> PlacedAnswer:
    """Turns the letters of an answer back to places in `item.responses`.

    `order` is the one the reviewer was shown. Raises DataError for an answer of the other kind,
    for a letter that was not shown, and for a ranking without every letter exactly once.
    """
    place = dict(zip(letters(len(order)), order, strict=True))
    shown = ", ".join(place)
    if unknown := sorted(set(answer.harmful) - place.keys()):
        raise DataError(f"task {item.id}: harmful {unknown[0]} is none of {shown}")
    harmful = tuple(sorted({place[letter] for letter in answer.harmful}))
    ranking: Ranking
    if item.kind == "rank":
        if answer.ranking is None:
            raise DataError(f"task {item.id} wants a ranking of {shown}, not a choice")
        if sorted(letter for group in answer.ranking for letter in group) != list(place):
            raise DataError(f"task {item.id}: a ranking has each of {shown} exactly once")
        # An empty group says nothing, and the same ranking should be stored in one way only.
        ranking = tuple(
            tuple(sorted(place[letter] for letter in group)) for group in answer.ranking if group
        )
    elif answer.choice is None:
        raise DataError(f"task {item.id} wants a choice of {shown} or tie, not a ranking")
    elif answer.choice == "tie":
        ranking = ((0, 1),)
    elif answer.choice not in place:
        raise DataError(f"task {item.id}: choice {answer.choice} is none of {shown}")
    else:
        better = place[answer.choice]
        ranking = ((better,), (1 - better,))
    return PlacedAnswer(ranking=ranking, harmful=harmful)
