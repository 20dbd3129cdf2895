"""Redoing a stage on request: its output and everything that was made from it goes."""

from typing import Literal

from selfreward.errors import UserError
from selfreward.layout import Layout, join
from selfreward.storage import files

_ASIDE = ("validation", "heldout")
_POOL = ("pool", *(f"{split}/pool" for split in _ASIDE))

# Stage -> folders under the run, and folders under each iteration; in the order in which they are
# made. Forcing one removes it and all that follow.
SELF_TAUGHT: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pool": ((*_POOL, "labelled"), ()),
    "categorise": (("categorised",), ()),
    "select_instructions": (("instructions",), ()),
    "respond": (tuple(f"{split}/responses" for split in _ASIDE), ("responses",)),
    "corrupt": (tuple(f"{split}/corrupted" for split in _ASIDE), ("corrupted",)),
    "perturb": (tuple(f"{split}/perturbed" for split in _ASIDE), ("perturbed",)),
    "gather": (tuple(f"{split}/pairs" for split in _ASIDE), ("pairs",)),
    "judge": ((), ("judgments",)),
    "select": ((), ("selected", "validation_examples")),
    "balance": ((), ("examples", "preferences")),
    "train": ((), ("training", "checkpoint")),
    "evaluate": ((), ("evaluation", "promotion.json")),
}
SELF_REWARDING: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pool": ((*_POOL, "labelled", "data", "categorised", "instructions"), ()),
    "seeds": (("seeds", "heldout/ift"), ()),
    "eft": ((), ("eft_ratings", "eft", "examples")),
    "create": ((), ("prompts", "created", "kept")),
    "sample": ((), ("responses", "first_responses")),
    "rate": ((), ("ratings", "first_ratings", "likelihoods")),
    "prefer": (
        (),
        ("examples", "preferences", "meta_pairs", "meta_judgments", "meta_preferences"),
    ),
    "train": (
        (),
        ("baseline_training", "baseline_checkpoint", "training", "checkpoint"),
    ),
    "evaluate": ((), ("evaluation", "promotion.json")),
}
# Steps whose manifests bear another name, by the stage that redoes them.
_PART_OF = {
    **dict.fromkeys(("prompts", "filter"), "create"),
    **dict.fromkeys(("likelihood",), "rate"),
    **dict.fromkeys(("meta_pairs", "meta_judge", "meta_prefer"), "prefer"),
    **dict.fromkeys(("ift",), "eft"),
    **dict.fromkeys(("labelled",), "pool"),
    **dict.fromkeys(("answer", "versus", "head_to_head"), "evaluate"),
}
# What no step of the first iteration makes: M_1 stays where only these are redone.
_FROM_SECOND = ("create", "sample", "rate", "prefer")
_MAX_ITERATIONS = 100


def remove_from(
    layout: Layout, stage: str, kind: Literal["self_taught", "self_rewarding"] = "self_taught"
) -> None:
    """Removes a stage's output, of all iterations, and what was made from it.

    Raises:
        UserError: the loop has no such stage.
    """
    stages = SELF_TAUGHT if kind == "self_taught" else SELF_REWARDING
    names = list(stages)
    stage = stage if stage in stages else _PART_OF.get(stage, stage)
    if stage not in stages:
        raise UserError(f"--force {stage}: no such stage; stages are {', '.join(names)}")
    iterations = [i for i in _iterations(layout) if i >= 2 or stage not in _FROM_SECOND]
    for name in names[names.index(stage) :]:
        once, each = stages[name]
        for folder in once:
            files.remove(join(layout.root, folder))
        for iteration in iterations:
            for folder in each:
                files.remove(layout.stage(iteration, folder))
    # Promotions were decided on what is being redone.
    files.remove(layout.current)


def _iterations(layout: Layout) -> list[int]:
    """Iterations on storage; 0 holds the seed model's evaluation."""
    return [i for i in range(_MAX_ITERATIONS) if files.exists(layout.iteration(i))]
