"""The README's examples on `selfreward serve` with the embedded model on real vLLM."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfreward.benchmarks.servers import answers
from selfreward.client import JudgeClient, PairwiseJudgment, RationaleDelta
from tests.loop_tools import wait_until
from tests.serving_tools import free_port, start_serving

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

README = Path(__file__).parents[1] / "README.md"


def example(language: str, holding: str) -> str:
    """The one code block of that language which holds a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)
    (found,) = [block for block in blocks if holding in block]
    return str(found)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    process = start_serving(
        "embedded:smollm2-135m-instruct",
        "--no-auth",
        f"serving.port={port}",
        f"serving.state_dir={tmp_path_factory.mktemp('state')}",
        "engine.max_model_len=1024",
        "engine.kv_cache_gib=0.5",
        "ray.num_cpus=3",
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until("readiness", lambda: process.poll() is not None or answers(f"{address}/readyz"))
        assert process.poll() is None, process.stdout and process.stdout.read()
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


def run(command: list[str]) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl(address: str) -> None:
    command = example("bash", "curl").replace("http://127.0.0.1:8000", address)
    judgment = json.loads(run(["bash", "-c", command]))
    assert judgment["outcome"] in ("choice", "tie")
    assert 0 <= judgment["orders"][0]["probability_first"] <= 1
    assert judgment["judge"]["model"] == "embedded:smollm2-135m-instruct"


def test_the_python_client(address: str) -> None:
    code = example("python", "JudgeClient").replace("http://127.0.0.1:8000", address)
    outcome, *_, version = run([sys.executable, "-c", code]).split()
    assert outcome in ("choice", "tie")
    assert version == "1"


def test_the_openai_client(address: str) -> None:
    code = example("python", "OpenAI").replace("http://127.0.0.1:8000", address)
    models, answer = run([sys.executable, "-c", code]).strip().split("\n", 1)
    assert models.startswith("['judge'")
    assert answer.strip()


def test_a_streamed_rationale_of_the_real_model(address: str) -> None:
    judge = JudgeClient(address)
    *pieces, judgment = judge.stream_pairwise(
        "Name a prime number.", "Seven.", "Eight.", rationale=True, votes=1
    )
    assert isinstance(judgment, PairwiseJudgment)
    # The reason and its verdict are guided, so that even this model always ends in one.
    assert judgment.outcome in ("choice", "tie"), judgment.detail
    deltas = [piece for piece in pieces if isinstance(piece, RationaleDelta)]
    assert len(deltas) == len(pieces)
    streamed = [delta.text for delta in deltas if delta.shown == "first_second"]
    assert len(streamed) > 3
    assert "".join(streamed).strip() == judgment.orders[0].rationales[0].strip()
