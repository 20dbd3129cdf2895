"""Putting other people's text into a prompt so that it stays text.

Blocks are closed by a tag that does not occur in what they hold, and control tokens of chat
templates lose their meaning. Nothing here knows what the blocks are for.
"""

import hashlib
import json
import re
from collections.abc import Sequence

from selfreward.records import Message

TAG_HEX_CHARS = 8

# Tokens with which chat templates open and close turns. A tokenizer reads them as control tokens
# wherever they stand, so a response holding one could end the user's turn and write the judge's.
_CONTROL_TOKENS = re.compile(
    r"(<)(?=[|\uff5c][^<>|\uff5c\n]{1,60}[|\uff5c]>)"
    # Gemma 4 opens a turn with <|turn> and closes it with <turn|>.
    r"|(<)(?=\|\w{1,60}>|\w{1,60}\|>)"
    r"|(<)(?=/?(?:s|bos|eos|pad|unk|think|start_of_turn|end_of_turn|end_of_utterance"
    r"|start_of_image|end_of_image|image_soft_token)>)"
    r"|(<)(?=</?SYS>>)"
    r"|(\[)(?=/?(?:INST|SYSTEM_PROMPT|MODEL_SETTINGS|THINK|AVAILABLE_TOOLS|TOOL_CALLS"
    r"|TOOL_RESULTS|TOOL_CONTENT|ARGS|CALL_ID|IMG|IMG_BREAK|IMG_END|AUDIO|BEGIN_AUDIO)\])"
    # EXAONE
    r"|(\[)(?=\|\w{1,60}\|\])",
)


def neutralised(text: str) -> str:
    """Returns `text` with chat control tokens broken by one space: `<|im_end|>` → `< |im_end|>`."""
    return _CONTROL_TOKENS.sub(lambda m: f"{m[0]} ", text)


def block_tag(texts: Sequence[str]) -> str:
    """Returns 8 hex digits that occur in none of `texts`, in either case.

    The tag is derived from the texts themselves and hashed again until it is absent, so it is the
    same on every machine and nothing inside a block can name it. The order of the texts does not
    matter: a pair shown in either order has one tag, and with it one cached prompt prefix.
    """
    lowered = [t.lower() for t in texts]
    content = json.dumps(sorted(texts))
    count = 0
    while True:
        digest = hashlib.sha256(f"{count}\n{content}".encode())
        tag = digest.hexdigest()[:TAG_HEX_CHARS]
        if not any(tag in text for text in lowered):
            return tag
        count += 1


_CLOSED = re.compile(rf"</([a-z-]+)-([0-9a-f]{{{TAG_HEX_CHARS}}})>")
_COPIED_CHARS = TAG_HEX_CHARS - 2


def repeats_a_block(text: str, prompt: Sequence[Message]) -> bool:
    """Whether a completion names a block of its prompt, or one with a tag that it copied wrongly.

    Small models copy the form of what they are shown. As an answer that is no worse text but a
    mark, by which a judge would learn to know it.
    """
    blocks = {match.groups() for message in prompt for match in _CLOSED.finditer(message.content)}
    lowered = text.lower()
    return any(
        tag in lowered or re.search(rf"\b{name}-[0-9a-f]{{{_COPIED_CHARS},}}", lowered)
        for name, tag in blocks
    )


def conversation_text(messages: Sequence[Message], tag: str) -> str:
    """Returns a conversation as one text; several turns are labelled `user-<tag>:` and so on.

    A lone user turn, the usual case, stands without a label.
    """
    if len(messages) == 1 and messages[0].role == "user":
        return neutralised(messages[0].content)
    return "\n\n".join(f"{m.role}-{tag}:\n{neutralised(m.content)}" for m in messages)
