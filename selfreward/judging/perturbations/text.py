"""Making a response worse by its form: cut, thinned, disordered, repeated, garbled, padded.

Nothing here understands what a response says. Each function is one idea; what it does when asked
for a longer or a shorter result is said in its docstring.
"""

import re
from dataclasses import replace

from selfreward.judging.perturbations.base import (
    WORD,
    Given,
    Piece,
    amount,
    cased_like,
    is_content,
    joined,
    marker_of,
    pieces,
    spliced,
    with_inserted,
    without,
)
from selfreward.judging.perturbations.lengths import fitted
from selfreward.judging.perturbations.phrases import FOREIGN, filler_sentence, shuffled_forever
from selfreward.judging.perturbations.tables import LANGUAGE_WORDS, WORD_TABLES

MIN_CUT_CHARS = 24
"""A shorter response has no middle to stop in."""

_CONNECTIVE = re.compile(
    r"(?:however|therefore|thus|so|then|but|this|these|it|they|he|she|finally|second|third|next"
    r"|also|instead|as a result|because of|for example|afterwards)\b",
    re.IGNORECASE,
)


def cut_mid_sentence(text: str, keep: int) -> str:
    """Returns the first `keep` characters up to a word's end, without a stop to end on."""
    head = text[:keep]
    if not text[keep : keep + 1].isspace():
        space = max(head.rfind(" "), head.rfind("\n"))
        head = head[:space] if space > 0 else head
    return head.rstrip(" \n\t.,;:!?")


def truncate(text: str, given: Given) -> str | None:
    """Stops early: after 75-93% (severity 1), 40-75% (2) or 6-40% (3) of the response.

    A subtle cut falls inside a sentence, since a whole last sentence is often a courtesy that
    nobody misses; a deeper one falls there or between sentences. Longer: padded before the cut.
    """
    if len(text) < MIN_CUT_CHARS:
        return None
    low, high = ((0.75, 0.93), (0.4, 0.75), (0.06, 0.4))[given.severity - 1]
    keep = max(8, int(len(text) * given.rng.uniform(low, high)))
    made = ""
    if given.severity > 1 and given.rng.random() < 0.5:
        made = _whole_pieces(text, keep)
    made = made or cut_mid_sentence(text, keep)
    return fitted(made, text, given) if made else None


def _whole_pieces(text: str, keep: int) -> str:
    parts, size, end = pieces(text), 0, 0
    while end < len(parts) and size + len(parts[end].body) <= keep:
        size += len(parts[end].body) + len(parts[end].gap)
        end += 1
    return joined(parts[:end])


def drop_sentences(text: str, given: Given) -> str | None:
    """Leaves out inner sentences: one of the longer ones, a third, or most. Longer: padded."""
    parts = pieces(text)
    inner = [i for i in range(1, len(parts) - 1) if is_content(parts[i])]
    if not inner:
        return None
    count = amount(given.severity, len(inner))
    if given.severity == 1:
        inner.sort(key=lambda i: (-len(parts[i].body), i))
        inner = inner[: (len(inner) + 1) // 2]
    dropped = set(given.rng.sample(inner, count))
    return fitted(joined(without(parts, dropped)), text, given)


def shuffle_sentences(text: str, given: Given) -> str | None:
    """Changes the order: moves one sentence (by two places where it can), mixes half, or all.

    Bullet points stay, their order seldom matters; the items of a numbered list take their numbers
    along. The length does not change.
    """
    parts = pieces(text)
    places = [
        i
        for i, part in enumerate(parts)
        if is_content(part) and not marker_of(part.body).startswith(("-", "*", "+", "\u2022"))
    ]
    if len(places) < 3:
        return None
    order = list(range(len(places)))
    if given.severity == 1:
        bound = [k for k in order[1:] if _CONNECTIVE.match(parts[places[k]].body)]
        moved = given.rng.choice(bound or order)
        far = [k for k in order if abs(k - moved) >= 2]
        target = given.rng.choice(far or [0 if moved else len(order) - 1])
        order.insert(target, order.pop(moved))
    else:
        count = len(order) if given.severity == 3 else max(3, len(order) // 2)
        chosen = sorted(given.rng.sample(order, count))
        mixed = given.rng.sample(chosen, count)
        if mixed == chosen:
            mixed = [*chosen[1:], chosen[0]]
        for place, source in zip(chosen, mixed, strict=True):
            order[place] = source
    bodies = [parts[i].body for i in places]
    for place, source in zip(places, order, strict=True):
        parts[place] = replace(parts[place], body=bodies[source])
    return joined(parts)


def repeat(text: str, given: Given) -> str | None:
    """Says things again: one sentence, several, or a sentence in a loop or the whole once more.

    Shorter: breaks off in the first two thirds (late there at severity 1) and loops its last
    sentence (once, up to three times, or as often as fits), as a small model that cannot end does.
    """
    parts = pieces(text)
    candidates = [i for i, part in enumerate(parts) if is_content(part)]
    if not candidates:
        return None
    if given.longer is False:
        return _looped_within(text, parts, candidates, given)
    if given.severity < 3:
        sources = given.rng.sample(candidates, amount(given.severity, len(candidates)))
        additions: dict[int, list[str]] = {}
        for i in sources:
            place = (
                i if given.severity == 2 else given.rng.choice([c for c in candidates if c >= i])
            )
            additions.setdefault(place, []).append(parts[i].body)
        return joined(with_inserted(parts, additions))
    if given.rng.random() < 0.5:
        return f"{text}\n\n{text}"
    i = given.rng.choice(candidates)
    wanted = len(text) * given.rng.uniform(0.5, 1.5)
    times = max(3, int(wanted / (len(parts[i].body) + 1)))
    return joined(with_inserted(parts[: i + 1], {i: [parts[i].body] * times}))


def _looped_within(
    text: str, parts: list[Piece], candidates: list[int], given: Given
) -> str | None:
    early = [i for i in candidates if i <= 0.67 * (len(parts) - 1)]
    given.rng.shuffle(early)
    if given.severity == 1:
        early.sort(reverse=True)
    for i in early:
        head = joined(parts[: i + 1])
        fits = (len(text) - len(head)) // (len(parts[i].body) + 1)
        if fits > 0:
            times = (1, min(3, fits), fits)[given.severity - 1]
            return joined(with_inserted(parts[: i + 1], {i: [parts[i].body] * times}))
    return None


def garble_words(text: str, given: Given) -> str | None:
    """Drops, doubles or misspells words: 4%, 12% or 30% of them, at least one, code left alone.

    Longer: only doubles words or letters. Shorter: only drops them. Swapped letters serve both.
    """
    parts = pieces(text)
    tokens = [re.split(r"(\s+)", part.body) for part in parts]
    places = [
        (i, k)
        for i, part in enumerate(parts)
        if not part.is_code
        for k in range(0, len(tokens[i]), 2)
        if WORD.search(tokens[i][k])
    ]
    if len(places) < 2:
        return None
    share = (0.04, 0.12, 0.3)[given.severity - 1]
    for i, k in given.rng.sample(places, max(1, round(share * len(places)))):
        tokens[i][k] = _garbled(tokens[i][k], given)
        if not tokens[i][k] and k + 1 < len(tokens[i]):
            tokens[i][k + 1] = ""
    bodies = ["".join(words).strip() for words in tokens]
    return joined(replace(part, body=body) for part, body in zip(parts, bodies, strict=True))


def _garbled(word: str, given: Given) -> str:
    longer = [f"{word} {word}"]
    shorter = [""]
    same = []
    if len(word) >= 4 and word.isalpha():
        k = given.rng.randrange(1, len(word) - 2)
        longer.append(word[:k] + word[k] + word[k:])
        shorter.append(word[:k] + word[k + 1 :])
        same = [word[:k] + word[k + 1] + word[k] + word[k + 2 :]]
    ways = same + (longer if given.longer is not False else [])
    ways += shorter if given.longer is not True else []
    return given.rng.choice([way for way in ways if way != word])


def language_of(text: str) -> str:
    """Returns en, de, fr or es: the language whose small words are the most frequent in a text."""
    words = [word.lower() for word in WORD.findall(text[:4000])]
    counts = {name: sum(w in small for w in words) for name, small in LANGUAGE_WORDS.items()}
    return max(counts, key=lambda name: counts[name])


def mixed_language(text: str, given: Given) -> str | None:
    """Slips into German, French, Spanish or English, whichever the response is not written in.

    Either everyday words are replaced one by one (an English response only: a quarter, 60% or all
    of those in the table), or whole sentences are (one, a third, or most) by sentences of the other
    language that say nothing, chosen longer or shorter than those they replace as asked for.
    """
    main = language_of(text)
    language = given.rng.choice([name for name in FOREIGN if name != main])
    if main == "en" and given.rng.random() < 0.5:
        made = _words_replaced(text, WORD_TABLES[language], given)
        if made is not None:
            return made
    parts = pieces(text)
    prose = [i for i, part in enumerate(parts) if not part.is_code]
    places = [i for i in prose if is_content(parts[i])] or prose
    foreign = shuffled_forever(FOREIGN[language], given.rng)
    for i in given.rng.sample(places, amount(given.severity, len(places))):
        marker = marker_of(parts[i].body)
        body, size = next(foreign), len(parts[i].body) - len(marker)
        while given.longer is True and len(body) <= size:
            body += " " + next(foreign)
        if given.longer is False and len(body) > size:
            body = min((next(foreign) for _ in FOREIGN[language]), key=len)
        parts[i] = replace(parts[i], body=marker + body)
    return joined(parts)


def _words_replaced(text: str, table: dict[str, str], given: Given) -> str | None:
    parts = pieces(text)
    found = [
        (i, match)
        for i, part in enumerate(parts)
        if not part.is_code
        for match in WORD.finditer(part.body)
        if match[0].lower() in table
    ]
    if len(found) < 3:
        return None
    share = (0.25, 0.6, 1.0)[given.severity - 1]
    edits: dict[int, list[tuple[int, int, str]]] = {}
    for i, match in given.rng.sample(found, max(2, round(share * len(found)))):
        word = cased_like(table[match[0].lower()], match[0])
        edits.setdefault(i, []).append((match.start(), match.end(), word))
    for i, spans in edits.items():
        parts[i] = replace(parts[i], body=spliced(parts[i].body, spans))
    return joined(parts)


def overlong_filler(text: str, given: Given) -> str | None:
    """Pads with phrases that say nothing: 15-35%, 40-80% or 100-200% of the length on top.

    Shorter: empty phrases take the place of sentences (one, a third, or most).
    """
    parts = pieces(text)
    rng = given.rng
    if given.longer is False:
        places = [i for i, part in enumerate(parts) if is_content(part)]
        for i in rng.sample(places, amount(given.severity, len(places))):
            marker = marker_of(parts[i].body)
            tries = [filler_sentence(rng) for _ in range(6)]
            short = [t for t in tries if len(t) + len(marker) <= len(parts[i].body)]
            parts[i] = replace(parts[i], body=marker + (short or [min(tries, key=len)])[0])
        return joined(parts)
    low, high = ((0.15, 0.35), (0.4, 0.8), (1.0, 2.0))[given.severity - 1]
    missing = max(1, int(len(text) * rng.uniform(low, high)))
    places = [i for i, part in enumerate(parts) if is_content(part)] or [-1, len(parts) - 1]
    additions: dict[int, list[str]] = {}
    while missing > 0:
        sentence = filler_sentence(rng)
        additions.setdefault(rng.choice(places), []).append(sentence)
        missing -= len(sentence) + 1
    return joined(with_inserted(parts, additions))
