"""Tokens with a meaning of their own, and the chat template that uses them."""

from typing import Any

END_OF_TEXT = "<|endoftext|>"
"""Ends a document."""
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
"""Ends a turn of a conversation."""
PAD = "<|pad|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END, PAD)

CHAT_TEMPLATE = (
    "{%- for turn in messages -%}"
    "{%- if turn.role not in ('system', 'user', 'assistant') -%}"
    "{{ raise_exception('a turn is of system, user or assistant, not of ' ~ turn.role) }}"
    "{%- endif -%}"
    f"{{{{ '{TURN_START}' ~ turn.role ~ '\\n' ~ turn.content ~ '{TURN_END}\\n' }}}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    f"{{{{ '{TURN_START}assistant\\n' }}}}"
    "{%- endif -%}"
)
"""ChatML: each turn is its role and its content between two tokens; a system turn is optional."""


def document_end_id(tokenizer: Any) -> int:
    """The token that ends a document: `<|endoftext|>` where there is one, else the tokenizer's
    end-of-sequence token.

    `tokenizer` is one of transformers. Chat tokenizers have the end of a turn as their
    end-of-sequence token, which says something else than that a text is over.
    """
    vocab: dict[str, int] = tokenizer.get_vocab()
    found: int = vocab.get(END_OF_TEXT, tokenizer.eos_token_id)
    return found
