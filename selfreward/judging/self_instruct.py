"""Asking a model for a new task after examples, and reading the tasks in what it writes.

Source: Self-Instruct (arXiv 2212.10560, section 2.2), as used by Self-Rewarding Language Models
(arXiv 2401.10020, section 2.2: eight examples, two of them model-written); all words here are ours.
Whether a task is worth keeping is decided in `instruction_filters.py` and `rouge_filter.py`.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from selfreward.judging.blocks import neutralised
from selfreward.records import DropReason, Message, derived_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedParts:
    """The instructions found in one completion.

    Example: `CreatedParts(texts=("Name three rivers of Asia.",), reason=None)`
    """

    texts: tuple[str, ...]
    """In the order written, each complete."""
    reason: DropReason | None
    """Why there are none, or why the last one is left out; None where all are there."""
    left_out: str = ""
    """The last one, where it was cut off behind others."""


def shots(
    seed_ids: Sequence[str],
    generated_ids: Sequence[str],
    *,
    num_seed: int,
    num_generated: int,
    seed: int,
) -> tuple[str, ...]:
    """Returns distinct ids of the examples for one completion, in the order to show them.

    Seeds stand in for generated ids that are missing; where those are too few as well, all there
    are are shown. Both sequences must come in the same order for the same choice. Raises
    ValueError where there is no seed.
    """
    if not seed_ids:
        raise ValueError("there must be at least one seed instruction to show")
    rng = random.Random(derived_seed("shots", seed))
    generated = rng.sample(generated_ids, min(num_generated, len(generated_ids)))
    wanted = num_seed + num_generated - len(generated)
    # An instruction can be both: a model may write a seed again.
    others = [i for i in dict.fromkeys(seed_ids) if i not in generated]
    chosen = list(dict.fromkeys(generated)) + rng.sample(others, min(wanted, len(others)))
    rng.shuffle(chosen)
    return tuple(chosen)


_SYSTEM = (
    "You write new tasks for an assistant that reads and writes nothing but text. Your tasks are"
    " varied, clear and can be done without anything that is not in them."
)
_TEMPLATE = """\
These are examples of tasks:

{examples}

Write task {number}. It must be about something else than the tasks above and hold all that is \
needed to do it. Reply with the text of that one task and nothing else: no answer, no comment, no \
second task.

Task {number}:"""


def render_creation(shot_texts: Sequence[str]) -> tuple[Message, ...]:
    """Returns the prompt, a system and a user message, that asks for one task after the examples.

    It ends with the label of the task to write, which even small models carry on. Raises ValueError
    without examples.
    """
    if not shot_texts:
        raise ValueError("there must be at least one example task")
    examples = "\n\n".join(
        f"Task {number}: {neutralised(text.strip())}" for number, text in enumerate(shot_texts, 1)
    )
    text = _TEMPLATE.format(examples=examples, number=len(shot_texts) + 1)
    return (Message(role="system", content=_SYSTEM), Message(role="user", content=text))


_LABEL = r"(?:task|instruction|question|prompt|problem|exercise)"
# "Task 9:", "**New task:** …", "### Instruction 2 -", "9. Task:". A number or a colon must stand
# behind the word: "Question the witness" and "Task a robot with …" are tasks themselves.
_HEADER = re.compile(
    r"^[ \t]*(?:[-*+\u2022>]+[ \t]+)?(?:\d{1,3}[.)][ \t]+)?(?:#{1,6}[ \t]*)?[*_]{0,3}"
    rf"(?:(?:the[ \t]+)?(?:new|next|another|example)[ \t]+)?{_LABEL}"
    r"(?:[ \t]*(?:\#|no\.?[ \t]*)?\d{1,4}[*_]{0,3}[ \t]*(?:[:.)\u2013\u2014-]|$)|[*_]{0,3}[ \t]*:)"
    r"[*_]{0,3}[ \t]*",
    re.I | re.M,
)
# "… in ten lines. Task 10: …" on one line; only with a number and a colon.
_INLINE_HEADER = re.compile(
    rf"(?<=[.?!\"\u201d*])[ \t]+(?=[*_]{{0,3}}{_LABEL}[ \t]+\d{{1,4}}:)", re.I
)
_NUMBERED = re.compile(r"^[ \t]*[*_]{0,3}(\d{1,4})[.):][*_]{0,3}[ \t]+(?=\S)", re.M)
_BULLET = re.compile(r"^(?:[-*+\u2022][ \t]+)(?=\S)", re.M)
# "Sure! Here is a new task:"; "Here is a list of numbers:" belongs to a task and stays.
_PREAMBLE = re.compile(
    r"\s*(?:(?:sure(?: thing)?|certainly|of course|okay|ok|absolutely|great)[!,.:][ \t]*)?"
    r"(?:i(?:'d| would|'ll| will| can)\b[^\n]{0,60}(?:\n|[!.][ \t]+))?\s*"
    r"(?:(?:here(?:'s|\u2019s| is| are)|below (?:is|are)|(?:my|the)(?= (?:new|next)))\b"
    rf"[^\n:]{{0,60}}?\b(?:(?:new|next|another|more|further)\b[^\n:]{{0,30}}\b(?:{_LABEL}|example)s?"
    rf"|{_LABEL}[ \t]+\d{{1,4}}|example {_LABEL}s?|one more)\b[^\n:]{{0,60}}:)?\s*",
    re.I,
)
_ANSWER = re.compile(
    r"(?:^[ \t]*(?:\#{1,6}[ \t]*)?|(?<=[.?!][ \t])[ \t]*)[*_]{0,3}"
    r"(?:(?:(?:example|sample|model|expected|possible|correct|suggested)[ \t]+)?"
    r"(?P<word>answer|response|output|solution|completion|reply)|assistant|user|human)"
    r"(?:[ \t]*\#?\d{1,4})?[*_]{0,3}[ \t]*:",
    re.I | re.M,
)
# A rule, or list signs before the next label.
_TRAILING_SIGNS = re.compile(r"(?:\n[ \t]*(?:[-*_=]{3,}|\#{1,6}|[-*+\u2022]|\d{1,4}[.)])[ \t]*)+\Z")
_LEADING_SIGNS = re.compile(r"^(?:[-*_=]{3,}[ \t]*(?:\n\s*|\Z)|\#{1,6}[ \t]+)+")
_QUOTES = {'"': '"', "\u201c": "\u201d", "\u2018": "\u2019", "\xab": "\xbb", "`": "`", "**": "**"}
_LEADING_ROLE = re.compile(r"^\s*(?:user|human)[ \t]*:\s*", re.I)


def split_creation(
    text: str, finish_reason: str, several: Literal["split", "drop"]
) -> CreatedParts:
    """Reads the instructions in a completion of `render_creation`'s prompt.

    Labels, numbers, quotation marks, bold and remarks such as "Here is a new task:" go, and so
    does an answer behind an instruction. Tasks are told apart by labels ("Task 10:"), or by a list
    if the completion begins with it: a list further down belongs to the task. With `finish_reason`
    "length" the last one is cut off and left out, unless its answer had begun already. `several`
    says what becomes of more than one, the cut one counted.
    """
    parts: list[tuple[str, bool]] = []
    for raw in _parts(text):
        instruction, is_answered = _without_answer(raw)
        cleaned = _cleaned(instruction)
        if cleaned:
            parts.append((cleaned, is_answered))
    if len(parts) > 1 and several == "drop":
        return CreatedParts(texts=(), reason=DropReason.SEVERAL_INSTRUCTIONS)
    was_cut = finish_reason == "length"
    left_out = ""
    if was_cut and parts and not parts[-1][1] and not _ends_with_label(text):
        left_out, _ = parts.pop()
    if parts:
        return CreatedParts(
            texts=tuple(t for t, _ in parts),
            reason=DropReason.TRUNCATED_INSTRUCTION if left_out else None,
            left_out=left_out,
        )
    reason = DropReason.TRUNCATED_INSTRUCTION if was_cut else DropReason.EMPTY_INSTRUCTION
    return CreatedParts(texts=(), reason=reason)


def _parts(text: str) -> Iterator[str]:
    """Cuts a completion into its tasks, labels and list signs taken off."""
    text = _LEADING_ROLE.sub("", _INLINE_HEADER.sub("\n", text))
    match = _PREAMBLE.match(text)
    body = text[match.end() :] if match else text
    headers = list(_HEADER.finditer(body))
    if not headers:
        yield from _items(body)
        return
    ends = [*(h.start() for h in headers[1:]), len(body)]
    # The prompt ends with a label, so what stands before the first label is a task too.
    yield from _items(body[: headers[0].start()])
    for header, end in zip(headers, ends, strict=True):
        yield body[header.end() : end]


def _items(text: str) -> list[str]:
    """Cuts a text that begins with a list into its items; any other text stays whole."""
    text = text.strip()
    if _NUMBERED.match(text):
        starts: list[re.Match[str]] = []
        for match in _NUMBERED.finditer(text):
            # Other numbers are lists inside a task.
            if not starts or int(match[1]) == int(starts[-1][1]) + 1:
                starts.append(match)
    else:
        starts = list(_BULLET.finditer(text)) if _BULLET.match(text) else []
    if not starts:
        return [text]
    ends = [*(s.start() for s in starts[1:]), len(text)]
    return [text[s.end() : end] for s, end in zip(starts, ends, strict=True)]


def _without_answer(text: str) -> tuple[str, bool]:
    """Returns the text up to an answer behind it, and whether there was one."""
    for match in _ANSWER.finditer(text):
        before = text[: match.start()].rstrip()
        # "Use this form:\nAnswer: …" is part of the task, and so are the outputs of its examples.
        is_form = before.endswith(":") or (
            (match["word"] or "").lower() == "output" and re.search(r"\bexamples?\b", before, re.I)
        )
        if before and not is_form:
            return before, True
        if not before:
            return "", True
    return text, False


def _ends_with_label(text: str) -> bool:
    """True for a completion cut right behind a label, whose last task had not begun."""
    headers = list(_HEADER.finditer(text))
    if not headers or text[headers[-1].end() :].strip():
        return False
    return bool(text[: headers[-1].start()].strip())


def _cleaned(text: str) -> str:
    """Returns one task without rules and headings around it, quotation marks, bold or a label."""
    text = _TRAILING_SIGNS.sub("", text.strip())
    while True:
        cleaned = _LEADING_SIGNS.sub("", text).strip()
        # Bold that the label opened: "**Task 9: Write a poem.**"
        if cleaned.endswith("**") and cleaned.count("**") == 1:
            cleaned = cleaned[:-2].rstrip()
        label = _HEADER.match(_without_quotes(cleaned))
        cleaned = _without_quotes(cleaned)[label.end() if label else 0 :].strip()
        if cleaned == text:
            return text
        text = cleaned


def _without_quotes(text: str) -> str:
    """`"A" or "B"` begins and ends with a quotation mark without being quoted as a whole."""
    for opening, closing in _QUOTES.items():
        inner = text[len(opening) : -len(closing)]
        is_quoted = text.startswith(opening) and text.endswith(closing)
        if is_quoted and len(text) >= len(opening + closing):
            return text if opening in inner or closing in inner else inner.strip()
    return text
