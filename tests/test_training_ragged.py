"""Without padding a batch gets the log-probabilities and gradients it has with it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Lfm2Config, Lfm2ForCausalLM

from selfreward.storage.token_shards import PackedRow
from selfreward.training.attention import SHORT, Ragged
from selfreward.training.batching import micro_batches
from selfreward.training.collate import Batch, collate
from selfreward.training.encoding import EncodedRow
from selfreward.training.model import ModelSource, load_causal_lm
from selfreward.training.packed import collate_packed
from selfreward.training.policy import Policy, Traits
from selfreward.training.setup import attention_of
from selfreward.training.traits import measure

CPU = torch.device("cpu")
PAD = 9


def encoded(prompt: Sequence[int], *completions: Sequence[int]) -> EncodedRow:
    arrays = [np.array(tokens, np.int32) for tokens in (prompt, *completions)]
    return EncodedRow(id="r", pair_id="r", prompt=arrays[0], completions=tuple(arrays[1:]))


def packed(tokens: Sequence[int], lengths: Sequence[int]) -> PackedRow:
    return PackedRow(tokens=np.array(tokens, np.int32), lengths=np.array(lengths, np.int32))


def test_places_of_tokens_by_hand() -> None:
    batch = collate([encoded([1, 2], [3, 4], [5]), encoded([6], [7])], PAD, share_prompt=True)
    assert batch.input_ids_BT.tolist() == [[1, 2, 3, 4, 5], [6, 7, PAD, PAD, PAD]]
    assert batch.real_L.tolist() == [0, 1, 2, 3, 4, 5, 6]
    batch = collate([encoded([1, 2], [3, 4], [5])], PAD, share_prompt=False)
    assert batch.input_ids_BT.tolist() == [[1, 2, 3, 4], [1, 2, 5, PAD]]
    assert batch.real_L.tolist() == [0, 1, 2, 3, 4, 5, 6]
    batch = collate_packed([packed([1, 2, 3, PAD, PAD], [2, 1]), packed([5] * 5, [5])], PAD)
    assert batch.real_L.tolist() == [0, 1, 2, 5, 6, 7, 8, 9]
    assert collate([], PAD, share_prompt=True).real_L.tolist() == [0]


def test_attention_gets_padded_rows_and_gives_back_the_tokens() -> None:
    ragged = Ragged(real_L=torch.tensor([0, 1, 2, 4]), shape=(2, 4), seen=None)
    tokens_1HLD = torch.arange(1.0, 9.0).view(1, 4, 2, 1).transpose(1, 2)  # 2 heads of width 1
    padded_BHTD = ragged.pad(tokens_1HLD)
    assert padded_BHTD[..., 0].tolist() == [
        [[1, 3, 5, 0], [2, 4, 6, 0]],
        [[7, 0, 0, 0], [8, 0, 0, 0]],
    ]
    assert torch.equal(ragged.unpad(padded_BHTD.transpose(1, 2)), tokens_1HLD.transpose(1, 2))


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
    assert len(batch.real_L) < 0.9 * batch.input_ids_BT.numel()
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
    assert not measure(policy, CPU).ragged


def test_a_model_that_hands_nothing_on_to_its_attention_keeps_its_padding(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = policy.causal_lm.get_decoder()
    whole = decoder.forward

    def forgets(ragged: object = None, **inputs: object) -> object:
        return whole(**inputs)

    monkeypatch.setattr(decoder, "forward", forgets)
    assert measure(policy, CPU) == Traits(ragged=False)


def test_a_model_in_which_rows_reach_each_other_keeps_its_padding(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # Short convolutions run on from one row into the next: a little, so that all in all the
    # hidden states hardly change.
    torch.manual_seed(0)
    config = Lfm2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        layer_types=["conv", "full_attention"],
    )
    folder = tmp_path_factory.mktemp("lfm2")
    Lfm2ForCausalLM(config).save_pretrained(folder)
    source = ModelSource(path=str(folder))
    lm = load_causal_lm(source, dtype=torch.float32, attention=attention_of(CPU))
    traits = measure(Policy(lm), CPU)
    assert (traits.shares_prompt, traits.ragged) == (False, False)


def test_micro_batches_without_padding_cost_their_rows_own_tokens() -> None:
    # One micro-batch: 90 + 30 + 40 + 20 = 180 tokens, 4 * 90 * 90 / 1600 = 20 more for attention
    # and 32 of overhead: 232. Any cut has less for attention, but another 32.
    lengths = [90, 30, 40, 20]
    assert micro_batches(range(4), lengths, 400, 32, pads=False) == [[0, 2, 1, 3]]
    # With padding: 360 + 32 against 90 + 3 * 40 + 2 * 32 = 274.
    assert micro_batches(range(4), lengths, 400, 32) == [[0], [2, 1, 3]]
    # The room is for padded tokens, which attention has.
    assert micro_batches(range(4), lengths, 300, 32, pads=False) == [[0], [2, 1, 3]]
    # A long row among short ones: attention over 8 * 800 * 800 / 1600 = 3,200 alone.
    assert micro_batches(range(8), [800, *[40] * 7], 9000, pads=False)[0] == [0]
