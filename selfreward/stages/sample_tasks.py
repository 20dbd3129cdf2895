"""Small data of our own, made by rule: exercises, checkable instructions, ranked answers.

Every generator yields rows as a file would hold them. They depend on the seed alone, but for the
identifiers that the standard library of this Python adds; no row comes twice. Fewer than asked for
come where the rules make no more: a few hundred days of the week, but millions of lists.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache
from typing import Any

from selfreward.judging.checks import num_words, passes
from selfreward.records import content_id, derived_seed
from selfreward.records_custom_llm import Check
from selfreward.stages.sample_exercises import EXERCISES
from selfreward.stages.sample_instructions import INSTRUCTION_TASKS, LAYOUTS, make_instruction
from selfreward.stages.sample_words import TOPICS
from selfreward.text.task_templates import fill

TASKS = "sample:tasks"
INSTRUCTIONS = "sample:instructions_checked"
RANKINGS = "sample:rankings"

Row = dict[str, Any]

_LETTERS = re.compile(r"[A-Za-z]+")
_SENTENCE_MARK = re.compile(r"[.?]")
_MAX_MISSES = 1000
"""After so many rows in a row that were made before, there are taken to be no others."""


def task_rows(count: int, seed: int, tasks: Collection[str] = ()) -> Iterator[Row]:
    """Word exercises of all kinds in turn, or of some; of each as far as it has different ones.

    Rows have `task`, the columns of the task, `target` and `templates`, the task's prompt forms.
    """
    names = tuple(name for name in EXERCISES if not tasks or name in tasks)

    def make(rng: random.Random, number: int) -> Row:
        name = names[number % len(names)]
        columns, target = EXERCISES[name].make(rng)
        forms = list(EXERCISES[name].forms)
        return {"task": name, **columns, "target": target, "templates": forms}

    return _distinct(make, count if names else 0, seed, TASKS)


def instruction_rows(count: int, seed: int, tasks: Collection[str] = ()) -> Iterator[Row]:
    """Instructions whose constraints a program checks, each with a target that follows them.

    Rows have `task` (the layout asked for), the columns of its prompt forms, `target`, `checks`
    (`kind` and `args`) and `templates`.
    """
    names = tuple(name for name in INSTRUCTION_TASKS if not tasks or name in tasks)

    def make(rng: random.Random, number: int) -> Row:
        return make_instruction(rng, rng.choice(names))

    return _distinct(make, count if names else 0, seed, INSTRUCTIONS)


def ranking_rows(count: int, seed: int) -> Iterator[Row]:
    """Three or four answers to such an instruction, ranked by a rule that stands in for a person.

    The rule is `rank`. Rows have `messages`, `responses` in any order, `ranks` (1 is best, equal
    ones tie, never all of them) and `checks`.
    """
    return _distinct(lambda rng, number: _ranking(rng), count, seed, RANKINGS)


def rank(responses: Sequence[str], checks: Sequence[Check]) -> tuple[int, ...]:
    """Ranks answers: fewer constraints broken, then fewer nouns said again, then fewer words.

    Example: `rank(("rain, snow", "rain, rain"), (Check(kind="num_words", args=("2",)),))` is
    `(1, 2)`.
    """
    keys = [
        (
            sum(not passes(check, text) for check in checks),
            _num_repeated(text),
            num_words(text),
        )
        for text in responses
    ]
    order = sorted(set(keys))
    return tuple(order.index(key) + 1 for key in keys)


def _distinct(
    make: Callable[[random.Random, int], Row], count: int, seed: int, name: str
) -> Iterator[Row]:
    seen: set[str] = set()
    number = misses = 0
    while len(seen) < count and misses < _MAX_MISSES:
        row = make(random.Random(derived_seed(seed, name, number)), number)
        number += 1
        misses += 1
        key = content_id("row", row)
        if key not in seen:
            seen.add(key)
            misses = 0
            yield row


@cache
def _nouns() -> frozenset[str]:
    return frozenset(word for words in TOPICS.values() for word in words)


def _num_repeated(text: str) -> int:
    words = Counter(_LETTERS.findall(text.lower()))
    return sum(times - 1 for word, times in words.items() if word in _nouns())


def _ranking(rng: random.Random) -> Row:
    # Of yes or no alone there is too little to get wrong.
    row = make_instruction(rng, rng.choice(tuple(LAYOUTS)))
    checks = [Check(kind=check["kind"], args=tuple(check["args"])) for check in row["checks"]]
    prompt = fill(rng.choice(row["templates"]), row)
    ranks: tuple[int, ...] = ()
    while len(set(ranks)) < 2:
        responses = _answers(rng, row["target"])
        ranks = rank(responses, checks)
    return {
        "messages": [{"role": "user", "content": prompt}],
        "responses": responses,
        "ranks": list(ranks),
        "checks": row["checks"],
    }


def _answers(rng: random.Random, target: str) -> list[str]:
    """The target and answers made out of it by small damages, in random order."""
    wanted = rng.randint(3, 4)
    found = [target] if rng.random() < 0.8 else []
    while len(found) < wanted:
        text = target
        for damage in rng.sample(_DAMAGES, rng.choice((1, 1, 2))):
            text = damage(rng, text).strip()
        if text and text not in found:
            found.append(text)
    rng.shuffle(found)
    return found


def _other_case(rng: random.Random, text: str) -> str:
    return rng.choice((text.upper(), text.lower(), text.title()))


def _without_a_word(rng: random.Random, text: str) -> str:
    words = text.split(" ")
    if len(words) == 1 or _SENTENCE_MARK.search(text):
        # A sentence with a hole would pass its checks and win for being shorter.
        return text
    del words[rng.randrange(len(words))]
    return " ".join(words)


def _word_twice(rng: random.Random, text: str) -> str:
    words = text.split(" ")
    place = rng.randrange(len(words))
    return " ".join([*words[: place + 1], words[place], *words[place + 1 :]])


def _noun_said_again(rng: random.Random, text: str) -> str:
    nouns = [word for word in _LETTERS.findall(text) if word.lower() in _nouns()]
    if len(set(nouns)) < 2:
        return text
    again, instead = rng.sample(sorted(set(nouns)), 2)
    return re.sub(rf"\b{instead}\b", again, text)


def _longer(rng: random.Random, text: str) -> str:
    more = rng.choice(TOPICS[rng.choice(tuple(TOPICS))])
    return rng.choice((f"Here you are: {text}", f"{text}, {more}", f"{text} And {more}."))


def _other_commas(rng: random.Random, text: str) -> str:
    return text.replace(",", "") if "," in text else text.replace(" ", ", ")


def _other_lines(rng: random.Random, text: str) -> str:
    return text.replace("\n", " ") if "\n" in text else text.replace(" ", "\n")


def _other_marks(rng: random.Random, text: str) -> str:
    bare = text.translate(str.maketrans("", "", '"<>[]-')).strip()
    return bare if bare != text else f'"{text}"'


_DAMAGES: tuple[Callable[[random.Random, str], str], ...] = (
    _other_case,
    _without_a_word,
    _word_twice,
    _noun_said_again,
    _longer,
    _other_commas,
    _other_lines,
    _other_marks,
)
