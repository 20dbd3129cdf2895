"""A replica without a model: deterministic answers, planned faults, real Ray processes to kill.

An answer depends on (purpose, messages, seed, model iteration) alone, so any replica, any order
and any rerun give the same. Answers to an instruction carry a hidden quality mark, which is how
the scripted judge knows the better one.
"""

import asyncio
import hashlib
import json
import math
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from selfreward.config import ScriptedConfig
from selfreward.engines.protocol import Completion, Delta, Draw, GenerationRequest, ReplicaHealth
from selfreward.engines.replica import Board, BoardClient, ReplicaSpec, WeightsGate
from selfreward.errors import TransientEngineError
from selfreward.judging import prompts
from selfreward.judging.token_logps import TokenLogps
from selfreward.records import ModelRef

CHARS_PER_TOKEN = 4
_QUALITY = re.compile(r"\(quality (\d+)\)")
_SENTENCE = (
    "the answer weighs each part of the question gives a short reason names one example and"
    " closes with what follows from it for the reader who asked"
)
_WORDS = _SENTENCE.split()


class Dice:
    """Numbers that depend on the given parts and on nothing else."""

    def __init__(self, *parts: object) -> None:
        text = json.dumps(parts, ensure_ascii=False, sort_keys=True)
        self._key = hashlib.sha256(text.encode()).digest()

    def unit(self, label: str) -> float:
        """A number in [0, 1)."""
        digest = hashlib.sha256(self._key + label.encode()).digest()
        return int.from_bytes(digest[:7], "big") / 2**56

    def between(self, label: str, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.unit(label) * (high - low + 1))

    def tag(self) -> str:
        return self._key.hex()[:8]


def _prose(dice: Dice, low: int, high: int) -> str:
    start = dice.between("start", 0, len(_WORDS) - 1)
    words = [_WORDS[(start + i) % len(_WORDS)] for i in range(dice.between("words", 8, 24))]
    return f"(quality {dice.between('quality', low, high)}) {' '.join(words)} {dice.tag()}."


def _good_answer(request: GenerationRequest, dice: Dice) -> str:
    return _prose(dice, 6, 9)


def _bad_answer(request: GenerationRequest, dice: Dice) -> str:
    return _prose(dice, 1, 4)


def _modified_instruction(request: GenerationRequest, dice: Dice) -> str:
    instruction = f"Describe a related but different matter, number {dice.tag()}."
    header = prompts.MODIFIED_INSTRUCTION_HEADER
    if not any(header in m.content for m in request.messages):
        return instruction
    answer = _bad_answer(request, dice)
    return f"{header}\n{instruction}\n\n{prompts.ANSWER_START}\n{answer}\n{prompts.ANSWER_END}"


def _sampled_answer(request: GenerationRequest, dice: Dice) -> str:
    return f"The answer is {dice.between('answer', 1, 4)}."


def _category(request: GenerationRequest, dice: Dice) -> str:
    schema = json.loads(request.sampling.json_schema or prompts.category_json_schema())
    properties: dict[str, Any] = schema.get("properties", {})
    return json.dumps({name: _json_value(name, kind, dice) for name, kind in properties.items()})


def _json_value(name: str, kind: dict[str, Any], dice: Dice) -> Any:
    if "enum" in kind:
        return kind["enum"][dice.between(name, 0, len(kind["enum"]) - 1)]
    if kind.get("type") == "integer":
        return dice.between(name, kind.get("minimum", 1), kind.get("maximum", 10))
    return f"{name} {dice.tag()}"


_TASKS = ("Explain", "List facts about", "Write a letter about", "Compare two kinds of")
_SYLLABLES = ("ba", "ko", "ri", "ten", "mul", "sa", "vor", "ni", "lek", "du", "fam", "pos")


def _new_instruction(request: GenerationRequest, dice: Dice) -> str:
    """A task about things with made-up names, so that few are alike."""

    def name(number: int) -> str:
        places = (dice.between(f"{number}/{i}", 0, len(_SYLLABLES) - 1) for i in range(3))
        return "".join(_SYLLABLES[place] for place in places)

    task = _TASKS[dice.between("task", 0, len(_TASKS) - 1)]
    return f"{task} {' '.join(name(number) for number in range(6))}."


def _candidate(request: GenerationRequest, dice: Dice) -> str:
    return _prose(dice, 1, 9)


ANSWERS: dict[str, Callable[[GenerationRequest, Dice], str]] = {
    "categorise": _category,
    "respond": _good_answer,
    "modify": _modified_instruction,
    "respond_modified": _bad_answer,
    "rewrite": _bad_answer,
    "sample": _sampled_answer,
    "create": _new_instruction,
    "candidate": _candidate,
}
"""Purpose → what is written. `judge` is drawn by `judge_draw`, `rate` by `rate_draw`."""


def chance_of_first(request: GenerationRequest, model: ModelRef, config: ScriptedConfig) -> float:
    """P(the verdict names the first response), from the quality marks of the last user turn.

    With skill s, first-position bias b and the better response first it is b + (1 - b) s, with
    the better one second b + (1 - b)(1 - s), without marks to tell b + (1 - b) / 2.
    """
    user = [m.content for m in request.messages if m.role == "user"][-1]
    marks = [int(m) for m in _QUALITY.findall(user)][-2:]
    skill = min(1.0, config.skill + model.iteration * config.skill_per_iteration)
    fair = 0.5
    if len(marks) == 2 and marks[0] != marks[1]:
        fair = skill if marks[0] > marks[1] else 1.0 - skill
    bias = config.first_position_bias
    return bias + (1.0 - bias) * fair


def judge_draw(
    request: GenerationRequest, dice: Dice, model: ModelRef, config: ScriptedConfig
) -> Draw:
    """One verdict: guided choices as asked, otherwise a short reason and `[[A]]` or `[[B]]`."""
    fate = dice.unit("fate")
    if fate < config.unparsed_share:
        return Draw(text="Both have their merits.", finish_reason="stop", num_tokens=4)
    if fate < config.unparsed_share + config.truncated_share:
        limit = request.sampling.max_tokens
        return Draw(text="Weighing them,", finish_reason="length", num_tokens=limit)
    p_first = chance_of_first(request, model, config)
    first = dice.unit("verdict") < p_first
    if request.sampling.choices:
        text = request.sampling.choices[0 if first else 1]
    else:
        text = f"The {'first' if first else 'second'} is sounder ({dice.tag()}).\n"
        text += "[[A]]" if first else "[[B]]"
    if request.sampling.temperature == 0:
        # A greedy verdict is the likelier one by its own probabilities.
        p_first = max(p_first, 1 - p_first) if first else min(p_first, 1 - p_first)
    logps: tuple[TokenLogps, ...] = ()
    if len(request.sampling.logps_of) == 2:
        p = min(max(p_first, 1e-6), 1 - 1e-6)
        values = (math.log(p), math.log1p(-p))
        found = dict(zip(request.sampling.logps_of, values, strict=True))
        logps = _last_written(text, found)
    return Draw(text=text, finish_reason="stop", num_tokens=len(text.split()), logps=logps)


_SCALE = re.compile(r"\[(\d)-(\d)\]")


def rate_draw(
    request: GenerationRequest, dice: Dice, model: ModelRef, config: ScriptedConfig
) -> Draw:
    """A reason and a score: the quality mark of what is scored, on the rubric's scale, right with
    the judge's skill and otherwise any score."""
    if dice.unit("fate") < config.unparsed_share:
        return Draw(text="It has its merits.", finish_reason="stop", num_tokens=4)
    found = _SCALE.search(request.sampling.regex or "")
    low, high = (int(found[1]), int(found[2])) if found else (0, 5)
    user = [m.content for m in request.messages if m.role == "user"][-1]
    marks = [int(m) for m in _QUALITY.findall(user)]
    skill = min(1.0, config.skill + model.iteration * config.skill_per_iteration)
    score = dice.between("score", low, high)
    if marks and dice.unit("verdict") < skill:
        score = low + round(marks[-1] / 9 * (high - low))
    labels = request.sampling.logps_of
    by_label: dict[str, float] = {}
    if labels:
        share = math.log(0.1 / max(1, len(labels) - 1))
        by_label = {x: math.log(0.9) if x == str(score) else share for x in labels}
    text = f"What is said bears on the task ({dice.tag()}).\nScore: {score}"
    return Draw(
        text=text,
        finish_reason="stop",
        num_tokens=len(text.split()),
        logps=_last_written(text, by_label),
    )


def _last_written(text: str, logps: dict[str, float]) -> tuple[TokenLogps, ...]:
    """The log-probabilities where the last of their texts stands, which is the verdict."""
    start, produced = max(((text.rfind(label), label) for label in logps), default=(-1, ""))
    return () if start < 0 else (TokenLogps(produced=produced, start=start, logps=logps),)


def draw(request: GenerationRequest, index: int, model: ModelRef, config: ScriptedConfig) -> Draw:
    """Draw `index` of a request, sampled with seed + index (greedy: the seed has no say)."""
    sampling = request.sampling
    seed = sampling.seed + index if sampling.temperature > 0 else None
    messages = [[m.role, m.content] for m in request.messages]
    dice = Dice(request.purpose, messages, seed, model.iteration)
    if request.purpose == "judge":
        return judge_draw(request, dice, model, config)
    if request.purpose == "rate":
        return rate_draw(request, dice, model, config)
    text = ANSWERS.get(request.purpose, _good_answer)(request, dice)
    words = text.split()
    if len(words) > sampling.max_tokens:
        kept = " ".join(words[: sampling.max_tokens])
        return Draw(text=kept, finish_reason="length", num_tokens=sampling.max_tokens)
    return Draw(text=text, finish_reason="stop", num_tokens=len(words))


def scored(request: GenerationRequest, target: str, model: ModelRef) -> Draw:
    """A likelihood: the better the quality mark, the likelier each word; without a prompt to go
    with, every word is as likely as the next. A trained model finds each text a little likelier,
    by an amount of its own."""
    words = target.split()
    mark = _QUALITY.search(target)
    quality = int(mark[1]) if mark and any(m.content for m in request.messages) else 0
    score = -len(words) * (2.0 - quality / 10)
    if model.iteration:
        score += model.iteration * (quality / 10 + Dice(target, model.iteration).unit("moved"))
    return Draw(text=target, finish_reason="stop", num_tokens=len(words), score=score)


class ScriptedReplica:
    """The scripted engine behind the same methods as `VLLMReplica`; one Ray actor each."""

    def __init__(self, spec: ReplicaSpec, board: str | Board) -> None:
        self._spec = spec
        self._config = spec.engine.scripted
        board = BoardClient(board) if isinstance(board, str) else board
        self._gate = WeightsGate(spec.name, board.begin_start().model)
        self._asked = 0
        self._journal = None
        if self._config.journal is not None:
            folder = Path(self._config.journal)
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{spec.name}-{os.getpid()}.log"
            self._journal = (folder / name).open("a", encoding="utf-8")

    async def generate(self, request: GenerationRequest, expected_fingerprint: str) -> Completion:
        """Answers one request.

        Raises:
            StaleWeightsError: this replica holds other weights.
            TransientEngineError: a planned fault (`fail_every`).
        """
        async with self._gate.request(expected_fingerprint) as model:
            self._asked += 1
            if self._config.fail_every and self._asked % self._config.fail_every == 0:
                raise TransientEngineError(f"replica {self._spec.name}: planned fault")
            if self._config.delay_s:
                await asyncio.sleep(self._config.delay_s)
            completion = self._complete(request, model)
            if self._journal is not None:
                self._journal.write(f"{request.id}\t{request.sampling.n}\n")
                self._journal.flush()
            return completion

    async def generate_stream(
        self, request: GenerationRequest, expected_fingerprint: str
    ) -> AsyncIterator[Delta | Completion]:
        """The same answer word by word, the whole `Completion` last; `delay_s` is between words."""
        async with self._gate.request(expected_fingerprint) as model:
            completion = self._complete(request, model)
            for index, drawn in enumerate(completion.draws):
                for word in re.findall(r"\s*\S+|\s+$", drawn.text):
                    await asyncio.sleep(self._config.delay_s)
                    yield Delta(draw=index, text=word)
            yield completion

    def _complete(self, request: GenerationRequest, model: ModelRef) -> Completion:
        num_chars = sum(len(m.content) for m in request.messages)
        num_prompt_tokens = math.ceil(num_chars / CHARS_PER_TOKEN)
        context = self._spec.engine.max_model_len
        if num_prompt_tokens > context:
            return Completion(
                request_id=request.id,
                model=model,
                num_prompt_tokens=num_prompt_tokens,
                error="prompt_too_long",
                detail=f"prompt has {num_prompt_tokens} tokens, the context {context}",
            )
        if request.target is not None:
            draws: tuple[Draw, ...] = (scored(request, request.target, model),)
        else:
            draws = tuple(draw(request, i, model, self._config) for i in range(request.sampling.n))
        return Completion(
            request_id=request.id, model=model, draws=draws, num_prompt_tokens=num_prompt_tokens
        )

    async def fetch(self, model: ModelRef, folder: str) -> None:
        """Nothing is to be brought: there are no weights."""

    async def swap(self, model: ModelRef, folder: str, timeout_s: float) -> float:
        """Changes the weights the replica says it holds; returns the seconds it took."""
        start = time.monotonic()
        async with self._gate.change(timeout_s):
            self._gate.model = model
        return time.monotonic() - start

    def stalled_s(self) -> float:
        """Seconds without a step while there is work: it never stands still."""
        return 0.0

    async def health(self) -> ReplicaHealth:
        return self._gate.health(num_starts=1)
