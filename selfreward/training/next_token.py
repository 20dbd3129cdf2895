"""What a model holds likely to come next."""

from typing import NamedTuple

import torch

from selfreward.errors import ConfigError
from selfreward.training.loaded import LoadedModel, best_device, load

CONTEXT_IDS = 8
"""So many tokens before a new one settle how it is spelt (a space in front of a word)."""


class NextToken(NamedTuple):
    """A token that may come next; a plain pair, so that it is written to JSON as one.

    Example: `NextToken(token=" mat", probability=0.31)`
    """

    token: str
    """Its text as it is. Of a token that is part of a character, and so no text of its own, the
    vocabulary's spelling."""
    probability: float


def next_tokens(
    model: str,
    text: str,
    top: int = 10,
    *,
    chat: bool = False,
    device: torch.device | None = None,
) -> list[NextToken]:
    """Returns the `top` likeliest tokens after `text`, the likeliest first.

    `model` is a folder or anything else that `resolve_model` takes. `chat` asks for the first
    tokens of the answer to `text` as a user's turn, behind the model's chat template; else the
    text is continued as it is. On a CPU it is computed in fp32; on a GPU in the dtype the weights
    are stored in, whose rounding shows in the third digit.

    Raises:
        ConfigError: the text is empty or longer than the model's context, or there is no template.
        ModelNotFoundError: the name leads to no causal language model.
    """
    check_text(text)
    device = device or best_device()
    dtype = torch.float32 if device.type == "cpu" else None
    return tokens_after(load(model, device=device, dtype=dtype), text, top, chat=chat)


def check_text(text: str) -> None:
    """Raises ConfigError for a text with nothing in it."""
    if not text:
        raise ConfigError('the text is empty: give one to continue, such as "The cat sat on the"')


@torch.no_grad()
def tokens_after(
    model: LoadedModel, text: str, top: int = 10, *, chat: bool = False
) -> list[NextToken]:
    """As `next_tokens`, by a model that is loaded.

    Raises:
        ConfigError: as `next_tokens`.
    """
    check_text(text)
    ids = model.chat_ids([{"role": "user", "content": text}]) if chat else model.text_ids(text)
    if not ids:
        raise ConfigError(f"the text {text!r} has no tokens for {model.name}")
    if model.context is not None and len(ids) > model.context:
        raise ConfigError(
            f"the text has {len(ids)} tokens, more than the {model.context} of {model.name}"
        )
    ids_BT = torch.tensor([ids], device=model.device)
    logits_V = model.lm(input_ids=ids_BT, use_cache=False).logits[0, -1].float()
    # The output may be padded beyond the vocabulary, with numbers that stand for no token.
    known = min(len(logits_V), len(model.tokenizer))
    probabilities_V = torch.softmax(logits_V, dim=-1)[:known]
    best = torch.topk(probabilities_V, min(top, known))
    return [
        NextToken(token=_spelt(model, ids, index), probability=probability)
        for index, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _spelt(model: LoadedModel, ids: list[int], token: int) -> str:
    """What the text grows by with one more token."""
    before = _decoded(model, ids[-CONTEXT_IDS:])
    whole = _decoded(model, [*ids[-CONTEXT_IDS:], token])
    text = whole[len(before) :] if whole.startswith(before) else _decoded(model, [token])
    if text and "\N{REPLACEMENT CHARACTER}" not in text:
        return text
    spelling: str = model.tokenizer.convert_ids_to_tokens(token)
    return spelling


def _decoded(model: LoadedModel, ids: list[int]) -> str:
    text: str = model.tokenizer.decode(
        ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return text
