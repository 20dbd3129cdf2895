"""What the scripted engine writes for each purpose, drawn from a hash of the request.

Answers to an instruction carry a hidden quality mark.
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from selfreward.engines.protocol import GenerationRequest
from selfreward.judging import prompts

_SENTENCE = (
    "the answer weighs each part of the question gives a short reason names one example and"
    " closes with what follows from it for the reader who asked"
)
_WORDS = _SENTENCE.split()
_TASKS = ("Explain", "List facts about", "Write a letter about", "Compare two kinds of")
_SYLLABLES = ("ba", "ko", "ri", "ten", "mul", "sa", "vor", "ni", "lek", "du", "fam", "pos")
QUALITY_MARK = re.compile(r"\(quality (\d+)\)")
"""How good a text is, written into it: the scripted judge knows the better one by it."""


class Dice:
    """Numbers that depend on the given parts and on nothing else."""

    def __init__(self, *parts: object) -> None:
        text = json.dumps(parts, ensure_ascii=False, sort_keys=True)
        self._key = hashlib.sha256(text.encode()).digest()

    def unit(self, label: str) -> float:
        """A number in [0, 1)."""
        digest = hashlib.sha256(self._key + label.encode()).digest()
        return int.from_bytes(digest[:7], "big") / 2**56

    def between(self, label: str, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.unit(label) * (high - low + 1))

    def tag(self) -> str:
        return self._key.hex()[:8]


def _good_answer(request: GenerationRequest, dice: Dice) -> str:
    return _prose(dice, 6, 9)


def _bad_answer(request: GenerationRequest, dice: Dice) -> str:
    return _prose(dice, 1, 4)


def _candidate(request: GenerationRequest, dice: Dice) -> str:
    return _prose(dice, 1, 9)


def _prose(dice: Dice, low: int, high: int) -> str:
    start = dice.between("start", 0, len(_WORDS) - 1)
    words = [_WORDS[(start + i) % len(_WORDS)] for i in range(dice.between("words", 8, 24))]
    return f"(quality {dice.between('quality', low, high)}) {' '.join(words)} {dice.tag()}."


def _modified_instruction(request: GenerationRequest, dice: Dice) -> str:
    instruction = f"Describe a related but different matter, number {dice.tag()}."
    header = prompts.MODIFIED_INSTRUCTION_HEADER
    if not any(header in m.content for m in request.messages):
        return instruction
    answer = _bad_answer(request, dice)
    return f"{header}\n{instruction}\n\n{prompts.ANSWER_START}\n{answer}\n{prompts.ANSWER_END}"


def _sampled_answer(request: GenerationRequest, dice: Dice) -> str:
    return f"The answer is {dice.between('answer', 1, 4)}."


def _category(request: GenerationRequest, dice: Dice) -> str:
    schema = json.loads(request.sampling.json_schema or prompts.category_json_schema())
    properties: dict[str, Any] = schema.get("properties", {})
    return json.dumps({name: _json_value(name, kind, dice) for name, kind in properties.items()})


def _json_value(name: str, kind: dict[str, Any], dice: Dice) -> Any:
    if "enum" in kind:
        return kind["enum"][dice.between(name, 0, len(kind["enum"]) - 1)]
    if kind.get("type") == "integer":
        return dice.between(name, kind.get("minimum", 1), kind.get("maximum", 10))
    return f"{name} {dice.tag()}"


def _new_instruction(request: GenerationRequest, dice: Dice) -> str:
    """A task about things with made-up names, so that few are alike."""

    def name(number: int) -> str:
        places = (dice.between(f"{number}/{i}", 0, len(_SYLLABLES) - 1) for i in range(3))
        return "".join(_SYLLABLES[place] for place in places)

    task = _TASKS[dice.between("task", 0, len(_TASKS) - 1)]
    return f"{task} {' '.join(name(number) for number in range(6))}."


_WRITERS: dict[str, Callable[[GenerationRequest, Dice], str]] = {
    "categorise": _category,
    "respond": _good_answer,
    "modify": _modified_instruction,
    "respond_modified": _bad_answer,
    "rewrite": _bad_answer,
    "sample": _sampled_answer,
    "create": _new_instruction,
    "candidate": _candidate,
}
"""Purpose → what is written; verdicts are drawn elsewhere, by what is judged."""


def write_answer(request: GenerationRequest, dice: Dice) -> str:
    """What is written for the purpose of a request; for one not listed, a good answer."""
    return _WRITERS.get(request.purpose, _good_answer)(request, dice)
