"""A model with its tokenizer, loaded to be read or talked to; nothing here trains."""

from dataclasses import dataclass
from typing import Any

import torch

from selfreward.engines.models import resolve_model
from selfreward.errors import ConfigError, ModelNotFoundError
from selfreward.training.model import ModelSource, first_line, load_causal_lm, stored_dtype
from selfreward.training.setup import attention_of, quiet_libraries


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A causal language model in evaluation mode on its device."""

    name: str
    """As the user named it."""
    lm: Any
    tokenizer: Any
    device: torch.device

    @property
    def context(self) -> int | None:
        """Tokens the model was made for; None where its config does not say."""
        length = getattr(self.lm.config.get_text_config(), "max_position_embeddings", None)
        return None if length is None else int(length)

    def text_ids(self, text: str) -> list[int]:
        """Token ids of raw text, with the special tokens the tokenizer itself adds to a text."""
        ids: list[int] = self.tokenizer(text)["input_ids"]
        return ids

    def chat_ids(self, turns: list[dict[str, str]]) -> list[int]:
        """Token ids of a conversation up to where the assistant's next turn begins.

        Raises:
            ConfigError: there is no chat template, or it has no place for these turns.
        """
        from jinja2 import TemplateError

        if not self.tokenizer.chat_template:
            raise ConfigError(
                f"model {self.name} has no chat template: it only continues raw text, as"
                " `selfreward predict` without --chat shows"
            )
        try:
            prompt = self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            raise ConfigError(f"model {self.name}: chat template: {error}") from error
        # The template writes the special tokens itself; a second BOS would shift everything.
        ids: list[int] = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return ids


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def read_tokenizer(source: ModelSource) -> Any:
    """Loads a tokenizer that may have no chat template.

    Raises:
        ModelNotFoundError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source.tokenizer or source.path, **source.options)
    except (OSError, ValueError) as error:
        path = source.tokenizer or source.path
        raise ModelNotFoundError(f"no tokenizer at {path}: {first_line(error)}") from error


def load(
    name: str, *, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> LoadedModel:
    """Loads `name` (see `resolve_model`) onto `device`, a GPU where there is one.

    `dtype` None is the one the weights are stored in.

    Raises:
        ModelNotFoundError: the name leads to no causal language model with a tokenizer.
    """
    quiet_libraries()
    device = device or best_device()
    source = ModelSource(path=resolve_model(name))
    tokenizer = read_tokenizer(source)
    lm = load_causal_lm(source, dtype=dtype or stored_dtype(source), attention=attention_of(device))
    return LoadedModel(name=name, lm=lm.to(device).eval(), tokenizer=tokenizer, device=device)
