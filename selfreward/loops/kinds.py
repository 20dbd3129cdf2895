"""Which loop a recipe asks for."""

from selfreward.config import RunConfig
from selfreward.layout import Layout
from selfreward.loops.self_rewarding import run_self_rewarding
from selfreward.loops.self_taught import run_self_taught
from selfreward.reports.progress import Display


def run_loop(config: RunConfig, force: str | None = None, display: Display | None = None) -> Layout:
    """Runs the loop of `loop.kind` and returns where it lies.

    Raises:
        UserError: something the user can mend, in one line.
        SelfRewardError: the engines or the training failed for good.
    """
    run = run_self_rewarding if config.loop.kind == "self_rewarding" else run_self_taught
    return run(config, force, display)
