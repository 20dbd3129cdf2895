"""A LoRA adapter that was trained here serves in vLLM: it says what the merged weights say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from selfreward.config import EngineConfig
from selfreward.engines.replica_env import replica_env
from tests.tiny_model import make_tiny_model
from tests.training_data import make_config, make_task, run_here, write_data

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

SPEAK = """
import json, sys
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
model, adapter, prompt = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
llm = LLM(model, dtype="float32", max_model_len=256, enforce_eager=True, max_num_seqs=4,
          enable_lora=True, max_lora_rank=8, kv_cache_memory_bytes=1 << 26)
greedy = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
request = {"prompt_token_ids": prompt}
said = [
    list(llm.generate(request, greedy, use_tqdm=False, lora_request=lora)[0].outputs[0].token_ids)
    for lora in (None, LoRARequest("judge", 1, adapter))
]
print(json.dumps(said))
"""


def greedy_tokens(folder: Path, prompt: list[int]) -> list[int]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([prompt])
    for _ in range(12):
        ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
    tokens: list[int] = ids[0, len(prompt) :].tolist()
    return tokens


def test_the_adapter_in_vllm_speaks_like_the_merged_model(tmp_path: Path) -> None:
    # Heads of 64: the smallest that vLLM's attention takes on every device.
    model = make_tiny_model(tmp_path / "tiny", hidden=256)
    write_data(tmp_path / "data")
    config = make_config("sft", lora={"rank": 8, "alpha": 32}, epochs=6, learning_rate=1e-2)
    run_here(make_task(model, tmp_path / "data", config), tmp_path / "scratch", tmp_path / "kept")
    (checkpoint,) = (tmp_path / "kept").iterdir()
    prompt = list(range(5, 40))
    env = replica_env(EngineConfig(device="cpu"), "cpu")
    done = subprocess.run(
        [sys.executable, "-c", SPEAK, str(model), str(checkpoint / "adapter"), json.dumps(prompt)],
        capture_output=True,
        text=True,
        timeout=500,
        env=os.environ | env,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    plain, adapted = json.loads(done.stdout.splitlines()[-1])
    assert plain == greedy_tokens(model, prompt)
    assert adapted == greedy_tokens(checkpoint, prompt)
    assert plain != adapted
