"""Which loop a recipe asks for."""

from selfreward.config import RunConfig
from selfreward.errors import ConfigError
from selfreward.layout import Layout
from selfreward.loops.self_rewarding import run_self_rewarding
from selfreward.loops.self_taught import run_self_taught
from selfreward.reports.progress import Display

# Sections that a loop does not read.
_UNREAD = {
    "self_taught": (
        *("seeds", "seed_training", "self_instruct", "candidates", "preferences"),
        *("meta_judge", "collapse"),
    ),
    "self_rewarding": ("corrupt", "perturb", "length_balance", "select"),
}


def run_loop(config: RunConfig, force: str | None = None, display: Display | None = None) -> Layout:
    """Runs the loop of `loop.kind` and returns where it lies.

    Raises:
        UserError: something the user can mend, in one line.
        SelfRewardError: the engines or the training failed for good.
    """
    check_sections(config)
    run = run_self_rewarding if config.loop.kind == "self_rewarding" else run_self_taught
    return run(config, force, display)


def check_sections(config: RunConfig) -> None:
    """Refuses a recipe that sets what its loop does not read: the wrong loop would run for hours.

    Raises:
        ConfigError: naming the section and both ways to mend it.
    """
    kind = config.loop.kind
    default = RunConfig()
    for name in _UNREAD[kind]:
        if name in config.model_fields_set and getattr(config, name) != getattr(default, name):
            other = next(k for k in _UNREAD if k != kind)
            raise ConfigError(
                f"{name}: loop.kind={kind} does not read this section; remove it, or set"
                f" loop.kind={other}"
            )
