"""Sections of the config that only the stages of one's own LLM read (`loop.kind: custom_llm`)."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from selfreward.config_base import OPERATIONAL, DataPath, Fraction, SamplingConfig, Section
from selfreward.config_base import operational as _op
from selfreward.config_training import TrainingConfig

Stage = Literal["pretrain", "continue", "finetune", "instruct", "prefer", "reinforce"]
STAGE_NUMBERS: dict[Stage, int] = {name: n for n, name in enumerate(get_args(Stage), start=1)}
"""The iteration of the run folder that a stage fills."""


class CorpusConfig(Section):
    """Raw text: where it is, what is left out, and what is kept for validation."""

    sources: tuple[DataPath, ...] = ("sample:docstrings",)
    """Text, JSONL or Parquet files or globs, folders saved by `datasets`, hub ids,
    `sample:docstrings` (those of the installed Python packages) or `sample:python_docs`
    (the language reference topics of the standard library)."""
    format: Literal["auto", "text", "jsonl", "parquet", "dataset"] = "auto"
    text_column: str | None = None
    """None: `text`, `content`, `document` or `body`, whichever is there. A row without text counts
    as too short."""
    dataset_split: str = "train"
    dataset_config: str | None = None
    max_documents: int | None = Field(default=None, ge=1)
    min_chars: int = Field(default=200, ge=1)
    """Shorter documents are dropped."""
    max_chars: int = Field(default=20_000, ge=100)
    """Longer ones are cut into pieces, at blank lines where there are any."""
    min_letter_share: Fraction = 0.55
    """Least share of letters and spaces among the characters."""
    max_repeated_line_share: Fraction = 0.3
    """Largest share of a document's lines that repeat an earlier one."""
    exact_dedupe: bool = True
    near_duplicate_threshold: float | None = Field(default=0.8, gt=0, le=1)
    """As `pool.near_duplicate_threshold`."""
    validation_share: Fraction = 0.05
    """Share of the documents kept out of training; pieces of one text stay together."""
    max_validation_documents: int | None = Field(default=200, ge=1)
    shard_size: int = Field(default=1024, ge=1)


class TokenizerConfig(Section):
    """Byte-level BPE trained on the general and the domain text, or an existing tokenizer."""

    path: str | None = None
    """A model or folder whose tokenizer is used; None trains one."""
    vocab_size: int = Field(default=4096, ge=300)
    min_frequency: int = Field(default=2, ge=1)
    max_documents: int = Field(default=100_000, ge=1)
    """Documents it is trained on."""


class ArchitectureConfig(Section):
    """A Llama-style decoder, initialised at random."""

    hidden_size: int = Field(default=256, ge=8)
    intermediate_size: int = Field(default=704, ge=8)
    num_layers: int = Field(default=6, ge=1)
    num_heads: int = Field(default=4, ge=1)
    num_kv_heads: int = Field(default=4, ge=1)
    context_length: int = Field(default=512, ge=32)
    rope_theta: float = Field(default=10_000.0, gt=0)
    tie_embeddings: bool = True
    initializer_range: float = Field(default=0.02, gt=0)
    dtype: Literal["fp32", "bf16"] = "fp32"
    """How checkpoints are stored, this one's and those of the stages after it."""

    @model_validator(mode="after")
    def _check_heads(self) -> "ArchitectureConfig":
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"architecture.hidden_size={self.hidden_size} is no multiple of"
                f" num_heads={self.num_heads}"
            )
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"architecture.num_heads={self.num_heads} is no multiple of"
                f" num_kv_heads={self.num_kv_heads}"
            )
        return self


# Each stage has defaults of its own, which stay where a recipe sets only some of the settings.
class TextTraining(TrainingConfig):
    objective: Literal["text"] = "text"
    learning_rate: float = Field(default=1e-3, gt=0)


class TaskTraining(TrainingConfig):
    objective: Literal["sft"] = "sft"
    learning_rate: float = Field(default=2e-4, gt=0)
    batch_size: int = Field(default=32, ge=1)


class PreferenceTraining(TrainingConfig):
    objective: Literal["dpo"] = "dpo"
    learning_rate: float = Field(default=5e-5, gt=0)


class RewardTraining(TrainingConfig):
    objective: Literal["reward_model"] = "reward_model"
    learning_rate: float = Field(default=1e-4, gt=0)


class OnlineTraining(TrainingConfig):
    """Optimizer and workers; objective, epochs, batch_size and curriculum are not read."""

    learning_rate: float = Field(default=1e-5, gt=0)
    lr_schedule: Literal["cosine", "linear", "constant", "wsd"] = "constant"


class DomainConfig(CorpusConfig):
    sources: tuple[DataPath, ...] = ("sample:python_docs",)


class ExactSampling(SamplingConfig):
    """How answers are measured: greedily."""

    temperature: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=48, ge=1)


class RolloutSampling(SamplingConfig):
    """How rollouts are drawn: from the whole distribution, at temperature 1.

    Its ratios, gradients and KL are of that distribution; rollouts of another one would be
    learnt from as if they were of this one.
    """

    temperature: float = Field(default=1.0, ge=0)
    max_tokens: int = Field(default=48, ge=1)

    @model_validator(mode="after")
    def _check_whole(self) -> "RolloutSampling":
        whole = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
        for name, value in whole.items():
            if getattr(self, name) != value:
                raise ValueError(
                    "rollouts are learnt from as draws of the whole distribution at temperature"
                    f" 1; leave {name}={getattr(self, name):g} out"
                )
        return self


class TextTrainingConfig(Section):
    """Training on packed text."""

    sequence_length: int = Field(default=512, ge=16)
    """Tokens of a packed sequence; documents never see each other in it."""
    token_budget: int | None = Field(default=None, ge=1)
    """Tokens to train on, over several epochs if need be; None: `training.epochs` passes."""
    training: TextTraining = Field(default_factory=TextTraining)


class ContinueConfig(TextTrainingConfig):
    replay_share: Fraction = 0.3
    """Share of the sequences that are general text, against forgetting (arXiv 2403.08763)."""


class TasksConfig(Section):
    """Exercises with a target: what task fine-tuning and instruction tuning learn from."""

    data: tuple[DataPath, ...] = ("sample:tasks",)
    """JSONL or Parquet files of {messages|<columns>, target, checks?}, or `sample:tasks`
    (rule-made word exercises) or `sample:instructions_checked` (constraints a program checks)."""
    tasks: tuple[str, ...] = ()
    """Only these tasks; empty takes all."""
    templates: tuple[str, ...] | dict[str, tuple[str, ...]] = ()
    """Prompt forms with {column} places, for files of columns; several, so that the model does
    not learn the form. Of files with different columns a mapping by file name."""
    target_column: str | dict[str, str] = "target"
    """Of files that differ a mapping by file name; those it leaves out have `target`."""
    max_items: int | None = Field(default=None, ge=1)
    heldout: int = Field(default=100, ge=2)
    """Items kept out of training, on which the stage is measured."""
    heldout_templates: int = Field(default=1, ge=0)
    """Prompt forms of each task that are kept for measuring, where it has more than one."""
    sampling: ExactSampling = Field(default_factory=ExactSampling)
    training: TaskTraining = Field(default_factory=TaskTraining)


class InstructionsConfig(TasksConfig):
    data: tuple[DataPath, ...] = ("sample:instructions_checked", "sample:tasks")


class RankingsConfig(Section):
    """Answers ranked by people, from best to worst."""

    data: tuple[DataPath, ...] = ("sample:rankings",)
    """JSONL or Parquet files of {messages, responses, ranks?} (ranks: 1 is best, equal ones tie;
    without them the order is the ranking), of {messages, response, score}, a review export, or
    `sample:rankings` (made by a rule that stands in for a person)."""
    max_rankings: int | None = Field(default=None, ge=1)
    heldout: int = Field(default=50, ge=2)
    pairs: Literal["all", "neighbours", "extremes"] = "all"
    """Which two answers of a ranking become a preference: every two, those next to each other, or
    the best and the worst."""
    max_pairs_per_ranking: int = Field(default=6, ge=1)
    training: PreferenceTraining = Field(default_factory=PreferenceTraining)
    """The DPO on them."""


class RewardModelConfig(Section):
    path: str | None = None
    """A classifier with one output that is there already: folder, URL or hub id, with `@revision`
    behind it. None: `prefer` trains one."""
    training: RewardTraining = Field(default_factory=RewardTraining)


class OnlineConfig(Section):
    """Policy gradient on rollouts of the warm pool (arXiv 2402.14740 RLOO, 2402.03300 GRPO)."""

    reward: Literal["reward_model", "judge", "checks", "verdict"] = "reward_model"
    """`reward_model`: `reward_model.path` or the one trained before; `judge`: the score of `judge`
    below with `rating`; `checks`: share of an item's checks that pass; `verdict`: trains a judge, 1
    for a right verdict (J1, arXiv 2505.10320)."""
    judge: str | None = None
    """Who scores with `reward: judge`: a model, or a run folder, whose current judge it is (`@t`
    behind it: that of iteration t); None is `model`."""
    prompts: tuple[DataPath, ...] = ()
    """Files of {messages, checks?} or, for `verdict`, of {prompt, chosen, rejected}; empty: the
    prompts of the rankings, or with `checks` those of instruction tuning."""
    steps: int = Field(default=50, ge=1)
    prompts_per_step: int = Field(default=8, ge=1)
    group_size: int = Field(default=4, ge=2)
    """Rollouts of each prompt, which are each other's baseline."""
    advantage: Literal["rloo", "grpo", "dr_grpo"] = "rloo"
    updates_per_step: int = Field(default=1, ge=1)
    """Optimizer steps on the rollouts of one step."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    clip_high: float = Field(default=0.2, gt=0)
    """Ratio of new to old probability of a token beyond which nothing more is learnt from it."""
    kl_weight: float = Field(default=0.05, ge=0)
    """Weight of KL to the model that online training started from, in the loss."""
    loss_over: Literal["tokens", "sequences"] = "tokens"
    """Whether every token or every rollout counts alike in the mean."""
    truncated: Literal["mask", "keep"] = "mask"
    """Whether rollouts cut at max_tokens are left out of the loss."""
    consistency_bonus: Fraction = 0.5
    """`verdict`: share of the reward given only if both orders of a pair are judged right."""
    eval_prompts: int = Field(default=32, ge=1)
    eval_every: int = Field(default=10, ge=1)
    sampling: RolloutSampling = Field(default_factory=RolloutSampling)
    training: OnlineTraining = Field(default_factory=OnlineTraining)
    rollout_timeout_s: float = _op(1800.0, gt=0)


def _all_stages() -> tuple[Stage, ...]:
    return ("pretrain", "continue", "finetune", "instruct", "prefer", "reinforce")


class CustomLlmConfig(Section):
    stages: tuple[Stage, ...] = Field(default_factory=_all_stages)
    """Which stages run, always in this order; one alone starts from `model`."""
    architecture: ArchitectureConfig = Field(default_factory=ArchitectureConfig)
    """The model that `pretrain` initialises; without that stage the run starts from `model`."""
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    general: CorpusConfig = Field(default_factory=CorpusConfig)
    domain: DomainConfig = Field(default_factory=DomainConfig)
    pretraining: TextTrainingConfig = Field(default_factory=TextTrainingConfig)
    continued_pretraining: ContinueConfig = Field(default_factory=ContinueConfig)
    finetuning: TasksConfig = Field(default_factory=TasksConfig)
    instruction_tuning: InstructionsConfig = Field(default_factory=InstructionsConfig)
    rankings: RankingsConfig = Field(default_factory=RankingsConfig)
    reward_model: RewardModelConfig = Field(default_factory=RewardModelConfig)
    online: OnlineConfig = Field(default_factory=OnlineConfig)
    probe: str = Field(default="The cat sat on the", json_schema_extra=OPERATIONAL)
    """Text whose next tokens are shown after each stage."""

    @model_validator(mode="after")
    def _check_stages(self) -> "CustomLlmConfig":
        if not self.stages:
            raise ValueError("custom_llm.stages is empty: name at least one stage")
        return self
