"""The config of `selfreward serve`: what is served, how many at once, who may ask for how much."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from selfreward.config import EngineConfig, ModelConfig, RayConfig
from selfreward.config_base import Fraction, Section

RateLimit = Annotated[
    str, StringConstraints(pattern=r"^[1-9][0-9]*/(second|minute|hour|day)$", strip_whitespace=True)
]


class AutoscalingConfig(Section):
    """Replicas of the engine: Ray Serve adds one when requests pile up, and takes one away."""

    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=1, ge=1)
    target_ongoing_requests: float = Field(default=16.0, gt=0)
    """Requests a replica works on at once, on average, before another one is started."""
    upscale_delay_s: float = Field(default=10.0, ge=0)
    downscale_delay_s: float = Field(default=300.0, ge=0)

    @model_validator(mode="after")
    def _bounds(self) -> "AutoscalingConfig":
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas={self.max_replicas} is below min_replicas={self.min_replicas}"
            )
        return self


class LimitsConfig(Section):
    """What one request, and one key, may ask for."""

    max_body_bytes: int = Field(default=2_000_000, ge=1024)
    max_votes: int = Field(default=16, ge=1)
    max_batch: int = Field(default=64, ge=1)
    max_responses: int = Field(default=16, ge=2)
    """Of one ranking: a tournament of n compares n (n - 1) / 2 pairs."""
    max_draws: int = Field(default=4096, ge=1)
    """Of one HTTP request: orders times votes times comparisons, over its whole batch."""
    max_prompt_chars: int = Field(default=20_000_000, ge=1)
    """Of all prompts that one HTTP request is made into: texts times comparisons."""
    max_text_chars: int = Field(default=200_000, ge=1)
    """Of a prompt, and of each response."""
    max_new_tokens: int = Field(default=2048, ge=1)
    """Of one chat completion."""
    request_timeout_s: float = Field(default=300.0, gt=0)
    max_queued: int = Field(default=256, ge=1)
    """Requests let in and not answered yet; beyond that 503 with Retry-After."""
    rate: RateLimit | None = "600/minute"
    """Requests of one key; beyond that 429 with Retry-After. None is no limit."""
    rate_storage: str = Field(default="memory://", repr=False)
    """Where they are counted: `memory://` counts in each ingress by itself, `redis://…` in all."""


class AuthConfig(Section):
    """API keys. They are kept as SHA-256 digests; a key itself is shown once, when it is made."""

    enabled: bool = True
    """Without keys the service listens on loopback only."""
    keys_file: str | None = None
    """A file that `selfreward keys add` writes; the variable SELFREWARD_API_KEYS adds more."""


class ShadowConfig(Section):
    """A candidate that judges a share of the pairwise traffic beside the current judge."""

    model: str | None = None
    """A folder, URL or hub id; None is no shadow."""
    share: Fraction = 0.1


class ReviewConfig(Section):
    enabled: bool = True
    database_url: str | None = Field(default=None, repr=False)
    """SQLAlchemy's URL; None is `review.sqlite` in the state folder."""
    max_tasks: int = Field(default=500, ge=1)
    """Tasks drawn from a run at most."""
    seed: int = 0


class ServingConfig(Section):
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    route_prefix: str = Field(default="/", pattern=r"^/")
    autoscaling: AutoscalingConfig = Field(default_factory=AutoscalingConfig)
    num_ingress: int = Field(default=1, ge=1)
    pairwise_rubric: str = "pairwise_verdict_only"
    """Used without rationale where a request names no rubric."""
    pairwise_rationale_rubric: str = "pairwise_reasoned"
    score_rubric: str = "pointwise_additive_short"
    score_rationale_rubric: str = "pointwise_additive"
    guided: bool = True
    max_rationale_tokens: int = Field(default=400, ge=16)
    follow: bool = True
    """Follow the run's `current.json`; off, only `/admin/promote` changes the judge."""
    follow_interval_s: float = Field(default=2.0, gt=0)
    state_dir: str | None = None
    """Where the history of versions and the review answers lie; None is `serving` in the run
    folder, or `./selfreward-serving` for a model."""
    start_timeout_s: float = Field(default=900.0, gt=0)
    cors_origins: tuple[str, ...] = ()
    """Empty: no other site's page may call the service."""
    log_texts: bool = False
    """Whether prompts and responses may appear in logs."""
    log_level: Literal["DEBUG", "INFO", "WARNING"] = "INFO"
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    auth: AuthConfig = Field(default_factory=AuthConfig)
    shadow: ShadowConfig = Field(default_factory=ShadowConfig)
    review: ReviewConfig = Field(default_factory=ReviewConfig)

    @model_validator(mode="after")
    def _loopback_without_keys(self) -> "ServingConfig":
        if not self.auth.enabled and self.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(
                f"auth.enabled=false is for loopback only, not host={self.host}: make a key with"
                " `selfreward keys add` or listen on 127.0.0.1"
            )
        return self


class ServiceConfig(Section):
    """All that `selfreward serve` reads; of a run that is served, `model`, `engine` and `ray` are
    the run's own unless they are set again."""

    model: ModelConfig = Field(default_factory=ModelConfig)
    engine: EngineConfig = Field(default_factory=EngineConfig)
    serving: ServingConfig = Field(default_factory=ServingConfig)
    ray: RayConfig = Field(default_factory=RayConfig)

    @model_validator(mode="after")
    def _writes(self) -> "ServiceConfig":
        if self.engine.kind == "classifier":
            raise ValueError("engine.kind=classifier scores and writes nothing: serve a judge")
        return self
