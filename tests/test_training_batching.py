"""Plans of optimizer steps: nothing lost, pairs together, the same for any number of workers."""

from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.training.batching import (
    micro_batches,
    plan_batches,
    plan_step,
    split_over_workers,
)

LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=40)


@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=40),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_each_epoch_holds_every_row_once_in_full_steps(
    pairs: list[int], batch_size: int, epochs: int, seed: int
) -> None:
    ids = [f"pair-{p}" for p in pairs]
    steps = plan_batches(ids, batch_size=batch_size, epochs=epochs, seed=seed)
    per_epoch = -(-len(ids) // batch_size)
    assert len(steps) == epochs * per_epoch
    for epoch in range(epochs):
        chunk = steps[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert sorted(i for step in chunk for i in step) == list(range(len(ids)))
        assert all(len(step) == batch_size for step in chunk[:-1])


def test_both_orders_of_a_pair_share_a_step() -> None:
    ids = [f"pair-{i // 2}" for i in range(32)]
    for step in plan_batches(ids, batch_size=8, epochs=2, seed=3):
        assert sorted(ids[i] for i in step) == sorted(2 * sorted({ids[i] for i in step}))


def test_a_pair_stays_whole_beside_single_rows() -> None:
    # In steps of four, a step that took a single row can always take a second one of the six.
    ids = ["a", "a", "b", "b", "u", "v", "w", "x", "y", "z"]
    for seed in range(20):
        steps = plan_batches(ids, batch_size=4, epochs=1, seed=seed)
        for pair in "ab":
            assert sum(pair in [ids[i] for i in step] for step in steps) == 1


def test_epochs_and_seeds_shuffle_differently() -> None:
    ids = [str(i) for i in range(50)]
    first, second = plan_batches(ids, batch_size=50, epochs=2, seed=0)
    (other,) = plan_batches(ids, batch_size=50, epochs=1, seed=1)
    assert first != second
    assert first != other
    assert plan_batches(ids, batch_size=50, epochs=2, seed=0) == [first, second]


def test_max_steps_cuts_the_plan() -> None:
    ids = [str(i) for i in range(10)]
    assert len(plan_batches(ids, batch_size=2, epochs=3, seed=0, max_steps=7)) == 7


def test_a_curriculum_goes_from_the_largest_margin_down_and_keeps_pairs_together() -> None:
    ids = ["a", "b", "c", "d", "a", "b", "c", "d"]
    margins = [0.5, None, 2.0, -1.0, 0.5, None, 2.0, -1.0]
    for seed in range(5):
        steps = plan_batches(ids, batch_size=2, epochs=1, seed=seed, margins=margins)
        assert steps == [[2, 6], [0, 4], [3, 7], [1, 5]]
    # Two pairs a step: those of the larger margins make the first one.
    steps = plan_batches(ids, batch_size=4, epochs=1, seed=0, margins=margins)
    assert steps == [[2, 6, 0, 4], [3, 7, 1, 5]]


def test_only_the_first_epoch_is_ordered_and_equal_margins_are_shuffled() -> None:
    ids = [str(i) for i in range(40)]
    # 20 easy rows, 20 hard ones.
    margins = [1.0 if i < 20 else 0.0 for i in range(40)]
    plans = [
        plan_batches(ids, batch_size=20, epochs=2, seed=seed, margins=margins) for seed in (0, 1)
    ]
    for easy, hard, later, _ in plans:
        assert (set(easy), set(hard)) == (set(range(20)), set(range(20, 40)))
        assert set(later) not in (set(easy), set(hard))
    assert plans[0][0] != plans[1][0]
    plain = plan_batches(ids, batch_size=20, epochs=2, seed=0)
    assert plans[0][2:] == plain[2:]


@given(LENGTHS, st.integers(1, 5), st.integers(1, 600))
@settings(max_examples=60, deadline=None)
def test_workers_and_micro_batches_share_out_a_step(
    lengths: list[int], num_workers: int, budget: int
) -> None:
    indices = list(range(len(lengths)))
    seen = []
    counts = set()
    for rank in range(num_workers):
        pieces = plan_step(
            indices,
            lengths,
            num_workers=num_workers,
            rank=rank,
            max_padded_tokens=budget,
            overhead_tokens=32,
            equal_counts=True,
        )
        counts.add(len(pieces))
        for piece in pieces:
            seen += piece
            padded = len(piece) * max((lengths[i] for i in piece), default=0)
            assert padded <= budget or len(piece) == 1
    assert sorted(seen) == indices
    assert len(counts) == 1  # a sharded model needs every worker to run as many


def test_workers_get_like_amounts_of_work() -> None:
    # 100 + 10 against 60 + 50: the longest goes first, to the worker with the least.
    assert split_over_workers([0, 1, 2, 3], [100, 60, 50, 10], 2) == [[0, 3], [1, 2]]


def test_micro_batches_hold_rows_of_like_length() -> None:
    # Sorted 90, 80, 30, 20, 10 with room for 100 padded tokens: 30 * 3 fits, 80 * 2 does not.
    assert micro_batches([0, 1, 2, 3, 4], [10, 90, 20, 80, 30], 100) == [[1], [3], [4, 2, 0]]


def test_padding_is_weighed_against_one_more_micro_batch() -> None:
    # One micro-batch: 4 * 100 padded tokens + 128 = 528. Two: 200 + 20 + 2 * 128 = 476.
    lengths = [100, 10, 100, 10]
    assert micro_batches(range(4), lengths, 1000, overhead_tokens=128) == [[0, 2], [1, 3]]
    # At 200 tokens a micro-batch: 600 against 620.
    assert micro_batches(range(4), lengths, 1000, overhead_tokens=200) == [[0, 2, 1, 3]]
