"""Attention for training on CPUs.

Torch's fused CPU attention is slower backwards in bf16 than in fp32 (3 times at 128 positions, 1.4
times at 256, equal at 1,024: its bf16 kernel converts block by block), so queries, keys and values
of a bf16 model are widened for it. The rest of the model keeps computing in bf16.
"""

from typing import Any

import torch
from torch import Tensor

NAME = "selfreward_cpu"


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' attention by torch's fused kernel, in fp32; returns the query's dtype."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    out, _ = sdpa_attention_forward(
        module, query.float(), key.float(), value.float(), attention_mask, **options
    )
    return out.to(query.dtype), None


def register() -> str:
    """Makes the attention known to transformers and returns the name to load a model with."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME
