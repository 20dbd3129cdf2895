"""Log-likelihoods of raw documents under a model: what perplexity is made of."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from selfreward.metrics.perplexity import DocumentNll
from selfreward.records_custom_llm import Document
from selfreward.training.batching import micro_batches
from selfreward.training.collate import collate
from selfreward.training.encoding import EncodedRow
from selfreward.training.loaded import read_tokenizer
from selfreward.training.losses import sequence_logps
from selfreward.training.model import ModelSource, load_causal_lm
from selfreward.training.policy import Policy
from selfreward.training.setup import attention_of
from selfreward.training.traits import measure

CPU_OVERHEAD_TOKENS, GPU_OVERHEAD_TOKENS = 128, 1024
"""What one more micro-batch costs, in tokens of computing, as in training."""


def document_nlls(
    model_folder: str,
    documents: Sequence[Document],
    *,
    max_length: int,
    max_padded_tokens: int,
    device: torch.device,
    precision: Literal["bf16", "fp32"],
) -> list[DocumentNll]:
    """Returns the negative log-likelihood of each document, in the order given.

    A document is encoded as the tokenizer encodes a text, with no chat template, and cut into
    windows of `max_length` tokens that do not overlap and do not see each other. The first token
    of a window is not predicted, so neither it nor its bytes count: a document longer than
    `max_length` loses context at each cut, and one of a single token has nothing to predict.
    `max_padded_tokens` go through the model at once. Raises ValueError for a `max_length` below 2.

    Raises:
        ModelNotFoundError: the folder holds no causal language model with a tokenizer.
    """
    if max_length < 2:
        raise ValueError(f"max_length must be at least 2, not {max_length}")
    source = ModelSource(path=model_folder)
    tokenizer = read_tokenizer(source)
    rows = _windows(tokenizer, documents, max_length)
    nlls = [0.0] * len(documents)
    num_tokens = [0] * len(documents)
    num_bytes = [len(d.text.encode()) for d in documents]
    for owner, row in rows:
        num_tokens[owner] += row.num_targets
        num_bytes[owner] -= _text_bytes(tokenizer, row.prompt.tolist())
    scored = [(owner, row) for owner, row in rows if row.num_targets > 0]
    if scored:
        policy = _load(source, device, precision)
        logps = _logps(policy, [row for _, row in scored], max_padded_tokens, device)
        for (owner, _), logp in zip(scored, logps, strict=True):
            nlls[owner] -= logp
    return [
        DocumentNll(id=d.id, nll_nats=nll, num_tokens=tokens, num_bytes=max(0, size))
        for d, nll, tokens, size in zip(documents, nlls, num_tokens, num_bytes, strict=True)
    ]


def _windows(
    tokenizer: Any, documents: Sequence[Document], max_length: int
) -> list[tuple[int, EncodedRow]]:
    """(document's place, window); its first token is the prompt, the others are predicted."""
    if not documents:
        return []
    # Texts longer than the model's context are cut below; the tokenizer's warning says nothing.
    encoded = tokenizer([d.text for d in documents], verbose=False)["input_ids"]
    found = []
    for owner, (document, ids) in enumerate(zip(documents, encoded, strict=True)):
        tokens = np.asarray(ids, dtype=np.int32)
        for start in range(0, len(tokens), max_length):
            window = tokens[start : start + max_length]
            row = EncodedRow(
                id=document.id, pair_id=document.id, prompt=window[:1], completions=(window[1:],)
            )
            found.append((owner, row))
    return found


def _text_bytes(tokenizer: Any, ids: list[int]) -> int:
    """Bytes of the text that tokens stand for; special tokens stand for none."""
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return len(text.encode())


def _load(source: ModelSource, device: torch.device, precision: str) -> Policy:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    lm = load_causal_lm(source, dtype=dtype, attention=attention_of(device))
    policy = Policy(lm.to(device))
    measure(policy, device)
    policy.eval()
    return policy


@torch.no_grad()
def _logps(
    policy: Policy, rows: Sequence[EncodedRow], max_padded_tokens: int, device: torch.device
) -> list[float]:
    """log p(tokens after the first | the first) of each row, in nats."""
    lengths = [row.longest_sequence for row in rows]
    overhead = CPU_OVERHEAD_TOKENS if device.type == "cpu" else GPU_OVERHEAD_TOKENS
    out = [0.0] * len(rows)
    for piece in micro_batches(
        range(len(rows)), lengths, max_padded_tokens, overhead, pads=not policy.traits.ragged
    ):
        batch = collate([rows[i] for i in piece], 0, share_prompt=False).to(device)
        # Whatever the padding is, it stands on the right, where no token sees it.
        logps_S = sequence_logps(policy(batch).double(), batch.sequence_N, batch.num_sequences)
        for index, logp in zip(piece, logps_S.tolist(), strict=True):
            out[index] = logp
    return out
