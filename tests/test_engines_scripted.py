"""The pool and its client over scripted replicas: real Ray processes, some of them killed."""

import asyncio
import json
import math
import os
import pickle
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import ray

from selfreward.config import EngineConfig, ScriptedConfig
from selfreward.engines.client import EngineClient
from selfreward.engines.pool import EnginePool
from selfreward.engines.protocol import Completion, GenerationRequest, Sampling
from selfreward.engines.replica import Loss
from selfreward.engines.replica_env import resources_needed
from selfreward.engines.scripted_draws import chance_of_first, draw
from selfreward.errors import EngineError, EngineTimeoutError
from selfreward.judging import prompts
from selfreward.judging.rubrics import get_pairwise_rubric
from selfreward.records import Message, ModelRef

SEED_MODEL = ModelRef(name="scripted", iteration=0, fingerprint="seed")
NEXT_MODEL = ModelRef(name="scripted", iteration=1, fingerprint="next")


def request_for(
    index: int, purpose: str = "respond", text: str | None = None, **sampling: Any
) -> GenerationRequest:
    content = f"Question {index}?" if text is None else text
    defaults: dict[str, Any] = {"temperature": 0.7, "max_tokens": 64, "seed": index}
    return GenerationRequest(
        id=f"{purpose}-{index}",
        purpose=purpose,
        messages=(Message(role="user", content=content),),
        sampling=Sampling(**(defaults | sampling)),
    )


def engine_config(**changes: Any) -> EngineConfig:
    scripted = ScriptedConfig(**changes.pop("scripted", {}))
    return EngineConfig(kind="scripted", num_cpus=0.5, scripted=scripted, **changes)


def start(engine: EngineConfig, model: ModelRef = SEED_MODEL) -> EnginePool:
    return EnginePool.start(role="judge", run_id="test", model=model, folder="", engine=engine)


def generate(client: EngineClient, requests: list[GenerationRequest]) -> list[Completion]:
    return asyncio.run(client.generate(requests))


def texts(completions: list[Completion]) -> list[list[str]]:
    return [[d.text for d in c.draws] for c in completions]


# --- what the scripted engine writes (no Ray) --------------------------------------------------


def written(request: GenerationRequest, model: ModelRef = SEED_MODEL, **config: Any) -> str:
    return draw(request, 0, model, ScriptedConfig(**config)).text


def test_a_single_call_corruption_parses() -> None:
    messages = prompts.corrupt_single_call_messages(
        (Message(role="user", content="Why is the sky blue?"),), "Because of scattering."
    )
    request = GenerationRequest(
        id="x", purpose="modify", messages=messages, sampling=request_for(0).sampling
    )
    parsed = prompts.parse_single_call(written(request))
    assert parsed is not None
    assert "(quality" in parsed[1]


def test_a_modified_instruction_parses() -> None:
    messages = prompts.modify_instruction_messages((Message(role="user", content="Why?"),))
    request = GenerationRequest(
        id="x", purpose="modify", messages=messages, sampling=request_for(0).sampling
    )
    assert prompts.parse_modified_instruction(written(request))


@pytest.mark.parametrize("guided", [True, False])
def test_a_category_parses(guided: bool) -> None:
    schema = prompts.category_json_schema() if guided else None
    text = written(request_for(1, "categorise", json_schema=schema))
    category = prompts.parse_category(text)
    assert category is not None
    assert category.category in prompts.CATEGORIES
    assert json.loads(text).keys() == {"category", "complexity", "expected_length"}


def judged(first: int, second: int, index: int = 0, **sampling: Any) -> GenerationRequest:
    text = f"Compare.\nA: (quality {first}) one.\nB: (quality {second}) two."
    return request_for(index, "judge", text, **sampling)


@pytest.mark.parametrize(
    ("first", "second", "iteration", "config", "expected"),
    [
        (8, 2, 0, {"skill": 0.6}, 0.6),
        (2, 8, 0, {"skill": 0.6}, 0.4),
        (5, 5, 0, {"skill": 0.6}, 0.5),
        (8, 2, 2, {"skill": 0.6, "skill_per_iteration": 0.1}, 0.8),
        (8, 2, 9, {"skill": 0.6, "skill_per_iteration": 0.1}, 1.0),
        # 0.5 + 0.5 * 0.4: the bias names the first half of the time, the rest is skill.
        (2, 8, 0, {"skill": 0.6, "first_position_bias": 0.5}, 0.7),
    ],
)
def test_the_chance_of_naming_the_first(
    first: int, second: int, iteration: int, config: dict[str, Any], expected: float
) -> None:
    model = ModelRef(name="scripted", iteration=iteration, fingerprint="f")
    chance = chance_of_first(judged(first, second), model, ScriptedConfig(**config))
    assert chance == pytest.approx(expected)


def test_verdicts_come_as_often_as_the_skill_says() -> None:
    config = ScriptedConfig(skill=0.7)
    verdicts = [
        draw(judged(8, 2, i, choices=("A", "B")), 0, SEED_MODEL, config).text for i in range(2000)
    ]
    # 2,000 draws at 0.7: standard error 0.010.
    assert verdicts.count("A") / 2000 == pytest.approx(0.7, abs=0.04)


def test_verdict_logps_carry_the_chance() -> None:
    config = ScriptedConfig(skill=0.75)
    request = judged(8, 2, choices=("A", "B"), logps_of=("A", "B"))
    (place,) = draw(request, 0, SEED_MODEL, config).logps
    logps = place.logps
    assert logps["A"] == pytest.approx(math.log(0.75))
    assert logps["B"] == pytest.approx(math.log(0.25))


def test_an_unguided_verdict_ends_in_brackets_and_shares_go_wrong_as_asked() -> None:
    assert written(judged(8, 2), skill=1.0).endswith("\n[[A]]")
    assert written(judged(2, 8), skill=1.0).endswith("\n[[B]]")
    assert "[[" not in written(judged(8, 2), unparsed_share=1.0)
    cut = draw(judged(8, 2), 0, SEED_MODEL, ScriptedConfig(truncated_share=1.0))
    assert cut.finish_reason == "length"


def test_a_verdict_is_written_first_where_guiding_asks_for_it() -> None:
    regex = get_pairwise_rubric("pairwise_verdict_first").guided_regex
    assert regex is not None
    request = judged(8, 2, regex=regex, logps_of=("A", "B"))
    made = draw(request, 0, SEED_MODEL, ScriptedConfig(skill=1.0))
    assert made.text.startswith("[[A]]\nThe first is sounder")
    assert re.fullmatch(regex, made.text)
    assert [place.start for place in made.logps] == [2]


def test_greedy_draws_ignore_the_seed_and_sampled_ones_do_not() -> None:
    assert written(request_for(1, seed=1, temperature=0.0)) == written(
        request_for(1, seed=2, temperature=0.0)
    )
    assert written(request_for(1, seed=1)) != written(request_for(1, seed=2))


# --- the pool ----------------------------------------------------------------------------------


@pytest.mark.ray
def test_one_and_two_replicas_give_the_same(local_ray: None) -> None:
    requests = [request_for(i, n=2) for i in range(12)]
    answers = []
    for replicas in (1, 2):
        with start(engine_config(replicas=replicas)) as pool:
            completions = generate(pool.client(), requests)
            assert [c.request_id for c in completions] == [r.id for r in requests]
            answers.append(texts(completions))
            served = [h.requests_served for h in pool.health()]
            assert sum(served) == 12
            assert min(served) > 0
    assert answers[0] == answers[1]
    # n draws of one request differ, and draw 1 of seed s is draw 0 of seed s + 1.
    assert all(first != second for first, second in answers[0])


@pytest.mark.ray
def test_faults_are_mended_stale_weights_are_not_and_long_prompts_are_told(
    local_ray: None, tmp_path: Path
) -> None:
    engine = engine_config(
        replicas=2,
        recovery_timeout_s=1.0,
        max_model_len=64,
        scripted={"fail_every": 4, "journal": str(tmp_path)},
    )
    with start(engine) as pool:
        old_client: EngineClient = pickle.loads(ray.cloudpickle.dumps(pool.client()))
        requests = [request_for(i) for i in range(20)]
        patient = pool.client()
        patient._recovery_timeout_s = 60.0
        assert len(generate(patient, requests)) == 20
        # 64 tokens of context are 256 characters here.
        long = generate(patient, [request_for(0, text="x" * 400)])[0]
        assert long.error == "prompt_too_long"
        assert long.draws == ()
        assert "100 tokens, the context 64" in long.detail

        pool.swap(NEXT_MODEL, "")
        with pytest.raises(EngineError, match="holds weights next"):
            generate(old_client, requests[:1])
        new = generate(pool.client(), requests[:1])[0]
        assert new.model == NEXT_MODEL
    # Every request that was served stands in the journal of exactly one replica, with its n.
    lines = [line for f in tmp_path.glob("*.log") for line in f.read_text().splitlines()]
    served = [line.split("\t") for line in lines]
    assert sorted(name for name, _ in served).count("respond-7") == 1
    assert {n for _, n in served} == {"1"}
    assert {f.name.rsplit("-", 1)[0] for f in tmp_path.glob("*.log")} == {"judge-0", "judge-1"}


@pytest.mark.ray
def test_a_killed_replica_comes_back_with_the_wanted_weights(local_ray: None) -> None:
    requests = [request_for(i) for i in range(60)]
    with start(engine_config(replicas=2, scripted={"delay_s": 0.3})) as pool:
        pool.swap(NEXT_MODEL, "")
        victim = pool.health()[0].pid
        client = pool.client()

        async def kill_midway() -> list[Completion]:
            work = asyncio.ensure_future(client.generate(requests))
            await asyncio.sleep(0.15)
            os.kill(victim, signal.SIGKILL)
            return await work

        completions = asyncio.run(kill_midway())
        assert [c.request_id for c in completions] == [r.id for r in requests]
        assert {c.model.fingerprint for c in completions} == {"next"}
        healths = pool.health()
        assert [h.model for h in healths] == [NEXT_MODEL, NEXT_MODEL]
        assert victim not in {h.pid for h in healths}
        assert pool.starts == 3
        # Killed from outside, it had no time for a word.
        assert pool.losses() == [Loss(replica="judge-0", said="")]
    assert pool.starts == 3


@pytest.mark.ray
def test_a_replica_without_restarts_left_is_named(local_ray: None) -> None:
    with start(engine_config(max_restarts=0)) as pool:
        client = pool.client()
        os.kill(pool.health()[0].pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="replica judge-0 died for good"):
            generate(client, [request_for(0)])


@pytest.mark.ray
def test_a_slow_answer_is_a_timeout_that_names_replica_and_request(local_ray: None) -> None:
    engine = engine_config(request_timeout_s=0.2, scripted={"delay_s": 30})
    with start(engine) as pool, pytest.raises(EngineTimeoutError, match=r"judge-0 .* respond-3"):
        generate(pool.client(), [request_for(3)])


@pytest.mark.ray
def test_a_released_pool_starts_again_with_what_is_wanted(local_ray: None) -> None:
    engine = engine_config()
    assert resources_needed(engine) == [{"CPU": 0.5}]
    with start(engine) as pool:
        pool.release()
        with pytest.raises(EngineError, match="not started"):
            pool.client()
        pool.swap(NEXT_MODEL, "")
        pool.ensure_started()
        assert [h.model for h in pool.health()] == [NEXT_MODEL]
        assert pool.starts == 2
        assert pool.losses() == [], "the pool itself had ended it"


@pytest.mark.ray
def test_a_pool_that_does_not_fit_says_what_it_waited_for(local_ray: None) -> None:
    engine = EngineConfig(kind="scripted", num_cpus=64, start_timeout_s=1.0)
    with pytest.raises(EngineTimeoutError, match=r"judge-0 to start.*64") as caught:
        start(engine)
    assert "\n" not in str(caught.value)
