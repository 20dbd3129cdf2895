"""Next tokens against transformers' logits, and how they are spelt."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from selfreward.errors import ConfigError, ModelNotFoundError
from selfreward.training.loaded import LoadedModel, load
from selfreward.training.next_token import next_tokens, tokens_after
from tests.tiny_model import make_tiny_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def model(folder: str) -> LoadedModel:
    return load(folder, device=CPU, dtype=torch.float32)


def oracle(folder: str, text: str) -> torch.Tensor:
    lm = AutoModelForCausalLM.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        return torch.softmax(lm(torch.tensor([ids])).logits[0, -1], -1)


def test_the_likeliest_tokens_of_transformers(folder: str) -> None:
    found = next_tokens(folder, "The cat sat on the", 5, device=CPU)
    probabilities = oracle(folder, "The cat sat on the")
    # The tokenizer knows 259 tokens; the output has 320 places.
    wanted = probabilities[:259].topk(5).values.tolist()
    assert [t.probability for t in found] == pytest.approx(wanted, rel=1e-4)
    assert len({t.token for t in found}) == 5


def test_every_token_is_there_once_and_as_text(model: LoadedModel) -> None:
    found = tokens_after(model, "Hi", 1000)
    spelt = [t.token for t in found]
    assert len(spelt) == len(set(spelt)) == 259
    # Text as it is, special tokens by name, and half a character by the vocabulary's spelling:
    # the byte 0xe2 is "â" in the byte-level alphabet.
    assert {" ", "\n", "e", "<|im_end|>", "â"} <= set(spelt)
    assert sum(t.probability for t in found) <= 1.0 + 1e-6


def test_behind_the_chat_template(folder: str) -> None:
    prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    found = next_tokens(folder, "Hi", 3, chat=True, device=CPU)
    wanted = oracle(folder, prompt)[:259].topk(3).values.tolist()
    assert [t.probability for t in found] == pytest.approx(wanted, rel=1e-4)


def test_a_space_that_decoding_alone_would_lose(model: LoadedModel) -> None:
    # A vocabulary of words whose leading space is "▁", which a decoder drops from a text's start.
    words = {"▁": 0, "▁cat": 1, "s": 2, "▁the": 3, "<unk>": 4}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Prepend("▁")
    tokenizer.decoder = decoders.Metaspace()
    worded = LoadedModel(
        name="words",
        lm=model.lm,
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"),
        device=CPU,
    )
    assert {t.token for t in tokens_after(worded, "s", 5)} == {" ", " cat", "s", " the", "<unk>"}


def test_what_cannot_be_asked(folder: str, tmp_path: Path, model: LoadedModel) -> None:
    with pytest.raises(ConfigError, match="the text is empty"):
        next_tokens(folder, "", device=CPU)
    with pytest.raises(ModelNotFoundError, match="no such folder"):
        next_tokens(str(tmp_path / "none"), "Hi", device=CPU)
    with pytest.raises(ConfigError, match="has 2049 tokens, more than the 2048 of"):
        tokens_after(model, "x" * 2049)
    plain = PreTrainedTokenizerFast(tokenizer_object=model.tokenizer.backend_tokenizer)
    bare = LoadedModel(name="base", lm=model.lm, tokenizer=plain, device=CPU)
    with pytest.raises(ConfigError, match="model base has no chat template"):
        tokens_after(bare, "Hi", chat=True)
