"""The store of review tasks and people's answers. Safe for threads and for several processes."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import case, exists, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from selfreward.errors import DataError
from selfreward.records import content_id
from selfreward.serving.review.blind import placed_answer, shown_order
from selfreward.serving.review.items import (
    JudgedTask,
    ReviewItem,
    ServedItem,
    StoredAnswer,
)
from selfreward.serving.review.tables import (
    AnswerRow,
    FormerAnswerRow,
    ShownRow,
    TaskRow,
    answer_columns,
    answer_of,
    item_of,
    judged_of,
    open_database,
    task_row,
    writer,
)
from selfreward.serving.review_wire import ReviewAnswer

_Result = TypeVar("_Result")
_IDS_PER_QUERY = 500
_WRITE_ATTEMPTS = 20
"""PostgreSQL lets two that insert the same key run side by side and fails the slower one, which
then finds the other's row. SQLite's writers never meet."""


class ReviewStore:
    """Tasks, what was shown to whom, and answers, in one database.

    Example: `ReviewStore("sqlite:////runs/first/serving/review.sqlite", seed=0)`. Raises
    ConfigError for a URL that does not open. `seed` settles in which orders responses are shown.
    """

    def __init__(self, url: str, *, seed: int = 0) -> None:
        self._engine = open_database(url)
        self._seed = seed

    def close(self) -> None:
        """Closes the connections; the store must not be used afterwards."""
        self._engine.dispose()

    def add_tasks(self, items: Iterable[ReviewItem]) -> int:
        """Adds the tasks whose id is new and returns how many.

        Of one that is there, priority, reason and the judges' verdicts become those of the item.
        Its texts stay, and so do what was shown to whom and the answers.
        """
        wanted = {item.id: item for item in items}
        # In order of id: two that add the same tasks must not wait for each other.
        idents = sorted(wanted)

        def write(session: Session) -> int:
            num_new = 0
            for start in range(0, len(idents), _IDS_PER_QUERY):
                part = idents[start : start + _IDS_PER_QUERY]
                rows = session.scalars(
                    select(TaskRow).where(TaskRow.id.in_(part)).order_by(TaskRow.id)
                )
                known = {row.id: row for row in rows}
                for ident in part:
                    new = task_row(wanted[ident])
                    row = known.get(ident)
                    if row is None:
                        session.add(new)
                        num_new += 1
                    # Verdicts count responses by their places.
                    elif row.response_ids == new.response_ids:
                        row.priority, row.why, row.judged = new.priority, new.why, new.judged
            return num_new

        return self._write(write)

    def task_ids(self) -> set[str]:
        """Returns the ids of all tasks."""
        with Session(self._engine) as session:
            return set(session.scalars(select(TaskRow.id)))

    def next_task(self, reviewer: str) -> ServedItem | None:
        """Returns the task to put before this reviewer, and notes that and how it was shown.

        Of the tasks without an answer of this reviewer, the one of highest priority; among equal
        ones the one with the fewest answers; then one this reviewer has open, so that loading a
        page again shows the same; then the one shown to the fewest, so that reviewers who start
        together spread. None when all are answered. A task always has the same order for the same
        reviewer.
        """
        num_answers = select(func.count()).where(AnswerRow.task_id == TaskRow.id).scalar_subquery()
        num_shown = select(func.count()).where(ShownRow.task_id == TaskRow.id).scalar_subquery()
        is_open = exists().where(ShownRow.task_id == TaskRow.id, ShownRow.reviewer == reviewer)
        query = (
            select(TaskRow)
            .where(~exists().where(AnswerRow.task_id == TaskRow.id, AnswerRow.reviewer == reviewer))
            .order_by(
                TaskRow.priority.desc(),
                num_answers,
                case((is_open, 0), else_=1),
                num_shown,
                TaskRow.id,
            )
            .limit(1)
        )

        def write(session: Session) -> ServedItem | None:
            row = session.scalar(query)
            if row is None:
                return None
            item = item_of(row)
            order = self._shown(session, item, reviewer)
            left, done = _counts(session, reviewer)
            return ServedItem(item=item, order=order, num_left=left, num_done=done)

        return self._write(write)

    def save_answer(self, reviewer: str, answer: ReviewAnswer) -> StoredAnswer:
        """Stores an answer, by response instead of by letter, and returns it.

        Another answer of the same reviewer to the same task goes to the history. The very same one
        sent again changes nothing. Raises DataError for a task that is not there or that this
        reviewer was not shown, and for an answer that does not fit the task.
        """

        def write(session: Session) -> StoredAnswer:
            # PostgreSQL refuses to be asked for a text with a NUL.
            known = "\x00" not in answer.task_id
            task = session.get(TaskRow, answer.task_id) if known else None
            if task is None:
                raise DataError(f"there is no review task {answer.task_id!r}: ask for the next one")
            shown = session.get(ShownRow, (answer.task_id, reviewer))
            if shown is None:
                raise DataError(
                    f"task {answer.task_id} was not shown to {reviewer}: ask for the next one"
                )
            placed = placed_answer(item_of(task), shown.shown_order, answer)
            # PostgreSQL's text takes no NUL, and a reviewer can hardly have meant one.
            comment = answer.comment.replace("\x00", "\ufffd")
            row = session.scalar(
                select(AnswerRow)
                .where(AnswerRow.task_id == answer.task_id, AnswerRow.reviewer == reviewer)
                .with_for_update()
            )
            former = answer_of(row) if row is not None else None
            if former is not None and (placed, comment, answer.seconds) == (
                former.placed,
                former.comment,
                former.seconds,
            ):
                return former
            revision = 1 if former is None else former.revision + 1
            stored = StoredAnswer(
                id=content_id("rva", answer.task_id, reviewer, revision),
                task_id=answer.task_id,
                reviewer=reviewer,
                revision=revision,
                placed=placed,
                comment=comment,
                seconds=answer.seconds,
                answered_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            )
            if row is None or former is None:
                session.add(AnswerRow(**answer_columns(stored)))
            else:
                session.add(FormerAnswerRow(**answer_columns(former)))
                for name, value in answer_columns(stored).items():
                    setattr(row, name, value)
            return stored

        return self._write(write)

    def counts(self, reviewer: str) -> tuple[int, int]:
        """Returns how many tasks this reviewer has left and has done."""
        with Session(self._engine) as session:
            return _counts(session, reviewer)

    def all_tasks(self) -> list[ReviewItem]:
        """Returns every task, highest priority first."""
        with Session(self._engine) as session:
            query = select(TaskRow).order_by(TaskRow.priority.desc(), TaskRow.id)
            return [item_of(row) for row in session.scalars(query)]

    def answered_tasks(self) -> list[JudgedTask]:
        """Returns the tasks that somebody has answered, without their texts."""
        with Session(self._engine) as session:
            query = (
                select(TaskRow.id, TaskRow.response_ids, TaskRow.judged)
                .where(exists().where(AnswerRow.task_id == TaskRow.id))
                .order_by(TaskRow.priority.desc(), TaskRow.id)
            )
            return [
                JudgedTask(id=ident, response_ids=tuple(responses), judged=judged_of(judged))
                for ident, responses, judged in session.execute(query)
            ]

    def all_answers(self) -> list[StoredAnswer]:
        """Returns the answers that count, oldest first.

        Whoever needs their tasks too asks for these afterwards: a task is never taken away.
        """
        with Session(self._engine) as session:
            query = select(AnswerRow).order_by(AnswerRow.answered_at, AnswerRow.id)
            return [answer_of(row) for row in session.scalars(query)]

    def former_answers(self) -> list[StoredAnswer]:
        """Returns the answers that were replaced, oldest first."""
        with Session(self._engine) as session:
            query = select(FormerAnswerRow).order_by(
                FormerAnswerRow.answered_at, FormerAnswerRow.revision, FormerAnswerRow.id
            )
            return [answer_of(row) for row in session.scalars(query)]

    def _write(self, work: Callable[[Session], _Result]) -> _Result:
        """Does `work` in one transaction, and again where another inserted the same key first."""
        for attempt in range(1, _WRITE_ATTEMPTS + 1):
            try:
                with Session(writer(self._engine)) as session, session.begin():
                    return work(session)
            except IntegrityError:
                if attempt == _WRITE_ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _shown(self, session: Session, item: ReviewItem, reviewer: str) -> tuple[int, ...]:
        """The order in which the reviewer sees the item, settled now if it was not before."""
        row = session.get(ShownRow, (item.id, reviewer))
        if row is not None:
            return tuple(row.shown_order)
        n = len(item.responses)
        number = session.scalar(
            select(func.count()).where(ShownRow.reviewer == reviewer, ShownRow.num_responses == n)
        )
        assert number is not None  # count() always has a row
        order = shown_order(reviewer=reviewer, number=number, num_responses=n, seed=self._seed)
        session.add(
            ShownRow(
                task_id=item.id,
                reviewer=reviewer,
                num_responses=n,
                number=number,
                shown_order=list(order),
            )
        )
        return order


def _counts(session: Session, reviewer: str) -> tuple[int, int]:
    num_tasks = select(func.count()).select_from(TaskRow).scalar_subquery()
    num_done = select(func.count()).where(AnswerRow.reviewer == reviewer).scalar_subquery()
    left, done = session.execute(select(num_tasks - num_done, num_done)).one()
    return int(left), int(done)
