"""Which judge is served: the history, its file, the run's pointer, and what may be promoted."""

import asyncio
import json
import logging
import pickle
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.engines.models import folder_on_this_node, model_fingerprint
from selfreward.errors import DataError, ModelNotFoundError, StorageError, UserError
from selfreward.layout import Layout
from selfreward.records import ModelRef
from selfreward.serving.admin_wire import PromoteRequest
from selfreward.serving.version_store import (
    VersionStore,
    place_model,
    prepare,
    read_pointer,
    resolve_promotion,
    watch,
)
from selfreward.serving.versions import VersionBook
from selfreward.serving.weights import check_weights
from selfreward.serving.wire import JudgeVersion
from selfreward.storage import files
from selfreward.storage.checkpoints import CurrentJudge, write_current

NOON = "2026-11-22T12:00:00Z"
LATER = "2026-11-22T13:00:00Z"


def pointer(iteration: int, fingerprint: str, promoted_at: str = NOON) -> CurrentJudge:
    return CurrentJudge(
        iteration=iteration,
        checkpoint=f"runs/a/iter_{iteration:02d}/checkpoint" if iteration else "tiny",
        fingerprint=fingerprint,
        accuracy=0.8,
        reason=f"promoted: M{iteration} is better",
        promoted_at=promoted_at,
    )


def other(letter: str) -> ModelRef:
    return ModelRef(name=f"models/{letter}", iteration=0, fingerprint=letter)


def told(book: VersionBook) -> list[tuple[int, str, str]]:
    return [(v.number, v.model.name, v.by) for v in book.versions]


# The history


def test_a_run_moves_its_judge_and_every_answer_can_name_it() -> None:
    book = VersionBook.of_run(pointer(0, "a"), since=NOON)
    book = book.follow(pointer(3, "b", LATER), since=LATER)
    assert told(book) == [(1, "tiny", "start"), (2, "M3", "run")]
    assert book.current.folder == "runs/a/iter_03/checkpoint"
    assert book.current.reason == "promoted: M3 is better"
    assert book.current.wire() == JudgeVersion(version=2, model="M3", iteration=3, fingerprint="b")
    history = book.history()
    assert (history.current.since, history.current.by) == (LATER, "run")
    assert [e.judge.version for e in history.history] == [1]


def test_what_is_current_already_is_no_new_version_whatever_it_is_called() -> None:
    book = VersionBook.of_run(pointer(1, "a"), since=NOON)
    assert book.promote(replace(other("b"), fingerprint="a"), "elsewhere", since=LATER) is book
    pointed_again = book.follow(pointer(1, "a", LATER), since=LATER)
    assert told(pointed_again) == [(1, "M1", "start")]
    # That the pointer was written again is known from now on.
    assert pointed_again.follow(pointer(1, "a", LATER), since=LATER) is pointed_again


def test_a_rollback_is_a_new_number_and_a_second_one_undoes_it() -> None:
    book = VersionBook.of_model(other("a"), "models/a", since=NOON)
    book = book.promote(other("b"), "models/b", since=NOON, reason="asked for")
    book = book.rollback(since=LATER)
    assert told(book)[2] == (3, "models/a", "rollback")
    assert (book.current.folder, book.current.reason) == ("models/a", "back to version 1")
    assert told(book.rollback(since=LATER))[3] == (4, "models/b", "rollback")


def test_a_rollback_with_nothing_before_says_so() -> None:
    book = VersionBook.of_run(pointer(2, "a"), since=NOON)
    with pytest.raises(UserError, match=r"nothing to roll back to: no judge but M2 \(version 1\)"):
        book.rollback(since=LATER)


@pytest.mark.parametrize("manual", ["promote", "rollback"])
def test_an_administrators_choice_stays_until_the_run_moves_again(manual: str) -> None:
    book = VersionBook.of_run(pointer(1, "a"), since=NOON).follow(pointer(2, "b"), since=NOON)
    if manual == "promote":
        chosen = book.promote(other("x"), "models/x", since=NOON)
    else:
        chosen = book.rollback(since=NOON)
    assert chosen.follow(pointer(2, "b"), since=LATER) is chosen
    moved = chosen.follow(pointer(3, "c"), since=LATER)
    assert told(moved)[-1] == (4, "M3", "run")


@pytest.mark.parametrize(
    "news", [pointer(2, "b", LATER), pointer(2, "B"), pointer(4, "b")], ids=["time", "weights", "t"]
)
def test_each_part_of_the_pointer_counts_as_a_move(news: CurrentJudge) -> None:
    book = VersionBook.of_run(pointer(2, "b"), since=NOON)
    book = book.promote(other("x"), "models/x", since=NOON)
    assert book.follow(news, since=LATER).current.number == 3


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("follow"), st.integers(0, 3), st.sampled_from("abc")),
        st.tuples(st.just("promote"), st.just(0), st.sampled_from("abcx")),
        st.tuples(st.just("restart"), st.just(0), st.sampled_from("ax")),
        st.tuples(st.just("rollback"), st.just(0), st.just("")),
        st.tuples(st.just("reload"), st.just(0), st.just("")),
    ),
    max_size=30,
)


@given(OPERATIONS)
def test_whatever_happens_numbers_grow_and_no_version_is_lost(
    operations: list[tuple[str, int, str]],
) -> None:
    store = VersionStore(f"memory://versions-{uuid.uuid4().hex}")
    book = VersionBook.of_run(pointer(0, "a"), since=NOON)
    for what, iteration, letter in operations:
        before = book
        if what == "follow":
            book = book.follow(pointer(iteration, letter), since=LATER)
            assert book.follow(pointer(iteration, letter), since=LATER) is book
        elif what == "promote":
            book = book.promote(other(letter), f"models/{letter}", since=LATER)
            assert book.current.model.fingerprint == letter
        elif what == "restart":
            book = book.restart(other(letter), f"models/{letter}", since=LATER)
        elif what == "reload":
            store.save(book)
            book = store.load()  # type: ignore[assignment]
            assert book == before
        elif len({v.model.fingerprint for v in book.versions}) > 1:
            book = book.rollback(since=LATER)
            assert book.current.model.fingerprint != before.current.model.fingerprint
        else:
            with pytest.raises(UserError):
                book.rollback(since=LATER)
        assert book.versions[: len(before.versions)] == before.versions
        assert len(book.versions) - len(before.versions) in (0, 1)
        numbers = [v.number for v in book.versions]
        assert numbers == list(range(1, len(numbers) + 1))
        assert book.current.number == numbers[-1]


def test_a_book_travels_between_processes() -> None:
    book = VersionBook.of_run(pointer(1, "a"), since=NOON)
    assert pickle.loads(pickle.dumps(book)) == book


# Its file


def test_after_a_restart_the_numbers_go_on_with_the_judge_that_was_served(tmp_path: Path) -> None:
    store = VersionStore(str(tmp_path / "serving"))
    assert store.load() is None
    book = store.open_run(pointer(1, "a"), since=NOON)
    store.save(book.promote(other("x"), "models/x", since=NOON))

    again = store.open_run(pointer(1, "a"), since=LATER)
    assert told(again) == [(1, "M1", "start"), (2, "models/x", "promote")]
    assert again.current.since == NOON

    moved = store.open_run(pointer(2, "b", LATER), since=LATER)
    assert told(moved)[2] == (3, "M2", "run")
    not_followed = store.open_run(pointer(2, "b", LATER), since=LATER, follow=False)
    assert told(not_followed) == told(again)


def test_a_service_of_a_model_goes_on_unless_it_is_started_with_another(tmp_path: Path) -> None:
    store = VersionStore(str(tmp_path))
    store.save(store.open_model(other("a"), "models/a", since=NOON))
    store.save(
        store.open_model(other("a"), "models/a", since=NOON).promote(
            other("b"), "models/b", since=NOON
        )
    )
    assert told(store.open_model(other("a"), "models/a", since=LATER))[-1][1] == "models/b"
    started = store.open_model(other("c"), "models/c", since=LATER)
    assert told(started)[-1] == (3, "models/c", "start")


def test_a_run_that_was_moved_is_served_from_where_it_lies_now() -> None:
    root = f"memory://moved-{uuid.uuid4().hex}"
    book = VersionBook.of_run(pointer(0, "a"), since=NOON).follow(pointer(2, "b"), since=NOON)
    VersionStore(f"{root}/serving").save(book)
    loaded = VersionStore(f"{root}/serving", Layout(root)).load()
    assert loaded is not None
    assert [v.folder for v in loaded.versions] == ["tiny", f"{root}/iter_02/checkpoint"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[: len(text) // 2], "EOF"),
        (lambda text: "", "EOF"),
        (lambda text: text.replace('"number": 2', '"number": "two"'), "versions.1.number"),
        (lambda text: text.replace('"number": 2', '"number": 1'), "version 1 comes after"),
        (lambda text: '{"versions": [], "seen": ' + text.partition('"seen": ')[2], "at least one"),
        (lambda text: text.replace('"seen"', '"saw"'), "seen"),
    ],
    ids=["cut off", "empty", "no number", "order", "nothing in it", "no pointer"],
)
def test_a_damaged_file_is_named_with_its_mend_and_left_alone(
    tmp_path: Path, damage: Callable[[str], str], says: str
) -> None:
    store = VersionStore(str(tmp_path))
    store.save(VersionBook.of_run(pointer(1, "a"), since=NOON).follow(pointer(2, "b"), since=LATER))
    path = tmp_path / "versions.json"
    damaged = damage(path.read_text())
    path.write_text(damaged)
    with pytest.raises(DataError) as caught:
        store.open_run(pointer(1, "a"), since=LATER)
    message = str(caught.value)
    assert str(path) in message
    assert says in message
    assert "backup" in message
    assert "\n" not in message
    assert path.read_text() == damaged


# Following a run


def run_watch(
    reads: Sequence[CurrentJudge | Exception | None], failures: int = 0
) -> tuple[list[int], Counter[str]]:
    """Watches until everything was read; the first `failures` calls of apply fail."""
    applied: list[int] = []
    errors: Counter[str] = Counter()
    left = iter(reads)
    calls = 0

    async def main() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def read() -> CurrentJudge | None:
            found = next(left, EOFError())
            if isinstance(found, EOFError):
                loop.call_soon_threadsafe(done.set)
            if isinstance(found, Exception):
                raise found
            return found

        async def apply(current: CurrentJudge) -> None:
            nonlocal calls
            calls += 1
            if calls <= failures:
                raise ModelNotFoundError("no such folder")
            applied.append(current.iteration)

        task = asyncio.create_task(watch(read, apply, 0.001, errors))
        await done.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    errors.pop("read EOFError", None)
    return applied, errors


def test_a_store_that_cannot_be_read_for_a_while_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hiccup, denied = StorageError("cannot read current.json: timed out"), OSError("refused")
    with caplog.at_level(logging.WARNING):
        applied, errors = run_watch([pointer(1, "a"), hiccup, hiccup, denied, pointer(2, "b")])
    assert applied == [1, 2]
    assert errors == {"read StorageError": 2, "read OSError": 1}
    lines = [r.getMessage() for r in caplog.records if "EOFError" not in r.getMessage()]
    assert lines == [
        "the run's judge was not taken over (read StorageError):"
        " cannot read current.json: timed out",
        "the run's judge was not taken over (read OSError): refused",
    ]


def test_a_pointer_that_is_gone_for_a_while_changes_nothing() -> None:
    applied, errors = run_watch([pointer(1, "a"), None, None, pointer(1, "a")])
    assert applied == [1, 1]
    assert errors == {"missing": 2}


def test_a_judge_that_cannot_be_loaded_is_tried_again_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        applied, errors = run_watch([pointer(2, "b")] * 4 + [pointer(3, "c")], failures=3)
    assert applied == [2, 3]
    assert errors == {"apply ModelNotFoundError": 3}
    lines = [r.getMessage() for r in caplog.records if "EOFError" not in r.getMessage()]
    assert lines == [
        "the run's judge was not taken over (apply ModelNotFoundError): no such folder"
    ]


# What may be promoted


def write_model(folder: Path, weights: str, complete: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text(weights)
    if complete:
        (folder / "COMPLETE").write_text("{}")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Layout:
    """Three iterations: the first is there, the second being written, the third to come."""
    seed = write_model(tmp_path / "seed", "seed")
    layout = Layout(str(tmp_path / "run"))
    files.write_json(layout.run_json, {"iterations": 3})
    files.write_bytes(layout.config, f"model: {{name: {seed}, revision: null}}\n".encode())
    write_model(Path(layout.checkpoint(1)), "one")
    write_model(Path(layout.checkpoint(2)), "two", complete=False)
    return layout


def test_an_iteration_is_promoted_with_the_fingerprint_of_its_weights(run: Layout) -> None:
    model, folder = resolve_promotion(PromoteRequest(iteration=1), run)
    assert folder == run.checkpoint(1)
    assert model == ModelRef(name="M1", iteration=1, fingerprint=model_fingerprint(folder))


@pytest.mark.parametrize(
    ("iteration", "says"),
    [
        (2, "the checkpoint of iteration 2 is not complete"),
        (3, "no checkpoint of iteration 3; it has them of iterations: 1"),
        (9, "no checkpoint of iteration 9; it has them of iterations: 1"),
    ],
)
def test_an_iteration_without_a_whole_checkpoint_is_refused(
    run: Layout, iteration: int, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        resolve_promotion(PromoteRequest(iteration=iteration), run)


def test_iteration_0_is_the_seed_that_the_config_or_the_pointer_names(
    run: Layout, tmp_path: Path
) -> None:
    seed = str(tmp_path / "seed")
    model, folder = resolve_promotion(PromoteRequest(iteration=0), run)
    assert folder == seed
    assert model == ModelRef(name=seed, iteration=0, fingerprint=model_fingerprint(seed))
    # The pointer's history goes before the config: it knows the weights, too.
    write_current(run, replace(pointer(0, model.fingerprint), checkpoint=seed))
    write_current(run, pointer(1, "b"))
    files.write_bytes(run.config, b"model: {name: /nowhere}\n")
    assert resolve_promotion(PromoteRequest(iteration=0), run) == (model, folder)
    write_model(tmp_path / "seed", "another seed")
    with pytest.raises(DataError, match="has other weights now"):
        resolve_promotion(PromoteRequest(iteration=0), run)


@pytest.mark.parametrize("config", [None, b"- no mapping", b"model: 3", b"a: [", b"model: {}"])
def test_a_run_whose_seed_is_not_known_says_which_file_is_wrong(
    run: Layout, config: bytes | None
) -> None:
    if config is None:
        files.remove(run.config)
    else:
        files.write_bytes(run.config, config)
    with pytest.raises(DataError, match=r"config\.yaml"):
        resolve_promotion(PromoteRequest(iteration=0), run)


def test_an_iteration_needs_a_run() -> None:
    with pytest.raises(DataError, match="no run is served here; name a model"):
        resolve_promotion(PromoteRequest(iteration=1), None)


def test_a_model_is_promoted_by_its_name(tmp_path: Path, run: Layout) -> None:
    folder = str(write_model(tmp_path / "mine", "mine"))
    for layout in (run, None):
        model, found = resolve_promotion(PromoteRequest(model=folder), layout)
        assert (model.name, model.iteration, found) == (folder, 0, folder)
    with pytest.raises(ModelNotFoundError, match="no such folder"):
        resolve_promotion(PromoteRequest(model="/nowhere/model"), run)


def test_a_url_is_promoted_with_the_weights_it_has_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFREWARD_CACHE", str(tmp_path / "cache"))
    url = f"memory://bucket-{uuid.uuid4().hex}/judge"

    def upload(weights: bytes) -> ModelRef:
        files.write_bytes(f"{url}/config.json", b"{}")
        files.write_bytes(f"{url}/model.safetensors", weights)
        model, folder = place_model(url)
        assert folder == url
        # What an engine does on its node.
        assert Path(folder_on_this_node(model, folder), "model.safetensors").read_bytes() == weights
        # The keeper and an engine on its node hold one copy.
        assert place_model(url) == (model, folder)
        return model

    old = upload(b"old weights")
    assert len(list((tmp_path / "cache").glob("url-*/"))) == 1
    new = upload(b"new weights")
    assert old.fingerprint != new.fingerprint
    assert len(list((tmp_path / "cache").glob("url-*/"))) == 2


def test_a_url_that_holds_other_weights_is_read_again_and_not_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFREWARD_CACHE", str(tmp_path / "cache"))
    url = f"memory://bucket-{uuid.uuid4().hex}/judge"
    right = write_model(tmp_path / "right", "right")
    model = ModelRef(name=url, iteration=0, fingerprint=model_fingerprint(str(right)))
    version = VersionBook.of_model(model, url, since=NOON).current

    def upload(folder: Path) -> None:
        for file in folder.iterdir():
            files.write_bytes(f"{url}/{file.name}", file.read_bytes())

    upload(write_model(tmp_path / "wrong", "wrong"))
    with pytest.raises(DataError, match="holds other weights here"):
        check_weights(version)
    upload(right)
    check_weights(version)


def test_a_checkpoint_of_a_run_in_a_bucket_is_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFREWARD_CACHE", str(tmp_path / "cache"))
    layout = Layout(f"memory://bucket-{uuid.uuid4().hex}/run")
    for name in ("config.json", "model.safetensors", "COMPLETE"):
        files.write_bytes(f"{layout.checkpoint(1)}/{name}", b"{}")
    model, folder = resolve_promotion(PromoteRequest(iteration=1), layout)
    assert (model.name, folder) == ("M1", layout.checkpoint(1))
    with pytest.raises(DataError, match=r"no run at memory://.*: it has no run\.json"):
        resolve_promotion(PromoteRequest(iteration=2), layout)


# A run's pointer, and the weights before a swap


def test_a_pointer_is_read_with_its_checkpoint_where_the_run_lies_now(run: Layout) -> None:
    assert read_pointer(run) is None
    write_current(run, pointer(0, "a"))
    seed = read_pointer(run)
    assert seed is not None
    assert (seed.checkpoint, seed.fingerprint) == ("tiny", "a")
    write_current(run, pointer(1, "b"))
    trained = read_pointer(run)
    assert trained is not None
    assert (trained.iteration, trained.checkpoint) == (1, run.checkpoint(1))
    assert trained.promoted_at != ""


def test_a_pointer_of_another_form_is_named(run: Layout) -> None:
    files.write_bytes(run.current, json.dumps({"current": {"step": 1}, "history": []}).encode())
    with pytest.raises(StorageError, match=r"current\.json is no pointer of this version"):
        read_pointer(run)


def test_a_seed_known_by_name_becomes_a_folder_before_an_engine_loads_it(
    run: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    current = replace(pointer(0, model_fingerprint("seed")), checkpoint="seed")
    book = prepare(VersionBook.of_run(current, since=NOON))
    assert book.current.folder == str(tmp_path / "seed")
    assert folder_on_this_node(book.current.model, book.current.folder) == str(tmp_path / "seed")
    assert prepare(book) == book


def test_a_rollback_to_weights_that_are_others_by_now_is_refused(run: Layout) -> None:
    model, folder = resolve_promotion(PromoteRequest(iteration=1), run)
    book = VersionBook.of_model(model, folder, since=NOON)
    book = book.promote(other("x"), "models/x", since=NOON).rollback(since=LATER)
    assert prepare(book) == book
    write_model(Path(folder), "trained again")
    with pytest.raises(DataError, match=r"holds other weights .* than version 3, M1"):
        prepare(book)
    files.remove(folder)
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        prepare(book)


def test_weights_behind_a_url_are_left_to_the_engines() -> None:
    model = ModelRef(name="s3://bucket/judge", iteration=0, fingerprint="a")
    book = VersionBook.of_model(model, model.name, since=NOON)
    assert prepare(book) is book
