"""Without padding a batch gets the log-probabilities and gradients it has with it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from selfreward.storage.token_shards import PackedRow
from selfreward.training.attention import SHORT
from selfreward.training.batching import micro_batches
from selfreward.training.collate import Batch, collate
from selfreward.training.encoding import EncodedRow
from selfreward.training.model import ModelSource, load_causal_lm
from selfreward.training.packed import collate_packed
from selfreward.training.policy import Policy, Traits
from selfreward.training.ragged import ragged_inputs
from selfreward.training.setup import attention_of
from selfreward.training.traits import measure

CPU = torch.device("cpu")
PAD = 9


def encoded(prompt: Sequence[int], *completions: Sequence[int]) -> EncodedRow:
    arrays = [np.array(tokens, np.int32) for tokens in (prompt, *completions)]
    return EncodedRow(id="r", pair_id="r", prompt=arrays[0], completions=tuple(arrays[1:]))


def packed(tokens: Sequence[int], lengths: Sequence[int]) -> PackedRow:
    return PackedRow(tokens=np.array(tokens, np.int32), lengths=np.array(lengths, np.int32))


def test_layout_by_hand() -> None:
    batch = collate([encoded([1, 2], [3, 4], [5]), encoded([6], [7])], PAD, share_prompt=True)
    assert batch.input_ids_BT.tolist() == [[1, 2, 3, 4, 5], [6, 7, PAD, PAD, PAD]]
    place_L, inputs = ragged_inputs(batch)
    assert place_L.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert inputs["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6, 7]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 3, 2, 0, 1]]
    assert inputs["ragged"].lengths == (5, 2)
    pair, plain = inputs["ragged"].seen
    assert pair.int()[0, 0].tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],  # the second completion does not see the first
    ]
    assert plain is None


def test_each_packed_document_is_a_sequence_of_its_own() -> None:
    rows = [packed([1, 2, 3, 4, PAD, PAD], [3, 1]), packed([5, 6, 7, 8, 9, 10], [6])]
    place_L, inputs = ragged_inputs(collate_packed(rows, PAD))
    assert inputs["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 0, 0, 1, 2, 3, 4, 5]]
    assert place_L.tolist() == [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]
    assert inputs["ragged"].lengths == (3, 1, 6)
    assert inputs["ragged"].seen == (None, None, None)


def random_tokens(count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    tokens: list[int] = torch.randint(0, 256, (count,), generator=generator).tolist()
    return tokens


def preferences(share: bool) -> Batch:
    sizes = [(12, 9, 14), (5, 30, 2), (40, 3, 21)]
    rows = [
        encoded(*(random_tokens(n, 10 * row + part) for part, n in enumerate(size)))
        for row, size in enumerate(sizes)
    ]
    return collate(rows, PAD, share)


def documents() -> Batch:
    lengths = [[17, 9, 30], [SHORT + 40], [5, 40]]
    rows = []
    for seed, pieces in enumerate(lengths):
        padding = [PAD] * (SHORT + 50 - sum(pieces))
        rows.append(packed(random_tokens(sum(pieces), seed) + padding, pieces))
    return collate_packed(rows, PAD)


@pytest.fixture(scope="module")
def policy(tiny_model: Path) -> Policy:
    source = ModelSource(path=str(tiny_model))
    lm = load_causal_lm(source, dtype=torch.float32, attention=attention_of(CPU))
    return Policy(lm).eval()


def passes(policy: Policy, batch: Batch, ragged: bool) -> tuple[torch.Tensor, torch.Tensor]:
    policy.traits = Traits(ragged=ragged)
    policy.zero_grad()
    logps_N = policy(batch)
    (logps_N * torch.linspace(-1, 1, len(logps_N))).sum().backward()
    gradients = [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
    return logps_N.detach(), torch.cat(gradients)


@pytest.mark.parametrize(
    "make",
    [lambda: preferences(True), lambda: preferences(False), documents],
    ids=["shared prompts", "apart", "packed text"],
)
def test_outputs_and_gradients_are_those_of_padded_rows(policy: Policy, make) -> None:  # type: ignore[no-untyped-def]
    batch = make()
    wanted, wanted_gradients = passes(policy, batch, ragged=False)
    found, gradients = passes(policy, batch, ragged=True)
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)
    assert wanted_gradients.norm() > 1
    torch.testing.assert_close(gradients, wanted_gradients, rtol=1e-3, atol=1e-4)


def test_whether_a_model_can_do_without_padding_is_measured(policy: Policy) -> None:
    assert measure(policy, CPU) == Traits(ragged=True)


def test_a_model_whose_layers_see_a_window_keeps_its_padding(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy.config, "sliding_window", 8, raising=False)
    assert measure(policy, CPU) == Traits(ragged=False)


def test_a_model_that_hands_nothing_on_to_its_attention_keeps_its_padding(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = policy.causal_lm.get_decoder()
    whole = decoder.forward

    def forgets(ragged: object = None, **inputs: object) -> object:
        return whole(**inputs)

    monkeypatch.setattr(decoder, "forward", forgets)
    assert measure(policy, CPU) == Traits(ragged=False)


def test_micro_batches_without_padding_hold_their_rows_own_tokens() -> None:
    # 40 + 30 + 20 fit into 100 as they are, but not at 40 each.
    lengths = [90, 30, 40, 20]
    assert micro_batches(range(4), lengths, 100, pads=False) == [[0], [2, 1, 3]]
    assert len(micro_batches(range(4), lengths, 100)) == 3
    # With room for 200 all are one: a cut would cost an overhead and save nothing.
    assert micro_batches(range(4), lengths, 200, pads=False) == [[0, 2, 1, 3]]
