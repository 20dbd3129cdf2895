"""The tokenizer stage: byte-level BPE trained on documents, or an existing tokenizer, measured.

Byte-level BPE (GPT-2 report, section 2.2) starts from all 256 bytes, so no text is ever unknown
and decoding gives back exactly what was encoded.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from selfreward.config_custom_llm import TokenizerConfig
from selfreward.engines.embedded import EMBEDDED_PREFIX
from selfreward.engines.models import resolve_model
from selfreward.errors import ConfigError, DataError, ModelNotFoundError
from selfreward.records_custom_llm import Document
from selfreward.storage.shards import read_records
from selfreward.storage.small_folders import local_folder, publish_folder
from selfreward.text.special_tokens import (
    CHAT_TEMPLATE,
    END_OF_TEXT,
    PAD,
    SPECIAL_TOKENS,
    TURN_END,
    TURN_START,
)

HELDOUT_EVERY = 20
"""One document in so many is kept out of the tokenizer's training and measures it."""
MAX_HELDOUT = 500


def train_tokenizer(
    config: TokenizerConfig, document_urls: Sequence[str], context_length: int, folder: str
) -> dict[str, float]:
    """Trains a tokenizer, writes it to `folder` for `AutoTokenizer` and returns its figures.

    Its end-of-sequence token is the end of a turn, as in other chat models; documents end in
    `<|endoftext|>`. The same documents give the same bytes. Where there are more than
    `config.max_documents`, each shard gives an equal share.

    Figures: vocab_size, num_documents (trained on), and those of `measure_tokenizer`.

    Raises:
        DataError: there are fewer than two documents.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    # Digits stand alone, so that a number is spelt the same way wherever it occurs.
    digits = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    documents = _Documents(document_urls, config.max_documents)
    tokenizer.train_from_iterator(documents.to_train_on(), trainer)
    if not documents.num_trained or not documents.heldout:
        raise DataError(
            "custom_llm.tokenizer: training a tokenizer takes two documents at least; give more"
            " text, or an existing tokenizer as custom_llm.tokenizer.path"
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
    )
    figures = measure_tokenizer(fast, documents.heldout)
    if figures["round_trip_share"] < 1:
        raise DataError(
            f"the trained tokenizer gives back only {figures['round_trip_share']:.1%} of the"
            " documents unchanged; are there lone surrogates in the text?"
        )
    _save(fast, folder)
    return {"num_documents": float(documents.num_trained), **figures}


class _Documents:
    """Goes once through the documents, keeping some aside."""

    def __init__(self, urls: Sequence[str], max_documents: int) -> None:
        self._urls = urls
        self._max_documents = max_documents
        self.heldout: list[str] = []
        self.num_trained = 0

    def to_train_on(self) -> Iterator[str]:
        for number, text in enumerate(sample_texts(self._urls, self._max_documents), start=1):
            # The second is kept aside too, so that a handful of documents is enough.
            aside = number == 2 or number % HELDOUT_EVERY == 0
            if aside and len(self.heldout) < MAX_HELDOUT:
                self.heldout.append(text)
            else:
                self.num_trained += 1
                yield text


def sample_texts(document_urls: Sequence[str], max_documents: int) -> Iterator[str]:
    """Yields the texts of at most so many documents, about as many of each shard."""
    left = max_documents
    for done, url in enumerate(document_urls):
        share = -(-left // (len(document_urls) - done))
        documents = read_records(url, Document)[:share]
        left -= len(documents)
        yield from (document.text for document in documents)


def existing_tokenizer(
    path: str, folder: str, document_urls: Sequence[str] = ()
) -> dict[str, float]:
    """Copies the tokenizer of a model or folder to `folder` and returns its figures.

    One without a chat template gets ours, and the tokens it needs; `num_added_tokens` says how
    many that were, by which the embeddings of a model that came with it are too small. Further
    figures: vocab_size, and those of `measure_tokenizer` where documents are given.

    Raises:
        ModelNotFoundError: there is no tokenizer at `path`.
        ConfigError: it is not one of the `tokenizers` library.
    """
    from tokenizers import AddedToken

    tokenizer = _load(path)
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(
            f"custom_llm.tokenizer.path={path!r} has no tokenizer.json; convert it with"
            " transformers, or choose another"
        )
    num_added = 0
    if not tokenizer.chat_template:
        wanted = [AddedToken(t, special=True, normalized=False) for t in (TURN_START, TURN_END)]
        num_added = tokenizer.add_tokens(wanted, special_tokens=True)
        tokenizer.chat_template = CHAT_TEMPLATE
    if tokenizer.eos_token is None:
        tokenizer.eos_token = TURN_END if TURN_END in tokenizer.get_vocab() else END_OF_TEXT
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    figures = {"vocab_size": float(len(tokenizer)), "num_added_tokens": float(num_added)}
    texts = list(sample_texts(document_urls, MAX_HELDOUT))
    if texts:
        figures |= measure_tokenizer(tokenizer, texts)
    _save(tokenizer, folder)
    return figures


def _load(path: str) -> Any:
    from transformers import AutoTokenizer

    if path.startswith(EMBEDDED_PREFIX):
        path = resolve_model(path)
    name, revision = path, None
    if "://" not in path and not Path(path).is_dir():
        name, _, wanted = path.partition("@")
        revision = wanted or None
    try:
        with local_folder(name) as here:
            return AutoTokenizer.from_pretrained(here, revision=revision)
    except (OSError, ValueError) as error:
        line = str(error).strip().partition("\n")[0]
        raise ModelNotFoundError(
            f"no tokenizer at {path}: {line}; give custom_llm.tokenizer.path a folder or a model"
        ) from error


def text_encoder(tokenizer: Any) -> Any:
    """The `tokenizers.Tokenizer` inside one of transformers, for raw text.

    In raw text `<|im_end|>` is what somebody wrote, not the end of a turn: it is spelt out.
    """
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    encoder.encode_special_tokens = True
    encoder.no_padding()
    encoder.no_truncation()
    return encoder


def measure_tokenizer(tokenizer: Any, texts: Iterable[str]) -> dict[str, float]:
    """Figures over some texts: vocab_size, tokens_per_word (words are parted by white space),
    characters_per_token, bytes_per_token, and round_trip_share, the share of the texts that
    decoding gives back unchanged.
    """
    encoder = text_encoder(tokenizer)
    num_texts = num_tokens = num_words = num_characters = num_bytes = num_equal = 0
    for text in texts:
        ids = encoder.encode(text, add_special_tokens=False).ids
        num_texts += 1
        num_tokens += len(ids)
        num_words += len(text.split())
        num_characters += len(text)
        num_bytes += len(text.encode())
        num_equal += encoder.decode(ids, skip_special_tokens=False) == text
    return {
        "vocab_size": float(len(tokenizer)),
        "tokens_per_word": num_tokens / max(1, num_words),
        "characters_per_token": num_characters / max(1, num_tokens),
        "bytes_per_token": num_bytes / max(1, num_tokens),
        "round_trip_share": num_equal / max(1, num_texts),
    }


def _save(tokenizer: Any, folder: str) -> None:
    with tempfile.TemporaryDirectory(prefix="selfreward-") as temporary:
        tokenizer.save_pretrained(temporary)
        publish_folder(Path(temporary), folder)
