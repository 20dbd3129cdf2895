"""The embedded model on real vLLM replicas: what the pool promises about sampling and weights."""

import asyncio
import json
import math
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from selfreward.config import EngineConfig
from selfreward.engines.models import model_fingerprint, resolve_model
from selfreward.engines.pool import EnginePool
from selfreward.engines.protocol import Completion, GenerationRequest, Sampling
from selfreward.engines.vllm_engine import sampling_params
from selfreward.errors import EngineError
from selfreward.preflight import start_local
from selfreward.records import Message, ModelRef

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

NAME = "embedded:smollm2-135m-instruct"
CONTEXT = 512


@pytest.fixture(scope="module")
def pool() -> Iterator[EnginePool]:
    start_local(4)
    folder = resolve_model(NAME)
    model = ModelRef(name=NAME, iteration=0, fingerprint=model_fingerprint(folder))
    engine = EngineConfig(
        num_cpus=1, max_model_len=CONTEXT, max_num_seqs=16, kv_cache_gib=0.5, swap_timeout_s=300
    )
    try:
        with EnginePool.start(
            role="judge", run_id="test", model=model, folder=folder, engine=engine
        ) as started:
            yield started
    finally:
        ray.shutdown()


def ask(pool: EnginePool, text: str, **sampling: Any) -> Completion:
    return ask_all(pool, [(text, sampling)])[0]


def ask_all(pool: EnginePool, asked: list[tuple[str, dict[str, Any]]]) -> list[Completion]:
    defaults: dict[str, Any] = {"temperature": 0.0, "max_tokens": 16}
    requests = [
        GenerationRequest(
            id=f"r{i}",
            purpose="respond",
            messages=(Message(role="user", content=text),),
            sampling=Sampling(**(defaults | sampling)),
        )
        for i, (text, sampling) in enumerate(asked)
    ]
    return asyncio.run(pool.client().generate(requests))


def texts(completion: Completion) -> list[str]:
    assert completion.error is None, completion.detail
    return [d.text for d in completion.draws]


def test_greedy_answers_repeat(pool: EnginePool) -> None:
    first = ask(pool, "Name three rivers in Europe.")
    assert texts(first) == texts(ask(pool, "Name three rivers in Europe."))
    assert first.num_prompt_tokens > 10
    assert first.model == pool.model


def test_tokens_come_as_they_were_drawn_where_asked_for(pool: EnginePool) -> None:
    from transformers import AutoTokenizer

    assert ask(pool, "Say hello.", max_tokens=4).draws[0].token_ids is None
    draw = ask(pool, "Say hello.", max_tokens=24, wants_token_ids=True).draws[0]
    assert draw.token_ids is not None and len(draw.token_ids) == draw.num_tokens
    tokenizer = AutoTokenizer.from_pretrained(resolve_model("embedded:smollm2-135m-instruct"))
    assert tokenizer.decode(draw.token_ids, skip_special_tokens=True) == draw.text
    if draw.finish_reason == "stop":
        assert draw.token_ids[-1] == tokenizer.eos_token_id


def test_draws_of_one_request_differ(pool: EnginePool) -> None:
    assert len(set(texts(ask(pool, "Tell me a story.", temperature=1.0, n=3, seed=40)))) == 3


def test_draw_i_is_sampled_with_seed_plus_i() -> None:
    """Asked of vLLM itself: texts would also depend on how a batch rounds in bf16."""
    from vllm.v1.engine.parallel_sampling import ParentRequest

    params = sampling_params(Sampling(temperature=1.0, max_tokens=4, n=3, seed=40), 100, {})
    request = SimpleNamespace(request_id="r", external_req_id="r", params=params)
    parent = ParentRequest(request)  # type: ignore[arg-type]
    assert [parent.get_child_info(i)[1].seed for i in range(3)] == [40, 41, 42]


def test_guided_texts_keep_to_choices_patterns_and_schemas(pool: EnginePool) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["river", "city"]}},
        "required": ["kind"],
        "additionalProperties": False,
    }
    pattern = r"[a-z ]{5,20}\n\[\[[AB]\]\]"
    chosen, matched, parsed = ask_all(
        pool,
        [
            ("Is it better? A or B.", {"choices": ("A", "B"), "temperature": 1.0, "n": 6}),
            ("Compare.", {"regex": pattern, "max_tokens": 64, "temperature": 1.0, "n": 4}),
            ("What is Paris?", {"json_schema": json.dumps(schema), "max_tokens": 64}),
        ],
    )
    assert set(texts(chosen)) <= {"A", "B"}
    assert all(re.fullmatch(pattern, text) for text in texts(matched))
    assert json.loads(texts(parsed)[0])["kind"] in {"river", "city"}
    assert {d.finish_reason for c in (chosen, matched) for d in c.draws} == {"stop"}


def test_verdict_logps_are_those_of_the_choices(pool: EnginePool) -> None:
    draw = ask(pool, "Say A or B.", choices=("A", "B"), logps_of=("A", "B"), max_tokens=4).draws[0]
    (place,) = draw.logps
    # Under the mask of the choices the two share all of the probability.
    assert math.exp(place.logps["A"]) + math.exp(place.logps["B"]) == pytest.approx(1.0, abs=1e-3)
    assert max(place.logps, key=lambda t: place.logps[t]) == place.produced == draw.text


def test_logps_are_absent_where_no_such_token_was_written(pool: EnginePool) -> None:
    asked = {"regex": "x{1,3}", "logps_of": ("A", "B")}
    assert ask(pool, "Write x.", **asked).draws[0].logps == ()


def test_logps_are_known_where_each_such_token_stands(pool: EnginePool) -> None:
    asked = {"regex": r"A [a-z]{3,9}\n\[\[B\]\]", "logps_of": ("A", "B"), "max_tokens": 32}
    draw = ask(pool, "Write.", **asked).draws[0]
    assert [draw.text[p.start] for p in draw.logps] == ["A", "B"]
    logps = draw.logps[-1].logps
    # At the last place the pattern leaves B alone; at the first it left A alone.
    assert logps["B"] == pytest.approx(0.0, abs=1e-3)
    assert logps["A"] < -10


def test_what_does_not_fit_the_context(pool: EnginePool) -> None:
    too_long, tight = ask_all(
        pool, [("word " * 2 * CONTEXT, {}), ("word " * (CONTEXT - 60), {"max_tokens": 400})]
    )
    assert too_long.error == "prompt_too_long"
    assert too_long.detail == (
        f"prompt has {too_long.num_prompt_tokens} tokens, the context {CONTEXT}"
    )
    # No more than the context has left, and that counts as cut off.
    left = CONTEXT - tight.num_prompt_tokens
    assert 0 < left < 400
    assert tight.draws[0].num_tokens <= left
    if tight.draws[0].num_tokens == left:
        assert tight.draws[0].finish_reason == "length"


def test_finish_reasons(pool: EnginePool) -> None:
    cut, stopped = ask_all(
        pool,
        [
            ("Write a long story.", {"max_tokens": 5}),
            ("Count.", {"regex": r"one, two, three", "stop": ("two",), "max_tokens": 32}),
        ],
    )
    assert (cut.draws[0].finish_reason, cut.draws[0].num_tokens) == ("length", 5)
    assert stopped.draws[0].finish_reason == "stop"
    assert stopped.draws[0].text == "one, "


@pytest.mark.parametrize(
    ("sampling", "says"),
    [
        ({"regex": "((("}, "regex"),
        ({"logps_of": ("quite a few tokens",)}, "quite a few tokens"),
        ({"top_p": 7.0}, "top_p"),
    ],
)
def test_a_bad_request_is_told_and_harms_no_other(
    pool: EnginePool, sampling: dict[str, Any], says: str
) -> None:
    bad, good = ask_all(pool, [("Hello.", sampling), ("Hello.", {})])
    assert bad.error == "bad_request"
    assert says in bad.detail
    assert good.error is None


def perturbed_copy(folder: str, target: Path) -> str:
    """A copy of a model whose answers differ: its last norm is turned upside down, and each token
    has the embedding of the one before, which is also what predicts it: the two are tied."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, target)
    weights = load_file(target / "model.safetensors")
    assert "lm_head.weight" not in weights
    weights["model.norm.weight"] = -weights["model.norm.weight"]
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"].roll(1, dims=0)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return str(target)


def test_weights_change_in_place_and_survive_a_kill(pool: EnginePool, tmp_path: Path) -> None:
    seed_folder, seed_model = resolve_model(NAME), pool.model
    other_folder = perturbed_copy(seed_folder, tmp_path / "other")
    other_model = ModelRef(name=NAME, iteration=1, fingerprint=model_fingerprint(other_folder))
    assert other_model.fingerprint != seed_model.fingerprint
    question = "What is the capital of Italy?"
    before = texts(ask(pool, question))

    pool.swap(other_model, other_folder)
    changed = ask(pool, question)
    assert changed.model == other_model
    assert texts(changed) != before
    assert pool.starts == 1

    pool.swap(seed_model, seed_folder)
    assert texts(ask(pool, question)) == before

    pool.swap(other_model, other_folder)
    os.kill(pool.health()[0].pid, signal.SIGKILL)
    revived = ask(pool, question)
    assert revived.model == other_model
    assert texts(revived) == texts(changed)
    assert pool.starts == 2

    # Weights that are not there are refused before the engine is touched.
    with pytest.raises(EngineError, match="nowhere"):
        pool.swap(ModelRef(name=NAME, iteration=2, fingerprint="x"), "/nowhere/iter_02")
    pool.swap(seed_model, seed_folder)
    assert texts(ask(pool, question)) == before


def test_an_engine_that_cannot_start_says_why(pool: EnginePool) -> None:
    folder = resolve_model(NAME)
    engine = EngineConfig(num_cpus=1, max_model_len=100_000, kv_cache_gib=0.5)
    with pytest.raises(EngineError, match=r"judge-0 failed to start.*100000") as caught:
        EnginePool.start(
            role="judge", run_id="test", model=pool.model, folder=folder, engine=engine
        )
    assert "\n" not in str(caught.value)


def score(pool: EnginePool, targets: list[tuple[str, str]]) -> list[Completion]:
    requests = [
        GenerationRequest(
            id=f"s{i}",
            purpose="score",
            messages=(Message(role="user", content=text),),
            sampling=Sampling(temperature=0.0, max_tokens=1),
            target=target,
        )
        for i, (text, target) in enumerate(targets)
    ]
    return asyncio.run(pool.client().generate(requests))


def test_a_target_is_scored_as_transformers_scores_it(pool: EnginePool) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    cases = [
        ("Name a colour of the sky.", "Blue is the colour of the sky on a clear day."),
        ("Name a colour of the sky.", "Seventeen spoons argue about the moon."),
        ("", "Blue is the colour of the sky on a clear day."),
    ]
    folder = resolve_model(NAME)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    wanted = []
    for text, target in cases:
        turns = [{"role": "user", "content": text}]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        before, whole = (
            tokenizer(t, add_special_tokens=False, return_tensors="pt")["input_ids"]
            for t in (prompt, prompt + target)
        )
        with torch.no_grad():
            logps = torch.log_softmax(model(whole).logits[0].float(), dim=-1)
        start = before.shape[1]
        ids = whole[0, start:]
        wanted.append((float(logps[start - 1 : -1].gather(1, ids[:, None]).sum()), len(ids)))
    # Twice, since the second time the engine has the prompts in its cache.
    for _ in range(2):
        found = [c.draws[0] for c in score(pool, cases)]
        assert [d.num_tokens for d in found] == [n for _, n in wanted]
        for draw, (logp, _) in zip(found, wanted, strict=True):
            # The engine computes in bf16.
            assert draw.score == pytest.approx(logp, rel=0.03)


def test_a_target_that_does_not_fit_is_told(pool: EnginePool) -> None:
    (completion,) = score(pool, [("Go on.", "word " * (CONTEXT + 10))])
    assert completion.error == "prompt_too_long"
    (empty,) = score(pool, [("Go on.", "")])
    assert empty.error == "bad_request"
