"""Turns records into token ids: the prompt as the engine renders it, then the completions.

An encoded row is one prompt and the completions that continue it: one for an SFT example, two
(chosen, rejected) for a preference, or (target, counter target) for a labelled validation row.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from selfreward.errors import DataError
from selfreward.records import Message, Preference, TrainingExample

TokenArray = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRow:
    """A prompt and the completions that continue it, as token ids.

    Example: `EncodedRow(id="exa-9e…", pair_id="pair-0c…", prompt=array([1, 9690, …]),
    completions=(array([49, 2]),))`
    """

    id: str
    pair_id: str
    prompt: TokenArray
    completions: tuple[TokenArray, ...]
    label_confidence: float = 1.0
    """How sure it is that the first completion is the better one, 0..1; only DPO asks."""
    margin: float | None = None
    """How easy its pair is, for `training.curriculum`; None where that is not known."""

    @property
    def shared_length(self) -> int:
        """Tokens of the row when its completions share the prompt."""
        return len(self.prompt) + sum(len(c) for c in self.completions)

    @property
    def num_sequence_tokens(self) -> int:
        """Tokens of the row when each completion has the prompt to itself."""
        return len(self.completions) * len(self.prompt) + sum(len(c) for c in self.completions)

    @property
    def longest_sequence(self) -> int:
        return len(self.prompt) + max(len(c) for c in self.completions)

    def padded_length(self, share_prompt: bool) -> int:
        """Tokens the row takes in a batch of its like."""
        if share_prompt:
            return self.shared_length
        return len(self.completions) * self.longest_sequence

    @property
    def num_targets(self) -> int:
        """Target tokens of the first completion."""
        return len(self.completions[0])


def render(tokenizer: Any, messages: Sequence[dict[str, str]], generation: bool) -> str:
    """A conversation behind the chat template; `generation` opens the assistant's next turn."""
    text: str = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=generation
    )
    return text


def end_of_turn(tokenizer: Any) -> str:
    """The text with which the chat template ends an assistant turn, such as `<|im_end|>`.

    It is found by rendering an assistant turn. White space that follows it belongs to the next
    turn, which the engine never generates, and is left out. A template that ends an assistant
    turn with nothing gets the end-of-sequence token.
    """
    answer = "an answer"
    turns = [{"role": "user", "content": "a question"}]
    whole = render(tokenizer, [*turns, {"role": "assistant", "content": answer}], False)
    end = whole[whole.rindex(answer) + len(answer) :].strip()
    return end or tokenizer.eos_token


def token_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """The ids of texts as they stand, without tokens that a tokenizer would add."""
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


def encode_completions(
    tokenizer: Any, prompts: list[str], prompt_ids: list[list[int]], texts: list[str]
) -> list[TokenArray]:
    """Token ids of each text as the continuation of its prompt."""
    joint = token_ids(tokenizer, [p + t for p, t in zip(prompts, texts, strict=True)])
    out = []
    for prompt, whole, text in zip(prompt_ids, joint, texts, strict=True):
        # Tokenised together where that leaves the prompt as the engine feeds it (a tokenizer may
        # mark the start of a text); on its own where a token would span the boundary.
        is_prefix = whole[: len(prompt)] == prompt and len(whole) > len(prompt)
        ids = whole[len(prompt) :] if is_prefix else token_ids(tokenizer, [text])[0]
        out.append(np.asarray(ids, dtype=np.int32))
    return out


class _TextRow(NamedTuple):
    """An `EncodedRow` before it is encoded."""

    id: str
    pair_id: str
    messages: Sequence[Message]
    completions: tuple[str, ...]
    ended: tuple[bool, ...]
    """Whether the end of the turn follows each completion."""
    margin: float | None
    label_confidence: float = 1.0


def _encode(
    tokenizer: Any, rows: Sequence[_TextRow], max_length: int
) -> tuple[list[EncodedRow], int]:
    """Returns the encoded rows and how many were left out as too long."""
    end = end_of_turn(tokenizer)
    prompts = [
        render(tokenizer, [{"role": m.role, "content": m.content} for m in row.messages], True)
        for row in rows
    ]
    prompt_ids = token_ids(tokenizer, prompts)
    owners = [i for i, row in enumerate(rows) for _ in row.completions]
    completions = encode_completions(
        tokenizer,
        [prompts[i] for i in owners],
        [prompt_ids[i] for i in owners],
        [
            text + end * ended
            for row in rows
            for text, ended in zip(row.completions, row.ended, strict=True)
        ],
    )
    encoded, num_too_long, cursor = [], 0, 0
    for text_row, prompt in zip(rows, prompt_ids, strict=True):
        count = len(text_row.completions)
        row = EncodedRow(
            id=text_row.id,
            pair_id=text_row.pair_id,
            prompt=np.asarray(prompt, dtype=np.int32),
            completions=tuple(completions[cursor : cursor + count]),
            label_confidence=text_row.label_confidence,
            margin=text_row.margin,
        )
        cursor += count
        if row.longest_sequence > max_length:
            num_too_long += 1
        else:
            encoded.append(row)
    return encoded, num_too_long


def encode_examples(
    tokenizer: Any,
    examples: Sequence[TrainingExample],
    max_length: int,
    with_counter_target: bool = False,
) -> tuple[list[EncodedRow], int]:
    """Encodes SFT examples; `with_counter_target` adds the counter target where there is one.

    Returns the rows and the number of examples left out because prompt and target together are
    longer than `max_length` tokens; nothing is ever cut.
    """
    rows = []
    for e in examples:
        texts: tuple[str, ...] = (e.target,)
        if with_counter_target and e.counter_target is not None:
            texts = (e.target, e.counter_target)
        ended = (e.ended,) * len(texts)
        rows.append(_TextRow(e.id, e.pair_id, e.messages, texts, ended, e.verdict_margin))
    return _encode(tokenizer, rows, max_length)


def encode_preferences(
    tokenizer: Any, preferences: Sequence[Preference], max_length: int
) -> tuple[list[EncodedRow], int]:
    """Encodes preferences, chosen first. Returns the rows and the number left out as too long.

    Raises:
        DataError: a label confidence is not a number from 0 to 1.
    """
    for p in preferences:
        if not 0.0 <= p.label_confidence <= 1.0:
            raise DataError(
                f"preference {p.id} has label_confidence={p.label_confidence:g}, which is not a"
                " number from 0 to 1"
            )
    rows = [
        _TextRow(
            p.id,
            p.pair_id,
            p.messages,
            (p.chosen, p.rejected),
            (p.chosen_ended, p.rejected_ended),
            p.verdict_margin,
            p.label_confidence,
        )
        for p in preferences
    ]
    return _encode(tokenizer, rows, max_length)


def digest(rows: Sequence[EncodedRow]) -> str:
    """A hex digest of the token ids, in order: all that log-probabilities depend on."""
    state = hashlib.sha256()
    for row in rows:
        for part in (row.prompt, *row.completions):
            state.update(len(part).to_bytes(4, "little"))
            state.update(part.tobytes())
    return state.hexdigest()


def labelled_digest(rows: Sequence[EncodedRow]) -> str:
    """A hex digest of the token ids and label confidences, in order: all that a loss depends on."""
    state = hashlib.sha256(digest(rows).encode())
    for row in rows:
        state.update(struct.pack("<d", row.label_confidence))
    return state.hexdigest()
