"""Saying something else: other names, the opposite, or terms in each other's place.

Word surgery without understanding. A changed sentence of a story or an opinion need not be a worse
one; `perturb.kinds_for` leaves these kinds out where nothing can be false.
"""

import re
from collections.abc import Callable
from dataclasses import replace

from selfreward.judging.perturbations.base import (
    WORD,
    Given,
    amount,
    cased_like,
    content_words,
    edit_pieces,
    joined,
    pieces,
    spliced,
)
from selfreward.judging.perturbations.tables import (
    MONTHS,
    NEGATABLE,
    NEGATED_FORMS,
    OPPOSITES,
    WEEKDAYS,
    word_set,
)

_NAME = re.compile(r"[^\W\d_a-z][^\W\d_]*+(?:[ -][^\W\d_a-z][^\W\d_]*+){0,3}")
_NOT_NAMES = word_set("The This That These It He She They We You OK")
_NOT = re.compile(r"[ ]not\b", re.IGNORECASE)
MIN_SENTENCE_WORDS = 4
NUM_SOURCES = 8
MAX_WAYS = 12
"""Ways to negate one sentence that are tried."""


def _names(body: str) -> list[re.Match[str]]:
    """Capitalised words inside a sentence, where a capital means a name (in English)."""
    return [
        match
        for match in _NAME.finditer(body)
        if match.start() >= 2
        and len(match[0]) >= 2
        and match[0] not in _NOT_NAMES
        and match[0][0].isupper()
        and body[match.start() - 1] in " ("
        and (body[match.start() - 2].islower() or body[match.start() - 2] in ",(")
    ]


def alter_entity(text: str, given: Given) -> str | None:
    """Puts names in the wrong place.

    Severity 1: one mention of a name becomes another one, of the response itself where there is
    one, else of another response; weekdays and months become other weekdays and months. Severity 2:
    two names change places throughout (or one is replaced throughout). Severity 3: most names are
    replaced throughout by names of other responses. Code is left alone.
    """
    parts = pieces(text)
    bodies = [part.body for part in parts if not part.is_code]
    found = list(dict.fromkeys(match[0] for body in bodies for match in _names(body)))
    if not found:
        return None
    rng = given.rng
    sources = rng.sample(given.others, min(NUM_SOURCES, len(given.others)))
    known = set(found)
    foreign = dict.fromkeys(
        match[0] for other in sources for match in _names(other) if match[0] not in known
    )

    def substitute(name: str, pool: list[str]) -> str | None:
        for row in (WEEKDAYS, MONTHS):
            if name in row:
                return rng.choice([other for other in row if other != name])
        return rng.choice(pool) if pool else None

    if given.severity == 3:
        picked = rng.sample(found, amount(3, len(found)))
    else:
        picked = rng.sample(found, 1)
    table: dict[str, str] = {}
    for name in picked:
        own = [other for other in found if other != name]
        pool = list(foreign) or own if given.severity == 3 else own or list(foreign)
        new = substitute(name, pool)
        if new is not None:
            table[name] = new
            if given.severity == 2 and new in own:
                table[new] = name
    if not table:
        return None
    pattern = re.compile(
        r"(?<!\w)(?:"
        + "|".join(re.escape(n) for n in sorted(table, key=lambda n: (-len(n), n)))
        + r")(?!\w)"
    )
    mentions = [
        (i, match)
        for i, part in enumerate(parts)
        if not part.is_code
        for match in pattern.finditer(part.body)
    ]
    if given.severity == 1:
        mentions = rng.sample(mentions, min(1, len(mentions)))
    edits: dict[int, list[tuple[int, int, str]]] = {}
    for i, match in mentions:
        edits.setdefault(i, []).append((*match.span(), table[match[0]]))
    for i, spans in edits.items():
        parts[i] = replace(parts[i], body=spliced(parts[i].body, spans))
    return joined(parts)


def negate(text: str, given: Given) -> str | None:
    """Makes sentences say the opposite: one, a third, or most; questions and code stay.

    A `not` is put in or taken out, or a word becomes its opposite (always/never, before/after,
    increase/decrease, with a few German, French and Spanish ones). Longer or shorter: only ways
    that serve, in the sentences that have one.
    """

    def negated(body: str, longer: bool | None) -> str | None:
        if body.rstrip("\"'*_)").endswith("?"):
            return None
        ways = _ways_to_negate(body)
        made = [way(body) for way in given.rng.sample(ways, min(MAX_WAYS, len(ways)))]
        if longer is not None:
            made = [m for m in made if len(m) == len(body) or (len(m) > len(body)) == longer]
        return given.rng.choice(made) if made else None

    return edit_pieces(text, given, lambda body: negated(body, given.longer)) or edit_pieces(
        text, given, lambda body: negated(body, None)
    )


def _ways_to_negate(body: str) -> list[Callable[[str], str]]:
    """One function for each place of the sentence where its sense can be turned."""
    ways: list[Callable[[str], str]] = []
    words = list(WORD.finditer(body))
    for i, match in enumerate(words):
        word = match[0].lower().replace("\u2019", "'")
        following = words[i + 1][0].lower() if i + 1 < len(words) else ""
        if word in ("yes", "no"):
            if i == 0:
                ways.append(_replacing(match, cased_like(OPPOSITES[word], match[0])))
        elif word in OPPOSITES:
            ways.append(_replacing(match, cased_like(OPPOSITES[word], match[0])))
        elif word in NEGATED_FORMS:
            ways.append(_replacing(match, cased_like(NEGATED_FORMS[word], match[0])))
        # Not "in May".
        elif word in NEGATABLE and match[0].islower():
            negation = _NOT.match(body, match.end())
            if negation:
                ways.append(_cutting(negation))
            # "Is it …" at the start asks; "was never" would be negated twice.
            elif i > 0 and following not in ("never", "neither", "nor", "no", ""):
                ways.append(_replacing(match, f"{match[0]} not"))
    return ways


def _replacing(match: re.Match[str], new: str) -> Callable[[str], str]:
    return lambda body: body[: match.start()] + new + body[match.end() :]


def _cutting(match: re.Match[str]) -> Callable[[str], str]:
    return lambda body: body[: match.start()] + body[match.end() :]


def swap_terms(text: str, given: Given) -> str | None:
    """Exchanges words: `cats chase mice … dogs bury bones` → `bones chase mice … dogs bury cats`.

    Severity 1 exchanges one mention of two words of different sentences, 2 every mention of two
    words, 3 every mention of three pairs. Words with the same ending go first, so that the grammar
    often survives. Words of short pieces stay: list entries may stand in any order.
    """
    parts = pieces(text)
    where: dict[str, list[tuple[int, re.Match[str]]]] = {}
    for i, part in enumerate(parts):
        words = list(WORD.finditer(part.body))
        if part.is_code or len(words) < MIN_SENTENCE_WORDS:
            continue
        wanted = set(content_words(part.body)) - OPPOSITES.keys()
        for match in words:
            if match[0].lower() in wanted:
                where.setdefault(match[0].lower(), []).append((i, match))
    edits: dict[int, list[tuple[int, int, str]]] = {}
    used: set[str] = set()
    for _ in range(3 if given.severity == 3 else 1):
        pair = _exchangeable(where, used, given)
        if pair is None:
            break
        used.update(pair)
        for word, other in (pair, pair[::-1]):
            mentions = where[word]
            if given.severity == 1:
                mentions = mentions[:1]
            for i, match in mentions:
                edits.setdefault(i, []).append((*match.span(), cased_like(other, match[0])))
    if not edits:
        return None
    for i, spans in edits.items():
        parts[i] = replace(parts[i], body=spliced(parts[i].body, spans))
    return joined(parts)


def _exchangeable(
    where: dict[str, list[tuple[int, re.Match[str]]]], used: set[str], given: Given
) -> tuple[str, str] | None:
    """Two words whose first mentions are in different pieces, with the same ending if possible."""
    free = [word for word in where if word not in used]
    given.rng.shuffle(free)
    for ending in (2, 1, 0):
        by_ending: dict[str, str] = {}
        for word in free:
            key = word[len(word) - ending :]
            partner = by_ending.setdefault(key, word)
            if where[partner][0][0] != where[word][0][0]:
                return partner, word
    return None
