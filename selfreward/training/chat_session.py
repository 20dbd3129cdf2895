"""A conversation with a model that is loaded in this process, answered piece by piece."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from selfreward.errors import ConfigError
from selfreward.records import Message
from selfreward.training.encoding import end_of_turn
from selfreward.training.loaded import LoadedModel, load


class ChatSession:
    """Holds the model and how answers are drawn; it does not hold the conversation."""

    def __init__(
        self,
        model: LoadedModel,
        *,
        temperature: float = 0.7,
        top_p: float = 0.95,
        max_tokens: int = 512,
    ):
        """`temperature` 0 takes the likeliest token each time.

        Raises:
            ConfigError: a number out of its range.
        """
        if temperature < 0:
            raise ConfigError(f"--temperature {temperature:g}: it is 0 or more")
        if not 0 < top_p <= 1:
            raise ConfigError(f"--top-p {top_p:g}: it is above 0 and at most 1")
        if max_tokens < 1:
            raise ConfigError(f"--max-tokens {max_tokens}: it is at least 1")
        self._model = model
        self._temperature = temperature
        self._top_p = top_p
        self._max_tokens = max_tokens
        self._stopped = threading.Event()

    @classmethod
    def open(
        cls,
        name: str,
        *,
        temperature: float = 0.7,
        top_p: float = 0.95,
        max_tokens: int = 512,
    ) -> "ChatSession":
        """Loads a model by its name, in the dtype its weights are stored in.

        Raises:
            ModelNotFoundError: the name leads to no model.
            ConfigError: as for the class itself.
        """
        return cls(load(name), temperature=temperature, top_p=top_p, max_tokens=max_tokens)

    def fitting(self, messages: Sequence[Message]) -> tuple[list[Message], int]:
        """Leaves out the oldest turns so that an answer has room in the model's context.

        The system message and the last turn stay. Room is kept for `max_tokens`, or for half of
        the context where that is less. Returns what is left and how many messages are not.

        Raises:
            ConfigError: the last turn alone leaves no room for an answer, or the model has no chat
                template or one without a place for these turns.
        """
        context = self._model.context
        kept = list(messages)
        if context is None:
            return kept, 0
        room = min(self._max_tokens, context // 2)
        first = 1 if kept and kept[0].role == "system" else 0
        while self._length(kept) + room > context and len(kept) > first + 1:
            # A question goes with its answer: templates want the turns to alternate.
            del kept[first : min(first + 2, len(kept) - 1)]
        length = self._length(kept)
        if length >= context:
            raise ConfigError(f"the question has {length} tokens, the model's context {context}")
        return kept, len(messages) - len(kept)

    def reply(self, messages: Sequence[Message]) -> Iterator[str]:
        """Yields the answer to a conversation in pieces, as they are generated.

        It ends early after `stop`, or where the caller leaves the loop. What does not fit the
        context has to be taken out before, by `fitting`.
        """
        from transformers import TextIteratorStreamer

        self._stopped.clear()
        streamer = TextIteratorStreamer(
            self._model.tokenizer,
            skip_prompt=True,
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        errors: list[BaseException] = []

        def run() -> None:
            try:
                self._generate(messages, streamer)
            except BaseException as error:  # raised below, in the thread that reads the answer
                errors.append(error)
                streamer.end()

        thread = threading.Thread(target=run, name="chat", daemon=True)
        thread.start()
        try:
            yield from (piece for piece in streamer if piece)
        finally:
            self._stopped.set()
            thread.join()
        if errors:
            raise errors[0]

    def stop(self) -> None:
        """Ends the answer that is being generated, after its next token."""
        self._stopped.set()

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        return self._model.chat_ids([{"role": m.role, "content": m.content} for m in messages])

    def _length(self, messages: Sequence[Message]) -> int:
        return len(self._ids(messages))

    def _generate(self, messages: Sequence[Message], streamer: Any) -> None:
        from transformers import StoppingCriteriaList

        ids_BT = torch.tensor([self._ids(messages)], device=self._model.device)
        room = self._max_tokens
        if self._model.context is not None:
            room = min(room, self._model.context - ids_BT.shape[1])
        drawn: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None}
        if self._temperature > 0:
            drawn = {
                "do_sample": True,
                "temperature": self._temperature,
                "top_p": self._top_p,
            }
        self._model.lm.generate(
            input_ids=ids_BT,
            attention_mask=torch.ones_like(ids_BT),
            max_new_tokens=room,
            eos_token_id=sorted(self._ends()) or None,
            pad_token_id=self._model.tokenizer.pad_token_id or 0,
            use_cache=True,
            top_k=0 if self._temperature > 0 else None,
            repetition_penalty=1.0,
            stopping_criteria=StoppingCriteriaList([self._is_stopped]),
            streamer=streamer,
            **drawn,
        )

    def _ends(self) -> set[int]:
        """Tokens that end an answer: those of the model, and the one of its chat template."""
        tokenizer = self._model.tokenizer
        configured = self._model.lm.generation_config.eos_token_id
        ends = set(configured) if isinstance(configured, list) else {configured}
        ends.add(tokenizer.eos_token_id)
        turn = tokenizer(end_of_turn(tokenizer), add_special_tokens=False)["input_ids"]
        if len(turn) == 1:
            ends.add(turn[0])
        return {end for end in ends if end is not None}

    def _is_stopped(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self._stopped.is_set(), device=input_ids.device)
