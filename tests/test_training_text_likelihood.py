"""Log-likelihoods of documents against transformers' own loss."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfreward.errors import ModelNotFoundError
from selfreward.metrics.perplexity import DocumentNll
from selfreward.records_custom_llm import Document
from selfreward.training.text_likelihood import document_nlls
from tests.tiny_model import make_tiny_model

TEXTS = (
    "The with statement wraps a block.",
    "Zwei Größen: π und 3.",
    "x",
    "A longer document, which has more tokens than a window of sixteen of them holds.",
    "",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny_model(tmp_path_factory.mktemp("model")))


def documents() -> list[Document]:
    return [Document.new(text=text, source="here") for text in TEXTS]


def measured(folder: str, **changes: Any) -> list[DocumentNll]:
    settings: dict[str, Any] = {
        "max_length": 512,
        "max_padded_tokens": 4096,
        "device": torch.device("cpu"),
        "precision": "fp32",
    }
    return document_nlls(folder, documents(), **(settings | changes))


def nll_of(lm: Any, ids: list[int]) -> float:
    """transformers' mean loss of the tokens after the first, times their number."""
    if len(ids) < 2:
        return 0.0
    ids_BT = torch.tensor([ids])
    with torch.no_grad():
        return float(lm(input_ids=ids_BT, labels=ids_BT).loss) * (len(ids) - 1)


@pytest.mark.parametrize("max_length", [512, 16])
def test_the_loss_of_transformers(folder: str, max_length: int) -> None:
    lm = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = measured(folder, max_length=max_length)
    assert [d.id for d in found] == [d.id for d in documents()]
    for document, row in zip(documents(), found, strict=True):
        ids = tokenizer(document.text)["input_ids"]
        windows = [ids[i : i + max_length] for i in range(0, len(ids), max_length)]
        assert row.nll_nats == pytest.approx(sum(nll_of(lm, w) for w in windows), rel=1e-5)
        assert row.num_tokens == sum(len(w) - 1 for w in windows)


def test_what_is_not_predicted_does_not_count(folder: str) -> None:
    # The tokenizer's tokens are bytes, so a document has one byte fewer for each window.
    whole, cut = measured(folder), measured(folder, max_length=16)
    assert [d.num_tokens for d in whole] == [d.num_bytes for d in whole] == [32, 23, 0, 79, 0]
    # 33, 24 and 80 bytes are 3, 2 and 5 windows of 16.
    assert [d.num_tokens for d in cut] == [30, 22, 0, 75, 0]
    assert whole[2].nll_nats == whole[4].nll_nats == 0.0


def test_batches_change_nothing(folder: str) -> None:
    one_by_one = measured(folder, max_padded_tokens=64)
    for together, alone in zip(measured(folder), one_by_one, strict=True):
        assert together.nll_nats == pytest.approx(alone.nll_nats, rel=1e-6)


def test_bf16_is_near_fp32(folder: str) -> None:
    pairs = zip(measured(folder), measured(folder, precision="bf16"), strict=True)
    for fine, coarse in pairs:
        assert coarse.nll_nats == pytest.approx(fine.nll_nats, rel=0.01)
        assert math.isfinite(coarse.nll_nats)


def test_no_documents_need_no_computing(folder: str) -> None:
    nothing = document_nlls(
        folder,
        [],
        max_length=8,
        max_padded_tokens=64,
        device=torch.device("cpu"),
        precision="fp32",
    )
    assert nothing == []
    with pytest.raises(ValueError, match="at least 2"):
        measured(folder, max_length=1)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no tokenizer at"):
        measured(str(tmp_path))
