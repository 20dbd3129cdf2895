"""Which tasks people are asked, drawn from a run folder of either loop: disagreements first."""

from collections.abc import Iterable, Set

from selfreward.errors import DataError
from selfreward.layout import Layout
from selfreward.records import derived_seed
from selfreward.serving.review.items import ReviewItem
from selfreward.serving.review.run_tasks import tasks_of_run


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
    tasks = _first(tasks_of_run(layout), max_tasks, seed)
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
    return [task for task in tasks_of_run(layout) if task.id in answered]


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
