"""How a model is trained, whatever on: the section every stage that trains has one of."""

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, Field

from selfreward.config_base import Fraction, Section, added
from selfreward.config_base import operational as _op


class LoraConfig(Section):
    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: Fraction = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"


class TrainingConfig(Section):
    objective: Literal["sft", "dpo", "reward_model", "text"] = "sft"
    """`sft` learns targets, `dpo` preferences, `reward_model` a score from preferences
    (Bradley-Terry), `text` every token of packed documents."""
    learning_rate: float = Field(default=1e-6, gt=0)
    lr_schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """After the warm-up: half a cosine, or a line, down to `final_lr_ratio`; constant; or
    constant with a line down over the last `decay_ratio` (warm-up, stable, decay)."""
    final_lr_ratio: Fraction = 0.1
    warmup_ratio: Fraction = 0.05
    decay_ratio: Fraction = 0.2
    """wsd: share of the steps in which the rate falls."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(default=0.1, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    epochs: int = Field(default=1, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=16, ge=1)
    """Examples of one optimizer step, over all workers."""
    curriculum: Literal["none", "margin"] = added("none")
    """Self-taught loop. `margin`: in the first epoch rows are trained easiest first, from those
    whose right verdict the judge was surest of down (`judging/margins.py`); later epochs are
    shuffled, as all of them are with `none`."""
    tokens_per_micro_batch: int = _op(4096, ge=64)
    """Padded tokens one worker puts through the model at once; the rest is accumulated."""
    max_length: int = Field(default=2048, ge=16)
    dpo_beta: float = Field(default=0.1, gt=0)
    nll_weight: float = Field(default=1.0, ge=0)
    """DPO: weight of the length-normalised NLL of the chosen completion (arXiv 2404.19733)."""
    dpo_reference: Literal["start", "first"] = "start"
    """DPO: the reference is the model training starts from (arXiv 2401.10020), or the run's
    first one."""
    reward_centering: float = Field(default=0.0, ge=0)
    """reward_model: weight of (score chosen + score rejected)^2, which keeps scores around 0
    (arXiv 2312.09244)."""
    precision: Literal["bf16", "fp32"] = "bf16"
    lora: LoraConfig | None = None
    num_workers: int = _op(1, ge=1)
    num_cpus_per_worker: float = _op(0.5, gt=0)
    use_gpu: bool = _op(False)
    gpus_per_worker: float = _op(1.0, gt=0)
    strategy: Literal["auto", "ddp", "fsdp2"] = _op("auto")
    """auto: FSDP2 on GPUs, DDP on CPU."""
    activation_checkpointing: bool = _op(False)
    eval_every_steps: int | None = Field(default=None, ge=1)
    """Held-out evaluation (loss, verdict accuracy) every so many steps; None: at the end."""
    checkpoint_every_steps: int | None = _op(None, ge=1)
    """Resumable checkpoint every so many steps; None: at every evaluation."""
    num_checkpoints: int = _op(2, ge=1)
    max_failures: int = _op(3, ge=0)
    worker_start_timeout_s: float = _op(300.0, gt=0)
    collective_timeout_s: float = _op(1800.0, gt=0)
    timeout_s: float = _op(7 * 24 * 3600.0, gt=0)

    @property
    def needs_first_model(self) -> bool:
        """Whether the run's first model is the reference, whatever training starts from."""
        return self.objective == "dpo" and self.dpo_reference == "first"


def trainings_in(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, TrainingConfig]]:
    """Yields every training section inside a section, with its dotted name."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, TrainingConfig):
            yield prefix + name, value
        elif isinstance(value, BaseModel):
            yield from trainings_in(value, f"{prefix}{name}.")
