"""From a conversation to the token ids an engine is fed."""

import copy
from typing import Any

from jinja2 import TemplateError

from selfreward.engines.engine_loop import RequestRefusedError
from selfreward.errors import EngineError
from selfreward.records import Conversation


def label_ids(tokenizer: Any, texts: tuple[str, ...]) -> dict[str, list[int]]:
    """Text → its token ids by itself, as probabilities of a label are asked for."""
    return {text: tokenizer.encode(text, add_special_tokens=False) for text in texts}


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
        return self._ids(self._text(messages))

    def _text(self, messages: Conversation, generation: bool = True) -> str:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        try:
            text: str = self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=generation, tokenize=False
            )
        except TemplateError as error:
            raise RequestRefusedError(f"chat template: {error}") from error
        return text

    def _ids(self, text: str) -> list[int]:
        # The template writes the special tokens itself; a second BOS would shift everything.
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def whole_ids(self, messages: Conversation) -> list[int]:
        """Token ids of a finished conversation, its last turn the assistant's.

        Raises:
            RequestRefusedError: the chat template has no place for these turns.
        """
        return self._ids(self._text(messages, generation=False))

    def target_ids(self, messages: Conversation, target: str) -> tuple[list[int], list[int]]:
        """Token ids of a conversation, and of `target` as the text the assistant goes on with.

        Raises:
            RequestRefusedError: the template does not take these turns, or the target is empty.
        """
        prompt = self._text(messages)
        ids = self._ids(prompt)
        whole = self._ids(prompt + target)
        # Tokenised together where that leaves the prompt as it is fed, as training does.
        is_prefix = whole[: len(ids)] == ids and len(whole) > len(ids)
        target_ids = whole[len(ids) :] if is_prefix else self._ids(target)
        if not target_ids:
            raise RequestRefusedError("the target to score has no tokens")
        return ids, target_ids

    def single_token_ids(self, texts: tuple[str, ...]) -> dict[str, int]:
        """Text → its one token id.

        Raises:
            RequestRefusedError: a text is more than one token.
        """
        ids = label_ids(self._tokenizer, texts)
        for text, token_ids in ids.items():
            if len(token_ids) != 1:
                raise RequestRefusedError(f"logps_of {text!r} is {len(token_ids)} tokens, not one")
        return {text: token_ids[0] for text, token_ids in ids.items()}
