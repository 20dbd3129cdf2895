"""Word exercises made by rule: each a maker of (columns, target) and its prompt forms.

They are small enough for a model of a few million weights and real enough to be told apart: half
of the identifiers are names in the standard library of the Python that runs this.
"""

import ast
import importlib.util
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from selfreward.stages.sample_words import (
    ADJECTIVES,
    COUNTABLE,
    TOPICS,
    VERBS,
    WEEKDAYS,
    number_words,
    plural,
    words_in,
)

Made = tuple[dict[str, str], str]
"""The columns of an exercise and its target."""

_SNAKE = re.compile(r"[a-z]{2,}(_[a-z]{2,}){1,2}")
_MODULES = words_in(
    "argparse ast calendar configparser contextlib dataclasses difflib inspect mailbox optparse"
    " pickle platform plistlib shutil smtplib socket ssl subprocess tarfile threading tokenize"
    " traceback"
)
_MAX_LIST = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """One kind of exercise.

    Example: `Exercise(make=_plural, forms=("What is the plural of {noun}?", "{noun}, but many:"))`
    """

    make: Callable[[random.Random], Made]
    forms: tuple[str, ...]


@cache
def library_names() -> tuple[str, ...]:
    """Names of two or three words in snake case that modules of the standard library define or
    take; sorted. Modules that this Python lacks, or has no source of, are passed over."""
    found: set[str] = set()
    for module in _MODULES:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            continue
        source = Path(spec.origin)
        if source.is_file():
            found.update(_names_in(ast.parse(source.read_text(encoding="utf-8"))))
    return tuple(sorted(name for name in found if _SNAKE.fullmatch(name)))


def _names_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name.strip("_")
        elif isinstance(node, ast.arg):
            yield node.arg.strip("_")


def _identifier(rng: random.Random) -> list[str]:
    if rng.random() < 0.5 and library_names():
        return rng.choice(library_names()).split("_")
    middle = [rng.choice(ADJECTIVES)] if rng.random() < 0.3 else []
    return [rng.choice(VERBS), *middle, rng.choice(COUNTABLE)]


def _snake_to_words(rng: random.Random) -> Made:
    words = _identifier(rng)
    return {"name": "_".join(words)}, " ".join(words)


def _words_to_snake(rng: random.Random) -> Made:
    words = _identifier(rng)
    return {"words": " ".join(words)}, "_".join(words)


def _snake_to_camel(rng: random.Random) -> Made:
    first, *rest = _identifier(rng)
    return {"name": "_".join([first, *rest])}, first + "".join(w.capitalize() for w in rest)


def _digits_to_words(rng: random.Random) -> Made:
    number = rng.randrange(1000)
    return {"number": str(number)}, number_words(number)


def _words_to_digits(rng: random.Random) -> Made:
    number = rng.randrange(1000)
    return {"number": number_words(number)}, str(number)


def _upper_case(rng: random.Random) -> Made:
    phrase = f"the {rng.choice(ADJECTIVES)} {rng.choice(_all_nouns())}"
    return {"phrase": phrase}, phrase.upper()


def _lower_case(rng: random.Random) -> Made:
    phrase = f"the {rng.choice(ADJECTIVES)} {rng.choice(_all_nouns())}"
    return {"phrase": rng.choice((phrase.upper(), phrase.title()))}, phrase


def _last_word(rng: random.Random) -> Made:
    words = _some(rng, rng.randint(2, 5))
    return {"list": ", ".join(words)}, words[-1]


def _count_items(rng: random.Random) -> Made:
    words = _some(rng, rng.randint(2, _MAX_LIST))
    return {"list": ", ".join(words)}, str(len(words))


def _reverse_three(rng: random.Random) -> Made:
    words = _some(rng, 3)
    return {"list": ", ".join(words)}, ", ".join(reversed(words))


def _plural(rng: random.Random) -> Made:
    noun = rng.choice(COUNTABLE)
    adjective = rng.choice(ADJECTIVES)
    return {"phrase": f"the {adjective} {noun}"}, f"the {adjective} {plural(noun)}"


def _weekday_after(rng: random.Random) -> Made:
    day, days = rng.randrange(7), rng.randint(1, 30)
    shown = f"{days} day" + ("s" if days > 1 else "")
    return {"day": WEEKDAYS[day], "days": shown}, WEEKDAYS[(day + days) % 7]


@cache
def _all_nouns() -> tuple[str, ...]:
    return tuple(word for words in TOPICS.values() for word in words)


def _some(rng: random.Random, count: int) -> list[str]:
    return rng.sample(_all_nouns(), count)


EXERCISES: dict[str, Exercise] = {
    "snake_to_words": Exercise(
        make=_snake_to_words,
        forms=(
            "Spell out the identifier {name} as words.",
            "Which words is {name} made of?",
            "Write {name} with spaces between its words.",
            "Turn this variable name into plain words: {name}",
            "How would you read {name} aloud?",
        ),
    ),
    "words_to_snake": Exercise(
        make=_words_to_snake,
        forms=(
            "Join with underscores: {words}",
            "Make a snake case name out of the words {words}.",
            'What is "{words}" as a Python variable name?',
            "Write {words} in snake case.",
            "I need an identifier for {words}, words parted by underscores.",
        ),
    ),
    "snake_to_camel": Exercise(
        make=_snake_to_camel,
        forms=(
            "Write {name} in camel case.",
            "Convert the name {name} to camelCase.",
            "What would {name} be called in Java?",
            "Camel case for {name}:",
            "Drop the underscores of {name} and write each later word with a capital.",
        ),
    ),
    "digits_to_words": Exercise(
        make=_digits_to_words,
        forms=(
            "Write the number {number} in words.",
            "How do you say {number}?",
            "{number} in words:",
            "Spell the number {number}.",
            "Which words stand for {number}?",
        ),
    ),
    "words_to_digits": Exercise(
        make=_words_to_digits,
        forms=(
            "Write {number} in digits.",
            "Which number is {number}?",
            "Give the digits of {number}.",
            "{number} as a figure:",
            "Someone says {number}. What do you type?",
        ),
    ),
    "upper_case": Exercise(
        make=_upper_case,
        forms=(
            "Write in upper case: {phrase}",
            'Put "{phrase}" in capital letters.',
            "Capital letters only, please: {phrase}",
            'Shout "{phrase}".',
            "What does {phrase} look like all in capitals?",
        ),
    ),
    "lower_case": Exercise(
        make=_lower_case,
        forms=(
            "Write in lower case: {phrase}",
            'Put "{phrase}" in small letters.',
            "Small letters only, please: {phrase}",
            'Remove the capitals from "{phrase}".',
            "What does {phrase} look like all in small letters?",
        ),
    ),
    "last_word": Exercise(
        make=_last_word,
        forms=(
            "What is the last word of this list? {list}",
            "Name the final item: {list}",
            "Of {list}, which comes last?",
            "List: {list}. Last one?",
            "Here are some words: {list}. Repeat the one at the end.",
        ),
    ),
    "count_items": Exercise(
        make=_count_items,
        forms=(
            "How many items are in this list? {list}",
            "Count the words: {list}",
            "Give the number of things in {list}.",
            "List: {list}. How many?",
            "Here are some words: {list}. Say how many there are.",
        ),
    ),
    "reverse_three": Exercise(
        make=_reverse_three,
        forms=(
            "Reverse the order: {list}",
            "Write these three from last to first: {list}",
            "Turn the list around: {list}",
            "What is {list} backwards, word by word?",
            "Start with the last word and end with the first: {list}",
        ),
    ),
    "plural": Exercise(
        make=_plural,
        forms=(
            "Write the plural of {phrase}.",
            "There are many now: {phrase}",
            "What is {phrase} in the plural?",
            "More than one of {phrase}:",
            "Not one but several. Change {phrase} to fit.",
        ),
    ),
    "weekday_after": Exercise(
        make=_weekday_after,
        forms=(
            "Today is {day}. Which day is it in {days}?",
            "Which weekday comes {days} after {day}?",
            "It is {day}; wait {days}. What day is it then?",
            "{day} plus {days} is which day of the week?",
            "Counting {days} on from {day}, where do you end?",
        ),
    ),
}
