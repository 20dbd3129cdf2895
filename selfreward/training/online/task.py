"""What a worker of online training is told, how far it is, and what it returns."""

from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from selfreward.config_base import Section, identity_fields
from selfreward.config_custom_llm import OnlineConfig
from selfreward.records import content_id
from selfreward.schemas import to_row
from selfreward.training.model import ModelSource
from selfreward.training.online.rollouts import RolloutPrompt, Weights
from selfreward.training.task import Metrics


def _identity(section: Section) -> dict[str, Any]:
    """The settings that determine a result, without where and how fast it runs."""
    out: dict[str, Any] = {}
    for name in identity_fields(section):
        value = getattr(section, name)
        out[name] = _identity(value) if isinstance(value, Section) else str(value)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineTask:
    """What every worker is told."""

    source: ModelSource
    start: Weights
    """The same model as the engines find it; step 0."""
    prompts: tuple[RolloutPrompt, ...]
    eval_prompts: tuple[RolloutPrompt, ...]
    config: OnlineConfig
    weights_root: str
    """URL of the folder, seen by trainers and engines, that the weights of each step go to."""
    seed: int = 0
    deadline: float | None = None
    """Unix time after which training stops with an error."""

    def recipe(self) -> str:
        """A digest of what determines the result."""
        prompts = [to_row(p) for p in (*self.prompts, *self.eval_prompts)]
        return content_id(
            "recipe", _identity(self.config), prompts, self.start.fingerprint, self.seed
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Rewards of the greedy answers to the evaluation prompts after a step.

    Example: `Evaluation(step=10, rewards={"task-9c…": 1.0, "task-aa…": None}, num_tokens=31)`
    """

    step: int
    rewards: dict[str, float | None]
    """By prompt; None where the answer has no reward."""
    num_tokens: int
    """Of all answers together."""

    @property
    def known(self) -> list[float]:
        return [reward for reward in self.rewards.values() if reward is not None]

    def metrics(self) -> Metrics:
        found = {
            "eval/failed": 1.0 - len(self.known) / len(self.rewards),
            "eval/length": self.num_tokens / len(self.rewards),
        }
        return found | ({"eval/reward": fmean(self.known)} if self.known else {})


@dataclass(slots=True, kw_only=True)
class OnlineProgress:
    """How far a run is; saved with each checkpoint."""

    recipe: str
    step: int = 0
    fingerprint: str = ""
    """Of the weights after `step`."""
    num_rollouts: int = 0
    num_tokens: int = 0
    """Tokens of the sequences trained on, prompts included, over all workers."""
    seconds: float = 0.0
    """Seconds spent in steps: rollouts, rewards, updates and changes of weights."""
    history: list[Metrics] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)

    @classmethod
    def read(cls, data: dict[str, Any]) -> "OnlineProgress":
        """From its `asdict`."""
        evaluations = [Evaluation(**row) for row in data["evaluations"]]
        return cls(**(data | {"evaluations": evaluations}))
