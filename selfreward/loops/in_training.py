"""What a run trains on so far: a file of what is measured may be added at any time after."""

from itertools import count, takewhile

from selfreward.layout import join
from selfreward.loops.steps import Run
from selfreward.records import DropReason
from selfreward.stages.in_training import InTraining
from selfreward.storage import files
from selfreward.storage.manifest import Manifest, read_manifest
from selfreward.storage.shards import sealed_shards


def in_training(run: Run) -> InTraining:
    """The finished pool, seeds, ranked responses and created instructions of a run.

    What is not finished is made without the prompts that are measured by then.
    """
    layout = run.layout
    kept = [
        join(layout.stage(iteration, "kept"), number)
        for iteration in takewhile(lambda i: files.exists(layout.iteration(i)), count(1))
        for number in files.list_names(layout.stage(iteration, "kept"))
    ]
    return InTraining(
        pool=_finished(layout.pool),
        answered=_finished(join(layout.root, "seeds", "ift")),
        ranked=_finished(join(layout.root, "seeds", "ranked")),
        created=[url for folder in kept for url in _finished(folder)],
    )


def told_of(name: str, kind: str, manifest: Manifest) -> str:
    """A line about a file that was read, and how many of its rows are trained on.

    Example: "mine: 5 pairs; dropped {'in_training': 3}; 3 left out: the run trains on their
    prompts".
    """
    dropped = f"; dropped {manifest.drops}" if manifest.drops else ""
    trained = manifest.drops.get(DropReason.IN_TRAINING, 0)
    why = f"; {trained} left out: the run trains on their prompts" if trained else ""
    return f"{name}: {manifest.num_records} {kind}{dropped}{why}"


def _finished(folder: str) -> list[str]:
    manifest = read_manifest(folder)
    return sealed_shards(folder) if manifest is not None and manifest.is_complete else []
