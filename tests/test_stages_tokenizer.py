"""Training a tokenizer and packing documents with it, without Ray."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from jinja2 import TemplateError

from selfreward.config_custom_llm import TokenizerConfig
from selfreward.engines.chat_prompts import ChatPrompts
from selfreward.errors import DataError, ModelNotFoundError
from selfreward.loops.llm_text import tokenizer_lines
from selfreward.records import Message
from selfreward.records_custom_llm import Document
from selfreward.stages.pack import Pack, PackTask, encode_documents
from selfreward.stages.runner import Progress, ShardJob
from selfreward.stages.tokenizer import (
    existing_tokenizer,
    measure_tokenizer,
    sample_texts,
    train_tokenizer,
)
from selfreward.storage import files
from selfreward.storage.shards import write_records
from selfreward.storage.token_shards import read_rows
from selfreward.text.special_tokens import SPECIAL_TOKENS
from selfreward.training.encoding import end_of_turn
from tests.tiny_model import make_tiny_tokenizer

SENTENCES = (
    "The with statement wraps the execution of a block.",
    "A class definition is an executable statement.",
    "Names refer to objects, and objects have identity, type and value 1024.",
    "def parse_url(text):\n    return text.split('/', 3)\n",
)
STRANGE = (
    "naïve 漢字 🙂\u200b\r\n\t  two  spaces \x00\x7f <|im_end|> <|endoftext|>"
    "\U0001d518 \ufb01 é\u0301"
)


def documents(count: int) -> list[Document]:
    return [
        Document.new(text=f"{i}. " + " ".join(SENTENCES[(i + k) % 4] for k in range(3)), source="s")
        for i in range(count)
    ]


def write_shards(folder: Path) -> list[str]:
    rows = documents(60)
    urls = [str(folder / f"shard-0000{i}.parquet") for i in range(2)]
    for url, part in zip(urls, (rows[:40], rows[40:]), strict=True):
        write_records(url, part, Document)
    return urls


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str], dict[str, float]]:
    root = tmp_path_factory.mktemp("tokenizer")
    urls = write_shards(root)
    figures = train_tokenizer(TokenizerConfig(vocab_size=360), urls, 512, str(root / "tokenizer"))
    return str(root / "tokenizer"), urls, figures


def load(folder: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_a_trained_tokenizer_loads_and_its_special_tokens_stand_alone(
    trained: tuple[str, list[str], dict[str, float]],
) -> None:
    tokenizer = load(trained[0])
    assert len(tokenizer) == 360
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2, 3]
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|pad|>")
    assert tokenizer.model_max_length == 512
    assert tokenizer("The<|im_end|>")["input_ids"][-1] == 2
    assert end_of_turn(tokenizer) == "<|im_end|>"
    # Every digit is a token, so that a judge can be asked for one.
    assert len(tokenizer("1024")["input_ids"]) == 4


def test_figures_of_a_trained_tokenizer(
    trained: tuple[str, list[str], dict[str, float]],
) -> None:
    figures = trained[2]
    # Kept aside: documents 2, 20, 40 and 60.
    assert figures["num_documents"] == 56
    assert figures["vocab_size"] == 360
    assert figures["round_trip_share"] == 1.0
    assert 1 < figures["tokens_per_word"] < 3
    assert figures["characters_per_token"] == figures["bytes_per_token"] > 2  # all is ASCII


def test_figures_by_hand() -> None:
    # One token a byte: "né e" is 5 bytes, 4 characters, 2 words; "ab" 2, 2, 1.
    figures = measure_tokenizer(make_tiny_tokenizer(), ["né e", "ab"])
    assert figures == {
        "vocab_size": 259.0,
        "tokens_per_word": 7 / 3,
        "characters_per_token": 6 / 7,
        "bytes_per_token": 1.0,
        "round_trip_share": 1.0,
    }


def test_nothing_is_unknown(trained: tuple[str, list[str], dict[str, float]]) -> None:
    tokenizer = load(trained[0])
    every_byte = "".join(chr(c) for c in range(0x800)) + STRANGE
    assert tokenizer.decode(tokenizer.encode(every_byte)) == every_byte
    assert measure_tokenizer(tokenizer, [every_byte, STRANGE, " ", ""])["round_trip_share"] == 1.0


def test_a_conversation_in_the_template(
    trained: tuple[str, list[str], dict[str, float]],
) -> None:
    tokenizer = load(trained[0])
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "4"},
    ]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n2 + 2?<|im_end|>\n"
        "<|im_start|>assistant\n4<|im_end|>\n"
    )
    prompts = ChatPrompts(tokenizer, trained[0])
    ids = prompts.token_ids((Message(role="user", content="Hi"),))
    assert tokenizer.decode(ids) == ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert (ids[0], ids.count(1), ids.count(2)) == (1, 2, 1)
    with pytest.raises(TemplateError, match="not of tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


def test_the_same_documents_give_the_same_bytes_in_another_process(
    trained: tuple[str, list[str], dict[str, float]], tmp_path: Path
) -> None:
    folder, urls, _ = trained
    again = tmp_path / "again"
    code = (
        "import json, sys\n"
        "from selfreward.config_custom_llm import TokenizerConfig\n"
        "from selfreward.stages.tokenizer import train_tokenizer\n"
        "train_tokenizer(TokenizerConfig(vocab_size=360), json.loads(sys.argv[1]), 512,"
        " sys.argv[2])\n"
    )
    subprocess.run([sys.executable, "-c", code, json.dumps(urls), str(again)], check=True)
    names = sorted(p.name for p in Path(folder).iterdir())
    assert names == sorted(p.name for p in again.iterdir())
    assert "tokenizer.json" in names
    for name in names:
        assert (again / name).read_bytes() == (Path(folder) / name).read_bytes(), name


def test_each_shard_gives_its_share(trained: tuple[str, list[str], dict[str, float]]) -> None:
    texts = list(sample_texts(trained[1], 7))
    assert [t.partition(".")[0] for t in texts] == ["0", "1", "2", "3", "40", "41", "42"]
    # Of 50, the second shard has but 20, and the first gave its 25.
    assert len(list(sample_texts(trained[1], 50))) == 45


def test_too_few_documents_say_so(tmp_path: Path) -> None:
    url = str(tmp_path / "shard-00000.parquet")
    write_records(url, documents(1), Document)
    with pytest.raises(DataError, match="takes two documents at least"):
        train_tokenizer(TokenizerConfig(), [url], 512, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_existing_tokenizer_is_copied(
    trained: tuple[str, list[str], dict[str, float]], tmp_path: Path
) -> None:
    make_tiny_tokenizer().save_pretrained(tmp_path / "theirs")
    figures = existing_tokenizer(str(tmp_path / "theirs"), str(tmp_path / "ours"), trained[1])
    assert (figures["vocab_size"], figures["num_added_tokens"]) == (259.0, 0.0)
    assert figures["round_trip_share"] == figures["bytes_per_token"] == 1.0
    theirs, ours = load(str(tmp_path / "theirs")), load(str(tmp_path / "ours"))
    assert ours.chat_template == theirs.chat_template
    assert ours(STRANGE)["input_ids"] == theirs(STRANGE)["input_ids"]


def test_one_without_a_chat_template_gets_ours(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    plain = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<|endoftext|>").save_pretrained(
        tmp_path / "theirs"
    )
    figures = existing_tokenizer(str(tmp_path / "theirs"), str(tmp_path / "ours"))
    assert figures == {"vocab_size": 259.0, "num_added_tokens": 2.0}
    ours = load(str(tmp_path / "ours"))
    assert (ours.eos_token, ours.pad_token) == ("<|endoftext|>", "<|endoftext|>")
    assert end_of_turn(ours) == "<|im_end|>"
    assert ours("<|im_start|>a<|im_end|>")["input_ids"] == [257, vocab["a"], 258]


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no tokenizer at .*/nowhere"):
        existing_tokenizer(str(tmp_path / "nowhere"), str(tmp_path / "ours"))


def test_documents_end_in_their_own_token_and_cannot_fake_it() -> None:
    tokenizer = make_tiny_tokenizer()
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    ids = encode_documents(tokenizer, ["ab", "a<|endoftext|>", ""])
    assert [len(i) for i in ids] == [3, 15, 1]  # one token a byte, and the end
    assert [i.tolist().count(end) for i in ids] == [1, 1, 1]
    assert all(i[-1] == end for i in ids)


def test_a_shard_is_packed_once(tmp_path: Path) -> None:
    make_tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    # One token a byte and one for the end: 7 + 1, 3 + 1, 11 + 1 tokens, in sequences of 8.
    rows = [Document.new(text=t, source="s") for t in ("aaaaaaa", "bbb", "ccccccccccc")]
    write_records(str(tmp_path / "in.parquet"), rows, Document)
    pack = Pack(tokenizer=str(tmp_path / "tokenizer"), sequence_length=8)
    told: list[Progress] = []
    task = PackTask(pack, told.append)
    job = {"folder": str(tmp_path / "out"), "index": 1, "inputs": [str(tmp_path / "in.parquet")]}
    row = task(job)
    assert (row["folder"], row["error"]) == (job["folder"], "")
    summary = json.loads(row["summary"])
    assert (summary["index"], summary["num_inputs"], summary["num_records"]) == (1, 3, 3)
    # 8 and 8 are full; 4 + 4 fill the third.
    assert summary["ledger"] == {"tokens": 24, "padding": 0}
    url = str(tmp_path / "out/shard-00001.parquet")
    packed = read_rows(url, 0, 3)
    tokenizer = load(str(tmp_path / "tokenizer"))
    texts = [tokenizer.decode(r.tokens.tolist()) for r in packed]
    assert sorted(texts) == [
        "aaaaaaa<|endoftext|>",
        "bbb<|endoftext|>ccc<|endoftext|>",
        "cccccccc",
    ]
    two = texts.index("bbb<|endoftext|>ccc<|endoftext|>")
    assert [r.lengths.tolist() for r in packed] == [[4, 4] if i == two else [8] for i in range(3)]
    assert pq.read_table(url)["doc_ids"].to_pylist()[two] == [rows[1].id, rows[2].id]
    # A complete shard is not touched, even if what made it is gone.
    data = files.read_bytes(url)
    files.remove(str(tmp_path / "in.parquet"))
    assert task(job) == row
    assert files.read_bytes(url) == data
    assert told == [Progress(rows=3, ledger={})] * 2


def test_padding_is_the_pad_token_and_is_counted(tmp_path: Path) -> None:
    make_tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    write_records(str(tmp_path / "in"), [Document.new(text="abc", source="s")], Document)
    pack = Pack(tokenizer=str(tmp_path / "tokenizer"), sequence_length=8)
    job = ShardJob(folder=str(tmp_path / "out"), index=0, inputs=(str(tmp_path / "in"),))
    assert pack.shard(job).ledger == {"tokens": 4, "padding": 4}
    (only,) = read_rows(str(tmp_path / "out/shard-00000.parquet"), 0, 1)
    assert only.tokens[4:].tolist() == [make_tiny_tokenizer().pad_token_id] * 4


def test_an_own_error_of_packing_comes_back_as_a_value(tmp_path: Path) -> None:
    files.write_bytes(str(tmp_path / "in.parquet"), b"no parquet")
    task = PackTask(Pack(tokenizer="unused", sequence_length=8), lambda _: None)
    row = task({"folder": str(tmp_path), "index": 0, "inputs": [str(tmp_path / "in.parquet")]})
    assert (row["summary"], row["error"]) == ("", "StorageError")
    assert "in.parquet is not readable as Parquet" in row["detail"]


def test_sequences_of_one_text_do_not_stand_together(tmp_path: Path) -> None:
    make_tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    rows = [Document.new(text=c * 159, source="s") for c in "ab"]
    write_records(str(tmp_path / "in"), rows, Document)
    pack = Pack(tokenizer=str(tmp_path / "tokenizer"), sequence_length=8)
    job = ShardJob(folder=str(tmp_path / "out"), index=0, inputs=(str(tmp_path / "in"),))
    assert pack.shard(job).num_records == 40  # 20 of each text
    url = str(tmp_path / "out/shard-00000.parquet")
    of = [int(r.tokens[0]) for r in read_rows(url, 0, 40)]
    assert sorted(of) == sorted(make_tiny_tokenizer()("a" * 20 + "b" * 20)["input_ids"])
    # In random order 39 neighbours are of different texts 20 times, give or take 3.1.
    assert 11 <= sum(x != y for x, y in pairwise(of)) <= 29


def test_an_existing_tokenizer_that_changes_text_is_warned_of() -> None:
    told = {"vocab_size": 512.0, "tokens_per_word": 1.5, "bytes_per_token": 4.0}
    assert tokenizer_lines(told | {"round_trip_share": 1.0}) == [
        "tokenizer: 512 tokens, 1.50 a word, 4.00 bytes each; 100.0% of the documents come back"
        " unchanged"
    ]
    figure, warning = tokenizer_lines(told | {"round_trip_share": 0.25})
    assert "25.0% of the documents come back unchanged" in figure
    assert "it changes the other documents" in warning
