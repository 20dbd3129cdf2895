"""Which loop a recipe asks for."""

from selfreward.config import RunConfig
from selfreward.errors import ConfigError
from selfreward.layout import Layout, absolute_path
from selfreward.loops.custom_llm import run_custom_llm
from selfreward.loops.self_rewarding import run_self_rewarding
from selfreward.loops.self_taught import run_self_taught
from selfreward.preflight import check_place
from selfreward.reports.page.write import keep_page
from selfreward.reports.progress import Display

# Sections that a loop does not read.
_REWARDING = ("seeds", "seed_training", "self_instruct", "candidates", "preferences", "meta_judge")
_UNREAD = {
    "self_taught": (*_REWARDING, "collapse", "custom_llm"),
    "self_rewarding": ("corrupt", "perturb", "length_balance", "select", "custom_llm"),
    "custom_llm": (
        *(*_REWARDING, "collapse", "generator", "select_instructions", "respond", "corrupt"),
        *("perturb", "length_balance", "select", "training", "promotion"),
    ),
}
_LOOPS = {
    "self_taught": run_self_taught,
    "self_rewarding": run_self_rewarding,
    "custom_llm": run_custom_llm,
}


def run_loop(config: RunConfig, force: str | None = None, display: Display | None = None) -> Layout:
    """Runs the loop of `loop.kind`, writes the page of the run however the attempt ended, and
    returns where it lies.

    Raises:
        UserError: something the user can mend, in one line.
        SelfRewardError: the engines or the training failed for good.
    """
    check_sections(config)
    check_place(config.run_dir, "run_dir")
    told = display or Display()
    try:
        return _LOOPS[config.loop.kind](config, force, told)
    finally:
        keep_page(Layout(absolute_path(config.run_dir)), told)


def check_sections(config: RunConfig) -> None:
    """Refuses a recipe that sets what its loop does not read: the wrong loop would run for hours.

    Raises:
        ConfigError: naming the section and both ways to mend it.
    """
    kind = config.loop.kind
    default = RunConfig()
    for name in _UNREAD[kind]:
        if name in config.model_fields_set and getattr(config, name) != getattr(default, name):
            other = next(k for k in _UNREAD if name not in _UNREAD[k])
            raise ConfigError(
                f"{name}: loop.kind={kind} does not read this section; remove it, or set"
                f" loop.kind={other}"
            )
