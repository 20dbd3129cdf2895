"""Redoing a stage on request: its output and everything that was made from it goes."""

from selfreward.errors import UserError
from selfreward.layout import Layout, join
from selfreward.storage import files

# In the order in which they are made. Forcing one removes it and all that follow.
ONCE = ("pool", "categorise", "select_instructions", "respond", "corrupt", "perturb", "gather")
EACH_ITERATION = ("judge", "select", "balance", "train", "evaluate")
STAGES = (*ONCE, *EACH_ITERATION)
_MAX_ITERATIONS = 100


def remove_from(layout: Layout, stage: str) -> None:
    """Removes a stage's output, of all iterations, and what was made from it.

    Raises:
        UserError: there is no such stage.
    """
    if stage not in STAGES:
        raise UserError(f"--force {stage}: no such stage; stages are {', '.join(STAGES)}")
    start = STAGES.index(stage)
    doomed = [folder for name in STAGES[start:] for folder in _folders(layout, name)]
    for folder in doomed:
        files.remove(folder)
    # Promotions were decided on what is being redone.
    files.remove(layout.current)


def _folders(layout: Layout, stage: str) -> list[str]:
    aside = ("validation", "heldout")
    if stage == "pool":
        labelled = join(layout.root, "labelled")
        return [layout.pool, labelled, *(layout.split(s, "pool") for s in aside)]
    if stage == "categorise":
        return [layout.categorised]
    if stage == "select_instructions":
        return [layout.instructions]
    constructed = {
        "respond": "responses",
        "corrupt": "corrupted",
        "perturb": "perturbed",
        "gather": "pairs",
    }
    if stage in constructed:
        name = constructed[stage]
        each = [layout.stage(i, name) for i in _iterations(layout)]
        return [*each, *(layout.split(s, name) for s in aside)]
    names = {
        "judge": ["judgments"],
        "select": ["selected", "validation_examples"],
        "balance": ["examples", "preferences"],
        "train": ["training", "checkpoint"],
        "evaluate": ["evaluation", "promotion.json"],
    }[stage]
    return [layout.stage(i, name) for i in _iterations(layout) for name in names]


def _iterations(layout: Layout) -> list[int]:
    """Iterations on storage; 0 holds the seed model's evaluation."""
    return [i for i in range(_MAX_ITERATIONS) if files.exists(layout.iteration(i))]
