"""Attention and RMSNorm for CPUs against torch's and transformers' own, outputs and gradients."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from selfreward.errors import ConfigError
from selfreward.training import attention
from selfreward.training.attention import SHORT
from selfreward.training.rms_norm import speed_up_norms

HEADS, KEY_HEADS, WIDTH = 6, 2, 16


class Layer(nn.Module):
    """What attention asks of a layer of transformers."""

    num_key_value_groups = HEADS // KEY_HEADS
    is_causal = True


def tensors(length: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(length)
    return [
        torch.randn(2, heads, length, WIDTH, generator=generator).to(dtype).requires_grad_()
        for heads in (HEADS, KEY_HEADS, KEY_HEADS)
    ]


def ours(inputs: list[Tensor], mask: Tensor | None) -> Tensor:
    query, key, value = inputs
    out, _ = attention._attend(Layer(), query, key, value, mask, scaling=0.3, dropout=0.0)
    return out.transpose(1, 2)


def torchs(inputs: list[Tensor], mask: Tensor | None) -> Tensor:
    query, key, value = (x.float() for x in inputs)
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=0.3, enable_gqa=True
    )


def gradients(out: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    weight = torch.linspace(-1, 1, out.numel()).view(out.shape)
    return torch.autograd.grad((out.float() * weight).sum(), inputs)


@pytest.mark.parametrize("length", [1, 7, 40, SHORT + 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)], ids=["fp32", "bf16"]
)
def test_attention_is_torchs(
    length: int, masked: bool, dtype: torch.dtype, tolerance: float
) -> None:
    inputs = tensors(length, dtype)
    mask = None
    if masked:
        generator = torch.Generator().manual_seed(1)
        mask = torch.rand(2, 1, length, length, generator=generator) < 0.5
        mask |= torch.eye(length, dtype=torch.bool)
    out, wanted = ours(inputs, mask), torchs(inputs, mask)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), wanted, rtol=tolerance, atol=tolerance)
    for found, gradient in zip(gradients(out, inputs), gradients(wanted, inputs), strict=True):
        torch.testing.assert_close(
            found.float(), gradient.float(), rtol=tolerance, atol=4 * tolerance
        )


def test_a_position_that_sees_nothing_gives_a_number() -> None:
    inputs = tensors(5, torch.float32)
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    mask[:, :, 3] = False
    out = ours(inputs, mask)
    assert out.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(out, inputs))


def test_large_scores_are_not_rounded() -> None:
    # A direction that all queries and keys share, as biases give some families, makes scores of
    # some hundreds: in bf16 each would be off by one or two.
    inputs = tensors(40, torch.bfloat16)
    with torch.no_grad():
        for x in inputs[:2]:
            x += 8.0
    out, wanted = ours(inputs, None), torchs(inputs, None)
    torch.testing.assert_close(out.float(), wanted, rtol=2e-2, atol=2e-2)


def test_fp16_goes_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_Products", None)
    inputs = tensors(9, torch.float16)
    torch.testing.assert_close(ours(inputs, None).float(), torchs(inputs, None), rtol=0, atol=5e-3)


@pytest.mark.parametrize("name", attention.UNKNOWN)
def test_attention_of_another_kind_is_refused(name: str) -> None:
    query, key, value = tensors(3, torch.float32)
    with pytest.raises(
        ConfigError, match=f"Layer computes attention with '{name}'.*another family"
    ):
        attention._attend(
            Layer(), query, key, value, None, ragged=None, **{name: torch.ones(HEADS)}
        )


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=["fp32", "bf16"]
)
def test_norms_are_transformers(dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(LlamaRMSNorm(24, eps=1e-3))
    model[0].weight.data = torch.rand(24, generator=generator)
    wanted = LlamaRMSNorm(24, eps=1e-3)
    wanted.weight.data = model[0].weight.data.clone()
    speed_up_norms(model)
    assert "forward" in vars(model[0])
    model.to(dtype), wanted.to(dtype)
    values = torch.randn(2, 5, 24, generator=generator).to(dtype)
    pairs = []
    for module in (model, wanted):
        x = values.clone().requires_grad_()
        out = module(x)
        weight = next(module.parameters())
        pairs.append([out, *gradients(out, [x, weight])])
        assert torch.equal(x, values)  # nothing is written over
    for found, oracle in zip(*pairs, strict=True):
        assert found.dtype == dtype
        torch.testing.assert_close(found, oracle, rtol=tolerance, atol=tolerance)


class LateRMSNorm(LlamaRMSNorm):
    """As in families that round to the input's dtype after the weight."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        wide = hidden_states.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return (self.weight * wide).to(hidden_states.dtype)


class OffsetRMSNorm(LlamaRMSNorm):
    """As in families whose weights are stored around zero."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        return super().forward(hidden_states) + hidden_states


def test_norms_of_another_kind_are_left_alone() -> None:
    model = nn.Sequential(OffsetRMSNorm(8), LateRMSNorm(8), nn.LayerNorm(8))
    speed_up_norms(model)
    assert all("forward" not in vars(module) for module in model)
