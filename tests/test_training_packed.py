"""Packed documents get exactly the log-probabilities each has alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from selfreward.storage.token_shards import PackedRow
from selfreward.training.collate import PROMPT_SEGMENT
from selfreward.training.losses import sequence_logps
from selfreward.training.model import ModelSource, load_causal_lm
from selfreward.training.packed import collate_packed
from selfreward.training.policy import Policy
from selfreward.training.setup import attention_of

PAD = 9


def row(tokens: list[int], lengths: list[int]) -> PackedRow:
    return PackedRow(tokens=np.array(tokens, np.int32), lengths=np.array(lengths, np.int32))


def test_layout_by_hand() -> None:
    # Two rows of 7 tokens; the fuller one uses 6, so the batch is 6 wide.
    batch = collate_packed(
        [row([11, 12, 13, 21, 22, 31, PAD], [3, 2, 1]), row([41, 42, *[PAD] * 5], [2])], PAD
    )
    assert batch.input_ids_BT.tolist() == [[11, 12, 13, 21, 22, 31], [41, 42, PAD, PAD, PAD, PAD]]
    assert batch.position_ids_BT is not None and batch.segments_BT is not None
    assert batch.position_ids_BT.tolist() == [[0, 1, 2, 0, 1, 0], [0, 1, 0, 1, 2, 3]]
    assert batch.segments_BT.tolist() == [[1, 1, 1, 2, 2, 3], [1, 1, 2, 2, 2, 2]]
    assert PROMPT_SEGMENT not in batch.segments_BT
    # Targets: every token of a piece but its first, each from the place before it.
    assert batch.target_N.tolist() == [12, 13, 22, 42]
    assert batch.source_N.tolist() == [0, 1, 3, 6]
    assert batch.sequence_N.tolist() == [0, 0, 1, 3]
    assert batch.lengths_S.tolist() == [2.0, 1.0, 0.0, 1.0]
    assert batch.num_sequences == 4


def test_rows_of_one_piece_are_plain_sequences() -> None:
    batch = collate_packed([row([1, 2, 3, 4], [4]), row([5, 6, 7, PAD], [3])], PAD)
    assert batch.position_ids_BT is None
    assert batch.segments_BT is None
    assert batch.input_ids_BT.tolist() == [[1, 2, 3, 4], [5, 6, 7, PAD]]
    assert batch.source_N.tolist() == [0, 1, 2, 4, 5]
    assert batch.target_N.tolist() == [2, 3, 4, 6, 7]
    assert batch.sequence_N.tolist() == [0, 0, 0, 1, 1]


def test_no_rows_and_nothing_to_predict() -> None:
    batch = collate_packed([], PAD)
    assert (batch.num_sequences, batch.input_ids_BT.tolist()) == (0, [[PAD]])
    with pytest.raises(ValueError, match="no piece of these sequences has two tokens"):
        collate_packed([row([1, PAD], [1])], PAD)


@pytest.fixture(scope="module")
def policy(tiny_model: Path) -> Policy:
    lm = load_causal_lm(
        ModelSource(path=str(tiny_model)),
        dtype=torch.float32,
        attention=attention_of(torch.device("cpu")),
    )
    return Policy(lm).eval()


def alone(policy: Policy, tokens: list[int]) -> list[float]:
    """Log-probabilities of all tokens but the first by transformers' own forward pass."""
    ids = torch.tensor([tokens])
    logps_TV = torch.log_softmax(policy.causal_lm(input_ids=ids).logits[0, :-1], -1)
    logps: list[float] = logps_TV.gather(1, ids[0, 1:, None])[:, 0].tolist()
    return logps


DOCUMENTS = [
    torch.randint(0, 256, (n,), generator=torch.Generator().manual_seed(n)).tolist()
    for n in (17, 9, 30, 5, 32)
]


@torch.no_grad()
@pytest.mark.parametrize(
    "layout", [[[0, 1, 3], [2]], [[3, 1], [1, 3, 0]], [[4], [2]], [[4]], [[2, 1, 0, 3]]]
)
def test_packed_documents_do_not_see_each_other(policy: Policy, layout: list[list[int]]) -> None:
    width = 64
    rows = []
    for documents in layout:
        tokens = [t for d in documents for t in DOCUMENTS[d]]
        padding = [PAD] * (width - len(tokens))
        rows.append(row(tokens + padding, [len(DOCUMENTS[d]) for d in documents]))
    batch = collate_packed(rows, PAD)
    logps_N = policy(batch)
    wanted = [alone(policy, DOCUMENTS[d]) for documents in layout for d in documents]
    flat = torch.tensor([logp for logps in wanted for logp in logps])
    torch.testing.assert_close(logps_N, flat, atol=1e-5, rtol=0)
    sums_S = sequence_logps(logps_N, batch.sequence_N, batch.num_sequences)
    torch.testing.assert_close(
        sums_S, torch.tensor([sum(logps) for logps in wanted]), atol=1e-4, rtol=0
    )


def test_gradients_of_packed_documents_are_the_sum_of_those_alone(policy: Policy) -> None:
    def gradient(rows: list[PackedRow]) -> torch.Tensor:
        policy.zero_grad()
        policy(collate_packed(rows, PAD)).sum().backward()
        return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])

    first, second = DOCUMENTS[0], DOCUMENTS[1]
    packed = gradient([row([*first, *second, PAD], [17, 9])])
    apart = gradient([row(first, [17])]) + gradient([row(second, [9])])
    assert packed.norm() > 1
    torch.testing.assert_close(packed, apart, atol=1e-4, rtol=1e-4)
