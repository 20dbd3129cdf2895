"""The judge whose scores online training learns from: a model, or the judge of another run."""

from selfreward.config import ModelConfig, RunConfig
from selfreward.config_loading import parse_config
from selfreward.errors import ConfigError
from selfreward.evaluation.judges import JudgeSpec, parse_judge, run_checkpoint
from selfreward.layout import Layout, absolute_path
from selfreward.loops.evaluate_request import saved_recipe
from selfreward.loops.pools import PlacedModel
from selfreward.loops.rubric_checks import check_score_tokens
from selfreward.loops.rubrics import load_pointwise_rubric
from selfreward.loops.session import place, run_model
from selfreward.loops.steps import Run


def check_reward_judge(config: RunConfig) -> None:
    """Looks the judge up before anything is started.

    Raises:
        ConfigError: it is named and is none that can score rollouts, or no judge rewards.
        DataError: the run that is named has no such judge.
    """
    online = config.custom_llm.online
    if online.judge is None:
        return
    if online.reward != "judge":
        raise ConfigError(
            f"custom_llm.online.judge={online.judge} is read with custom_llm.online.reward=judge,"
            f" not with reward={online.reward}; set one of the two"
        )
    spec = _spec(online.judge)
    if spec.kind == "run":
        run_checkpoint(spec)


def place_reward_judge(config: RunConfig) -> PlacedModel:
    """The judge's weights as they are now; without `online.judge` those of `model`.

    Raises:
        ConfigError, DataError: as `check_reward_judge`.
        ModelNotFoundError: there is no such model.
    """
    named = config.custom_llm.online.judge
    if named is None:
        return place(config.model)
    spec = _spec(named)
    if spec.kind == "model":
        return place(ModelConfig(name=spec.name))
    iteration, _ = run_checkpoint(spec)
    seed = parse_config(saved_recipe(spec.name)).model
    return run_model(Layout(absolute_path(spec.name)), seed, iteration)


def check_reward_tokens(run: Run) -> None:
    """Checks the scores of `rating.rubric` against the tokenizer of the judge that rewards, as
    `check_score_tokens` does: at the start of a run, for its stage is the last.

    Raises:
        ConfigError: `rating.expected` reads scores of several tokens, or as `check_reward_judge`.
        ModelNotFoundError: there is no such model.
    """
    config = run.config
    if config.custom_llm.online.reward == "judge":
        rubric = load_pointwise_rubric(config.rating.rubric)
        check_score_tokens(run, place_reward_judge(config), rubric)


def _spec(named: str) -> JudgeSpec:
    spec = parse_judge(named)
    if spec.kind not in ("model", "run"):
        raise ConfigError(
            f"custom_llm.online.judge={named}: it is a model, or a run folder with @t behind it for"
            " the judge of iteration t; a reward model goes to custom_llm.reward_model.path"
        )
    return spec
