"""The scripted engine's draws: texts, verdicts and scores by the quality marks, likelihoods.

A draw depends on (purpose, messages, seed, model iteration) alone, so any replica, any order and
any rerun give the same.
"""

import math
import re

from selfreward.config import ScriptedConfig
from selfreward.engines.protocol import Draw, GenerationRequest
from selfreward.engines.scripted_texts import QUALITY_MARK, Dice, write_answer
from selfreward.judging.token_logps import TokenLogps
from selfreward.records import ModelRef

_SCALE = re.compile(r"\[(\d)-(\d)\]")
_SHOWN = re.compile(r"<response-([A-D])-\w+>\n(.*?)\n</response-", re.DOTALL)


def draw(request: GenerationRequest, index: int, model: ModelRef, config: ScriptedConfig) -> Draw:
    """Draw `index` of a request, sampled with seed + index (greedy: the seed has no say)."""
    sampling = request.sampling
    seed = sampling.seed + index if sampling.temperature > 0 else None
    messages = [[m.role, m.content] for m in request.messages]
    dice = Dice(request.purpose, messages, seed, model.iteration)
    if request.purpose == "judge":
        return judge_draw(request, dice, model, config)
    if request.purpose == "best_of":
        return best_of_draw(request, dice, model, config)
    if request.purpose == "rate":
        return rate_draw(request, dice, model, config)
    text = write_answer(request, dice)
    words = text.split()
    if len(words) > sampling.max_tokens:
        kept = " ".join(words[: sampling.max_tokens])
        return Draw(text=kept, finish_reason="length", num_tokens=sampling.max_tokens)
    return Draw(text=text, finish_reason="stop", num_tokens=len(words))


def chance_of_first(request: GenerationRequest, model: ModelRef, config: ScriptedConfig) -> float:
    """P(the verdict names the first response), from the quality marks of the last user turn.

    With skill s, first-position bias b and the better response first it is b + (1 - b) s, with
    the better one second b + (1 - b)(1 - s), without marks to tell b + (1 - b) / 2.
    """
    user = [m.content for m in request.messages if m.role == "user"][-1]
    marks = [int(m) for m in QUALITY_MARK.findall(user)][-2:]
    skill = min(1.0, config.skill + model.iteration * config.skill_per_iteration)
    fair = 0.5
    if len(marks) == 2 and marks[0] != marks[1]:
        fair = skill if marks[0] > marks[1] else 1.0 - skill
    bias = config.first_position_bias
    return bias + (1.0 - bias) * fair


def judge_draw(
    request: GenerationRequest, dice: Dice, model: ModelRef, config: ScriptedConfig
) -> Draw:
    """One verdict: guided choices as asked, otherwise a short reason and `[[A]]` or `[[B]]`, in the
    order that guiding asks for."""
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
        reason = f"The {'first' if first else 'second'} is sounder ({dice.tag()})."
        parts = [reason, "[[A]]" if first else "[[B]]"]
        verdict_first = (request.sampling.regex or "").startswith(r"\[\[")
        text = "\n".join(reversed(parts) if verdict_first else parts)
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


def best_of_draw(
    request: GenerationRequest, dice: Dice, model: ModelRef, config: ScriptedConfig
) -> Draw:
    """A letter of those shown: that of the best quality mark with the judge's skill, else any."""
    if dice.unit("fate") < config.unparsed_share:
        return Draw(text="All have their merits.", finish_reason="stop", num_tokens=4)
    user = [m.content for m in request.messages if m.role == "user"][-1]
    shown = _SHOWN.findall(user)
    marks = [max(map(int, QUALITY_MARK.findall(text)), default=0) for _, text in shown]
    skill = min(1.0, config.skill + model.iteration * config.skill_per_iteration)
    letter = shown[dice.between("slot", 0, len(shown) - 1)][0]
    if dice.unit("verdict") < skill:
        letter = shown[marks.index(max(marks))][0]
    text = letter
    if not request.sampling.choices:
        text = f"One of them is sounder ({dice.tag()}).\n[[{letter}]]"
    return Draw(text=text, finish_reason="stop", num_tokens=len(text.split()))


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
    marks = [int(m) for m in QUALITY_MARK.findall(user)]
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


def scored(request: GenerationRequest, target: str, model: ModelRef) -> Draw:
    """A likelihood: the better the quality mark, the likelier each word; without a prompt to go
    with, every word is as likely as the next. A trained model finds each text a little likelier,
    by an amount of its own."""
    words = target.split()
    mark = QUALITY_MARK.search(target)
    quality = int(mark[1]) if mark and any(m.content for m in request.messages) else 0
    score = -len(words) * (2.0 - quality / 10)
    if model.iteration:
        score += model.iteration * (quality / 10 + Dice(target, model.iteration).unit("moved"))
    return Draw(text=target, finish_reason="stop", num_tokens=len(words), score=score)
