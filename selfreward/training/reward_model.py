"""A reward model of transformers: a decoder with a score head of one output and no bias.

It is made from a language model, whose decoder it takes, or goes on from a reward model. Its score
is read at the last token of a turn of the assistant, the one that ends the turn, so the folder it
is written to says how a text has to end and keeps transformers' pooling away from padding.
"""

import copy
from typing import Any

import torch
from torch import nn

from selfreward.engines.classifier import ENDS_WITH
from selfreward.errors import ConfigError, ModelNotFoundError
from selfreward.records import derived_seed
from selfreward.training.encoding import end_of_turn
from selfreward.training.model import ModelSource, first_line

HEAD = "score"
HEAD_SCALE = 0.1
"""Size of first scores."""


def reward_config(source: ModelSource) -> Any:
    """Returns the transformers config of the reward model that starts from `source`.

    Raises:
        ModelNotFoundError: no model is there, or a classifier with several outputs.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source.path, **source.options)
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(f"no model at {source.path}: {first_line(error)}") from error
    is_classifier = any("SequenceClassification" in n for n in config.architectures or ())
    if is_classifier and config.num_labels != 1:
        raise ModelNotFoundError(
            f"{source.path} is a classifier with {config.num_labels} outputs; a reward model has"
            " one"
        )
    config.num_labels = 1
    return config


def empty_reward_model(
    source: ModelSource, *, dtype: torch.dtype, attention: str | None = None
) -> Any:
    """Returns the model without the weights of `source`; made under `torch.device("meta")` it takes
    no memory.

    Raises:
        ModelNotFoundError: no model is there.
        ConfigError: transformers has no reward model of this family.
    """
    from transformers import AutoModelForSequenceClassification

    options = {} if attention is None else {"attn_implementation": attention}
    try:
        model = AutoModelForSequenceClassification.from_config(
            reward_config(source),
            dtype=dtype,
            trust_remote_code=source.trust_remote_code,
            **options,
        )
    except ValueError as error:
        raise ConfigError(_no_classifier(source, first_line(error))) from error
    return _checked(model, source)


def load_reward_model(source: ModelSource, *, dtype: torch.dtype, attention: str, seed: int) -> Any:
    """Loads the weights on the CPU in `dtype`, with a new head where `source` is a language model.

    A new head is normal with standard deviation 0.1 / sqrt(hidden size), drawn by `seed`: the final
    norm leaves hidden states with a length near sqrt(hidden size), so first scores are near 0.1 and
    the first loss is near log 2. It is not zero, which would keep the decoder from learning
    anything in the first step.

    Raises:
        ModelNotFoundError: nothing loadable is there, or a classifier with several outputs.
        ConfigError: transformers has no reward model of this family.
    """
    from transformers import AutoModelForSequenceClassification

    config = reward_config(source)
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            source.path,
            config=config,
            dtype=dtype,
            attn_implementation=attention,
            output_loading_info=True,
            **source.options,
        )
    except ValueError as error:
        raise ConfigError(_no_classifier(source, first_line(error))) from error
    except OSError as error:
        raise ModelNotFoundError(f"no model at {source.path}: {first_line(error)}") from error
    head: nn.Linear = _checked(model, source).score
    missing = set(info["missing_keys"])
    if f"{HEAD}.weight" in missing:
        generator = torch.Generator().manual_seed(derived_seed("reward head", seed))
        with torch.no_grad():
            head.weight.normal_(0.0, HEAD_SCALE / head.in_features**0.5, generator=generator)
    if others := sorted(missing - {f"{HEAD}.weight"}):
        raise ModelNotFoundError(
            f"the model at {source.path} lacks {len(others)} weight(s) of its decoder, first"
            f" {others[0]}"
        )
    model.config.use_cache = False
    return model


def _no_classifier(source: ModelSource, why: str) -> str:
    return f"no reward model can be made from {source.path}: {why}"


def _checked(model: Any, source: ModelSource) -> Any:
    head = getattr(model, HEAD, None)
    if not isinstance(head, nn.Linear) or getattr(head, "bias", None) is not None:
        why = f"{type(model).__name__} has no plain score head"
        raise ConfigError(_no_classifier(source, why))
    return model


def pooled_at_end_of_turn(config: Any, tokenizer: Any) -> Any:
    """Makes transformers read the score at the token that training read it at.

    transformers pools the last token that is not `config.pad_token_id`. That must not be the token
    that ends a turn, which some tokenizers pad with, and nothing may follow that token, as a line
    end does in ChatML. So `config` gets a padding token of its own, and `reward_ends_with`;
    returned is a copy of the tokenizer with the same padding, whose chat template leaves out the
    white space behind a conversation that is over.
    """
    tokenizer = copy.deepcopy(tokenizer)
    end = end_of_turn(tokenizer)
    last_id = tokenizer(f"a{end}", add_special_tokens=False)["input_ids"][-1]
    known = (tokenizer.pad_token_id, *sorted(tokenizer.all_special_ids), 0, 1)
    # Any other token will do: padding stands behind the end of the turn, and that token is not it.
    pad_id = next(i for i in known if i is not None and i != last_id)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad_id)
    config.get_text_config().pad_token_id = pad_id
    setattr(config, ENDS_WITH, end)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    if whole != whole.rstrip() and isinstance(tokenizer.chat_template, str):
        # The plus signs keep white space of the template's own; of a template alone, Jinja leaves
        # out the last line end.
        tokenizer.chat_template = (
            "{% set whole +%}"
            + tokenizer.chat_template.removesuffix("\n")
            + "{%+ endset %}{{ whole if add_generation_prompt else whole.rstrip() }}"
        )
    return tokenizer
