"""Redoing a stage on request: its output and everything that was made from it goes."""

from dataclasses import dataclass
from typing import Literal

from selfreward.errors import UserError
from selfreward.layout import Layout, join
from selfreward.storage import files
from selfreward.storage.checkpoints import read_current

Kind = Literal["self_taught", "self_rewarding", "custom_llm"]

_ASIDE = ("validation", "heldout")
_POOL = ("pool", *(f"{split}/pool" for split in _ASIDE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a stage makes.

    Example: `Stage(each=("responses",), first=2)`
    """

    once: tuple[str, ...] = ()
    """Folders under the run."""
    each: tuple[str, ...] = ()
    """Folders under each iteration."""
    measured: tuple[str, ...] = ()
    """Folders of an iteration's evaluation that are made of it: also of the models before, which
    stay."""
    first: int = 0
    """The first iteration that it, or its settings, have a part in; 0 is the seed's evaluation."""
    last: int | None = None
    """The last one that it is done in, where that is not the run's."""


def _split(stage: str) -> tuple[str, ...]:
    return tuple(f"{split}/{stage}" for split in _ASIDE)


_EVALUATE = Stage(once=("labelled", "data"), each=("evaluation", "promotion.json"))

# In the order in which they are made.
SELF_TAUGHT: dict[str, Stage] = {
    "pool": Stage(once=_POOL),
    "categorise": Stage(once=("categorised", *_split("categorised"))),
    "select_instructions": Stage(once=("instructions", *_split("instructions"))),
    "respond": Stage(once=_split("responses"), each=("responses",)),
    "corrupt": Stage(once=_split("corrupted"), each=("corrupted",)),
    "perturb": Stage(once=_split("perturbed"), each=("perturbed",)),
    "gather": Stage(once=_split("pairs"), each=("pairs",)),
    "score": Stage(each=("pair_scores",), first=1),
    # Its rubric is that of the seed's evaluation as well.
    "judge": Stage(each=("judgments",)),
    "select": Stage(each=("selected", "validation_examples"), first=1),
    "balance": Stage(each=("examples", "preferences"), first=1),
    "train": Stage(each=("training", "checkpoint"), first=1),
    "evaluate": _EVALUATE,
}
SELF_REWARDING: dict[str, Stage] = {
    "pool": Stage(once=_POOL),
    # M_1 learns from the seeds: what is selected of the pool is answered from M_1 on.
    "categorise": Stage(once=("categorised",), first=2),
    "select_instructions": Stage(once=("instructions",), first=2),
    "seeds": Stage(once=("seeds", "heldout/ift")),
    # The seed scores itself by the same rubric. The baseline writes the judgments to learn from.
    "eft": Stage(
        each=("baseline_training", "baseline_checkpoint", "eft_ratings", "eft", "examples"), last=1
    ),
    "create": Stage(each=("prompts", "created", "kept"), first=2),
    "sample": Stage(each=("responses", "first_responses"), first=2),
    "rate": Stage(each=("ratings", "first_ratings", "likelihoods"), first=2),
    "prefer": Stage(
        each=(
            *("examples", "preferences", "round.json"),
            *("meta_pairs", "meta_judgments", "meta_preferences"),
        ),
        first=2,
    ),
    "train": Stage(each=("training", "checkpoint"), first=1),
    "evaluate": _EVALUATE,
}
CUSTOM_LLM: dict[str, Stage] = {
    "corpus": Stage(once=("corpus",)),
    "tokenizer": Stage(once=("tokenizer",)),
    "initialise": Stage(once=("initialise", "initial")),
    "pack": Stage(each=("tokens", "held_tokens", "replay_tokens"), first=1, last=2),
    "tasks": Stage(
        once=("tasks",), each=("examples",), measured=("tasks", "instructions"), first=3
    ),
    "rankings": Stage(
        once=("rankings",),
        each=("preferences", "heldout_preferences"),
        measured=("own_answers",),
        first=5,
        last=5,
    ),
    "train": Stage(
        once=("online",),
        each=("reward_model_training", "reward_model_checkpoint", "training", "checkpoint"),
        # By the reward model, the trained one or a named one.
        measured=("rewards", "ranked"),
        first=1,
    ),
    "evaluate": Stage(each=("evaluation",)),
}
_STAGES: dict[Kind, dict[str, Stage]] = {
    "self_taught": SELF_TAUGHT,
    "self_rewarding": SELF_REWARDING,
    "custom_llm": CUSTOM_LLM,
}
# Steps whose manifests bear another name, by the stage that redoes them.
_PART_OF = {
    "validation_examples": "select",
    **dict.fromkeys(("prompts", "filter"), "create"),
    **dict.fromkeys(("likelihood",), "rate"),
    **dict.fromkeys(("meta_pairs", "meta_judge", "meta_prefer"), "prefer"),
    **dict.fromkeys(("ift",), "eft"),
    **dict.fromkeys(("labelled", "answer", "versus", "head_to_head"), "evaluate"),
}
_PART_OF_CUSTOM_LLM = {
    "task_examples": "tasks",
    "ranking_preferences": "rankings",
    **dict.fromkeys(("reinforce", "labelled"), "train"),
    **dict.fromkeys(("answer_tasks", "answer_rankings", "likelihood"), "evaluate"),
    **dict.fromkeys(("reward_answers", "score_rankings"), "evaluate"),
}
# The first stage that asks a trained model: in a later iteration it and all that follow it are
# made from the models before.
_ASKS_TRAINED: dict[Kind, str] = {
    "self_taught": "judge",
    "self_rewarding": "eft",
    "custom_llm": "train",
}
_PAIRS = ("respond", "corrupt", "perturb", "gather", "score")
_MAX_ITERATIONS = 100


def check_force(layout: Layout, force: str, kind: Kind) -> None:
    """Looks up what `STAGE` or `STAGE@ITERATION` names, and removes nothing.

    Raises:
        UserError: the loop has no such stage, or the run no such iteration of it.
    """
    stage, start = _parse(layout, force, kind)
    if start is not None and kind == "self_taught" and stage in _PAIRS:
        _check_pairs(layout, force, start)


def remove_from(layout: Layout, force: str, kind: Kind = "self_taught") -> None:
    """Removes a stage's output and what was made from it, of `STAGE` or `STAGE@ITERATION`.

    In the first iteration that is redone the stage goes and all that follow it; in every later one
    all that asked a model trained since. `evaluate` alone touches no model and no training data.
    From an iteration on, what the run makes once for all of them stays. Of the evaluations before
    goes what is measured on data, or by a reward model, that is being redone.

    Raises:
        UserError: the loop has no such stage, or the run no such iteration of it.
    """
    check_force(layout, force, kind)
    stages = _STAGES[kind]
    stage, start = _parse(layout, force, kind)
    names = list(stages)
    begin = names.index(stage)
    redone = names[begin:]
    if start is None:
        start = stages[stage].first
        for folder in _once(stages, stage):
            files.remove(join(layout.root, folder))
    else:
        # The data stays; only what is trained on it is redone.
        redone = [name for name in redone if name == "train"]
    measured = [folder for name in redone for folder in stages[name].measured]
    later = begin if stage == "evaluate" else min(begin, names.index(_ASKS_TRAINED[kind]))
    if stage == "train" and files.exists(layout.stage(start, "baseline_training")):
        # A training too, of which the judgments to learn from are made.
        begin = names.index("eft")
    for iteration in _iterations(layout):
        if iteration < start:
            for folder in measured:
                files.remove(join(layout.evaluation(iteration), folder))
            continue
        for name in names[begin if iteration == start else later :]:
            for folder in stages[name].each:
                files.remove(layout.stage(iteration, folder))
    current = read_current(layout)
    if current is not None and current.iteration >= start:
        # Its promotion was decided on what is being redone.
        files.remove(layout.current)


def _parse(layout: Layout, force: str, kind: Kind) -> tuple[str, int | None]:
    """The stage, and the iteration to begin with if one is named."""
    stages, parts = _STAGES[kind], _PART_OF_CUSTOM_LLM if kind == "custom_llm" else _PART_OF
    name, at, number = force.partition("@")
    stage = name if name in stages else parts.get(name, name)
    if stage not in stages:
        raise UserError(f"--force {force}: no such stage; stages are {', '.join(stages)}")
    if not at:
        return stage, None
    if not (number.isascii() and number.isdecimal()):
        raise UserError(f"--force {force}: behind @ stands an iteration, as in train@2")
    made = stages[stage]
    if not made.each or name == "labelled":
        raise UserError(f"--force {force}: it is made once for all iterations; leave @{number} out")
    # Only the seed's evaluation is in iteration 0.
    first = made.first if stage == "evaluate" else max(1, made.first)
    last = made.last or _last_iteration(layout)
    if not first <= int(number) <= last:
        there = f"there is {stage} in iterations {first} to {last}"
        if last <= first:
            there = f"only iteration {first} has {stage}" if last == first else f"no {stage} yet"
        raise UserError(f"--force {force}: no such iteration; {there}")
    return stage, int(number)


def _once(stages: dict[str, Stage], stage: str) -> list[str]:
    """Folders under the run that go with a stage."""
    names = list(stages)
    found = list(stages[stage].once)
    for name in names[names.index(stage) + 1 :]:
        # The evaluation's sets are read from files; they share only the pool's limits.
        apart = name == "evaluate" and stage != "pool"
        if not apart and stages[name].first >= stages[stage].first:
            found += stages[name].once
    return found


def _check_pairs(layout: Layout, force: str, iteration: int) -> None:
    """An iteration has pairs of its own only with `loop.new_pairs_each_iteration`."""
    folders = [f for name in _PAIRS for f in SELF_TAUGHT[name].each]
    if iteration > 1 and not any(files.exists(layout.stage(iteration, f)) for f in folders):
        raise UserError(
            f"--force {force}: iteration {iteration} has no pairs of its own (see"
            " loop.new_pairs_each_iteration); begin with iteration 1"
        )


def _last_iteration(layout: Layout) -> int:
    try:
        planned: int = files.read_json(layout.run_json)["iterations"]
    except FileNotFoundError:
        planned = 0
    return max(planned, *_iterations(layout), 0)


def _iterations(layout: Layout) -> list[int]:
    """Iterations on storage; 0 holds the seed model's evaluation."""
    return [i for i in range(_MAX_ITERATIONS) if files.exists(layout.iteration(i))]
