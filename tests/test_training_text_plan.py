"""Which sequences make a step, and reading them ahead."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from selfreward.errors import ConfigError, DataError, TrainingError
from selfreward.training.model import ModelSource
from selfreward.training.task import TrainingTask
from selfreward.training.text_plan import (
    Place,
    TextPlan,
    TokenShard,
    make_text_plan,
    measure_shards,
)
from selfreward.training.text_stream import Chunks, packed_stream, read_ahead, read_chunk
from tests.training_data import make_config, make_packed, write_packed


def make_plan(
    counts: Sequence[int],
    general: Sequence[int] = (),
    replay_share: float = 0.0,
    token_budget: int | None = None,
    seed: int = 0,
    **config: Any,
) -> TextPlan:
    """A plan over shards `d0`, `d1`, … and `g0`, … of sequences of ten tokens."""
    made = {
        name: [
            TokenShard(url=f"{name}{i}", num_sequences=n, sequence_length=10, digest="")
            for i, n in enumerate(sizes)
        ]
        for name, sizes in (("d", counts), ("g", general))
    }
    task = TrainingTask(
        source=ModelSource(path="unread"),
        data=(),
        record="PackedText",
        config=make_config("text", **config),
        replay_share=replay_share,
        token_budget=token_budget,
        seed=seed,
    )
    return make_text_plan(task, made["d"], made["g"])


def flat(plan: TextPlan) -> list[Place]:
    return [place for step in plan for place in step]


def test_an_epoch_goes_through_shuffled_shards_from_end_to_end() -> None:
    plan = make_plan([3, 1, 0, 4, 2], batch_size=4, epochs=3)
    # Three epochs of ten sequences: seven steps of four and one of two.
    assert [len(step) for step in plan] == 7 * [4] + [2]
    orders = set()
    for epoch in range(3):
        places = flat(plan)[10 * epoch : 10 * epoch + 10]
        urls = list(dict.fromkeys(url for url, _ in places))
        sizes = {"d0": 3, "d1": 1, "d3": 4, "d4": 2}
        assert places == [(url, row) for url in urls for row in range(sizes[url])]
        assert sorted(urls) == sorted(sizes)
        orders.add(tuple(urls))
    assert len(orders) > 1
    assert flat(make_plan([3, 1, 0, 4, 2], batch_size=3, epochs=3)) == flat(plan)
    assert flat(make_plan([3, 1, 0, 4, 2], batch_size=4, epochs=3, seed=1)) != flat(plan)


def test_a_token_budget_is_met_in_full_steps_over_epochs() -> None:
    # 245 tokens in steps of 4 sequences of 10 tokens: 7 steps, 28 of the 30 sequences of 5 epochs.
    plan = make_plan([6], token_budget=245, batch_size=4)
    assert [len(step) for step in plan] == 7 * [4]
    assert plan[1] == [("d0", 4), ("d0", 5), ("d0", 0), ("d0", 1)]
    assert len(make_plan([6], token_budget=245, batch_size=4, max_steps=2)) == 2
    assert len(make_plan([6], batch_size=4, epochs=9, max_steps=2)) == 2


def test_replay_has_its_share_everywhere() -> None:
    plan = make_plan([7], general=[100], replay_share=0.3, batch_size=5)
    places = flat(plan)
    assert len(places) == 10  # 7 are 70 %
    domain = [p for p in places if p[0] == "d0"]
    assert domain == [("d0", row) for row in range(7)]
    assert [p for p in places if p[0] == "g0"] == [("g0", row) for row in range(3)]
    assert all(1 <= sum(url == "g0" for url, _ in step) <= 2 for step in plan)
    # Whichever is used up begins anew.
    longer = flat(make_plan([7], [2], 0.5, token_budget=200, batch_size=4))
    assert len(longer) == 20
    assert sum(url == "g0" for url, _ in longer) == 10
    assert {p for p in longer if p[0] == "g0"} == {("g0", 0), ("g0", 1)}


def test_a_plan_of_a_large_corpus_costs_nothing() -> None:
    plan = make_plan([10**9] * 1000, token_budget=10**14, batch_size=1024)
    assert len(plan) == 9_765_625_000  # steps of 10,240 tokens
    assert len({*plan[10**9], *plan[len(plan) - 1]}) == 2048


def test_mistakes_are_told() -> None:
    with pytest.raises(DataError, match=r"2 token shard\(s\) hold no sequence"):
        make_plan([0, 0])
    with pytest.raises(ConfigError, match=r"replay_share=0\.3 needs text to replay"):
        make_plan([4], general=[0], replay_share=0.3)
    with pytest.raises(ConfigError, match="needs a token_budget"):
        make_plan([4], general=[4], replay_share=1.0)


def test_shards_are_measured(tmp_path: Path) -> None:
    urls = [write_packed(tmp_path / f"{i}.parquet", make_packed(i + 1, seed=i)) for i in range(3)]
    shards = measure_shards(urls)
    assert [(s.url, s.num_sequences, s.sequence_length) for s in shards] == [
        (url, i + 1, 24) for i, url in enumerate(urls)
    ]
    assert len({s.digest for s in shards}) == 3
    with pytest.raises(DataError, match="no training text at"):
        measure_shards([*urls, str(tmp_path / "gone.parquet")])
    other = write_packed(tmp_path / "other.parquet", make_packed(2, length=16))
    with pytest.raises(DataError, match="sequences of 16 and of 24 tokens"):
        measure_shards([*urls, other])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[Place, bytes]]:
    """Shards of 700, 3 and 40 sequences, and the tokens at each place."""
    folder = tmp_path_factory.mktemp("corpus")
    urls: list[str] = []
    tokens: dict[Place, bytes] = {}
    for number, count in enumerate((700, 3, 40)):
        rows = make_packed(count, seed=number)
        urls.append(write_packed(folder / f"{number}.parquet", rows))
        tokens |= {(urls[-1], i): row.tokens.tobytes() for i, row in enumerate(rows)}
    return urls, tokens


@pytest.mark.parametrize("world_size", [1, 3])
def test_workers_read_the_steps_between_them_from_any_step_on(
    world_size: int, corpus: tuple[list[str], dict[Place, bytes]]
) -> None:
    urls, tokens = corpus
    task = TrainingTask(
        source=ModelSource(path="unread"),
        data=(),
        record="PackedText",
        config=make_config("text", batch_size=11),
    )
    plan = make_text_plan(task, measure_shards(urls), ())
    assert len(plan) == 68  # ceil(743 / 11)
    for start in (0, 29, 67, 68):
        streams = [
            packed_stream(plan, start=start, rank=r, world_size=world_size, limit_s=60.0)
            for r in range(world_size)
        ]
        read = [
            [row.tokens.tobytes() for share in s for row in share]
            for s in zip(*streams, strict=True)
        ]
        assert read == [[tokens[place] for place in plan[s]] for s in range(start, 68)]


def test_sequences_far_apart_are_read_one_by_one(
    corpus: tuple[list[str], dict[Place, bytes]],
) -> None:
    urls, tokens = corpus
    chunk = [[(urls[0], 690), (urls[2], 3)], [], [(urls[0], 2), (urls[0], 5), (urls[0], 690)]]
    read = [[row.tokens.tobytes() for row in step] for step in read_chunk(chunk)]
    assert read == [[tokens[place] for place in step] for step in chunk]


def test_few_large_reads_are_made() -> None:
    plan = make_plan([1000], batch_size=8)
    # 128 sequences of 8 a step: 16 steps to one read, 8 reads of 125 steps.
    chunks = Chunks(plan, start=0, rank=0, world_size=1)
    assert [len(chunk) for chunk in chunks] == 7 * [16] + [13]
    # A worker of four takes two sequences of a step, so it reads 64 steps at once.
    assert [len(c) for c in Chunks(plan, start=5, rank=3, world_size=4)] == [64, 56]


def test_reading_ahead_is_bounded_and_passes_errors_on() -> None:
    made = []

    def numbers() -> Iterator[int]:
        for number in range(10_000):
            made.append(number)
            if number == 20:
                raise DataError("no training text at 20")
            yield number

    ahead = read_ahead(numbers(), depth=2, limit_s=60.0)
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    assert len(made) <= 3 + 2 + 1
    with pytest.raises(DataError, match="at 20"):
        list(ahead)
    assert list(read_ahead([], depth=2, limit_s=60.0)) == []


def test_data_that_never_come_are_an_error() -> None:
    gate = threading.Event()

    def never() -> Iterator[int]:
        gate.wait()
        yield 0

    with pytest.raises(TrainingError, match=r"no training text came for 0\.1 seconds"):
        next(read_ahead(never(), depth=1, limit_s=0.1))
    gate.set()
