"""Breaking what the instruction asks of the form: counts, limits, given words, formats.

Each breaker looks for one kind of demand in the instruction and first makes sure that the response
meets it: a demand that was never met cannot be broken. The response is otherwise left as it is.
"""

import re
from collections.abc import Callable

from selfreward.judging.perturbations.base import (
    Given,
    content_words,
    joined,
    pieces,
    without,
)
from selfreward.judging.perturbations.formats import (
    LIST_ITEM,
    break_case,
    break_json,
    break_list,
    break_one_word,
    break_table,
    list_blocks,
    list_text,
)
from selfreward.judging.perturbations.lengths import borrowed_sentences, fitted, match_length
from selfreward.judging.perturbations.phrases import filler_sentence
from selfreward.judging.perturbations.tables import NUMBER_WORDS

_COUNT = r"(?P<count>[0-9]{1,4}|" + "|".join(NUMBER_WORDS) + ")"
_ANY_COUNT = re.compile(rf"\b{_COUNT}\b", re.IGNORECASE)
_SENTENCES = re.compile(rf"\b{_COUNT}\s+(?:[a-z]+\s+)?sentences?\b", re.IGNORECASE)
_WORDS = re.compile(rf"\b{_COUNT}[ -]+words?\b", re.IGNORECASE)
_AT_MOST = re.compile(
    r"\b(?:at most|no more than|not more than|under|below|within|fewer than|less than|up to|max"
    r"|maximum|or fewer|or less)\b",
    re.IGNORECASE,
)
_AT_LEAST = re.compile(
    r"\b(?:at least|no fewer than|or more|minimum|(?<!no )(?<!not )more than)\b", re.IGNORECASE
)
_QUOTED = r"[\"'\u201c\u2018`](?P<quoted>[^\"'\u201d\u2019`\n]{2,60})[\"'\u201d\u2019`]"
_INCLUDE = re.compile(
    r"\b(?:includ(?:e|ing)|us(?:e|ing)|mention(?:ing)?|contain(?:s|ing)?)\s+(?:the\s+)?"
    rf"(?:(?:key)?words?|phrase|term|sentence)\s+{_QUOTED}",
    re.IGNORECASE,
)
_EXCLUDE = re.compile(
    r"\b(?:without|avoid(?:ing)?|never us(?:e|ing)|do not use|don't use)\s+(?:using\s+)?(?:the\s+)?"
    r"words?\s+[\"'\u201c\u2018`]?(?P<quoted>[^\W\d_]{3,30})",
    re.IGNORECASE,
)
_END_WITH = re.compile(
    rf"\b(?:end|finish|close|conclude)s?\b[^.\n]{{0,40}}?\bwith\b[^.\n\"']{{0,30}}?{_QUOTED}",
    re.IGNORECASE,
)


def _count(match: re.Match[str]) -> int:
    token = match["count"].lower()
    return NUMBER_WORDS[token] if token in NUMBER_WORDS else int(token)


def _around(match: re.Match[str]) -> str:
    """The words beside a number, where `at most` and the like stand."""
    return match.string[max(0, match.start() - 24) : match.end() + 16]


def _coin(given: Given) -> bool:
    return given.rng.random() < 0.5


def _wants_more(match: re.Match[str], given: Given) -> bool:
    """Whether a count is to be exceeded: always where it is a limit, never where a minimum."""
    if _AT_MOST.search(_around(match)):
        return True
    if _AT_LEAST.search(_around(match)):
        return False
    return given.longer if given.longer is not None else _coin(given)


def _break_item_count(text: str, given: Given) -> str | None:
    """Of exactly n items asked for, 1, half, or all but one go, or 1, half as many, n are added."""
    before, items, after = list_blocks(text)
    asked = [m for m in _ANY_COUNT.finditer(given.instruction) if _count(m) == len(items)]
    if len(items) < 2 or not asked:
        return None
    rng, total = given.rng, len(items)
    change = (1, max(1, total // 2), total)[given.severity - 1]
    if not _wants_more(asked[0], given):
        gone = set(rng.sample(range(total), min(change, total - 1)))
        return list_text(before, [x for i, x in enumerate(items) if i not in gone], after)
    mark = LIST_ITEM.match(items[-1])
    sign = mark[0] if mark else "- "
    borrowed = borrowed_sentences(rng, given.others)
    added = [sign + (borrowed.pop() if borrowed else filler_sentence(rng)) for _ in range(change)]
    return list_text(before, [*items, *added], after)


def _break_sentence_count(text: str, given: Given) -> str | None:
    """Of n sentences asked for, some more or some fewer."""
    asked = _SENTENCES.search(given.instruction)
    parts = pieces(text)
    if asked is None or any(part.is_code for part in parts) or len(parts) != _count(asked):
        return None
    if len(parts) == 1 or _wants_more(asked, given):
        added = [filler_sentence(given.rng) for _ in range((1, 2, 5)[given.severity - 1])]
        return " ".join([text, *added])
    count = min(len(parts) - 1, given.severity)
    return joined(without(parts, set(given.rng.sample(range(len(parts)), count))))


def _num_words(text: str) -> int:
    return len(text.split())


def _break_word_limit(text: str, given: Given) -> str | None:
    """Goes 20%, 50% or 150% beyond a limit, or stays 15%, 50% or 80% below what is asked for."""
    asked = _WORDS.search(given.instruction)
    if asked is None or _count(asked) < 5:
        return None
    limit, size = _count(asked), _num_words(text)
    at_most, at_least = (p.search(_around(asked)) for p in (_AT_MOST, _AT_LEAST))
    can_add = not at_least and size <= (limit if at_most else 1.25 * limit)
    can_cut = not at_most and size >= (limit if at_least else 0.75 * limit)
    if can_add and (not can_cut or given.longer or (given.longer is None and _coin(given))):
        wanted = limit * (1.2, 1.5, 2.5)[given.severity - 1] * (1 if at_most else 1.25)
        while _num_words(text) <= wanted:
            grown = len(text) + 6 * (int(wanted) - _num_words(text) + 1)
            text = match_length(text, grown, given.rng, given.others)
        return text
    if not can_cut:
        return None
    wanted = limit * (0.85, 0.5, 0.2)[given.severity - 1] * (1 if at_least else 0.75)
    words = list(re.finditer(r"\S+", text))
    return text[: words[max(0, int(wanted) - 1)].end()]


def _break_included(text: str, given: Given) -> str | None:
    """Leaves out a word or phrase that had to be in it, with its sentence or without."""
    asked = _INCLUDE.search(given.instruction)
    if asked is None or asked["quoted"].lower() not in text.lower():
        return None
    parts = pieces(text)
    holding = {i for i, p in enumerate(parts) if asked["quoted"].lower() in p.body.lower()}
    if (given.severity == 1 and given.longer is not False) or len(holding) == len(parts):
        made = re.sub(re.escape(asked["quoted"]), "something", text, flags=re.IGNORECASE)
    else:
        made = joined(without(parts, holding))
    if given.longer:
        made = fitted(made, text, given)
    return made if made and asked["quoted"].lower() not in made.lower() else None


def _break_excluded(text: str, given: Given) -> str | None:
    """Uses a word that was to be avoided: in place of one, two or four others, or on top."""
    asked = _EXCLUDE.search(given.instruction)
    if asked is None or asked["quoted"].lower() in text.lower():
        return None
    word = asked["quoted"].lower()
    if given.longer:
        added = [f"{word.capitalize()} is a part of it.", f"There is also {word} in it."]
        return " ".join([text, *added[: given.severity]])
    own = content_words(text)
    if not own:
        return None
    picked = given.rng.sample(own, min(len(own), (1, 2, 4)[given.severity - 1]))
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, picked))})\b", re.IGNORECASE)
    return pattern.sub(word, text)


def _break_ending(text: str, given: Given) -> str | None:
    """Goes on behind the words it had to end with, or stops before them."""
    asked = _END_WITH.search(given.instruction)
    ending = asked["quoted"].strip(" .!?") if asked else ""
    if not ending or not text.lower().rstrip(" .!?\"'*").endswith(ending.lower()):
        return None
    if given.longer is False or (given.longer is None and _coin(given)):
        return text[: text.lower().rfind(ending.lower())].rstrip() or None
    added = [filler_sentence(given.rng) for _ in range(given.severity)]
    return " ".join([text, *added])


_BREAKERS: tuple[Callable[[str, Given], str | None], ...] = (
    _break_item_count,
    _break_sentence_count,
    _break_word_limit,
    break_json,
    break_list,
    break_table,
    break_one_word,
    break_case,
    _break_included,
    _break_excluded,
    _break_ending,
)


def drop_constraint(text: str, given: Given) -> str | None:
    """Breaks one demand of the instruction that the response meets, picked at random.

    Number of list items, of sentences or of words; JSON; a list or a table; one word; upper or
    lower case; words to use, to avoid or to end with. None where the instruction demands nothing
    of this kind or the response does not meet it. Longer and shorter are followed where the demand
    can be broken both ways; one word, for instance, can only become more.
    """
    for breaker in given.rng.sample(_BREAKERS, len(_BREAKERS)):
        made = breaker(text, given)
        if made is not None and made.split() != text.split():
            return made
    return None
