"""Which loop a recipe asks for, and what is refused of a recipe before anything is looked at."""

from collections.abc import Callable
from typing import Any

from selfreward.config import RunConfig
from selfreward.errors import ConfigError
from selfreward.layout import Layout, absolute_path
from selfreward.loops.custom_llm import run_custom_llm
from selfreward.loops.llm_checks import check_stages
from selfreward.loops.self_rewarding import check_recipe, run_self_rewarding
from selfreward.loops.self_taught import check_names, run_self_taught
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
# Keys that a loop does not read of the section `loop`, which it reads, and what to do besides or
# instead of removing them.
_OF_SELF_TAUGHT = dict.fromkeys(
    ("start_from", "judge_with", "new_pairs_each_iteration"), "or set loop.kind=self_taught"
)
_UNREAD_KEYS: dict[str, dict[str, str]] = {
    "self_taught": {},
    "self_rewarding": _OF_SELF_TAUGHT,
    "custom_llm": {**_OF_SELF_TAUGHT, "iterations": "and name the stages in custom_llm.stages"},
}
_CHECKS: dict[str, Callable[[RunConfig], Any]] = {
    "self_taught": check_names,
    "self_rewarding": check_recipe,
    "custom_llm": check_stages,
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
    check_loop(config)
    told = display or Display()
    try:
        return _LOOPS[config.loop.kind](config, force, told)
    finally:
        keep_page(Layout(absolute_path(config.run_dir)), told)


def check_loop(config: RunConfig) -> None:
    """Refuses what is wrong with a recipe by itself, whatever machine it is run on.

    Raises:
        ConfigError: it sets what its loop does not read, names what there is not, or its parts do
            not fit.
        DataError: a run that it names holds no judge.
    """
    check_sections(config)
    check_place(config.run_dir, "run_dir")
    _CHECKS[config.loop.kind](config)


def check_sections(config: RunConfig) -> None:
    """Refuses a recipe that sets what its loop does not read: the wrong loop would run for hours.

    Raises:
        ConfigError: naming the section or key and both ways to mend it.
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
    for key, mend in _UNREAD_KEYS[kind].items():
        if getattr(config.loop, key) != getattr(default.loop, key):
            raise ConfigError(
                f"loop.{key}: loop.kind={kind} does not read this key; remove it, {mend}"
            )
