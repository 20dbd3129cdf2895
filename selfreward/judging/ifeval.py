"""IFEval's own instruction ids and arguments (arXiv 2311.07911) as checks of ours.

What differs from its program: sentences are parted by a plain rule where it asks a trained
splitter, upper and lower case do not ask for English besides, and keywords are plain texts where
it reads them as patterns. The language of an answer is not checked here, so prompts with that
instruction have no checks.
"""

from collections.abc import Callable, Mapping
from typing import Any

from selfreward.errors import DataError
from selfreward.judging.checks import check_known
from selfreward.records_custom_llm import Check

Kwargs = Mapping[str, Any]

_BOUNDS = {"at least": ("min", 0), "less than": ("max", -1)}
"""IFEval's relation to ours: fewer than n are at most n - 1."""
_CHOICES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
"""What the constrained answers of IFEval are; its files do not repeat them."""


def _check(kind: str, *args: object) -> Check:
    return Check(kind=kind, args=tuple(str(arg) for arg in args))


def _bound(what: str, relation: str, number: int, *before: str) -> Check:
    side, offset = _BOUNDS[relation]
    return _check(f"{side}_{what}", *before, int(number) + offset)


_MAPPING: dict[str, Callable[[Kwargs], Check]] = {
    "change_case:english_lowercase": lambda k: _check("all_lowercase"),
    "change_case:english_capital": lambda k: _check("all_uppercase"),
    "change_case:capital_word_frequency": lambda k: _bound(
        "capital_words", k["capital_relation"], k["capital_frequency"]
    ),
    "combination:repeat_prompt": lambda k: _check("repeats_prompt", k["prompt_to_repeat"]),
    "combination:two_responses": lambda k: _check("two_answers"),
    "detectable_content:number_placeholders": lambda k: _check(
        "min_placeholders", int(k["num_placeholders"])
    ),
    "detectable_content:postscript": lambda k: _check("contains", k["postscript_marker"]),
    "detectable_format:constrained_response": lambda k: _check("contains_any", *_CHOICES),
    "detectable_format:json_format": lambda k: _check("is_json"),
    "detectable_format:multiple_sections": lambda k: _check(
        "min_sections", k["section_spliter"], int(k["num_sections"])
    ),
    "detectable_format:number_bullet_lists": lambda k: _check("num_bullets", int(k["num_bullets"])),
    "detectable_format:number_highlighted_sections": lambda k: _check(
        "min_highlights", int(k["num_highlights"])
    ),
    "detectable_format:title": lambda k: _check("title_marks"),
    "keywords:existence": lambda k: _check("contains", *k["keywords"]),
    "keywords:forbidden_words": lambda k: _check("not_contains", *k["forbidden_words"]),
    "keywords:frequency": lambda k: _bound("times", k["relation"], k["frequency"], k["keyword"]),
    "keywords:letter_frequency": lambda k: _bound(
        "times", k["let_relation"], k["let_frequency"], k["letter"]
    ),
    "length_constraints:nth_paragraph_first_word": lambda k: _check(
        "paragraph_starts", int(k["num_paragraphs"]), int(k["nth_paragraph"]), k["first_word"]
    ),
    "length_constraints:number_paragraphs": lambda k: _check("num_parts", int(k["num_paragraphs"])),
    "length_constraints:number_sentences": lambda k: _bound(
        "sentences", k["relation"], k["num_sentences"]
    ),
    "length_constraints:number_words": lambda k: _bound("words", k["relation"], k["num_words"]),
    "punctuation:no_comma": lambda k: _check("no_commas"),
    "startend:end_checker": lambda k: _check("ends_with", k["end_phrase"]),
    "startend:quotation": lambda k: _check("wrapped_in", '"'),
}


def from_ifeval(row: Mapping[str, Any]) -> tuple[Check, ...] | None:
    """Checks of a row with the columns `instruction_id_list` and `kwargs`, in their order.

    The columns may also lie in a mapping `meta`. None where there are no such columns, or where an
    instruction has no kind here: half-checked prompts would look easier than they are.

    Raises:
        DataError: the arguments of an instruction are not as IFEval writes them.
    """
    meta = row.get("meta")
    found = row if "instruction_id_list" in row or not isinstance(meta, Mapping) else meta
    names, kwargs = found.get("instruction_id_list"), found.get("kwargs")
    if not names or kwargs is None or any(name not in _MAPPING for name in names):
        return None
    if len(names) != len(kwargs):
        raise DataError(f"IFEval row: {len(names)} instructions but {len(kwargs)} kwargs")
    checks = []
    for name, given in zip(names, kwargs, strict=True):
        try:
            # Tables fill what an instruction does not take with nulls.
            check = _MAPPING[name]({k: v for k, v in (given or {}).items() if v is not None})
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"IFEval instruction {name}: kwargs {given} ({error!r})") from None
        check_known(check)
        checks.append(check)
    return tuple(checks)
