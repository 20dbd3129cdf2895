"""The tables of the review store, records as their rows, and opening the database.

SQLite by default, PostgreSQL by URL. The layout has a version, kept in a table of its own, so that
a later release knows what it finds.
"""

from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    Engine,
    ForeignKey,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    func,
    insert,
    inspect,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import ConnectionPoolEntry

from selfreward.errors import ConfigError
from selfreward.records import Message
from selfreward.serving.review.database_url import (
    connect_limits,
    shown_url,
    without_secrets,
)
from selfreward.serving.review.items import (
    ItemKind,
    JudgedBy,
    PlacedAnswer,
    ReviewItem,
    StoredAnswer,
)

SCHEMA_VERSION = 1
BUSY_SECONDS = 30.0
"""How long a writer of SQLite waits for the one before it."""
_CREATE_LOCK = 0x5E1F2E71  # any number, the same for everybody who creates these tables


class Base(DeclarativeBase):
    # JSON rather than text: it also holds NUL characters, which PostgreSQL's text does not.
    type_annotation_map = {list[Any]: JSON, str: Text}  # noqa: RUF012 - read by the base class


class SchemaRow(Base):
    __tablename__ = "review_schema"

    version: Mapped[int] = mapped_column(primary_key=True)


class TaskRow(Base):
    __tablename__ = "review_tasks"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[ItemKind] = mapped_column(Text)
    prompt: Mapped[list[Any]]
    responses: Mapped[list[Any]]
    response_ids: Mapped[list[Any]]
    instruction_id: Mapped[str]
    priority: Mapped[float]
    why: Mapped[str]
    judged: Mapped[list[Any]]


class ShownRow(Base):
    """A task was put before a reviewer, in this order."""

    __tablename__ = "review_shown"
    __table_args__ = (UniqueConstraint("reviewer", "num_responses", "number"),)

    task_id: Mapped[str] = mapped_column(ForeignKey("review_tasks.id"), primary_key=True)
    reviewer: Mapped[str] = mapped_column(primary_key=True)
    num_responses: Mapped[int]
    number: Mapped[int]
    """Tasks with as many responses that this reviewer was shown before."""
    shown_order: Mapped[list[Any]]


class AnswerRow(Base):
    """The answer that counts: one for each task and reviewer."""

    __tablename__ = "review_answers"
    __table_args__ = (UniqueConstraint("task_id", "reviewer"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("review_tasks.id"))
    reviewer: Mapped[str]
    revision: Mapped[int]
    ranking: Mapped[list[Any]]
    harmful: Mapped[list[Any]]
    comment: Mapped[str]
    seconds: Mapped[float | None]
    answered_at: Mapped[str]


class FormerAnswerRow(Base):
    """An answer its reviewer has replaced."""

    __tablename__ = "review_answers_history"

    id: Mapped[str] = mapped_column(primary_key=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("review_tasks.id"), index=True)
    reviewer: Mapped[str]
    revision: Mapped[int]
    ranking: Mapped[list[Any]]
    harmful: Mapped[list[Any]]
    comment: Mapped[str]
    seconds: Mapped[float | None]
    answered_at: Mapped[str]


def task_row(item: ReviewItem) -> TaskRow:
    return TaskRow(
        id=item.id,
        kind=item.kind,
        prompt=[{"role": m.role, "content": m.content} for m in item.prompt],
        responses=list(item.responses),
        response_ids=list(item.response_ids),
        instruction_id=item.instruction_id,
        priority=item.priority,
        why=item.why,
        judged=[asdict(said) for said in item.judged],
    )


def item_of(row: TaskRow) -> ReviewItem:
    return ReviewItem(
        id=row.id,
        kind=row.kind,
        prompt=tuple(Message(**message) for message in row.prompt),
        responses=tuple(row.responses),
        response_ids=tuple(row.response_ids),
        instruction_id=row.instruction_id,
        priority=row.priority,
        why=row.why,
        judged=judged_of(row.judged),
    )


def judged_of(column: list[Any]) -> tuple[JudgedBy, ...]:
    return tuple(
        JudgedBy(
            judge=said["judge"],
            label=said["label"],
            scores=None if said["scores"] is None else tuple(said["scores"]),
        )
        for said in column
    )


def answer_columns(answer: StoredAnswer) -> dict[str, Any]:
    return {
        "id": answer.id,
        "task_id": answer.task_id,
        "reviewer": answer.reviewer,
        "revision": answer.revision,
        "ranking": [list(group) for group in answer.placed.ranking],
        "harmful": list(answer.placed.harmful),
        "comment": answer.comment,
        "seconds": answer.seconds,
        "answered_at": answer.answered_at,
    }


def answer_of(row: AnswerRow | FormerAnswerRow) -> StoredAnswer:
    placed = PlacedAnswer(
        ranking=tuple(tuple(group) for group in row.ranking), harmful=tuple(row.harmful)
    )
    return StoredAnswer(
        id=row.id,
        task_id=row.task_id,
        reviewer=row.reviewer,
        revision=row.revision,
        placed=placed,
        comment=row.comment,
        seconds=row.seconds,
        answered_at=row.answered_at,
    )


def open_database(url: str) -> Engine:
    """Opens the database and creates the tables it lacks.

    SQLite files get a write-ahead log, so that readers never wait, and writers wait for each other
    up to `BUSY_SECONDS`. Raises ConfigError in one line, without the password, for a URL that
    cannot be read or opened, a database other than the two, and tables of another version.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise ConfigError(
            "review.database_url is no database URL: write sqlite:////path/review.sqlite or"
            " postgresql://user:password@host/database, with what is special in the password"
            " percent-encoded"
        ) from None
    shown = shown_url(parsed)
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(f"review.database_url {shown}: use sqlite or postgresql, not {backend}")
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError(
            f"review.database_url {shown} is in memory and would lose the answers: name a file, as"
            " in sqlite:///review.sqlite"
        )
    try:
        if backend == "sqlite":
            engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        else:
            engine = create_engine(parsed, pool_pre_ping=True, connect_args=connect_limits(parsed))
        if engine.dialect.is_async:
            raise ConfigError(f"review.database_url {shown}: name a driver that is not async")
        with writer(engine).begin() as connection:
            _create(connection, shown)
    except ImportError as error:
        raise ConfigError(
            f"review.database_url {shown} needs the Python package {error.name or error}: install"
            " it beside selfreward"
        ) from error
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        # The driver's own error is left behind: its words may be those of the URL.
        raise ConfigError(
            f"review.database_url {shown} does not open: {without_secrets(reason, parsed)}: check"
            " that it is there and may be written"
        ) from None
    return engine


def writer(engine: Engine) -> Engine:
    """Returns the engine for transactions that write.

    SQLite refuses at once, without waiting, a transaction that began by reading and wants to write
    after somebody else wrote; one that takes the write lock as it begins waits its turn.
    """
    return engine.execution_options(selfreward_writes=True)


def _prepare_sqlite(connection: Any, _: ConnectionPoolEntry) -> None:
    # The driver would begin transactions by itself, and late; `_begin_sqlite` does it instead.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("selfreward_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _create(connection: Connection, shown: str) -> None:
    if connection.dialect.name == "postgresql":
        # SQLite's write lock is held already; without one, two that start together would both
        # find no tables and one would fail.
        connection.execute(select(func.pg_advisory_xact_lock(_CREATE_LOCK)))
    if inspect(connection).has_table(SchemaRow.__tablename__):
        found = connection.scalar(select(func.max(SchemaRow.version)))
        if found != SCHEMA_VERSION:
            raise ConfigError(
                f"review.database_url {shown} has review tables of version {found}, and this"
                f" selfreward reads {SCHEMA_VERSION}: use the release that wrote it or another"
                " database"
            )
        return
    Base.metadata.create_all(connection)
    connection.execute(insert(SchemaRow).values(version=SCHEMA_VERSION))
