"""The random model that pretraining starts from."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfreward.config_custom_llm import ArchitectureConfig
from selfreward.errors import ConfigError, ModelNotFoundError
from selfreward.training.checkpoint import is_complete
from selfreward.training.initialise import initialise_model
from tests.tiny_model import make_tiny_tokenizer

ARCHITECTURE = ArchitectureConfig(
    hidden_size=64,
    intermediate_size=160,
    num_layers=8,
    num_heads=4,
    num_kv_heads=2,
    context_length=128,
    rope_theta=50_000.0,
)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("tokenizer"))
    make_tiny_tokenizer().save_pretrained(folder)
    return folder


def make(tokenizer_folder: str, folder: Path, seed: int = 7, **changes: object) -> dict[str, int]:
    architecture = ARCHITECTURE.model_copy(update=changes)
    return initialise_model(architecture, tokenizer_folder, str(folder), seed)


def test_it_loads_as_it_was_asked_for(tokenizer_folder: str, tmp_path: Path) -> None:
    facts = make(tokenizer_folder, tmp_path / "m")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    # 259 tokens, padded to a multiple of 64: 320 rows. A layer: q and o 64 x 64, k and v 64 x 32,
    # three of 64 x 160, two norms of 64; and the last norm.
    per_layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 160 + 2 * 64
    assert facts == {"num_parameters": 320 * 64 + 8 * per_layer + 64, "vocab_size": 320}
    assert model.num_parameters() == facts["num_parameters"]
    config = model.config
    assert config.model_type == "llama"
    assert config.rope_parameters["rope_theta"] == 50_000.0
    assert config.max_position_embeddings == 128
    assert (config.num_attention_heads, config.num_key_value_heads) == (4, 2)
    assert model.dtype == torch.float32
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert is_complete(str(tmp_path / "m"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"], "nothing is left beside it"


def test_generation_ends_at_the_end_of_a_turn_and_of_a_document(
    tokenizer_folder: str, tmp_path: Path
) -> None:
    make(tokenizer_folder, tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    ends = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    generation = json.loads((tmp_path / "m/generation_config.json").read_text())
    assert generation["eos_token_id"] == ends
    assert generation["pad_token_id"] == tokenizer.pad_token_id
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "m").config.eos_token_id == ends[0]


def test_standard_deviations(tokenizer_folder: str, tmp_path: Path) -> None:
    make(tokenizer_folder, tmp_path / "m")
    weights = load_file(tmp_path / "m/model.safetensors")
    for name, weight in weights.items():
        if weight.dim() == 1:
            assert torch.equal(weight, torch.ones_like(weight)), name
            continue
        # Eight layers add 16 times to the residual stream: 0.02 / sqrt(16) = 0.005.
        wanted = 0.005 if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02
        # The standard error of a standard deviation is sigma / sqrt(2 n).
        assert weight.std() == pytest.approx(wanted, rel=5 / math.sqrt(2 * weight.numel())), name
        assert abs(weight.mean()) < 5 * wanted / math.sqrt(weight.numel()), name
    names = [n for n, w in weights.items() if w.dim() > 1]
    firsts = {round(weights[n].flatten()[0].item(), 8) for n in names}
    assert len(firsts) == len(names), "each matrix is drawn for itself"


def test_an_untrained_model_expects_nothing(tokenizer_folder: str, tmp_path: Path) -> None:
    make(tokenizer_folder, tmp_path / "m")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    ids = torch.randint(0, 256, (4, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss.item()
    assert loss == pytest.approx(math.log(320), abs=0.1)


def test_the_seed_decides_every_byte(tokenizer_folder: str, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make(tokenizer_folder, tmp_path / name, seed)
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    weights = "model.safetensors"
    assert (tmp_path / "a" / weights).read_bytes() != (tmp_path / "c" / weights).read_bytes()


def test_bf16_is_the_fp32_model_rounded(tokenizer_folder: str, tmp_path: Path) -> None:
    make(tokenizer_folder, tmp_path / "wide", tie_embeddings=False)
    untied = ARCHITECTURE.model_copy(update={"tie_embeddings": False})
    initialise_model(untied, tokenizer_folder, str(tmp_path / "narrow"), 7, "bf16")
    wide = load_file(tmp_path / "wide/model.safetensors")
    narrow = load_file(tmp_path / "narrow/model.safetensors")
    assert set(wide) == set(narrow)
    assert "lm_head.weight" in wide
    assert all(torch.equal(narrow[n], w.to(torch.bfloat16)) for n, w in wide.items())
    config = json.loads((tmp_path / "narrow/config.json").read_text())
    assert config["dtype"] == "bfloat16"


def test_to_another_kind_of_storage(tokenizer_folder: str, tmp_path: Path) -> None:
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem.store.clear()
    make(tokenizer_folder, tmp_path / "m")
    initialise_model(ARCHITECTURE, tokenizer_folder, "memory://run/m", 7)
    assert is_complete("memory://run/m")
    there = fsspec.filesystem("memory").cat_file("/run/m/model.safetensors")
    assert there == (tmp_path / "m/model.safetensors").read_bytes()


def test_what_cannot_be_is_refused(tokenizer_folder: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gives heads of 3; it must be even"):
        make(tokenizer_folder, tmp_path / "m", hidden_size=12)
    with pytest.raises(ModelNotFoundError, match="no tokenizer at"):
        make(str(tmp_path / "nowhere"), tmp_path / "m")
    assert not (tmp_path / "m").exists()
