import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.judging.filters import (
    NearDuplicateIndex,
    exact_key,
    normalised_text,
    shingle_hashes,
    words_of,
)
from selfreward.records import Message


def user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def test_normalised_text_ignores_case_space_and_unicode_form() -> None:
    assert normalised_text("  Why  is\nthe Sky\u00a0blue?") == "why is the sky blue?"
    assert normalised_text("e\u0301t\u00c9") == normalised_text("\u00e9t\u00e9")


def test_exact_keys_tell_conversations_apart() -> None:
    assert exact_key(user("What is 2 + 2?")) == exact_key(user("what is  2 + 2? "))
    assert exact_key(user("2+2")) != exact_key(user("2-2"))
    assert exact_key(user("Hi")) != exact_key((Message(role="system", content="Hi"),))
    assert exact_key((*user("a"), *user("b"))) != exact_key(user("a b"))


def test_words_lose_punctuation_at_their_edges_only() -> None:
    assert words_of('What is "2+2", (roughly)?') == ["what", "is", "2+2", "roughly"]
    # Scripts without spaces are split by letter.
    assert words_of("\u5929\u7a7a\u84dd ok") == ["\u5929", "\u7a7a", "\u84dd", "ok"]


def test_shingles_are_the_distinct_runs_of_five_words() -> None:
    assert len(shingle_hashes("a b c d e f g")) == 3
    # Runs that repeat count once: "a b a b a", "b a b a b".
    assert len(shingle_hashes("a b a b a b a b")) == 2
    assert len(shingle_hashes("only four words here")) == 1
    assert len(shingle_hashes("")) == 1
    assert set(shingle_hashes("x y z a b")) != set(shingle_hashes("y x z a b"))


def test_a_near_duplicate_names_the_text_that_was_kept() -> None:
    words = [f"word{i}" for i in range(60)]
    index = NearDuplicateIndex(threshold=0.7)
    assert index.is_duplicate_then_add("one", " ".join(words)) is None
    # One changed word touches 5 of 56 shingles: Jaccard 51 / 61 = 0.84.
    words[30] = "changed"
    assert index.is_duplicate_then_add("two", " ".join(words)) == "one"
    assert len(index) == 1
    # Five changed words, 10 apart, touch 25: Jaccard 31 / 81 = 0.38.
    for place in (5, 15, 25, 45):
        words[place] = f"changed{place}"
    assert index.is_duplicate_then_add("three", " ".join(words)) is None
    assert index.is_duplicate_then_add("four", " ".join(words)) == "three"


def test_short_texts_are_duplicates_only_of_the_same_words() -> None:
    index = NearDuplicateIndex(threshold=0.5)
    assert index.is_duplicate_then_add("1", "Write a poem.") is None
    assert index.is_duplicate_then_add("2", "write a POEM") == "1"
    assert index.is_duplicate_then_add("3", "Write a song.") is None
    assert index.is_duplicate_then_add("4", "Write a poem about the sea.") is None
    assert index.is_duplicate_then_add("5", "") is None
    assert index.is_duplicate_then_add("6", "???") is None


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9, 1.0])
def test_duplicates_are_found_and_strangers_are_not(threshold: float) -> None:
    rng = random.Random(0)
    vocabulary = [f"w{i}" for i in range(500)]
    texts = [" ".join(rng.choices(vocabulary, k=40)) for _ in range(100)]
    index = NearDuplicateIndex(threshold)
    assert [index.is_duplicate_then_add(f"{i}", t) for i, t in enumerate(texts)] == [None] * 100
    assert [index.is_duplicate_then_add(f"again{i}", t) for i, t in enumerate(texts)] == [
        f"{i}" for i in range(100)
    ]


def test_the_estimate_stands_in_for_the_true_similarity() -> None:
    """Pairs well above the threshold are found, pairs well below are not."""
    rng = random.Random(1)
    # Per text of 84 words, 80 shingles; d words changed 6 apart touch 5d of them:
    # d=1 gives 75/85 = 0.88, d=6 gives 50/110 = 0.45.
    found = {1: 0, 6: 0}
    for changed in found:
        for trial in range(40):
            words = [f"{trial}-{rng.random()}" for _ in range(84)]
            index = NearDuplicateIndex(threshold=0.7)
            index.is_duplicate_then_add("a", " ".join(words))
            for k in range(changed):
                words[10 + 6 * k] = f"new{k}"
            found[changed] += index.is_duplicate_then_add("b", " ".join(words)) is not None
    assert found[1] >= 38 and found[6] <= 2


def test_shingles_are_the_same_in_every_process() -> None:
    code = (
        "from selfreward.judging.filters import shingle_hashes;"
        "print(shingle_hashes('the quick brown fox jumps over').tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(shingle_hashes("the quick brown fox jumps over").tolist())


@given(st.text())
def test_any_text_can_be_indexed(text: str) -> None:
    index = NearDuplicateIndex(0.8, num_perm=16)
    assert index.is_duplicate_then_add("a", text) is None
    assert index.is_duplicate_then_add("b", text) == "a"


def test_a_threshold_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="threshold"):
        NearDuplicateIndex(0.0)
