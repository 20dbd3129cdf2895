"""Instructions with constraints, made by rule: the target follows them, the checks say so.

An instruction asks for words or sentences about a topic in a layout, with up to two more rules.
The words are drawn first and the rules are read off them ("the first word must be ..."), so every
combination can be fulfilled.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from selfreward.judging.checks import num_words
from selfreward.records_custom_llm import Check
from selfreward.stages.sample_words import ADJECTIVES, TOPICS, number_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A constraint in two wordings, as the end of a request and as a sentence of its own.

    Example: `Rule(tail="in upper case", sentence="Use capital letters only.",
    check=Check(kind="all_uppercase"))`
    """

    tail: str
    sentence: str
    check: Check


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What an answer is made of, before it is written.

    Example: `Draft(topic="rivers", items=("delta", "ford"), others=("mud",), opening="Today",
    most_words=9)`
    """

    topic: str
    items: tuple[str, ...]
    others: tuple[str, ...]
    """Words of the topic that are not in the answer."""
    opening: str
    """First word of sentences that must begin with one."""
    most_words: int
    """At least the words of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the answer is laid out, and which rules go with that.

    Example: `Layout(things=("word", "words"), counts=(2, 4), kinds=("num_bullets",),
    rules=("upper",), tail="as a bulleted list", sentence="Make a bulleted list.")`
    """

    things: tuple[str, str]
    """What is counted: one, several."""
    counts: tuple[int, int]
    """Least and most of them."""
    kinds: tuple[str, ...]
    """Checks that take the count as their argument."""
    rules: tuple[str, ...]
    tail: str = ""
    sentence: str = ""
    is_json: bool = False


FORMS = (
    "Write {count} {things} about {topic}{tail}.",
    "Give me {count} {things} to do with {topic}. {rules}",
    "{rules} Now think of {topic} and answer with {count} {things}.",
    "Topic: {topic}. I want {count} {things}{tail}.",
    "Which {count} {things} would you write about {topic}? {rules}",
    "{topic}: {count} {things}{tail}, please.",
)
YES_NO_FORMS = (
    "Does the word {word} belong to {topic}? Answer yes or no.",
    "Yes or no: {word} is a word about {topic}.",
    'Would you file "{word}" under {topic}? Only say yes or no.',
    "Topic {topic}, word {word}. Do they fit? Yes or no.",
    "Answer with yes or no. Is {word} one of the words on {topic}?",
)
YES_NO = "yes_or_no"

_WORD, _SENTENCE = ("word", "words"), ("sentence", "sentences")
_ANY = ("upper", "contain", "avoid")

LAYOUTS: dict[str, Layout] = {
    "write_words": Layout(
        things=_WORD,
        counts=(1, 5),
        kinds=("num_words",),
        rules=(*_ANY, "lower", "no_commas", "quotes", "start", "end"),
    ),
    "write_lines": Layout(
        things=_WORD,
        counts=(2, 4),
        kinds=("num_lines", "num_words"),
        rules=(*_ANY, "lower", "start", "end"),
        tail="one on each line",
        sentence="Put each word on a line of its own.",
    ),
    "write_bullets": Layout(
        things=_WORD,
        counts=(2, 4),
        kinds=("num_bullets",),
        rules=(*_ANY, "lower", "title", "end"),
        tail="as a bulleted list",
        sentence="Make a bulleted list.",
    ),
    "write_json": Layout(
        things=_WORD,
        counts=(1, 4),
        kinds=("num_words",),
        rules=_ANY,
        tail="as a JSON list",
        sentence="The answer must be a JSON list.",
        is_json=True,
    ),
    "write_sentences": Layout(
        things=_SENTENCE,
        counts=(1, 3),
        kinds=("num_sentences",),
        rules=(*_ANY, "lower", "no_commas", "quotes", "start", "title", "max_words"),
    ),
}


INSTRUCTION_TASKS = (*LAYOUTS, YES_NO)


def _check(kind: str, *args: object) -> Check:
    return Check(kind=kind, args=tuple(str(arg) for arg in args))


def _naming(kind: str, word: str, tail: str, sentence: str) -> Rule:
    return Rule(tail=f'{tail} "{word}"', sentence=f'{sentence} "{word}".', check=_check(kind, word))


RULES: dict[str, Callable[[Draft, random.Random], Rule]] = {
    "upper": lambda draft, rng: Rule(
        tail="in upper case", sentence="Use capital letters only.", check=_check("all_uppercase")
    ),
    "lower": lambda draft, rng: Rule(
        tail="in lower case", sentence="Use small letters only.", check=_check("all_lowercase")
    ),
    "no_commas": lambda draft, rng: Rule(
        tail="without commas", sentence="Do not use any commas.", check=_check("no_commas")
    ),
    "quotes": lambda draft, rng: Rule(
        tail="in double quotes",
        sentence="Put the whole answer in double quotes.",
        check=_check("wrapped_in", '"'),
    ),
    "title": lambda draft, rng: Rule(
        tail="under a title in double angle brackets",
        sentence="Put a title in double angle brackets above it, like <<Title>>.",
        check=_check("title_marks"),
    ),
    "start": lambda draft, rng: _naming(
        "starts_with", draft.opening or draft.items[0], "starting with", "The first word must be"
    ),
    "end": lambda draft, rng: _naming(
        "ends_with", draft.items[-1], "ending with", "The last word must be"
    ),
    "contain": lambda draft, rng: _naming(
        "contains", rng.choice(draft.items), "using the word", "Somewhere there must be the word"
    ),
    "avoid": lambda draft, rng: _naming(
        "not_contains", rng.choice(draft.others), "without the word", "Do not use the word"
    ),
    "max_words": lambda draft, rng: Rule(
        tail=f"in at most {draft.most_words} words",
        sentence=f"Stay within {draft.most_words} words.",
        check=_check("max_words", draft.most_words),
    ),
}
_APART = ({"upper", "lower"}, {"title", "start"})
"""Rules that cannot both be followed, or not by an answer as it is written here."""

_PLAIN = (
    "The {a} {x} is near the {y}.",
    "I like the {x} and the {y}.",
    "Every {x} is {a}.",
    "Where is the {a} {x}?",
    "This {x} is not as {a} as that {y}.",
    "Nobody saw the {a} {x} behind the {y}.",
)
_WITH_COMMAS = (
    "We saw the {x}, the {y} and the {z}.",
    "Near the {x}, the {y} is {a}.",
    "The {x}, not the {y}, is {a}.",
)
_OPENINGS = ("Today", "Sometimes", "Perhaps", "Usually", "Maybe", "Suddenly")


def make_instruction(rng: random.Random, task: str) -> dict[str, Any]:
    """A row of task, columns, templates, target and checks; `task` is one of INSTRUCTION_TASKS."""
    if task == YES_NO:
        return _yes_no(rng)
    layout = LAYOUTS[task]
    topic = rng.choice(tuple(TOPICS))
    count = rng.randint(*layout.counts)
    names = _rule_names(rng, layout.rules)
    sentences = layout.things == _SENTENCE
    opening = rng.choice(_OPENINGS) if sentences and "start" in names else ""
    if sentences:
        items, body = _sentences(rng, topic, count, "no_commas" in names, opening)
    else:
        items = tuple(rng.sample(TOPICS[topic], count))
        body = _listed(task, items, "no_commas" in names)
    target = _finished(body, topic, names)
    draft = Draft(
        topic=topic,
        items=items,
        others=tuple(word for word in TOPICS[topic] if word not in items),
        opening=opening,
        most_words=num_words(target) + rng.randint(0, 4),
    )
    rules = [RULES[name](draft, rng) for name in names]
    checks = [_check(kind, count) for kind in layout.kinds]
    checks += [_check("is_json")] if layout.is_json else []
    checks += [rule.check for rule in rules]
    tails = [tail for tail in (layout.tail, *(rule.tail for rule in rules)) if tail]
    said = [said for said in (layout.sentence, *(rule.sentence for rule in rules)) if said]
    return {
        "task": task,
        "count": number_words(count),
        "things": layout.things[count > 1],
        "topic": topic,
        "tail": "".join(f", {tail}" for tail in tails),
        "rules": " ".join(said),
        "templates": list(FORMS),
        "target": target,
        "checks": _rows(checks),
    }


def _yes_no(rng: random.Random) -> dict[str, Any]:
    topic = rng.choice(tuple(TOPICS))
    fits = rng.random() < 0.5
    other = rng.choice([name for name in TOPICS if name != topic])
    return {
        "task": YES_NO,
        "word": rng.choice(TOPICS[topic if fits else other]),
        "topic": topic,
        "templates": list(YES_NO_FORMS),
        "target": "Yes" if fits else "No",
        "checks": _rows([_check("one_of", "yes", "no")]),
    }


def _rule_names(rng: random.Random, allowed: tuple[str, ...]) -> list[str]:
    names = rng.sample(allowed, rng.choice((0, 1, 1, 2)))
    return names[:1] if set(names) in _APART else names


def _listed(task: str, items: tuple[str, ...], no_commas: bool) -> str:
    first, *rest = items
    if task == "write_json":
        return json.dumps(items)
    if task == "write_bullets":
        return "\n".join(f"- {item.capitalize()}" for item in items)
    if task == "write_lines":
        return "\n".join(item.capitalize() for item in items)
    return (" " if no_commas else ", ").join([first.capitalize(), *rest])


def _sentences(
    rng: random.Random, topic: str, count: int, no_commas: bool, opening: str
) -> tuple[tuple[str, ...], str]:
    """The topic's words in the sentences, and the sentences."""
    patterns = rng.sample(_PLAIN if no_commas else _PLAIN + _WITH_COMMAS, count)
    words = rng.sample(TOPICS[topic], 3 * count)
    written, used = [], []
    for index, pattern in enumerate(patterns):
        nouns = dict(zip("xyz", words[3 * index :], strict=False))
        used += [noun for place, noun in nouns.items() if f"{{{place}}}" in pattern]
        written.append(pattern.format(a=rng.choice(ADJECTIVES), **nouns))
    if opening:
        first = written[0]
        # "I" keeps its capital behind an opening word.
        start = first if first.startswith("I ") else first[0].lower() + first[1:]
        written[0] = f"{opening} {start}"
    return tuple(used), " ".join(written)


def _finished(body: str, topic: str, names: list[str]) -> str:
    text = f"<<{topic.capitalize()}>>\n{body}" if "title" in names else body
    if "upper" in names:
        text = text.upper()
    if "lower" in names:
        text = text.lower()
    return f'"{text}"' if "quotes" in names else text


def _rows(checks: list[Check]) -> list[dict[str, Any]]:
    return [{"kind": check.kind, "args": list(check.args)} for check in checks]
