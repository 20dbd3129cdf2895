"""Attention for training on CPUs.

Short rows are computed as batched matrix products, of which torch makes one call for all heads: at
220 positions forward and backward take about half the time of torch's fused kernel. The products
are in the model's dtype but for the scores, whose rounding the softmax would raise to a power.
Beyond `SHORT` positions the fused kernel is faster, since it skips what causality hides; it also
keeps no weights for backward, which in bf16 take half as much memory again as what it keeps at that
length, and less below 220. It is slower backwards in bf16 than in fp32 (3 times at 128 positions,
1.4 times at 256, equal at 1,024: it converts block by block), so a bf16 model is widened for it.

Shape suffixes: _B rows, _H query heads, _K key heads, _T positions, _D width of a head, _G = K * B
groups of query heads with one key head, _Q = (H / K) * T positions of all query heads of a group,
_L tokens that are no padding.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from selfreward.errors import ConfigError

NAME = "selfreward_cpu"
PRODUCT_DTYPES = (torch.float32, torch.bfloat16)
"""Products in fp16 are ten times slower on CPUs, and large ones are no numbers."""
SHORT = 384
"""Positions up to which products are faster."""
BESIDE = ("dropout", "softcap", "cache", "output_attentions", "position_bias")
"""Options that are left to transformers' own function."""
UNKNOWN = ("s_aux", "indices")
"""Options that it does not know and that change what attention computes: sinks, and the positions
a sparse layer looks at."""


class _Products(torch.autograd.Function):
    """softmax(scale * q @ k.T over what is seen) @ v, with the weights kept for backward.

    Query heads that share a key head are lined up behind each other, so keys and values are never
    repeated for them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query_BHTD: Tensor,
        key_BKTD: Tensor,
        value_BKTD: Tensor,
        seen: Tensor,
        scale: float,
    ) -> Tensor:
        (rows, heads, length, width), key_heads = query_BHTD.shape, key_BKTD.shape[1]
        groups = rows * key_heads
        query_GQD = query_BHTD.reshape(groups, heads // key_heads * length, width)
        key_GTD = key_BKTD.reshape(groups, length, width)
        value_GTD = value_BKTD.reshape(groups, length, width)
        scores_GQT = (query_GQD.float() @ key_GTD.float().mT).mul_(scale)
        scores_BHTT = scores_GQT.view(rows, heads, length, length)
        # Not -inf: a softmax over nothing would be NaN.
        scores_BHTT.masked_fill_(~seen, torch.finfo(scores_BHTT.dtype).min)
        weights_BHTT = torch.softmax(scores_BHTT, dim=-1).to(query_BHTD.dtype)
        weights_GQT = weights_BHTT.view(groups, -1, length)
        ctx.save_for_backward(query_GQD, key_GTD, value_GTD, weights_GQT)
        ctx.scale, ctx.shapes = scale, (query_BHTD.shape, key_BKTD.shape)
        return (weights_GQT @ value_GTD).view(query_BHTD.shape)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query_GQD, key_GTD, value_GTD, weights_GQT = ctx.saved_tensors
        query_shape, key_shape = ctx.shapes
        out_GQD = grads[0].reshape(query_GQD.shape)
        value_grad_GTD = weights_GQT.mT @ out_GQD
        weights_grad_GQT = out_GQD @ value_GTD.mT
        scores_grad_GQT = torch.ops.aten._softmax_backward_data(
            weights_grad_GQT, weights_GQT, -1, weights_GQT.dtype
        )
        return (
            (scores_grad_GQT @ key_GTD).mul_(ctx.scale).view(query_shape),
            (scores_grad_GQT.mT @ query_GQD).mul_(ctx.scale).view(key_shape),
            value_grad_GTD.view(key_shape),
            None,
            None,
        )


def _fits_products(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool
) -> bool:
    """Short self-attention, causal or under a mask of what is seen."""
    return (
        query.dtype in PRODUCT_DTYPES
        and query.shape[2] == key.shape[2] <= SHORT
        and key.shape == value.shape
        and (is_causal if mask is None else mask.dtype == torch.bool)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ragged:
    """Rows laid one behind the other without their padding: one row of L tokens."""

    real_L: Tensor
    """The places of the tokens in the flattened rows."""
    shape: tuple[int, int]
    """Rows and their positions with padding, (B, T)."""
    seen: Tensor | None
    """What each position of a row (q) sees (k), bool, (B, 1, T, T); None: all before it."""

    def pad(self, tokens_1HLD: Tensor) -> Tensor:
        """Shape (B, H, T, D); padding is 0."""
        tokens_LHD = tokens_1HLD[0].transpose(0, 1)
        rows, length = self.shape
        padded = tokens_LHD.new_zeros(rows * length, *tokens_LHD.shape[1:])
        padded = padded.index_copy(0, self.real_L, tokens_LHD)
        return padded.view(rows, length, *tokens_LHD.shape[1:]).transpose(1, 2)

    def unpad(self, rows_BTHD: Tensor) -> Tensor:
        """Shape (1, L, H, D)."""
        return rows_BTHD.flatten(0, 1).index_select(0, self.real_L)[None]


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    ragged: Ragged | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' attention (its "sdpa"), shape (B, T, H, D), in the query's dtype.

    With `ragged` there is one row, (1, L, H, D), padded here alone under the mask of `ragged`.

    Raises:
        ValueError: a layer hands on a mask of its own, or not what makes its row ragged.
        ConfigError: a layer computes another kind of attention than this one.
    """
    unknown = [name for name in UNKNOWN if options.get(name) is not None]
    if unknown:
        raise ConfigError(
            f"{type(module).__name__} computes attention with {unknown[0]!r}, which training on"
            " CPUs does not know; take a model of another family"
        )
    is_placeholder = attention_mask is not None and attention_mask.numel() == 0
    if is_placeholder != (ragged is not None):
        raise ValueError("the mask is not that of the rows")
    if ragged is None:
        return _attend_rows(module, query, key, value, attention_mask, **options), None
    query, key, value = (ragged.pad(tokens) for tokens in (query, key, value))
    return ragged.unpad(_attend_rows(module, query, key, value, ragged.seen, **options)), None


def _attend_rows(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> Tensor:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    plain = all(options.get(name) in (None, False, 0.0) for name in BESIDE)
    if plain and _fits_products(query, key, value, attention_mask, is_causal):
        length = query.shape[2]
        seen = attention_mask
        if seen is None:
            seen = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
        scale = query.shape[3] ** -0.5 if scaling is None else scaling
        out_BHTD: Tensor = _Products.apply(query, key, value, seen, scale)  # type: ignore[no-untyped-call]
        return out_BHTD.transpose(1, 2).contiguous()
    out, _ = sdpa_attention_forward(
        module,
        query.float(),
        key.float(),
        value.float(),
        attention_mask,
        scaling=scaling,
        is_causal=is_causal,
        **options,
    )
    return out.to(query.dtype)


def register() -> str:
    """Makes the attention known to transformers and returns the name to load a model with."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME
