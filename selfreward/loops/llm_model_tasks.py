"""What is asked of a model's folder itself and not of an engine; each function is a task's work."""

from dataclasses import asdict
from typing import Any, Literal

from selfreward.engines.models import folder_on_this_node
from selfreward.loops.pools import PlacedModel
from selfreward.records_custom_llm import Document
from selfreward.storage.shards import read_records

MEASURE_TOKENS = 8192
"""Padded tokens that go through the model at once when text is measured."""
PROBE_TOKENS = 10


def measure_text(
    model: PlacedModel,
    documents: dict[str, list[str]],
    length: int,
    probe: str,
    precision: Literal["bf16", "fp32"],
) -> dict[str, Any]:
    """Log-likelihoods of documents by corpus, and the next tokens of a text; one task's work.

    Raises:
        ModelNotFoundError: this node cannot reach the model.
    """
    import torch

    from selfreward.training.next_token import next_tokens
    from selfreward.training.setup import quiet_libraries, set_threads
    from selfreward.training.text_likelihood import document_nlls

    quiet_libraries()
    set_threads(1)
    folder = folder_on_this_node(model.ref, model.location)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = {
        name: [
            asdict(nll)
            for nll in document_nlls(
                folder,
                [d for url in urls for d in read_records(url, Document)],
                max_length=length,
                max_padded_tokens=MEASURE_TOKENS,
                device=device,
                precision=precision if device.type == "cuda" else "fp32",
            )
        ]
        for name, urls in documents.items()
    }
    tokens = next_tokens(folder, probe, PROBE_TOKENS, device=device)
    return {"documents": found, "next_tokens": [[t.token, t.probability] for t in tokens]}
