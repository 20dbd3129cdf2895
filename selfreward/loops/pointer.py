"""Moving `current.json` to a model of a run."""

from selfreward.loops.pools import PlacedModel
from selfreward.loops.steps import Run
from selfreward.storage.checkpoints import CurrentJudge, write_current


def point_to(run: Run, model: PlacedModel, accuracy: float | None, reason: str) -> None:
    """Makes a model the run's current one; `accuracy` is None where pairs did not decide."""
    iteration = model.ref.iteration
    write_current(
        run.layout,
        CurrentJudge(
            iteration=iteration,
            # The seed by its name, since every node has its own copy of it.
            checkpoint=run.layout.checkpoint(iteration) if iteration else model.ref.name,
            fingerprint=model.ref.fingerprint,
            accuracy=accuracy,
            reason=reason,
        ),
    )
