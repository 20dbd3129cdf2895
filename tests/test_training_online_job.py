"""Online training on Ray: two trainers and two replicas whose weights change with each step."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from selfreward.config import EngineConfig
from selfreward.engines.models import model_fingerprint
from selfreward.engines.pool import EnginePool
from selfreward.engines.protocol import GenerationRequest, Sampling
from selfreward.judging.checks import passes
from selfreward.records import Message, ModelRef
from selfreward.records_custom_llm import Check
from selfreward.training.checkpoint import is_complete
from selfreward.training.online.job import OnlineJob, train_online
from selfreward.training.online.rollouts import RolloutPrompt
from selfreward.training.online.scorers import ChecksScorer
from tests.online_tools import make_online_config
from tests.tiny_model import make_tiny_model

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def make_prompts(count: int) -> tuple[RolloutPrompt, ...]:
    """The scripted engine writes 10 to 26 words."""
    return tuple(
        RolloutPrompt(
            id=f"p{i}",
            messages=(Message(role="user", content=f"Question {i}?"),),
            checks=(Check(kind="max_words", args=("18",)),),
        )
        for i in range(count)
    )


def test_training_workers_change_the_weights_of_the_pool(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    start = ModelRef(name="tiny", iteration=0, fingerprint=model_fingerprint(str(model)))
    engine = EngineConfig(kind="scripted", replicas=2, num_cpus=0.5)
    config = make_online_config(
        steps=2,
        eval_every=1,
        reward="checks",
        training={"num_workers": 2, "num_cpus_per_worker": 0.5},
    )
    with EnginePool.start(
        role="judge", run_id="test", model=start, folder=str(model), engine=engine
    ) as pool:
        job = OnlineJob(
            name="online",
            prompts=make_prompts(6),
            eval_prompts=make_prompts(3),
            config=config,
            publisher=pool.publisher(),
            scorer=ChecksScorer(passes=passes),
            iteration=6,
            output=str(tmp_path / "checkpoint"),
            storage_path=str(tmp_path / "state"),
            seed=1,
        )
        result = train_online(job)
        assert [row["step"] for row in result.history] == [1, 2]
        assert result.history[0]["rollout/count"] == 16
        assert 0 < result.history[0]["rollout/reward"] < 1
        assert [e.step for e in result.evaluations] == [0, 1, 2]
        assert set(result.evaluations[0].rewards) == {"p0", "p1", "p2"}
        assert result.model.fingerprint == model_fingerprint(job.output) != start.fingerprint
        assert is_complete(job.output)
        assert not (tmp_path / "state" / "online" / "weights").exists()
        lines = (tmp_path / "state" / "online" / "metrics.jsonl").read_text().splitlines()
        assert len(lines) == 2

        # The replicas hold what was trained, also one that dies now; the pool is told.
        healths = pool.health()
        assert [h.model for h in healths] == [result.model] * 2
        os.kill(healths[0].pid, signal.SIGKILL)
        pool.adopt(result.model, result.checkpoint)
        request = GenerationRequest(
            id="q",
            purpose="respond",
            messages=(Message(role="user", content="Why?"),),
            sampling=Sampling(temperature=1.0, max_tokens=64),
        )
        (completion,) = asyncio.run(pool.client().generate([request]))
        assert completion.model == result.model == pool.model
        assert [h.model for h in pool.health()] == [result.model] * 2
        assert pool.starts == 3

        # The same job again: its output is there, nothing is trained.
        written = (tmp_path / "checkpoint" / "model.safetensors").stat().st_mtime_ns
        assert train_online(job) == result
        assert (tmp_path / "checkpoint" / "model.safetensors").stat().st_mtime_ns == written
