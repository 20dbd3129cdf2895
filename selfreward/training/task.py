"""What a training worker is told, how far it is, and what it returns."""

from dataclasses import dataclass, field
from typing import Literal

from selfreward.config import TrainingConfig
from selfreward.config_base import identity_fields
from selfreward.errors import ConfigError
from selfreward.records import content_id
from selfreward.training.data import Record
from selfreward.training.model import ModelSource

Metrics = dict[str, float]
Choice = Literal["best", "last"]
"""Which checkpoint is published: the best on the validation rows, or the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTask:
    """What every worker is told."""

    source: ModelSource
    data: tuple[str, ...]
    """Parquet URLs of `record` rows; token shards for "PackedText"."""
    record: Record
    config: TrainingConfig
    validation: tuple[str, ...] = ()
    """Parquet URLs of TrainingExample rows; of Preference rows where a reward model is trained;
    token shards for text."""
    choose: Choice = "best"
    replay: tuple[str, ...] = ()
    """Text: token shards that are mixed in, against forgetting."""
    replay_share: float = 0.0
    """Text: share of the sequences that come from `replay`."""
    token_budget: int | None = None
    """Text: tokens to train on, padding included; None: `config.epochs` passes over `data`."""
    seed: int = 0
    reference_cache: str | None = None
    """Folder URL for reference log-probabilities; None computes them again on resume."""
    model_fingerprint: str = ""
    reference_source: ModelSource | None = None
    """DPO's reference where `config.dpo_reference` is "first", and read only then; it must share
    the tokenizer of `source`."""
    reference_fingerprint: str = ""
    deadline: float | None = None
    """Unix time after which training stops with an error."""

    @property
    def model_identity(self) -> str:
        """What tells the model that training starts from, from any other."""
        return self.model_fingerprint or self.source.path

    @property
    def reference_identity(self) -> str:
        """The same of DPO's reference model.

        Raises:
            ConfigError: the config wants a reference model that the task does not name.
        """
        if self.config.dpo_reference == "start":
            return self.model_identity
        if self.reference_source is None:
            raise ConfigError("training.dpo_reference=first needs a reference model, none is given")
        return self.reference_fingerprint or self.reference_source.path

    @property
    def other_reference(self) -> ModelSource | None:
        """DPO's reference model where it is not the one that training starts from."""
        if self.config.objective != "dpo" or self.reference_identity == self.model_identity:
            return None
        return self.reference_source

    def recipe(self, data_digest: str) -> str:
        """A digest of what determines the result; where and how fast it runs is not part of it."""
        settings = {name: getattr(self.config, name) for name in identity_fields(self.config)}
        reference = self.reference_identity if self.config.objective == "dpo" else None
        return content_id(
            "recipe", str(settings), data_digest, self.model_identity, reference, self.seed
        )


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a run is; saved with each checkpoint."""

    step: int = 0
    num_tokens: int = 0
    """Tokens of the sequences trained on, prompts included, over all workers."""
    seconds: float = 0.0
    """Seconds spent in optimizer steps."""
    history: list[Metrics] = field(default_factory=list)
    recipe: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """What worker 0 returns."""

    steps: int
    num_examples: int
    num_tokens: int
    seconds: float
    dropped: dict[str, int]
    history: list[Metrics]
    reference_s: float = 0.0
    """Seconds spent on reference log-probabilities before the first step; loading their model is
    part of it where it is another than the one to train."""

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.seconds if self.seconds > 0 else 0.0


def selection_score(metrics: Metrics, step: int, choose: Choice = "best") -> float:
    """The number whose largest value marks the checkpoint to publish: accuracy, then loss, then
    step; the step alone for the last one.

    Without an evaluation it is far below that of any evaluated step, and grows with the step.
    """
    if choose == "last":
        return float(step)
    if "eval/loss" not in metrics:
        # Not a fraction of the step beside a large number: rounded off, all steps would be equal.
        return step - 1e9
    loss = min(metrics["eval/loss"], 100.0)
    return metrics.get("eval/accuracy", 0.0) - 1e-6 * loss + step * 1e-12
