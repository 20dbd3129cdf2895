"""A Llama-style model with random weights, as a folder like that of any other model.

Weights are drawn one by one in fp32 and narrowed at once, so beside the model in its stored dtype
no more than one fp32 matrix is alive.
"""

import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from selfreward.config_custom_llm import ArchitectureConfig
from selfreward.errors import ConfigError
from selfreward.records import derived_seed
from selfreward.storage.small_folders import local_folder
from selfreward.text.special_tokens import document_end_id
from selfreward.training.checkpoint import commit_folder, mark_complete, write_model
from selfreward.training.encoding import end_of_turn
from selfreward.training.model import ModelSource, load_tokenizer

VOCAB_MULTIPLE = 64
"""Matrix products are faster at sizes that are a multiple of it."""
RMS_NORM_EPS = 1e-5
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
RESIDUAL_PROJECTIONS = ("o_proj.weight", "down_proj.weight")
"""What adds to the residual stream, twice a layer."""


def stop_ids(tokenizer: Any) -> list[int]:
    """The tokens at which a text is over: the end of an assistant's turn, and of a document."""
    turn_end: list[int] = tokenizer(end_of_turn(tokenizer), add_special_tokens=False)["input_ids"]
    ends = [*(turn_end if len(turn_end) == 1 else ()), tokenizer.eos_token_id]
    return list(dict.fromkeys([*ends, document_end_id(tokenizer)]))


def llama_config(architecture: ArchitectureConfig, tokenizer: Any) -> Any:
    """The architecture as a `transformers.LlamaConfig`, its vocabulary a multiple of 64.

    Raises:
        ConfigError: the heads have an odd width, which rotary positions cannot turn.
    """
    from transformers import LlamaConfig

    head_dim = architecture.hidden_size // architecture.num_heads
    if head_dim % 2:
        raise ConfigError(
            f"custom_llm.architecture: hidden_size={architecture.hidden_size} over"
            f" num_heads={architecture.num_heads} gives heads of {head_dim}; it must be even"
        )
    stops = stop_ids(tokenizer)
    end = document_end_id(tokenizer)
    return LlamaConfig(
        vocab_size=math.ceil(len(tokenizer) / VOCAB_MULTIPLE) * VOCAB_MULTIPLE,
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        num_hidden_layers=architecture.num_layers,
        num_attention_heads=architecture.num_heads,
        num_key_value_heads=architecture.num_kv_heads,
        max_position_embeddings=architecture.context_length,
        rope_parameters={"rope_type": "default", "rope_theta": architecture.rope_theta},
        tie_word_embeddings=architecture.tie_embeddings,
        initializer_range=architecture.initializer_range,
        rms_norm_eps=RMS_NORM_EPS,
        bos_token_id=end if tokenizer.bos_token_id is None else tokenizer.bos_token_id,
        eos_token_id=stops[0],
        pad_token_id=tokenizer.pad_token_id,
    )


def random_weights(config: Any, seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights of a LlamaForCausalLM by their names; tied embeddings are there once.

    Norms are 1. Matrices are normal with `config.initializer_range` as standard deviation; those
    that write to the residual stream have it divided by sqrt(2 * layers), the number of such
    additions, so that the stream's variance does not grow with depth (GPT-2 report, section 2.3).
    A weight depends on the seed and its name only.
    """
    from transformers import LlamaForCausalLM

    with torch.device("meta"):  # only names and shapes are used
        shapes = {n: p.shape for n, p in LlamaForCausalLM(config).named_parameters()}
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight", None)
    weights = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            weights[name] = torch.ones(shape, dtype=dtype)
            continue
        std = config.initializer_range
        if name.endswith(RESIDUAL_PROJECTIONS):
            std /= math.sqrt(2 * config.num_hidden_layers)
        generator = torch.Generator().manual_seed(derived_seed(seed, "initialise", name))
        weights[name] = torch.empty(shape).normal_(0.0, std, generator=generator).to(dtype)
    return weights


def initialise_model(
    architecture: ArchitectureConfig,
    tokenizer_folder: str,
    folder: str,
    seed: int,
    dtype: Literal["fp32", "bf16"] = "fp32",
) -> dict[str, int]:
    """Writes a random model with its tokenizer to `folder`, whole or not at all.

    `folder` and `tokenizer_folder` are paths or URLs. Returns num_parameters and vocab_size. The
    same seed gives the same bytes. Generation ends both at the end of a turn and of a document.

    Raises:
        ModelNotFoundError: there is no tokenizer with a chat template.
        ConfigError: as `llama_config`.
    """
    from transformers import GenerationConfig

    with local_folder(tokenizer_folder) as here:
        tokenizer = load_tokenizer(ModelSource(path=here))
    config = llama_config(architecture, tokenizer)
    state = random_weights(config, seed, DTYPES[dtype])
    facts = {
        "num_parameters": sum(weight.numel() for weight in state.values()),
        "vocab_size": int(config.vocab_size),
    }
    with _scratch(folder) as scratch:
        config.save_pretrained(scratch)
        GenerationConfig(
            bos_token_id=config.bos_token_id,
            eos_token_id=stop_ids(tokenizer),
            pad_token_id=config.pad_token_id,
        ).save_pretrained(scratch)
        write_model(
            scratch,
            state,
            source=ModelSource(path=str(scratch)),
            tokenizer=tokenizer,
            dtype=DTYPES[dtype],
        )
        mark_complete(scratch, {"step": 0, "seed": seed, **facts})
        commit_folder(str(scratch), folder)
    return facts


@contextmanager
def _scratch(folder: str) -> Iterator[Path]:
    """A folder to write to first; beside a local target, whose files are then linked."""
    if "://" in folder:
        with tempfile.TemporaryDirectory(prefix="selfreward-") as temporary:
            yield Path(temporary)
        return
    scratch = Path(f"{folder.rstrip('/')}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch)
