"""The review store on SQLite, and on PostgreSQL where SELFREWARD_TEST_POSTGRES names an empty
database: its review tables are dropped."""

import os
import sqlite3
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import URL, create_engine
from sqlalchemy.exc import OperationalError

from selfreward.errors import ConfigError, DataError
from selfreward.metrics.agreement import Comparison, ComparisonLabel, cohen_kappa
from selfreward.records import Message
from selfreward.serving.review import tables
from selfreward.serving.review.agreement import agreement_report, item_verdicts
from selfreward.serving.review.blind import blind_task
from selfreward.serving.review.items import (
    JudgedBy,
    PlacedAnswer,
    Ranking,
    ReviewItem,
    ServedItem,
    StoredAnswer,
)
from selfreward.serving.review.store import ReviewStore
from selfreward.serving.review.tables import Base
from selfreward.serving.review_wire import ReviewAnswer

POSTGRES = os.environ.get("SELFREWARD_TEST_POSTGRES")


def pair(ident: str, priority: float = 0.0, judged: Sequence[JudgedBy] = ()) -> ReviewItem:
    return ReviewItem(
        id=ident,
        kind="pair",
        prompt=(Message(role="system", content="Be brief."), Message(role="user", content="Why?")),
        responses=(f"{ident} one \x00 é", f"{ident} two"),
        response_ids=(f"{ident}-r1", f"{ident}-r2"),
        instruction_id="ins-1",
        priority=priority,
        why="draws disagree",
        judged=tuple(judged),
    )


def rank(ident: str, priority: float = 0.0, judged: Sequence[JudgedBy] = ()) -> ReviewItem:
    return ReviewItem(
        id=ident,
        kind="rank",
        prompt=(Message(role="user", content="Name a colour."),),
        responses=("red", "blue", "fish"),
        response_ids=(f"{ident}-r1", f"{ident}-r2", f"{ident}-r3"),
        instruction_id="ins-2",
        priority=priority,
        why="judges disagree",
        judged=tuple(judged),
    )


def a_for(served: ServedItem | None, comment: str = "") -> ReviewAnswer:
    """Whatever is shown as A is the best."""
    assert served is not None
    if served.item.kind == "pair":
        return ReviewAnswer(task_id=served.item.id, choice="A", comment=comment)
    rest = [shown.label for shown in blind_task(served).responses[1:]]
    return ReviewAnswer(task_id=served.item.id, ranking=[["A"], rest], comment=comment)


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRES else [])])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite" or POSTGRES is None:
        return f"sqlite:///{tmp_path / 'review.sqlite'}"
    engine = create_engine(POSTGRES)
    Base.metadata.drop_all(engine)
    engine.dispose()
    return POSTGRES


@pytest.fixture
def opened(url: str) -> Iterator[Callable[[], ReviewStore]]:
    """Opens the one database, as often as is wanted."""
    stores: list[ReviewStore] = []

    def open_one() -> ReviewStore:
        stores.append(ReviewStore(url))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[[], ReviewStore]) -> ReviewStore:
    return opened()


def test_tasks_are_added_once_and_come_back_as_they_were(store: ReviewStore) -> None:
    first = pair("t1", 0.5, [JudgedBy(judge="M1", label="first", scores=(4.5, None))])
    second = rank("t2", 1.5, [JudgedBy(judge="M1", label=None, scores=(1.0, 2.0, 3.0))])
    assert store.add_tasks([first]) == 1
    assert store.add_tasks([first, second, second]) == 1
    assert store.add_tasks([]) == 0
    assert store.all_tasks() == [second, first]
    assert store.task_ids() == {"t1", "t2"}


def test_what_later_judges_say_reaches_a_task_that_is_there(store: ReviewStore) -> None:
    m1 = JudgedBy(judge="M1", label="first", scores=None)
    m2 = JudgedBy(judge="M2", label="second", scores=None)
    store.add_tasks([pair("t1", 0.5, [m1]), pair("t2", 0.1, [m1])])
    task = store.next_task("ada")
    assert task is not None and task.item.id == "t1"
    store.save_answer("ada", ReviewAnswer(task_id="t1", choice="A"))
    assert store.add_tasks([pair("t1", 0.9, [m1, m2]), pair("t3", 0.3, [m1, m2])]) == 1
    (answered,) = store.answered_tasks()
    assert (answered.id, answered.judged) == ("t1", (m1, m2))
    assert [(t.id, t.priority) for t in store.all_tasks()] == [
        ("t1", 0.9),
        ("t3", 0.3),
        ("t2", 0.1),
    ]
    report = agreement_report(
        store.answered_tasks(), store.all_answers(), item_verdicts(store.answered_tasks())
    )
    assert [(j.judge, j.num_common) for j in report.with_judges] == [("M1", 1), ("M2", 1)]


def test_the_highest_priority_comes_first_and_nobody_is_asked_twice(store: ReviewStore) -> None:
    store.add_tasks([pair("low", 0.1), rank("high", 2.0), pair("middle", 1.0)])
    seen = []
    while (served := store.next_task("Ada")) is not None:
        seen.append((served.item.id, served.num_left, served.num_done))
        store.save_answer("Ada", a_for(served))
    assert seen == [("high", 3, 0), ("middle", 2, 1), ("low", 1, 2)]
    assert store.counts("Ada") == (0, 3)
    assert store.counts("Ben") == (3, 0)


def test_among_equal_tasks_reviewers_spread_and_the_fewest_answered_comes_first(
    store: ReviewStore,
) -> None:
    store.add_tasks([pair(f"t{i}", 1.0) for i in range(4)])
    started = [store.next_task(name) for name in ("Ada", "Ben", "Cem")]
    assert len({served.item.id for served in started if served}) == 3
    # Three tasks have one answer each now: the fourth is next for everybody.
    for name, served in zip(("Ada", "Ben", "Cem"), started, strict=True):
        store.save_answer(name, a_for(served))
    (fourth,) = {f"t{i}" for i in range(4)} - {served.item.id for served in started if served}
    for name in ("Ada", "Dan"):
        served = store.next_task(name)
        assert served is not None
        assert served.item.id == fourth


def test_a_page_loaded_again_shows_the_same_task_in_the_same_order(store: ReviewStore) -> None:
    store.add_tasks([pair(f"t{i}") for i in range(5)])
    shown = store.next_task("Ada")
    store.next_task("Ben")
    assert store.next_task("Ada") == shown


def test_half_of_a_reviewers_pairs_are_shown_the_other_way_round(store: ReviewStore) -> None:
    store.add_tasks([pair(f"p{i}", i) for i in range(11)] + [rank(f"r{i}", i) for i in range(6)])
    pairs: list[tuple[int, ...]] = []
    ranks: list[tuple[int, ...]] = []
    while (served := store.next_task("Ada")) is not None:
        (pairs if served.item.kind == "pair" else ranks).append(served.order)
        store.save_answer("Ada", a_for(served))
        assert abs(pairs.count((0, 1)) - pairs.count((1, 0))) <= 1
    assert len(pairs) == 11
    # Six rankings of three: each response was A twice.
    assert sorted(order[0] for order in ranks) == [0, 0, 1, 1, 2, 2]


def test_answers_are_kept_by_response_and_a_new_one_replaces_the_former(store: ReviewStore) -> None:
    store.add_tasks([pair("t1")])
    served = store.next_task("Ada")
    assert served is not None
    better, worse = served.order
    first = store.save_answer(
        "Ada",
        ReviewAnswer(task_id="t1", choice="A", harmful=["B"], comment="clear \x00", seconds=2.5),
    )
    assert first.placed == PlacedAnswer(ranking=((better,), (worse,)), harmful=(worse,))
    assert (first.comment, first.seconds, first.revision) == ("clear \ufffd", 2.5, 1)
    assert store.all_answers() == [first]

    changed = store.save_answer("Ada", ReviewAnswer(task_id="t1", choice="tie"))
    assert changed.placed.ranking == ((0, 1),)
    assert changed.revision == 2
    assert changed.id != first.id
    assert store.all_answers() == [changed]
    assert store.former_answers() == [first]
    # A request sent twice is one answer.
    assert store.save_answer("Ada", ReviewAnswer(task_id="t1", choice="tie")) == changed
    assert store.former_answers() == [first]
    assert store.counts("Ada") == (0, 1)


def test_an_answer_to_what_was_not_shown_is_refused(store: ReviewStore) -> None:
    store.add_tasks([pair("t1")])
    for unknown in ("t2", "t\x00", ""):
        with pytest.raises(DataError, match="no review task"):
            store.save_answer("Ada", ReviewAnswer(task_id=unknown, choice="A"))
    with pytest.raises(DataError, match="not shown to Ada"):
        store.save_answer("Ada", ReviewAnswer(task_id="t1", choice="A"))
    store.next_task("Ada")
    with pytest.raises(DataError, match="none of A, B"):
        store.save_answer("Ada", ReviewAnswer(task_id="t1", choice="C"))
    assert store.all_answers() == []


def test_everything_is_there_after_opening_again(opened: Callable[[], ReviewStore]) -> None:
    before = opened()
    before.add_tasks([pair("t1", 1.0), rank("t2", 0.5)])
    before.save_answer("Ada", a_for(before.next_task("Ada")))
    before.save_answer("Ada", ReviewAnswer(task_id="t1", choice="tie"))
    shown = before.next_task("Ada")
    kept = before.all_tasks(), before.all_answers(), before.former_answers()
    before.close()

    after = opened()
    assert (after.all_tasks(), after.all_answers(), after.former_answers()) == kept
    assert after.next_task("Ada") == shown
    assert after.counts("Ada") == (1, 1)


def test_eight_reviewers_at_once_lose_nothing(opened: Callable[[], ReviewStore]) -> None:
    num_reviewers, num_tasks = 8, 20
    start = Barrier(num_reviewers)
    shared = opened()

    def review(number: int) -> dict[str, str]:
        start.wait()
        # Half of them share a store, the others open the same database as other processes do.
        store = shared if number % 2 else opened()
        store.add_tasks([pair(f"t{i:02}") for i in range(num_tasks)])
        given = {}
        while (served := store.next_task(f"reviewer {number}")) is not None:
            comment = f"{number} on {served.item.id}"
            stored = store.save_answer(f"reviewer {number}", a_for(served, comment))
            given[stored.id] = comment
        return given

    with ThreadPoolExecutor(num_reviewers) as pool:
        given = list(pool.map(review, range(num_reviewers)))
    assert [len(answers) for answers in given] == [num_tasks] * num_reviewers
    expected = {ident: comment for answers in given for ident, comment in answers.items()}
    assert {a.id: a.comment for a in shared.all_answers()} == expected
    assert len(expected) == num_reviewers * num_tasks
    assert len(shared.all_tasks()) == num_tasks


def test_one_reviewer_in_eight_windows_loses_no_change(store: ReviewStore) -> None:
    store.add_tasks([pair("t1"), pair("t2")])
    start = Barrier(8)

    def change(window: int) -> None:
        start.wait()
        for i in range(6):
            served = store.next_task("Ada")
            task = "t1" if served is None else served.item.id
            answer = ReviewAnswer(task_id=task, choice="A", comment=f"{window}.{i}")
            store.save_answer("Ada", answer)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change, range(8)))
    kept = store.all_answers() + store.former_answers()
    assert sorted(a.comment for a in kept) == sorted(f"{w}.{i}" for w in range(8) for i in range(6))
    for task in ("t1", "t2"):
        revisions = sorted(a.revision for a in kept if a.task_id == task)
        assert revisions == list(range(1, len(revisions) + 1))
        (current,) = [a for a in store.all_answers() if a.task_id == task]
        assert current.revision == len(revisions)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("not a url", "no database URL"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:////nowhere/at/all/review.sqlite", "unable to open database file"),
        ("mysql://user:secret@host/db", "use sqlite or postgresql, not mysql"),
        ("postgresql+pg8000://user:secret@host/db", "needs the Python package pg8000"),
        ("postgresql+nonsense://user:secret@host/db", "nonsense"),
        ("postgresql://user:x@host:secret/db", "no database URL"),
        ("mysql://user:x@secret@host/db", "mysql://host/…: use sqlite or postgresql"),
        ("mysql://user@host/db?password=secret", "use sqlite or postgresql, not mysql"),
    ],
)
def test_a_url_that_does_not_open_is_one_clear_line(bad: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        ReviewStore(bad)
    line = str(caught.value)
    assert line.startswith("review.database_url")
    assert "\n" not in line
    # Nor in what a traceback would show, as a replica's log does.
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("url", ["postgresql://ada:secret@host/db?sslpassword=secret2"])
def test_a_driver_that_repeats_the_url_is_not_quoted(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(url: URL, **options: Any) -> Any:
        whole = url.render_as_string(hide_password=False)
        raise OperationalError("", {}, RuntimeError(f"no connection to {whole}"))

    monkeypatch.setattr(tables, "create_engine", refuses)
    with pytest.raises(ConfigError) as caught:
        ReviewStore(url)
    assert "no connection to postgresql://ada:…@host/db?sslpassword=…" in str(caught.value)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("url", "arguments"),
    [
        ("postgresql://host/db", {"connect_timeout": 10}),
        ("postgresql+psycopg://host/db", {"connect_timeout": 10}),
        ("postgresql://host/db?connect_timeout=3", {}),
        ("postgresql+pg8000://host/db", {}),
    ],
)
def test_a_server_that_does_not_answer_is_not_waited_for_long(
    url: str, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def opens(url: URL, **options: Any) -> Any:
        seen.append(options["connect_args"])
        raise OperationalError("", {}, RuntimeError("no server"))

    monkeypatch.setattr(tables, "create_engine", opens)
    with pytest.raises(ConfigError, match="no server"):
        ReviewStore(url)
    assert seen == [arguments]


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Not a database, but long enough to be looked at. " * 40)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="file is not a database"):
        ReviewStore(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_tables_of_another_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "review.sqlite"
    ReviewStore(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version FROM review_schema").fetchall() == [(1,)]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.execute("UPDATE review_schema SET version = 7")
    connection.close()
    with pytest.raises(ConfigError, match="tables of version 7, and this selfreward reads 1"):
        ReviewStore(f"sqlite:///{path}")


def answered(item: ReviewItem, reviewer: str, ranking: Ranking) -> StoredAnswer:
    return StoredAnswer(
        id=f"{item.id} {reviewer}",
        task_id=item.id,
        reviewer=reviewer,
        revision=1,
        placed=PlacedAnswer(ranking=ranking, harmful=()),
        comment="",
        seconds=None,
        answered_at="2026-01-31T12:00:00.000+00:00",
    )


FIRST: Ranking = ((0,), (1,))
SECOND: Ranking = ((1,), (0,))
TIE: Ranking = ((0, 1),)


def test_the_agreement_of_people_and_judges_worked_by_hand() -> None:
    scores = JudgedBy(judge="M1", label=None, scores=(5.0, 3.0, 3.0))
    items = [
        pair("t1", judged=[JudgedBy(judge="M1", label="first", scores=None)]),
        # M2 judged the second pair only, M1 failed on it.
        pair(
            "t2",
            judged=[
                JudgedBy(judge="M1", label=None, scores=None),
                JudgedBy(judge="M2", label="first", scores=(4.0, 4.0)),
            ],
        ),
        rank("t3", judged=[scores]),
    ]
    answers = [
        answered(items[0], "Ada", FIRST),
        answered(items[0], "Ben", SECOND),
        answered(items[1], "Ada", TIE),
        answered(items[1], "Ben", TIE),
        answered(items[2], "Cem", ((0,), (1, 2))),
    ]
    report = agreement_report(items, answers, item_verdicts(items))
    assert report.num_answers == 5
    assert report.num_comparisons == 4 + 3
    assert report.reviewers == ["Ada", "Ben", "Cem"]
    # 2 of 4 labels are ties: D_o = 2 / 4, D_e = (16 - 6) / 12, alpha = 1 - .5 · 12 / 10.
    assert report.krippendorff_alpha == pytest.approx(0.4)
    ada_ben, ada_cem, ben_cem = report.between_reviewers
    assert (ada_ben.one, ada_ben.other, ada_ben.num_common) == ("Ada", "Ben", 2)
    # p_o = .5; only `tie` is said by both, half of the time: p_e = .25, kappa = .25 / .75.
    assert ada_ben.agreement == 0.5
    assert ada_ben.cohen_kappa == pytest.approx(1 / 3)
    for apart in (ada_cem, ben_cem):
        assert (apart.num_common, apart.agreement, apart.cohen_kappa) == (0, None, None)
    m1, m2 = report.with_judges
    # M1 agrees with Ada on the pair, not with Ben, and with Cem on all three comparisons.
    assert (m1.judge, m1.num_common, m1.agreement) == ("M1", 5, 4 / 5)
    assert (m2.judge, m2.num_common, m2.agreement, m2.cohen_kappa) == ("M2", 2, 0, 0)


def test_a_report_without_answers_has_no_figures() -> None:
    items = [pair("t1", judged=[JudgedBy(judge="M1", label="tie", scores=None)])]
    report = agreement_report(items, [], item_verdicts(items))
    assert (report.num_answers, report.num_comparisons, report.reviewers) == (0, 0, [])
    assert report.krippendorff_alpha is None
    assert report.with_judges[0].model_dump() == {
        "judge": "M1",
        "num_common": 0,
        "agreement": None,
        "cohen_kappa": None,
    }


def test_the_order_in_which_responses_are_stored_does_not_change_the_agreement() -> None:
    # The better response is always stored first. Ada and Ben see that but for two tasks each.
    items = [pair(f"t{i}") for i in range(40)]
    ada = [SECOND if i in (0, 1) else FIRST for i in range(40)]
    ben = [SECOND if i in (2, 3) else FIRST for i in range(40)]
    stored = [answered(item, "Ada", said) for item, said in zip(items, ada, strict=True)]
    stored += [answered(item, "Ben", said) for item, said in zip(items, ben, strict=True)]
    first: dict[Comparison, ComparisonLabel] = {(0, 1): "first"}
    report = agreement_report(items, stored, {"M1": {i.id: first for i in items}})
    (between,) = report.between_reviewers
    assert between.agreement == 0.9
    # By stored order p_e = .95² + .05² = .905 > .9: no agreement beyond chance, which is not what
    # these two show. By halves p_e is about .5 and kappa about (.9 - .5) / .5.
    by_stored_order = cohen_kappa([str(s) for s in ada], [str(s) for s in ben])
    assert by_stored_order == pytest.approx(-0.005 / 0.095)
    assert between.cohen_kappa == pytest.approx(0.8, abs=0.05)

    turned_items = [
        ReviewItem(
            id=i.id,
            kind="pair",
            prompt=i.prompt,
            responses=i.responses[::-1],
            response_ids=i.response_ids[::-1],
            instruction_id=i.instruction_id,
            priority=0.0,
            why=i.why,
        )
        for i in items
    ]
    turned_answers = [
        answered(item, name, SECOND if said == FIRST else FIRST)
        for name, rankings in (("Ada", ada), ("Ben", ben))
        for item, said in zip(turned_items, rankings, strict=True)
    ]
    second: dict[Comparison, ComparisonLabel] = {(0, 1): "second"}
    turned_verdicts = {"M1": {i.id: second for i in items}}
    assert agreement_report(turned_items, turned_answers, turned_verdicts) == report
