"""Cleaning, cutting and judging raw text, on texts and shares worked by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.config_custom_llm import CorpusConfig
from selfreward.records import DropReason
from selfreward.text.quality import clean, cut, flaw_of, letter_share, repeated_line_share


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("a\r\nb\rc\u2028d\x0ce", "a\nb\nc\nd\ne"),
        ("\n\na  \n \t\n\n\n    b\t\n\n", "a\n\n    b"),
        ("\ufeffa\x00b\x1b[1m\xad", "ab[1m"),
        ("caf" + "e\u0301", "caf\u00e9"),
        ("x\u00b2 \ufb01", "x\u00b2 \ufb01"),
        ("half \ud83d of one", "half \ufffd of one"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        (" \n\t", ""),
    ],
    ids=[
        "line ends",
        "blank",
        "invisible",
        "composed",
        "kept forms",
        "surrogate",
        "joiner",
        "empty",
    ],
)
def test_cleaning(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned
    assert clean(cleaned) == cleaned


def test_a_short_text_is_not_cut() -> None:
    assert cut("a b", 3) == ["a b"]
    assert cut("", 3) == [""]


def test_cuts_prefer_blank_lines_then_line_ends_then_spaces() -> None:
    # 21 characters in two pieces: the aim is 11, and cuts are looked for from 5 on.
    assert cut("one two\n\nthree\nfour five", 12) == ["one two", "three", "four five"]
    assert cut("one two three\nfour fi", 15) == ["one two", "three\nfour fi"]
    assert cut("one two\nthree four fi", 15) == ["one two", "three four fi"]
    assert cut("onetwo threefour five", 15) == ["onetwo", "threefour five"]


def test_a_word_is_cut_only_if_it_is_longer_than_a_piece() -> None:
    # The aim is 6, inside the first word; its end at 8 is still within the piece.
    assert cut("aaaaaaaa bbb", 10) == ["aaaaaaaa", "bbb"]
    assert cut("ab cdefghijklmn", 12) == ["ab", "cdefghijklmn"]
    assert cut("a" * 25, 10) == ["a" * 9, "a" * 8, "a" * 8]


def test_pieces_are_about_equal_without_a_stump() -> None:
    text = "\n".join(["word " * 9 + "word"] * 21)  # lines of 49 characters, 1049 in all
    sizes = [len(piece) for piece in cut(text, 1000)]
    assert len(sizes) == 2
    assert min(sizes) > 450


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab \n\u3042", max_size=300), st.integers(1, 40))
def test_cutting_loses_white_space_alone(text: str, max_chars: int) -> None:
    pieces = cut(text, max_chars)
    assert all(len(piece) <= max_chars for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("ab 12", 3 / 5),
        ("\u0928\u092e\u0938\u094d\u0924\u0947", 1.0),
        ("\u65e5\u672c\u8a9e\u3002", 3 / 4),
        ("====", 0.0),
    ],
    ids=["empty", "digits", "marks", "unspaced", "rule"],
)
def test_share_of_letters(text: str, share: float) -> None:
    assert letter_share(text) == pytest.approx(share)


def test_share_of_repeated_lines() -> None:
    # Of five lines with something on them, the second `a` and the indented `b` repeat one.
    assert repeated_line_share("a\n\nb\n\na\n  b\nc") == pytest.approx(2 / 5)
    assert repeated_line_share("") == 0


CONFIG = CorpusConfig(min_chars=10, min_letter_share=0.5, max_repeated_line_share=0.4)


def test_a_plain_text_has_no_flaw() -> None:
    assert flaw_of("A plain line.\nAnother one.", CONFIG) is None


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("nine char", DropReason.TOO_SHORT, "9 characters, the least is 10"),
        (
            "abc 0123456789",
            DropReason.LOW_QUALITY,
            "share of letters 0.29, the least is 0.5",
        ),
        (
            "same line\nsame line",
            DropReason.LOW_QUALITY,
            "share of repeated lines 0.50, the most is 0.4",
        ),
    ],
)
def test_the_first_failed_rule_is_told(text: str, reason: DropReason, detail: str) -> None:
    flaw = flaw_of(text, CONFIG)
    assert flaw is not None
    assert (flaw.reason, flaw.detail) == (reason, detail)


def test_a_share_right_at_its_limit_passes() -> None:
    assert flaw_of("abcde01234", CONFIG) is None
    # Two of five lines repeat one.
    assert flaw_of("aa\nbb\ncc\naa\nbb", CONFIG) is None
