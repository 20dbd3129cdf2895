"""Breaking the format an instruction asks for: JSON, a list, a table, one word, letter case.

Each function first makes sure that the instruction asks and the response complies, else it is None.
"""

import itertools
import json
import re

from selfreward.judging.perturbations.base import WORD, Given
from selfreward.judging.perturbations.phrases import filler_sentence

LIST_ITEM = re.compile(r"^[ \t]{0,3}(?P<mark>[-*+\u2022]|[0-9]{1,2}[.)])[ \t]+", re.M)
# "List some songs" asks for songs, not for a form.
_BULLETS = re.compile(
    r"\b(?:bullet(?:ed|s)?|numbered|(?:as|in|into) (?:a|the)?\s*(?:\w+ )?list"
    r"|a (?:\w+ )?list of)\b",
    re.IGNORECASE,
)
_TABLE = re.compile(
    r"\b(?:(?:as|in|into) (?:a|the)|(?:make|create|draw|write|give)(?: me)? a) (?:\w+ )?table\b",
    re.IGNORECASE,
)
_ONE_WORD = re.compile(r"\b(?:one|single|1)[ -]word\b", re.IGNORECASE)
_LOWER = re.compile(r"\b(?:all )?lower[ -]?case\b", re.IGNORECASE)
_UPPER = re.compile(r"\b(?:all caps|upper[ -]?case|(?:all )?capital letters)\b", re.IGNORECASE)
_JSON = re.compile(r"\bjson\b", re.IGNORECASE)


def list_blocks(text: str) -> tuple[str, list[str], str]:
    """Cuts into what stands before the list, its items with their lines, and what follows."""
    marks = [match.start() for match in LIST_ITEM.finditer(text)]
    if not marks:
        return text, [], ""
    end = text.find("\n\n", marks[-1])
    end = len(text) if end < 0 else end
    bounds = [*marks, end]
    items = [text[a:b].rstrip() for a, b in itertools.pairwise(bounds)]
    return text[: marks[0]], items, text[end:]


def list_text(before: str, items: list[str], after: str) -> str:
    """Puts a list together again, its numbers running from 1."""
    number = 0
    made = []
    for item in items:
        mark = LIST_ITEM.match(item)
        if mark and mark["mark"][0].isdigit():
            number += 1
            item = f"{item[: mark.start('mark')]}{number}{mark['mark'][-1]} {item[mark.end() :]}"
        made.append(item)
    return before + "\n".join(made) + after


def _json_span(text: str) -> tuple[int, int] | None:
    start = min((i for i in (text.find("{"), text.find("[")) if i >= 0), default=-1)
    end = max(text.rfind("}"), text.rfind("]")) + 1
    return (start, end) if 0 <= start < end and _is_json(text[start:end]) else None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def break_json(text: str, given: Given) -> str | None:
    """Makes JSON that no parser reads (1, 2: one or three marks changed), or plain lines (3)."""
    span = _json_span(text) if _JSON.search(given.instruction) else None
    if span is None:
        return None
    data = text[span[0] : span[1]]
    if given.severity == 3:
        plain = re.sub(r"[{}\[\]\"]+|,[ \t]*$", "", data, flags=re.M)
        lines = [line.strip() for line in plain.splitlines() if line.strip()]
        made = ", and ".join(lines) if given.longer else "\n".join(lines)
    else:
        made = data
        for _ in range(1 if given.severity == 1 else 3):
            marks = [m.span() for m in re.finditer(r"[\",:{}\[\]]", made)]
            start, end = given.rng.choice(marks) if marks else (0, 1)
            made = made[:start] + (made[start:end] * 2 if given.longer else "") + made[end:]
    return None if _is_json(made) else text[: span[0]] + made + text[span[1] :]


def break_list(text: str, given: Given) -> str | None:
    """Runs the items of a list that was asked for together into one paragraph."""
    before, items, after = list_blocks(text)
    if not _BULLETS.search(given.instruction) or len(items) < 2:
        return None
    bodies = [" ".join(LIST_ITEM.sub("", item).split()).rstrip(".;,") for item in items]
    glue = ". In addition to that, there is the following: " if given.longer else ". "
    return before + glue.join(bodies) + "." + after


def break_table(text: str, given: Given) -> str | None:
    """Turns the rows of a table that was asked for into loose words."""
    rows = [line for line in text.split("\n") if line.count("|") >= 1]
    if not _TABLE.search(given.instruction) or len(rows) < 2:
        return None
    lines = [
        " ".join(line.replace("|", " and then " if given.longer else " ").split())
        for line in text.split("\n")
        if not set(line) <= set(" \t|:-")
    ]
    return " ".join(line for line in lines if line)


def break_one_word(text: str, given: Given) -> str | None:
    """Says a lot where one word was asked for; there is no shorter way."""
    if not _ONE_WORD.search(given.instruction) or len(text.split()) != 1:
        return None
    added = [filler_sentence(given.rng) for _ in range(given.severity)]
    return " ".join([f"I would say that it is {text.rstrip('.')}.", *added])


def break_case(text: str, given: Given) -> str | None:
    """Capitalises where lower case was asked for, and the other way round; equal in length."""
    if _LOWER.search(given.instruction) and text == text.lower():
        share = (0.1, 0.5, 1.0)[given.severity - 1]
        return WORD.sub(lambda m: m[0].title() if given.rng.random() < share else m[0], text)
    if _UPPER.search(given.instruction) and text == text.upper():
        share = (0.2, 0.6, 1.0)[given.severity - 1]
        return WORD.sub(lambda m: m[0].lower() if given.rng.random() < share else m[0], text)
    return None
