"""Loads the model to train and its tokenizer, and adds LoRA adapters to it."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from selfreward.config import LoraConfig
from selfreward.errors import ConfigError, ModelNotFoundError

ModelKind = Literal["causal_lm", "reward_model"]
"""What a model is trained to put out: the next token, or one score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where weights and tokenizer come from: a Hugging Face folder or hub id."""

    path: str
    tokenizer: str | None = None
    """None: from `path`."""
    revision: str | None = None
    trust_remote_code: bool = False

    @property
    def options(self) -> dict[str, Any]:
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}


def load_tokenizer(source: ModelSource) -> Any:
    """Loads the tokenizer.

    Raises:
        ModelNotFoundError: there is none, or it has no chat template.
    """
    from transformers import AutoTokenizer

    path = source.tokenizer or source.path
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **source.options)
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(f"no tokenizer at {path}: {first_line(error)}") from error
    if not tokenizer.chat_template:
        raise ModelNotFoundError(
            f"the tokenizer at {path} has no chat template; training needs an instruction-tuned"
            " model or a folder to whose tokenizer a chat template was added"
        )
    return tokenizer


def load_causal_lm(source: ModelSource, *, dtype: torch.dtype, attention: str) -> Any:
    """Loads the weights on the CPU in `dtype`; `attention` is transformers' name of a kernel.

    Raises:
        ModelNotFoundError: nothing loadable is there.
    """
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            source.path, dtype=dtype, attn_implementation=attention, **source.options
        )
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(
            f"no causal language model at {source.path}: {first_line(error)}"
        ) from error
    model.config.use_cache = False
    return model


def stored_dtype(source: ModelSource) -> torch.dtype:
    """The dtype the checkpoint is stored in; fp32 where it does not say."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source.path, **source.options)
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(f"no model at {source.path}: {first_line(error)}") from error
    dtype = config.dtype
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype)
    return dtype or torch.float32


def add_lora(model: Any, lora: LoraConfig, seed: int, kind: ModelKind = "causal_lm") -> Any:
    """Wraps a model with LoRA adapters (arXiv 2106.09685); the same `seed` gives the same ones.

    A reward model's score head, which starts at random, trains whole beside them.

    Raises:
        ConfigError: `target_modules` names no linear layer, or one that cannot be merged.
    """
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model
    from peft.tuners.lora import Linear, LoraLayer

    targets = lora.target_modules
    peft_config = PeftLoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        # "SEQ_CLS" makes peft train and save a head named `score`.
        task_type="CAUSAL_LM" if kind == "causal_lm" else "SEQ_CLS",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = get_peft_model(model, peft_config)
        except ValueError as error:
            raise ConfigError(
                f"training.lora.target_modules={targets!r}: {first_line(error)}"
            ) from error
    head = model.get_base_model().get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and (not isinstance(module, Linear) or module is head):
            raise ConfigError(
                f"training.lora.target_modules={targets!r} matches {name}, which is not a linear"
                " layer inside the model's blocks"
            )
    return model


LORA_PREFIX = "base_model.model."
# A module that trains whole stands twice in a PEFT model: as it was, and as it is trained.
_UNTRAINED = ".original_module."
_TRAINED = ".modules_to_save.default."


def merge_lora(state: dict[str, Tensor], lora: LoraConfig) -> dict[str, Tensor]:
    """Returns the plain model's weights from a PEFT model's: W + alpha / rank * B A, in fp32.

    Names are those of `PeftModel.state_dict()`; the result has the names of the model inside.
    Modules that train whole beside the adapters are taken as trained.
    """
    scale = lora.alpha / lora.rank
    merged: dict[str, Tensor] = {}
    for name, weight in state.items():
        if ".lora_" in name or _UNTRAINED in name:
            continue
        plain = name.removeprefix(LORA_PREFIX).replace(_TRAINED, ".")
        if ".base_layer." not in plain:
            merged[plain] = weight
            continue
        stem, _, leaf = name.rpartition(".base_layer.")
        if leaf == "weight":
            down = state[f"{stem}.lora_A.default.weight"].float()
            up = state[f"{stem}.lora_B.default.weight"].float()
            weight = weight.float() + scale * (up @ down)
        merged[plain.replace(".base_layer.", ".")] = weight
    return merged


def adapter_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The adapter's own weights of a PEFT model's state, by the names of PEFT's files, of which
    the adapter's name is no part."""
    return {
        name.replace(_TRAINED, ".").replace(".default.", "."): weight
        for name, weight in state.items()
        if ".lora_" in name or _TRAINED in name
    }


def first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
