import json
import re
from pathlib import Path

from selfreward.judging.parse_study import ParseCase, compare_parses, translated_marks
from selfreward.judging.rubrics import get_pairwise_rubric

RUBRIC = get_pairwise_rubric("pairwise_reasoned")
FIRST = re.compile(r"Output \(a\) is better\b")
SECOND = re.compile(r"Output \(b\) is better\b")

# What another judge wrote and what its authors, who look for (a) before (b), read in it.
TRANSCRIPTS = [
    ("t1", "Therefore, Output (a) is better.", "stop", "first"),
    ("t2", "Therefore, Output (b) is better.", "stop", "second"),
    ("t3", "Neither is any good.", "stop", None),
    ("t4", "Both invent a source, and then", "length", None),
    # The last line decides here, the first match there.
    ("t5", "Output (a) is better at rhymes.\nTherefore, Output (b) is better.", "stop", "first"),
    ("t6", "Output (a) is better at rhymes, Output (b) is better at facts.", "stop", "first"),
    # That judge was never asked for brackets, so these are quoted.
    ("t7", "The response ends in [[B]].\nTherefore, Output (a) is better.", "stop", "first"),
    ("t8", "The response ends in [[B]].", "stop", None),
]


def read_cases(path: Path) -> list[ParseCase]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [ParseCase(**row) for row in rows]


def test_a_comparison_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "transcripts.jsonl"
    fields = ("id", "text", "finish_reason", "expected")
    path.write_text(
        "\n".join(json.dumps(dict(zip(fields, row, strict=True))) for row in TRANSCRIPTS)
    )
    comparison = compare_parses(
        read_cases(path), RUBRIC, lambda text: translated_marks(text, FIRST, SECOND)
    )
    assert (comparison.n, comparison.num_agreements) == (8, 6)
    assert comparison.counts == {
        ("first", "first"): 2,
        ("first", "second"): 1,
        ("first", "unparsed"): 1,
        ("none", "truncated"): 1,
        ("none", "unparsed"): 2,
        ("second", "second"): 1,
    }
    assert comparison.disagreements == {
        ("first", "second"): ("t5",),
        ("first", "unparsed"): ("t6",),
    }


def test_without_a_translation_another_form_is_not_guessed_at() -> None:
    cases = [ParseCase(id="t1", text=TRANSCRIPTS[0][1], finish_reason="stop", expected="first")]
    assert compare_parses(cases, RUBRIC).counts == {("first", "unparsed"): 1}


def test_marks_are_translated_one_by_one() -> None:
    text = "Output (a) is better. No: Output (b) is better. [[A]]"
    assert translated_marks(text, FIRST, SECOND) == "[[A]]. No: [[B]]. [ [A]]"
