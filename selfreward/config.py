"""The one typed config of a run: YAML in, every default filled in, unknown keys refused.

One class a stage. Defaults live on the fields, never at the reader. A stage is handed its own
section. Values that only say *where* or *how fast* a run goes (paths, replicas, time limits) are
marked with `OPERATIONAL` and never enter a fingerprint. One file beyond 300 lines: it is the one
place where a user looks a setting up.
"""

import math
from typing import Any, Literal

from pydantic import Field, model_validator

from selfreward.config_base import OPERATIONAL, DataPath, Fraction, SamplingConfig, Section, added
from selfreward.config_base import operational as _op
from selfreward.config_custom_llm import CustomLlmConfig
from selfreward.config_self_rewarding import (
    CandidatesConfig,
    CollapseConfig,
    MetaJudgeConfig,
    PreferencesConfig,
    SeedsConfig,
    SelfInstructConfig,
)
from selfreward.config_training import LoraConfig, TrainingConfig, trainings_in

__all__ = ["OPERATIONAL", "LoraConfig", "SamplingConfig", "Section", "TrainingConfig"]


class ModelConfig(Section):
    """`name`: `embedded:smollm2-135m-instruct`, a Hugging Face id, a folder, or a cloud URL."""

    name: str = "embedded:smollm2-135m-instruct"
    revision: str | None = None
    trust_remote_code: bool = False


class ScriptedConfig(Section):
    """Behaviour of the scripted engine: deterministic answers, planned failures and delays."""

    skill: Fraction = 0.6
    """Chance that a verdict is right at iteration 0."""
    skill_per_iteration: Fraction = 0.1
    first_position_bias: Fraction = 0.0
    """Chance that a verdict names the first position whatever the answers are."""
    unparsed_share: Fraction = 0.0
    truncated_share: Fraction = 0.0
    delay_s: float = _op(0.0, ge=0)
    """Seconds each request takes."""
    fail_every: int = _op(0, ge=0)
    """Every n-th request of a replica raises a transient fault; 0 is never."""
    journal: str | None = _op(None)
    """A folder in which each replica writes the id of every request it served, one a line."""


class EngineConfig(Section):
    kind: Literal["vllm", "classifier", "scripted"] = "vllm"
    """`classifier`: a reward model, i.e. a sequence classifier with one output, which scores
    responses and writes nothing."""
    device: Literal["auto", "cpu", "cuda"] = _op("auto")
    replicas: int = _op(1, ge=1)
    tensor_parallel_size: int = _op(1, ge=1)
    num_cpus: float = _op(1.0, ge=0)
    """Ray CPUs reserved by each replica."""
    placement: Literal["dedicated", "shared"] = _op("dedicated")
    """`shared`: the pool is released while the trainers run and started again afterwards."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_model_len: int = Field(default=2048, ge=64)
    max_num_seqs: int = _op(128, ge=1)
    kv_cache_gib: float | None = _op(None, gt=0)
    """KV cache per replica in GiB; None is 2 on CPU and what vLLM chooses on a GPU."""
    gpu_memory_utilization: float = _op(0.9, gt=0, le=1)
    enforce_eager: bool | None = _op(None)
    """None is True on CPU, where compilation costs a minute and gains little."""
    cpu_threads_bind: str | None = _op(None)
    """`VLLM_CPU_OMP_THREADS_BIND`; None binds each replica to all cores of its node."""
    start_timeout_s: float = _op(900.0, gt=0)
    request_timeout_s: float = _op(1800.0, gt=0)
    swap_timeout_s: float = _op(600.0, gt=0)
    recovery_timeout_s: float = _op(900.0, gt=0)
    """How long a request may wait for a replica that is coming back."""
    max_restarts: int = _op(5, ge=-1)
    engine_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Passed to vLLM's EngineArgs as they are."""
    scripted: ScriptedConfig = Field(default_factory=ScriptedConfig)


class GeneratorConfig(Section):
    """A second model that writes the answers while the judge only judges (its own pool)."""

    model: ModelConfig
    engine: EngineConfig = Field(default_factory=EngineConfig)


class ColumnsConfig(Section):
    """Which columns of the user's pool hold what. None: the usual names are tried."""

    messages: str | None = None
    instruction: str | None = None
    reference_answer: str | None = None
    category: str | None = None


class PoolConfig(Section):
    path: DataPath = "sample:instructions"
    """A JSONL or Parquet file or glob, a folder saved by `datasets`, a hub id, or
    `sample:instructions` (shipped)."""
    format: Literal["auto", "jsonl", "parquet", "dataset"] = "auto"
    dataset_split: str = "train"
    dataset_config: str | None = None
    columns: ColumnsConfig = Field(default_factory=ColumnsConfig)
    max_instructions: int | None = Field(default=None, ge=1)
    """So many are drawn from the whole source by a hash of their content; without `shuffle` the
    first ones are taken."""
    max_instruction_chars: int = Field(default=16000, ge=1)
    exact_dedupe: bool = True
    near_duplicate_threshold: float | None = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of 5-word shingles above which the later row is dropped; None is off."""
    shuffle: bool = True
    shard_size: int = Field(default=128, ge=1)
    """Rows of a shard: the unit of scheduling and of resume."""


class SelectInstructionsConfig(Section):
    """Sorting of instructions by the model (arXiv 2408.02666, section 3.1)."""

    enabled: bool = False
    categories: tuple[str, ...] = ()
    """Categories to keep; empty keeps all."""
    min_complexity: int = Field(default=1, ge=1, le=10)
    max_complexity: int = Field(default=10, ge=1, le=10)
    expected_lengths: tuple[str, ...] = ()
    balance: bool = True
    """Cut every kept category down to `max_category_ratio` times the rarest one."""
    max_category_ratio: float = Field(default=4.0, ge=1)
    sampling: SamplingConfig = Field(
        default_factory=lambda: SamplingConfig(temperature=0.0, max_tokens=96)
    )


class RespondConfig(Section):
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    keep_truncated: bool = False
    """Whether an answer cut at max_tokens is kept (small models rarely stop by themselves)."""


Method = Literal["modified_instruction", "rewrite", "reference", "likelihood"]


def _best_method() -> dict[Method, float]:
    return {"modified_instruction": 1.0}


class CorruptConfig(Section):
    methods: dict[Method, float] = Field(default_factory=_best_method)
    """Share of the instructions each method gets; shares are normalised."""
    single_call: bool = False
    """True: modified instruction and its answer in one completion with section markers, as in
    the paper; False: two calls, which small models need."""
    instruction_sampling: SamplingConfig = Field(
        default_factory=lambda: SamplingConfig(max_tokens=96)
    )
    response_sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    reference_samples: int = Field(default=8, ge=2)
    """Samples drawn per instruction to find a right and a wrong one by the reference."""
    likelihood_samples: int = Field(default=6, ge=2)
    """Samples drawn per instruction, to pair the one whose tokens are likeliest with the one whose
    are least, where the instruction speaks for the first too."""
    likelihood_sampling: SamplingConfig = Field(
        default_factory=lambda: SamplingConfig(temperature=1.0)
    )
    min_likelihood_margin: float = Field(default=0.0, ge=0)
    """In nats per token; closer samples make no pair."""
    keep_truncated: bool = False


class PerturbConfig(Section):
    """More pairs of each answer, damaged by rules (judging/perturbations), without an engine."""

    pairs_per_instruction: int = Field(default=0, ge=0)
    """0 is off."""
    kinds: dict[str, float] = Field(default_factory=dict)
    """Share of each kind, of those that suit the instruction's category; empty is all of them,
    equal but for `templated_share`. Of a pool without categories the kinds named here all apply;
    where none are named, a false fact or number is only put where a reference answer can be
    checked, since in a story it is no fault."""
    without: tuple[str, ...] = ()
    """Kinds kept out of what is trained on, and of what chooses a checkpoint; the held-out pairs
    keep them, which shows what carries over to damage never seen."""
    severities: tuple[float, float, float] = (0.5, 0.3, 0.2)
    """Shares of subtle, plain and gross damage."""
    templated_share: float = Field(default=0.3, gt=0)
    """Share, against 1 of other kinds, of those that write from tables of phrases; where `kinds`
    names shares, these decide."""


class LengthBalanceConfig(Section):
    """Of every kind of pair, keep as many with a longer chosen response as with a shorter one."""

    enabled: bool = False
    ratio_edges: tuple[float, ...] = (1.2, 2.0)
    """Balanced apart below, between and above these ratios of longer to shorter."""


class JudgeConfig(Section):
    rubric: str = "pairwise_reasoned"
    """Id of a rubric in judging/rubrics.py: `pairwise_reasoned` or `pairwise_checklist` (reason,
    then verdict), `pairwise_verdict_only` (a letter), or `pairwise_verdict_first` (verdict, then
    one or two sentences of reason)."""
    guided: bool = True
    """Guided decoding: the completion must end in a parseable verdict."""
    num_draws: int = Field(default=15, ge=1)
    """N: at most this many judgments per pair and order."""
    orders: Literal["both", "random"] = "both"
    """In which orders training pairs are judged. `random`: each in one, anew every iteration; half
    the cost, and no batch then holds a pair's two orders against each other."""
    adaptive: bool = True
    """Stop a pair's order as soon as it has what training needs."""
    draws_per_round: int = Field(default=1, ge=1)
    max_draws_per_round: int = Field(default=8, ge=1)
    """Rounds double from `draws_per_round` up to this many draws."""
    sampling: SamplingConfig = Field(default_factory=lambda: SamplingConfig(max_tokens=512))


class RatingConfig(Section):
    """Scores of single responses: what the self-rewarding loop pairs by, and an evaluation."""

    rubric: str = "pointwise_additive"
    """Id of a rubric in judging/pointwise.py, or the path of a YAML file with one's own."""
    num_draws: int = Field(default=3, ge=1)
    """K: readings of each response, averaged (arXiv 2401.10020: 3); an evaluation has its own."""
    guided: bool = True
    """Guided decoding: the completion must end in a parseable score."""
    expected: bool = False
    """The score is the mean over the scale weighted by the probability of each score's token; needs
    a tokenizer in which every score of the rubric is one token."""
    sampling: SamplingConfig = Field(default_factory=lambda: SamplingConfig(max_tokens=256))


class SelectConfig(Section):
    """Selection of training data from judgments (arXiv 2408.02666, section 3.2)."""

    balance: bool = True
    drop_all_right: bool = False
    """Drop examples whose every judgment was right (no signal; needs `judge.adaptive: false`)."""
    preferences_per_example: int = Field(default=1, ge=1)
    """DPO: right-wrong combinations kept per pair and order."""
    min_likelihood_margin: float | None = added(None)
    """Least mean log-probability of the chosen response's tokens above that of the rejected one's,
    by the untrained generator, in nats: pairs below are not trained on; None asks nothing. -0.5
    also keeps those whose chosen response is a little less likely. Self-taught loop only."""


class EvaluationConfig(Section):
    heldout_pairs: int = Field(default=64, ge=2)
    """Instructions kept out of training, whose constructed pairs measure every judge."""
    kl_prompts: int = Field(default=64, ge=0)
    """Held-out instructions that a model of the self-rewarding loop, or of a stage of one's own
    LLM that learns from preferences or rewards, answers once more, at temperature 1 and without a
    cut of the distribution, for its KL to the model before; 0 measures none."""
    validation_pairs: int = Field(default=32, ge=0)
    """Further instructions, kept for choosing the best checkpoint."""
    labelled_pairs: tuple[DataPath, ...] = ()
    """JSONL or Parquet files with {prompt|messages, chosen, rejected}; measured beside."""
    max_labelled_pairs: int | None = Field(default=None, ge=1)
    """Of each file: drawn by a hash, one of each prompt first, the same ones for every judge."""
    max_prompt_chars: int = Field(default=16000, ge=1)
    """Longer prompts of labelled pairs and scored responses are dropped: a limit apart from the
    pool's, so that judges of different recipes are measured on the same rows."""
    scored_responses: tuple[DataPath, ...] = ()
    """JSONL or Parquet files with {messages, response, score, scale}: human scores that the
    self-rewarding loop's own are compared with."""
    max_scored_responses: int | None = Field(default=None, ge=1)
    """Of each file: all responses to prompts that are drawn by a hash."""
    head_to_head_judge: str | None = None
    """Who compares the answers of two models: None is the frozen seed; a model or an endpoint's
    URL. Never the model under test by itself."""
    head_to_head_verdict: Literal["both_orders", "probability"] = "both_orders"
    """`both_orders`: a win or a loss is said in both, a disagreement is a tie (arXiv 2401.10020).
    `probability`: the mean of P(answer) over both orders decides, in which a constant liking for
    one position cancels: for judges too small to free themselves of it."""
    sampling: SamplingConfig = Field(
        default_factory=lambda: SamplingConfig(temperature=0.0, max_tokens=512)
    )
    bootstrap_samples: int = Field(default=2000, ge=100)
    confidence: float = Field(default=0.95, gt=0, lt=1)


class PromotionConfig(Section):
    """When `current.json` moves to the new judge."""

    enabled: bool = True
    max_p_value: Fraction = 0.05
    """Largest one-sided p of the paired test that still counts as better."""
    max_worse: Fraction = 0.1
    """By how much a figure of the bias card (position, flips, length, self-preference, ties and
    failures) may be worse than the current judge's."""
    min_human_agreement: Fraction | None = None
    """Share of people's comparisons in the review of this run in which the new judge must name
    the same winner; None asks nobody. Self-taught loop only."""
    min_human_answers: int = Field(default=20, ge=1)
    """Comparisons by people below which nothing is promoted."""
    review_database: str | None = _op(None)
    """SQLAlchemy URL of the review answers; None: `serving/review.sqlite` in the run folder."""


class LoopConfig(Section):
    kind: Literal["self_taught", "self_rewarding", "custom_llm"] = "self_taught"
    iterations: int = Field(default=1, ge=1)
    start_from: Literal["seed", "previous"] = "seed"
    """Weights each iteration's training starts from; the paper restarts from the seed."""
    new_pairs_each_iteration: bool = False
    """False: the pairs of iteration 1 are judged anew by each judge, as in the paper; True:
    each iteration builds pairs from its own slice of the pool."""
    judge_with: Literal["latest", "promoted"] = "latest"
    """Who judges the next iteration: the model just trained (as in the paper) or `current`."""
    seed: int = 0


class RayConfig(Section):
    address: str | None = _op(None)
    """Cluster to join; None: RAY_ADDRESS, else a local one for this run."""
    num_cpus: int | None = _op(None, ge=1)
    """Logical CPUs of a local cluster; None: the machine's."""
    autoscaling: bool = _op(False)
    """The cluster can grow: resources that are missing now are asked for, not refused."""
    stage_task_cpus: float = _op(0.1, gt=0)
    """Ray CPUs of one shard task; it mostly waits for the engines."""
    shards_in_flight: int | None = _op(None, ge=1)
    """Shards worked on at once; None: as many as keep every engine's batch full twice over, at
    least 2 and at most 8 per replica."""
    rows_per_call: int = _op(8, ge=1)
    """Rows sent to a replica in one call, and written to storage together."""
    stall_timeout_s: float = _op(3600.0, gt=0)
    """How long a stage may stand still, with no row finished, before it fails: longer than
    `engine.request_timeout_s`."""


class RunConfig(Section):
    """A whole recipe."""

    run_dir: str = _op("runs/self_taught")
    """Run folder: any fsspec URL."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    engine: EngineConfig = Field(default_factory=EngineConfig)
    generator: GeneratorConfig | None = None
    loop: LoopConfig = Field(default_factory=LoopConfig)
    pool: PoolConfig = Field(default_factory=PoolConfig)
    select_instructions: SelectInstructionsConfig = Field(default_factory=SelectInstructionsConfig)
    respond: RespondConfig = Field(default_factory=RespondConfig)
    corrupt: CorruptConfig = Field(default_factory=CorruptConfig)
    perturb: PerturbConfig = Field(default_factory=PerturbConfig)
    length_balance: LengthBalanceConfig = Field(default_factory=LengthBalanceConfig)
    judge: JudgeConfig = Field(default_factory=JudgeConfig)
    rating: RatingConfig = Field(default_factory=RatingConfig)
    select: SelectConfig = Field(default_factory=SelectConfig)
    seeds: SeedsConfig = Field(default_factory=SeedsConfig)
    seed_training: TrainingConfig = Field(default_factory=TrainingConfig)
    """Self-rewarding: the SFT on the seeds that makes M1; `training` is that of later rounds."""
    self_instruct: SelfInstructConfig = Field(default_factory=SelfInstructConfig)
    candidates: CandidatesConfig = Field(default_factory=CandidatesConfig)
    preferences: PreferencesConfig = Field(default_factory=PreferencesConfig)
    meta_judge: MetaJudgeConfig = Field(default_factory=MetaJudgeConfig)
    collapse: CollapseConfig = Field(default_factory=CollapseConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    custom_llm: CustomLlmConfig = Field(default_factory=CustomLlmConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    promotion: PromotionConfig = Field(default_factory=PromotionConfig)
    ray: RayConfig = Field(default_factory=RayConfig)

    @property
    def open_shards(self) -> int:
        """How many shards are worked on at once: the back-pressure on the engines."""
        if self.ray.shards_in_flight is not None:
            return self.ray.shards_in_flight
        filling = math.ceil(2 * self.engine.max_num_seqs / self.pool.shard_size)
        return self.engine.replicas * min(8, max(2, filling))

    @model_validator(mode="after")
    def _check_across_sections(self) -> "RunConfig":
        if self.promotion.min_human_agreement is not None and self.loop.kind == "self_rewarding":
            raise ValueError(
                "promotion.min_human_agreement is for loop.kind=self_taught: in the other loop a"
                " model's verdicts on reviewed responses are known an iteration later"
            )
        if (
            self.promotion.min_human_agreement is not None
            and self.promotion.review_database is None
            and "://" in self.run_dir
        ):
            raise ValueError(
                "promotion.min_human_agreement needs promotion.review_database, the URL of the"
                " review service's database, since run_dir is no local folder"
            )
        if self.select.drop_all_right and self.judge.adaptive:
            raise ValueError(
                "select.drop_all_right needs judge.adaptive=false: adaptive judging stops"
                " before it can know that every draw is right"
            )
        if any(share < 0 for share in self.corrupt.methods.values()):
            raise ValueError(f"corrupt.methods has a share below 0: {self.corrupt.methods}")
        if sum(self.corrupt.methods.values()) <= 0 and not self.perturb.pairs_per_instruction:
            raise ValueError(
                "corrupt.methods needs at least one method with a share above 0, or"
                " perturb.pairs_per_instruction above 0"
            )
        shares = self.perturb.kinds
        if any(share < 0 for share in shares.values()) or (shares and not sum(shares.values())):
            raise ValueError(f"perturb.kinds={shares}: shares of 0 or more, not all 0")
        levels = self.perturb.severities
        if min(levels) < 0 or sum(levels) <= 0:
            raise ValueError(f"perturb.severities={list(levels)}: shares of 0 or more, not all 0")
        edges = list(self.length_balance.ratio_edges)
        if edges != sorted(set(edges)) or any(edge <= 1 for edge in edges):
            raise ValueError(f"length_balance.ratio_edges={edges}: they rise and are above 1")
        wanted = self.select_instructions
        if wanted.min_complexity > wanted.max_complexity:
            raise ValueError(
                f"select_instructions.min_complexity={wanted.min_complexity} is above"
                f" max_complexity={wanted.max_complexity}"
            )
        for name, training in (("training", self.training), ("seed_training", self.seed_training)):
            if training.objective not in ("sft", "dpo"):
                raise ValueError(
                    f"{name}.objective={training.objective} is for the stages of custom_llm; set"
                    " sft or dpo"
                )
        for name, training in trainings_in(self):
            if training.curriculum != "none" and self.loop.kind != "self_taught":
                raise ValueError(
                    f"{name}.curriculum={training.curriculum} orders rows by how sure a judge was"
                    f" of a known verdict, which loop.kind={self.loop.kind} has none of; set none"
                )
        judges = self.loop.kind != "custom_llm"
        if judges and self.judge.sampling.max_tokens >= self.engine.max_model_len:
            raise ValueError(
                f"judge.sampling.max_tokens={self.judge.sampling.max_tokens} leaves no room for"
                f" a prompt in engine.max_model_len={self.engine.max_model_len}"
            )
        if self.engine.kind == "scripted" and self.judge.sampling.temperature == 0:
            raise ValueError("judge.sampling.temperature must be above 0 to draw N judgments")
        return self
