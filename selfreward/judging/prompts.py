"""Every prompt of the loop: comparing two responses, and making a response that is worse.

Templates are data in our own words; functions only fill them in. Text that is judged or rewritten
is put between tags it cannot name (see `blocks.py`). What the prompts share with other files is
re-exported here, so that a stage needs this module alone.
"""

import re
from collections.abc import Sequence

from selfreward.judging.blocks import block_tag, conversation_text, neutralised
from selfreward.judging.categories import (
    CATEGORIES,
    EXPECTED_LENGTHS,
    Category,
    categorise_messages,
    category_json_schema,
    parse_category,
)
from selfreward.judging.rubrics import (
    PAIRWISE_RUBRICS,
    PairwiseRubric,
    flip_verdict,
    get_pairwise_rubric,
    verdict_choices,
    verdict_regex,
    verdict_text,
)
from selfreward.records import Conversation, Message

__all__ = [
    "ANSWER_END",
    "ANSWER_START",
    "CATEGORIES",
    "EXPECTED_LENGTHS",
    "MODIFIED_INSTRUCTION_HEADER",
    "PAIRWISE_RUBRICS",
    "Category",
    "PairwiseRubric",
    "categorise_messages",
    "category_json_schema",
    "corrupt_single_call_messages",
    "flip_verdict",
    "get_pairwise_rubric",
    "modify_instruction_messages",
    "parse_category",
    "parse_modified_instruction",
    "parse_single_call",
    "render_pairwise",
    "rewrite_worse_messages",
    "verdict_choices",
    "verdict_regex",
    "verdict_text",
]

MODIFIED_INSTRUCTION_HEADER = "## Modified instruction"
ANSWER_START = "## Answer to the modified instruction starts here"
ANSWER_END = "## Answer to the modified instruction ends here"


def render_pairwise(
    rubric: PairwiseRubric, messages: Conversation, first: str, second: str
) -> tuple[Message, ...]:
    """Returns the judge's prompt, a system and a user message, for one order of a pair.

    No text under judgment can close its block: every delimiter carries a tag that occurs in none
    of the texts. Both orders of a pair share the tag, so it tells nothing about the order.
    """
    tag = block_tag([*(m.content for m in messages), first, second])
    text = rubric.template.format(
        tag=tag,
        task=conversation_text(messages, tag),
        first=neutralised(first),
        second=neutralised(second),
    )
    return (Message(role="system", content=rubric.system), Message(role="user", content=text))


_MODIFY_SYSTEM = (
    "You write tasks for an assistant. Given a task, you write one that sounds alike, stays on the"
    " topic and is about as hard, but asks for something else: a good response to yours would be a"
    " wrong response to the given one."
)
_MODIFY_TEMPLATE = """\
<task-{tag}>
{task}
</task-{tag}>

Write the modified {what}. Output only that: no answer, no comment, no quotation marks."""

_SINGLE_CALL_SYSTEM = (
    "You write material that trains judges. Given a task and a response to it, you write a modified"
    " task that sounds alike and stays on the topic but asks for something else, and then a careful"
    " response to the modified task. That response must be good for the modified task and not good"
    " for the given one."
)
_SINGLE_CALL_TEMPLATE = """\
<task-{tag}>
{task}
</task-{tag}>

<response-{tag}>
{response}
</response-{tag}>

Reply in exactly this form, each of the three marker lines once:
{header}
(the modified {what})
{start}
(your response to the modified {what})
{end}"""

_REWRITE_SYSTEM = (
    "You write flawed responses that train judges. Given a task and a response, you rewrite the"
    " response so that it is clearly worse though it still looks plausible: wrong facts, faulty"
    " steps, missed requirements or missing parts. You never mention that it is worse."
)
_REWRITE_TEMPLATE = """\
<task-{tag}>
{task}
</task-{tag}>

<response-{tag}>
{response}
</response-{tag}>

Write the worse response. Output only that, with no comment."""


def _what(messages: Sequence[Message]) -> str:
    """What is to be modified: of a conversation only its last user turn."""
    return "task" if len(messages) == 1 else "last user message of the conversation"


def modify_instruction_messages(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Returns the first of two calls: asks for a related but different instruction, nothing else.

    Of a conversation the last user turn is to be modified (arXiv 2408.02666, section 3.1, where
    one call writes the instruction and its answer; small models need two).
    """
    tag = block_tag([m.content for m in messages])
    text = _MODIFY_TEMPLATE.format(
        tag=tag, task=conversation_text(messages, tag), what=_what(messages)
    )
    return (Message(role="system", content=_MODIFY_SYSTEM), Message(role="user", content=text))


def corrupt_single_call_messages(messages: Sequence[Message], response: str) -> tuple[Message, ...]:
    """Returns the one call that asks for a modified instruction and an answer to it."""
    tag = block_tag([*(m.content for m in messages), response])
    text = _SINGLE_CALL_TEMPLATE.format(
        tag=tag,
        task=conversation_text(messages, tag),
        response=neutralised(response),
        what=_what(messages),
        header=MODIFIED_INSTRUCTION_HEADER,
        start=ANSWER_START,
        end=ANSWER_END,
    )
    return (Message(role="system", content=_SINGLE_CALL_SYSTEM), Message(role="user", content=text))


def rewrite_worse_messages(messages: Sequence[Message], response: str) -> tuple[Message, ...]:
    """Returns the call that asks to rewrite a response into a worse one (the paper's ablation)."""
    tag = block_tag([*(m.content for m in messages), response])
    text = _REWRITE_TEMPLATE.format(
        tag=tag, task=conversation_text(messages, tag), response=neutralised(response)
    )
    return (Message(role="system", content=_REWRITE_SYSTEM), Message(role="user", content=text))


def parse_single_call(text: str) -> tuple[str, str] | None:
    """Reads (modified instruction, answer) from a reply to `corrupt_single_call_messages`.

    None unless each of the three markers stands exactly once, in order, with text after each of
    the first two: a reply that repeats or misses a marker cannot be read without guessing.
    """
    markers = (MODIFIED_INSTRUCTION_HEADER, ANSWER_START, ANSWER_END)
    if any(text.count(marker) != 1 for marker in markers):
        return None
    header, start, end = (text.index(marker) for marker in markers)
    if not header < start < end:
        return None
    instruction = parse_modified_instruction(
        text[header + len(MODIFIED_INSTRUCTION_HEADER) : start].lstrip(": \n")
    )
    answer = text[start + len(ANSWER_START) : end].lstrip(":").strip()
    return (instruction, answer) if instruction is not None and answer else None


_KINDS = r"(?:instruction|task|question|prompt|message|request|query|problem)"
_PREAMBLES = (
    # "Sure!", "Of course,"
    re.compile(r"(?:sure(?: thing)?|certainly|of course|okay|ok|absolutely)[!,.:]\s*", re.I),
    # "Here is a modified task:", "Here's one that …:"
    re.compile(r"here(?:'s|\u2019s| is| are)\b[^:\n]{0,80}:\s*", re.I),
    # "Modified instruction:", "The new task:", "Task:"
    re.compile(
        r"(?:#+\s*)?(?:the\s+)?(?:(?:modified|new|related|rewritten|different)\s+)?"
        rf"(?:last\s+user\s+)?{_KINDS}\s*:\s*",
        re.I,
    ),
)
_QUOTES = {
    '"': '"',
    "'": "'",
    "\u201c": "\u201d",
    "\u2018": "\u2019",
    "\xab": "\xbb",
    "`": "`",
    "*": "*",
}


def _without_quotes(text: str) -> str:
    closing = _QUOTES.get(text[:1])
    if closing is None or len(text) < 2 or not text.endswith(closing):
        return text
    inner = text[1:-1]
    # `"A" or "B"` begins and ends with a quotation mark without being quoted as a whole.
    return text if text[0] in inner.strip("*`") or closing in inner.strip("*`") else inner.strip()


def parse_modified_instruction(text: str) -> str | None:
    """Reads a modified instruction: preambles, labels and quotation marks go; None if empty."""
    text = text.strip()
    while True:
        cleaned = _without_quotes(text)
        # "**Modified task:** …": the label is what is bold, not the instruction.
        unbolded = re.sub(r"^\*\*([^*\n]{1,60}:)\*\*", r"\1", cleaned)
        for preamble in _PREAMBLES:
            match = preamble.match(unbolded)
            if match:
                cleaned = unbolded[match.end() :].strip()
                break
        if cleaned == text:
            return text or None
        text = cleaned
