"""The corpus: what is kept, where it goes, and that neither depends on what else there is."""

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from selfreward.config_custom_llm import CorpusConfig
from selfreward.errors import DataError
from selfreward.records import DroppedRow
from selfreward.records_custom_llm import Document
from selfreward.stages import corpus_files
from selfreward.stages.corpus import build_corpus
from selfreward.storage.files import list_files
from selfreward.storage.shards import ShardSummary, read_records, sealed_shards

SPLITS = ("train", "validation")


def sentence(number: int, length: int = 30) -> str:
    """Letters alone, another text for each number."""
    choose = random.Random(number)
    return " ".join("".join(choose.choices("abcdefgh", k=5)) for _ in range(length)) + "."


TEXTS = [sentence(i) for i in range(60)]


def build(
    tmp_path: Path,
    texts: list[str],
    seed: int = 0,
    root: str | None = None,
    beside: dict[str, list[str]] | None = None,
    **options: Any,
) -> tuple[dict[str, list[str]], list[DroppedRow], dict[str, list[ShardSummary]]]:
    path = tmp_path / "raw.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    folders = {split: f"{root or tmp_path}/{split}" for split in SPLITS}
    defaults = {"min_chars": 20, "validation_share": 0.2, "shard_size": 16}
    config = CorpusConfig(sources=(str(path),), **defaults | options)
    summaries = build_corpus(config, seed, folders, beside)
    found = {
        split: [
            document.text
            for url in sealed_shards(folder)
            for document in read_records(url, Document)
        ]
        for split, folder in folders.items()
    }
    drops = f"{folders['train']}/dropped"
    dropped = [
        drop for name in list_files(drops) for drop in read_records(f"{drops}/{name}", DroppedRow)
    ]
    return found, dropped, summaries


def test_every_text_is_in_one_split(tmp_path: Path) -> None:
    found, dropped, summaries = build(tmp_path, TEXTS)
    assert sorted(found["train"] + found["validation"]) == sorted(TEXTS)
    # A fifth of 60 texts is 12; by a hash it varies by some 3.
    assert 4 <= len(found["validation"]) <= 22
    assert dropped == []
    num_train = len(found["train"])
    assert [s.num_records for s in summaries["train"][:-1]] == [16] * (num_train // 16)
    assert sum(s.num_inputs for s in summaries["train"]) == num_train
    assert [s.index for s in summaries["train"]] == list(range(len(summaries["train"])))
    assert sum(s.num_records for s in summaries["validation"]) == len(found["validation"])


def test_documents_say_where_they_are_from(tmp_path: Path) -> None:
    build(tmp_path, TEXTS)
    document = read_records(f"{tmp_path}/train/shard-00000.parquet", Document)[0]
    assert document.source == "raw.jsonl"
    assert document == Document.new(text=document.text, source="raw.jsonl")


def test_the_same_texts_in_any_order_give_the_same_corpus(tmp_path: Path) -> None:
    first, *_ = build(tmp_path, TEXTS)
    assert build(tmp_path, random.Random(1).sample(TEXTS, 60))[0] == first
    other, *_ = build(tmp_path, TEXTS, seed=1)
    assert other != first, "another order"
    assert {s: sorted(t) for s, t in other.items()} == {s: sorted(t) for s, t in first.items()}


def test_the_order_is_a_shuffle_over_the_shards(tmp_path: Path) -> None:
    (train, *_) = build(tmp_path, TEXTS)[0].values()
    places = [TEXTS.index(text) for text in train]
    # Of shuffled numbers about half of the neighbours go down, of a list as it stood none.
    falls = sum(a > b for a, b in pairwise(places))
    assert len(places) / 4 < falls < len(places) * 3 / 4


def test_more_texts_move_none_to_the_other_split(tmp_path: Path) -> None:
    before, *_ = build(tmp_path, TEXTS)
    after, *_ = build(tmp_path, [sentence(i) for i in range(100, 180)] + TEXTS)
    assert set(before["train"]) <= set(after["train"])
    assert set(before["validation"]) <= set(after["validation"])


def test_pieces_of_a_text_stay_together(tmp_path: Path) -> None:
    # 20 paragraphs of 60 characters, which fit into pieces of 130 two by two.
    texts = ["\n\n".join(sentence(1000 * i + j, length=10) for j in range(20)) for i in range(30)]
    found, dropped, _ = build(tmp_path, texts, max_chars=130)
    assert dropped == []
    for text in texts:
        homes = {split for split in SPLITS for piece in found[split] if piece in text}
        assert len(homes) == 1
    assert max(len(piece) for split in SPLITS for piece in found[split]) <= 130
    paragraphs = {p for split in SPLITS for piece in found[split] for p in piece.split("\n\n")}
    assert paragraphs == {p for text in texts for p in text.split("\n\n")}


def test_it_works_the_same_in_an_object_store(tmp_path: Path) -> None:
    MemoryFileSystem.store.clear()
    on_disk, *_ = build(tmp_path, TEXTS)
    assert build(tmp_path, TEXTS, root="memory://run")[0] == on_disk


def test_duplicates_and_poor_texts_are_dropped_with_a_reason(tmp_path: Path) -> None:
    long = sentence(7, length=60)
    extra = [
        f"  {TEXTS[3].upper()}\r\n",
        # 56 shingles of five words, of which the last word changes one: Jaccard 55 / 57 = 0.96.
        long,
        long[:-6] + "zzzzz.",
        "too short",
        "",
        "0123456789 " * 10,
        "the same line\n" * 10,
    ]
    found, dropped, summaries = build(tmp_path, TEXTS + extra, validation_share=0)
    assert sorted(found["train"]) == sorted([*TEXTS, long])
    assert found["validation"] == []
    reasons = {
        "exact_duplicate": 1,
        "near_duplicate": 1,
        "too_short": 2,
        "low_quality": 2,
    }
    assert summaries["train"][0].drops == reasons
    assert sum(s.num_inputs for s in summaries["train"]) == 67
    assert sorted(d.reason.value for d in dropped) == sorted(
        reason for reason, n in reasons.items() for _ in range(n)
    )
    assert {d.stage for d in dropped} == {"corpus"}
    details = {d.reason.value: d.detail for d in dropped[:3]}
    first = Document.new(text=TEXTS[3], source="").id
    assert details["exact_duplicate"] == f"raw.jsonl: of {first}"
    assert details["too_short"] == "raw.jsonl: 9 characters, the least is 20"


def test_deduplication_can_be_switched_off(tmp_path: Path) -> None:
    texts = [*TEXTS, TEXTS[0].upper(), TEXTS[1]]
    found, dropped, _ = build(tmp_path, texts, exact_dedupe=False, near_duplicate_threshold=None)
    assert len(found["train"] + found["validation"]) == 61
    # Equal texts still go: their ids would collide later.
    assert [d.reason.value for d in dropped] == ["exact_duplicate"]


def test_validation_holds_no_near_duplicate_of_what_is_trained_on(tmp_path: Path) -> None:
    texts = [sentence(i, length=60) for i in range(40)]
    twins = [text[:-6] + "zzzzz." for text in texts]
    found, dropped, summaries = build(tmp_path, texts + twins, validation_share=0.3)
    apart, *_ = build(tmp_path, texts + twins, validation_share=0.3, near_duplicate_threshold=None)
    assert len(apart["train"] + apart["validation"]) == 80
    # Of a pair that fell apart the one in training stays, though the other may come first.
    stems = [{text[:-6] for text in found[split]} for split in SPLITS]
    assert not stems[0] & stems[1]
    parted = {t[:-6] for t in apart["train"]} & {t[:-6] for t in apart["validation"]}
    assert len(parted) > 5
    assert parted <= stems[0]
    assert summaries["train"][0].drops == {"near_duplicate": 40}
    assert len(dropped) == 40


def test_validation_holds_no_section_of_a_training_text(tmp_path: Path) -> None:
    """A section is no near-duplicate of its chapter, yet it was trained on."""
    sections = [sentence(i, length=40) for i in range(40)]
    chapters = ["\n\n".join(sections[i : i + 8]) for i in range(0, 40, 8)]
    alone, *_ = build(tmp_path, sections, validation_share=0.3)
    found, dropped, _ = build(tmp_path, chapters + sections, validation_share=0.3)
    held = {text for text in alone["validation"] if any(text in t for t in found["train"])}
    assert len(held) >= 5
    assert not held & set(found["validation"])
    details = {d.row_id: d.detail for d in dropped if d.reason.value == "near_duplicate"}
    assert {details[Document.new(text=text, source="").id] for text in held} == {
        "raw.jsonl: 1.00 of it stands in training documents"
    }


def test_validation_is_no_larger_than_wanted_and_the_rest_is_not_trained_on(
    tmp_path: Path,
) -> None:
    whole, *_ = build(tmp_path, TEXTS)
    found, dropped, _ = build(tmp_path, TEXTS, max_validation_documents=3)
    assert found["train"] == whole["train"]
    assert found["validation"] == whole["validation"][:3]
    left = len(whole["validation"]) - 3
    assert [d.reason.value for d in dropped] == ["not_selected"] * left


def test_at_most_so_many_documents(tmp_path: Path) -> None:
    found, *_ = build(tmp_path, ["short", *TEXTS], max_documents=25)
    assert sorted(found["train"] + found["validation"]) == sorted(TEXTS[:25])


def test_a_handful_of_texts_is_parted_too(tmp_path: Path) -> None:
    found, *_ = build(tmp_path, TEXTS[:4], validation_share=1e-6)
    assert len(found["validation"]) == 1
    assert sorted(found["train"] + found["validation"]) == sorted(TEXTS[:4])


def test_drops_are_written_in_files_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_files, "DROPS_PER_FILE", 2)
    shorts = [f"no. {i}" for i in range(5)]
    _, dropped, _ = build(tmp_path, TEXTS + shorts)
    assert len(dropped) == 5
    assert len(list_files(f"{tmp_path}/train/dropped")) == 3
    # A second attempt with less leaves nothing of the first.
    found, dropped, _ = build(tmp_path, TEXTS[:20])
    assert dropped == []
    assert len(list_files(f"{tmp_path}/train/dropped")) == 1
    assert len(found["train"] + found["validation"]) == 20


@pytest.mark.parametrize(
    ("texts", "options", "said"),
    [
        ([], {}, r"raw\.jsonl: no usable document$"),
        (["a", "b"], {}, r"no usable document; dropped: too_short 2$"),
        (
            TEXTS[:1],
            {"validation_share": 1e-6},
            r"nothing is left for validation .* \(several files, or",
        ),
        (
            TEXTS[:2],
            {"validation_share": 1.0},
            r"all 2 usable texts fell to validation; .* lower the corpus's `validation_share`",
        ),
    ],
)
def test_too_little_text_says_what_to_do(
    tmp_path: Path, texts: list[str], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        build(tmp_path, texts, **options)
    assert {p.name for p in tmp_path.iterdir()} == {"raw.jsonl"}, "nothing was written"


def test_one_text_can_be_trained_on_without_validation(tmp_path: Path) -> None:
    found, *_ = build(tmp_path, TEXTS[:1], validation_share=0.0)
    assert found == {"train": TEXTS[:1], "validation": []}


def test_topics_of_the_language_reference_become_a_corpus(tmp_path: Path) -> None:
    folders = {split: f"{tmp_path}/{split}" for split in SPLITS}
    config = CorpusConfig(sources=("sample:python_docs",))
    summaries = build_corpus(config, 0, folders)
    documents = [d for url in sealed_shards(folders["train"]) for d in read_records(url, Document)]
    assert len(documents) > 50
    assert {d.source.partition("/")[0] for d in documents} == {"python_docs"}
    assert max(len(d.text) for d in documents) <= config.max_chars
    assert summaries["validation"][0].num_records >= 1


def test_two_corpora_train_on_nothing_that_the_other_keeps_aside(tmp_path: Path) -> None:
    general, *_ = build(tmp_path, TEXTS, root=f"{tmp_path}/general")
    held, trained = general["validation"][0], general["train"][0]
    beside = {split: sealed_shards(f"{tmp_path}/general/{split}") for split in SPLITS}
    own = [sentence(i) for i in range(100, 160)]
    # What the general corpus measures on stands inside a longer text of the domain.
    around = f"{sentence(200)} {held} {sentence(201)}"
    assert around in build(tmp_path, [*own, around])[0]["train"]
    found, dropped, _ = build(tmp_path, [*own, around], beside=beside)
    assert around not in found["train"]
    assert len([d for d in dropped if "the other corpus keeps aside" in str(d.detail)]) == 1
    # And what it trains on, inside one that is kept aside here.
    within = f"{trained} {sentence(300, 3)}"
    assert within in build(tmp_path, [*own, within], validation_share=0.9)[0]["validation"]
    found, dropped, _ = build(tmp_path, [*own, within], beside=beside, validation_share=0.9)
    assert within not in found["validation"]
    assert len([d for d in dropped if "stands in training documents" in str(d.detail)]) == 1
    # A text that both keep aside stays.
    same, dropped, _ = build(tmp_path, TEXTS, beside=beside)
    assert (same, dropped) == (general, [])
