"""Made-up data for benchmarks: pairs and pools that are distinct, repeatable and of known size."""

import json
import random
from pathlib import Path

from selfreward.records import Message, Preference, ResponsePair, content_id

_WORDS = [
    "river",
    "market",
    "window",
    "engine",
    "garden",
    "letter",
    "signal",
    "copper",
    "winter",
    "harbour",
    "pattern",
    "bridge",
    "theory",
    "lantern",
    "forest",
    "number",
    "silver",
    "teacher",
    "method",
    "island",
    "recipe",
    "planet",
    "mirror",
    "carpet",
    "story",
    "battery",
    "season",
    "village",
    "budget",
    "rhythm",
    "compass",
    "museum",
    "shadow",
    "barley",
    "pepper",
    "orbit",
    "ladder",
    "canvas",
    "thunder",
    "velvet",
    "anchor",
    "basket",
    "meadow",
    "lesson",
    "kernel",
    "fabric",
    "monsoon",
    "ticket",
    "quarry",
    "saddle",
]


def _sentence(rng: random.Random, num_words: int) -> str:
    return " ".join(rng.choice(_WORDS) for _ in range(num_words)).capitalize() + "."


def make_pairs(num_pairs: int, seed: int = 0) -> list[ResponsePair]:
    """Response pairs with answers of 20 to 90 words."""
    rng = random.Random(seed)
    pairs = []
    for number in range(num_pairs):
        question = f"Question {number}: how does a {rng.choice(_WORDS)} change a"
        question += f" {rng.choice(_WORDS)}? {_sentence(rng, rng.randint(5, 20))}"
        answers = [
            " ".join(_sentence(rng, rng.randint(6, 12)) for _ in range(rng.randint(3, 8)))
            for _ in range(2)
        ]
        pairs.append(
            ResponsePair.new(
                instruction_id=content_id("ins", question),
                messages=(Message(role="user", content=question),),
                chosen=answers[0],
                rejected=answers[1],
                corruption="modified_instruction",
            )
        )
    return pairs


def make_preferences(num_rows: int, seed: int = 0) -> list[Preference]:
    """Preferences between two answers of the pairs above."""
    return [
        Preference(
            id=content_id("pre", pair.id),
            messages=pair.messages,
            chosen=pair.chosen,
            rejected=pair.rejected,
            pair_id=pair.id,
            chosen_id=f"{pair.id}/chosen",
            rejected_id=f"{pair.id}/rejected",
            gold="first",
        )
        for pair in make_pairs(num_rows, seed)
    ]


def write_pool(path: Path, num_rows: int, seed: int = 0) -> None:
    """A JSONL pool of distinct instructions, written row by row."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(num_rows):
            text = f"Task {number}: {_sentence(rng, 14)}"
            file.write(json.dumps({"instruction": text}) + "\n")
