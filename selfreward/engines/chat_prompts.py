"""From a conversation to the token ids an engine is fed."""

import copy
from typing import Any

from jinja2 import TemplateError

from selfreward.engines.engine_loop import RequestRefusedError
from selfreward.errors import EngineError
from selfreward.records import Conversation


class ChatPrompts:
    """Turns conversations into token ids with a tokenizer no other thread uses."""

    def __init__(self, tokenizer: Any, folder: str) -> None:
        self._tokenizer = copy.deepcopy(tokenizer)
        if not getattr(self._tokenizer, "chat_template", None):
            raise EngineError(
                f"the tokenizer of {folder!r} has no chat template: use the instruction-tuned"
                " version of the model, or put a chat_template.jinja into the folder"
            )

    def token_ids(self, messages: Conversation) -> list[int]:
        """Token ids of a conversation up to where the assistant's next turn begins.

        Raises:
            RequestRefusedError: the chat template has no place for these turns.
        """
        turns = [{"role": m.role, "content": m.content} for m in messages]
        try:
            text = self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=False
            )
        except TemplateError as error:
            raise RequestRefusedError(f"chat template: {error}") from error
        # The template writes the special tokens itself; a second BOS would shift everything.
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def single_token_ids(self, texts: tuple[str, ...]) -> dict[str, int]:
        """Text → its one token id.

        Raises:
            RequestRefusedError: a text is more than one token.
        """
        ids = {t: self._tokenizer.encode(t, add_special_tokens=False) for t in texts}
        for text, token_ids in ids.items():
            if len(token_ids) != 1:
                raise RequestRefusedError(f"logps_of {text!r} is {len(token_ids)} tokens, not one")
        return {text: token_ids[0] for text, token_ids in ids.items()}
