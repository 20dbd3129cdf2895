"""Constraints on an answer that a program can check, and how often answers follow them.

The kinds are those of the verifiable instructions of IFEval (arXiv 2311.07911, section 2.1 and
table 1) and a few more that small models can learn. Each is one entry of `KINDS`; arguments are
texts, numbers written in digits. Letter case counts only where a kind is about it. An empty answer
follows nothing.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selfreward.errors import DataError
from selfreward.records_custom_llm import Check

_WORD = re.compile(r"\w+")
# Abbreviations count as ends too; "3.14" does not, since no space follows.
_SENTENCE_END = re.compile("[.!?\u2026]+[\"')\\]\u201d\u2019]*(?=\\s|$)")
_BULLET = re.compile(r"^[ \t]*(?:\*(?!\*)|-(?!-))[ \t]*\S", re.MULTILINE)
_FENCE = re.compile(r"^```(?:json)?\s*|\s*```$", re.IGNORECASE)
_TITLE = re.compile(r"<<[^\n<>]*\w[^\n<>]*>>")
_PLACEHOLDER = re.compile(r"\[[^\[\]\n]+\]")
_HIGHLIGHT = re.compile(r"(\*{1,2})(?=[^\n*]*[^\s*])[^\n*]+\1")
_DIVIDER = re.compile(r"\s*\*{3}\s*")
_BLANK_LINE = re.compile(r"\n\s*\n")
_ANSWER_DIVIDER = re.compile(r"\*{6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckKind:
    """How a kind of constraint is checked.

    Example: `CheckKind(holds=lambda text, n: num_words(text) == n, args=(int,))`
    """

    holds: Callable[..., bool]
    """Of the text and the arguments."""
    args: tuple[type[int] | type[str], ...] = ()
    many: bool = False
    """Whether the last argument may come several times."""


def num_words(text: str) -> int:
    """Runs of letters, digits and underscores, as IFEval counts: `well-known` is two."""
    return len(_WORD.findall(text))


def num_sentences(text: str) -> int:
    """Pieces with a word in them between full stops, question or exclamation marks."""
    return sum(1 for piece in _SENTENCE_END.split(text) if _WORD.search(piece))


def num_bullets(text: str) -> int:
    """Lines that begin with a Markdown bullet, `*` or `-`."""
    return len(_BULLET.findall(text))


def _num_capital_words(text: str) -> int:
    return sum(word.isupper() for word in _WORD.findall(text))


def _num_lines(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())


def _parts(text: str, divider: re.Pattern[str]) -> list[str]:
    """Pieces between dividers; one at the very beginning or end parts nothing."""
    pieces = [piece.strip() for piece in divider.split(text.strip())]
    return pieces[0 if pieces[0] else 1 : None if pieces[-1] else -1]


def _has_parts(text: str, count: int) -> bool:
    parts = _parts(text, _DIVIDER)
    return len(parts) == count and all(parts)


def _has_two_answers(text: str) -> bool:
    parts = _parts(text, _ANSWER_DIVIDER)
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


def _times(text: str, wanted: str) -> int:
    return text.casefold().count(wanted.casefold())


def _has_word(text: str, word: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE))


def _bare(text: str) -> str:
    """Without the spaces and double quotes around it, in one letter case."""
    return text.strip().strip('"').strip().casefold()


def _is_wrapped(text: str, mark: str) -> bool:
    bare = text.strip()
    return len(bare) > 2 * len(mark) and bare.startswith(mark) and bare.endswith(mark)


def _is_json(text: str) -> bool:
    try:
        json.loads(_FENCE.sub("", text.strip()))
    except (ValueError, RecursionError):  # the latter: thousands of open brackets
        return False
    return True


def _num_sections(text: str, mark: str) -> int:
    return len(re.findall(rf"{re.escape(mark)}\s?\d+", text))


def _paragraph_starts(text: str, total: int, nth: int, word: str) -> bool:
    paragraphs = [p for p in _BLANK_LINE.split(text.strip()) if p.strip()]
    if len(paragraphs) != total or not 1 <= nth <= total:
        return False
    first = _WORD.search(paragraphs[nth - 1])
    return first is not None and first.group().casefold() == word.casefold()


KINDS: dict[str, CheckKind] = {
    "all_lowercase": CheckKind(holds=str.islower),
    "all_uppercase": CheckKind(holds=str.isupper),
    "num_words": CheckKind(holds=lambda text, n: num_words(text) == n, args=(int,)),
    "min_words": CheckKind(holds=lambda text, n: num_words(text) >= n, args=(int,)),
    "max_words": CheckKind(holds=lambda text, n: num_words(text) <= n, args=(int,)),
    "num_sentences": CheckKind(holds=lambda text, n: num_sentences(text) == n, args=(int,)),
    "min_sentences": CheckKind(holds=lambda text, n: num_sentences(text) >= n, args=(int,)),
    "max_sentences": CheckKind(holds=lambda text, n: num_sentences(text) <= n, args=(int,)),
    "min_capital_words": CheckKind(
        holds=lambda text, n: _num_capital_words(text) >= n, args=(int,)
    ),
    "max_capital_words": CheckKind(
        holds=lambda text, n: _num_capital_words(text) <= n, args=(int,)
    ),
    "num_bullets": CheckKind(holds=lambda text, n: num_bullets(text) == n, args=(int,)),
    "num_lines": CheckKind(holds=lambda text, n: _num_lines(text) == n, args=(int,)),
    # Pieces parted by the Markdown divider ***.
    "num_parts": CheckKind(holds=_has_parts, args=(int,)),
    "paragraph_starts": CheckKind(holds=_paragraph_starts, args=(int, int, str)),
    "min_sections": CheckKind(
        holds=lambda text, mark, n: _num_sections(text, mark) >= n, args=(str, int)
    ),
    "min_highlights": CheckKind(
        holds=lambda text, n: len(_HIGHLIGHT.findall(text)) >= n, args=(int,)
    ),
    "min_placeholders": CheckKind(
        holds=lambda text, n: len(_PLACEHOLDER.findall(text)) >= n, args=(int,)
    ),
    "starts_with": CheckKind(
        holds=lambda text, start: _bare(text).startswith(start.strip().casefold()), args=(str,)
    ),
    "ends_with": CheckKind(
        holds=lambda text, end: _bare(text).endswith(end.strip().casefold()), args=(str,)
    ),
    "contains": CheckKind(
        holds=lambda text, *wanted: all(_times(text, w) for w in wanted), args=(str,), many=True
    ),
    "contains_any": CheckKind(
        holds=lambda text, *wanted: any(_times(text, w) for w in wanted), args=(str,), many=True
    ),
    # Whole words: "art" may not occur, "start" may.
    "not_contains": CheckKind(
        holds=lambda text, *words: not any(_has_word(text, w) for w in words),
        args=(str,),
        many=True,
    ),
    "min_times": CheckKind(
        holds=lambda text, wanted, n: _times(text, wanted) >= n, args=(str, int)
    ),
    "max_times": CheckKind(
        holds=lambda text, wanted, n: _times(text, wanted) <= n, args=(str, int)
    ),
    "no_commas": CheckKind(holds=lambda text: "," not in text),
    "is_json": CheckKind(holds=_is_json),
    "one_of": CheckKind(
        holds=lambda text, *options: (
            _bare(text).rstrip(".") in {option.casefold().rstrip(".") for option in options}
        ),
        args=(str,),
        many=True,
    ),
    # The argument is the text to repeat before the answer.
    "repeats_prompt": CheckKind(
        holds=lambda text, prompt: text.strip().casefold().startswith(prompt.strip().casefold()),
        args=(str,),
    ),
    "wrapped_in": CheckKind(holds=_is_wrapped, args=(str,)),
    # A title like <<Rivers>>.
    "title_marks": CheckKind(holds=lambda text: bool(_TITLE.search(text))),
    "two_answers": CheckKind(holds=_has_two_answers),
}


def check_known(check: Check) -> None:
    """Raises DataError for an unknown kind, or arguments of the wrong number or type."""
    _parsed(check)


def passes(check: Check, text: str) -> bool:
    """Whether an answer follows a constraint; an empty one follows none.

    Raises:
        DataError: the check is none of ours, as `check_known` says.
    """
    kind, args = _parsed(check)
    return bool(text.strip()) and kind.holds(text, *args)


def _parsed(check: Check) -> tuple[CheckKind, list[int | str]]:
    kind = KINDS.get(check.kind)
    if kind is None:
        raise DataError(f"no check is called {check.kind!r}; there are {', '.join(sorted(KINDS))}")
    types = list(kind.args)
    if kind.many:
        types += types[-1:] * (len(check.args) - len(types))
    if len(check.args) != len(types):
        wanted = f"at least {len(types)}" if kind.many else str(len(types))
        raise DataError(f"check {check.kind} takes {wanted} arguments, not {list(check.args)}")
    args: list[int | str] = []
    for wanted_type, arg in zip(types, check.args, strict=True):
        if wanted_type is int and not (arg.isascii() and arg.isdigit()):
            raise DataError(f"check {check.kind}: {arg!r} is not a whole number in digits")
        if not arg:
            raise DataError(f"check {check.kind}: an argument is empty")
        args.append(wanted_type(arg))
    return kind, args


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedAnswer:
    """Which of its constraints one answer follows, in their order.

    Example: `CheckedAnswer(strict=(True, False), loose=(True, True))`
    """

    strict: tuple[bool, ...]
    loose: tuple[bool, ...]
    """Whether the answer follows it in one of the variants of `loose_variants`."""


def loose_variants(text: str) -> list[str]:
    """The answer as it is, without its first line, its last line, or both, each with and without
    asterisks: what is forgiven are greetings, closing words and emphasis (arXiv 2311.07911,
    section 2.2)."""
    lines = text.split("\n")
    cuts = [lines, lines[1:], lines[:-1], lines[1:-1]]
    texts = ["\n".join(cut).strip() for cut in cuts]
    return [*texts, *(variant.replace("*", "") for variant in texts)]


def check_answer(checks: Sequence[Check], text: str) -> CheckedAnswer:
    """Checks one answer; raises DataError for a check that is none of ours."""
    variants = loose_variants(text)
    return CheckedAnswer(
        strict=tuple(passes(check, text) for check in checks),
        loose=tuple(any(passes(check, variant) for variant in variants) for check in checks),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowRates:
    """How often constraints are followed (arXiv 2311.07911, section 2.2); shares, 0 to 1.

    Example: `FollowRates(num_prompts=2, num_checks=3, prompt_strict=0.5, prompt_loose=1.0,
    check_strict=0.667, check_loose=1.0)`
    """

    num_prompts: int
    num_checks: int
    prompt_strict: float
    """Share of the answers that follow all of their constraints."""
    prompt_loose: float
    check_strict: float
    """Share of the constraints that are followed."""
    check_loose: float


def follow_rates(results: Sequence[CheckedAnswer]) -> FollowRates:
    """Rates over the answers that have constraints; raises ValueError where none has."""
    counted = [result for result in results if result.strict]
    if not counted:
        raise ValueError("follow_rates needs at least one answer with checks")
    strict = [held for result in counted for held in result.strict]
    loose = [held for result in counted for held in result.loose]
    return FollowRates(
        num_prompts=len(counted),
        num_checks=len(strict),
        prompt_strict=sum(all(result.strict) for result in counted) / len(counted),
        prompt_loose=sum(all(result.loose) for result in counted) / len(counted),
        check_strict=sum(strict) / len(strict),
        check_loose=sum(loose) / len(loose),
    )
