"""What an evaluation is asked for, checked and made into a recipe and a folder."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from selfreward.config import RunConfig, SamplingConfig
from selfreward.config_loading import identity, load_config, parse_config
from selfreward.errors import ConfigError
from selfreward.evaluation.benchmarks import Benchmark, get_benchmark
from selfreward.evaluation.judges import JudgeSpec, parse_judge, run_checkpoint
from selfreward.evaluation.reports import Method
from selfreward.judging.pointwise import PointwiseRubric
from selfreward.judging.rubric_files import rubric_recipe
from selfreward.judging.rubrics import get_pairwise_rubric
from selfreward.layout import Layout, absolute_path
from selfreward.loops.rubrics import load_pointwise_rubric
from selfreward.metrics.length_glm import LengthGlm
from selfreward.stages.labelled_rows import FileReading
from selfreward.stages.row_files import SettingNames
from selfreward.stages.row_limit import RowLimit
from selfreward.storage import files

Orders = Literal["both", "random"]
By = Literal["choice", "ratings"]

_NAMES = SettingNames(
    path="--data",
    format="--data to a .jsonl or .parquet file",
    split="--split",
    column="--column",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """What is to be measured, and how.

    Example: `EvaluateRequest(judge="runs/quickstart", data=("pairs.jsonl",))`
    """

    judge: str
    data: tuple[str, ...]
    config: str | None = None
    """Recipe with engine and rubric. None: a run's judge is asked as the run asked it, others by
    the recipe of the run `like`, or by the defaults."""
    overrides: tuple[str, ...] = ()
    like: str | None = None
    votes: int = 1
    orders: Orders = "both"
    verdict: Method = "greedy"
    columns: Mapping[str, str] = field(default_factory=dict)
    limit: RowLimit | None = None
    by: By = "ratings"
    """How responses with scores are asked about: each rated alone, or the best named in one reading
    where a benchmark has questions for that."""
    benchmark: str | None = None
    """The published protocol to score by; it says which rows are pairs, and is checked before
    anything is judged."""
    glm: LengthGlm | None = None
    """A model's published coefficients, of `alpaca_eval`."""
    split: str = "train"
    """Of a saved dataset or one on a hub."""
    against: str | None = None
    """The judge that this one is compared with: what it cannot read is refused too."""
    work: str | None = None
    """Folder or URL of the evaluation; None: `runs/evaluations/<judge>-<digest>`, where another
    judge, recipe, option or content of a file has another digest."""

    @property
    def protocol(self) -> Benchmark | None:
        """The benchmark; ConfigError for an unknown one."""
        return None if self.benchmark is None else get_benchmark(self.benchmark)

    @property
    def keep_same(self) -> bool:
        """Whether pairs of two equal responses are read: the benchmark counts them as draws."""
        return self.protocol is not None and self.protocol.keeps_same

    @property
    def reading(self) -> FileReading:
        """How the files are read."""
        has_styles = self.protocol is not None and self.protocol.has_styles
        return FileReading(names=_NAMES, split=self.split, styled=has_styles)


def check(request: EvaluateRequest) -> None:
    """Looks up what a request names.

    Raises:
        ConfigError: an unknown baseline or rubric, a rubric file that cannot be used, or an order
            a scorer cannot read.
    """
    spec = parse_judge(request.judge)
    recipe = recipe_of(spec, request)
    get_pairwise_rubric(recipe.judge.rubric)
    load_pointwise_rubric(recipe.rating.rubric)
    if spec.scores_alone and request.orders == "random":
        raise ConfigError(
            f"--orders random: {request.judge} scores each response by itself and reads no order"
        )


def recipe_of(spec: JudgeSpec, request: EvaluateRequest) -> RunConfig:
    """The recipe this judge is asked by, with its own model in it."""
    if request.config is not None:
        config = load_config(request.config, request.overrides)
    else:
        base = spec.name if spec.kind == "run" else request.like
        config = parse_config(saved_recipe(base) if base else {}, request.overrides)
    if spec.kind == "run":
        # The seed of a run is the run's, whatever recipe asks it.
        return config.model_copy(update={"model": parse_config(saved_recipe(spec.name)).model})
    if spec.kind in ("model", "classifier"):
        model = config.model
        if model.name != spec.name:
            # A recipe's revision is that of the recipe's own model.
            revision = model.revision if _sets_revision(request) else None
            model = model.model_copy(update={"name": spec.name, "revision": revision})
        config = config.model_copy(update={"model": model})
    if spec.kind == "classifier":
        engine = config.engine.model_copy(update={"kind": "classifier"})
        config = config.model_copy(update={"engine": engine})
    return config


def _sets_revision(request: EvaluateRequest) -> bool:
    return any(o.startswith("model.revision=") for o in request.overrides)


def saved_recipe(run: str) -> dict[str, Any]:
    """The recipe in a run folder, as plain data."""
    raw: dict[str, Any] = yaml.safe_load(files.read_bytes(Layout(run).config))
    return raw


def pair_sampling(config: RunConfig, request: EvaluateRequest) -> SamplingConfig:
    """How verdicts on pairs are drawn."""
    if request.verdict == "sampled" or request.votes > 1:
        return config.judge.sampling
    return config.evaluation.sampling.model_copy(update={"temperature": 0.0, "top_p": 1.0})


def rating_sampling(config: RunConfig, request: EvaluateRequest) -> SamplingConfig:
    """How scores of single responses are drawn."""
    if request.verdict == "sampled" or request.votes > 1:
        return config.rating.sampling
    return config.rating.sampling.model_copy(update={"temperature": 0.0, "top_p": 1.0})


def settings_of(
    spec: JudgeSpec, config: RunConfig, request: EvaluateRequest, rubric: PointwiseRubric
) -> dict[str, Any]:
    """What decides a judge's verdicts besides its weights: the part of a recipe that is its own.

    `rubric` is the one that `config.rating.rubric` names; a user's own counts by its content, so
    an edited file is measured anew and a moved one is not.
    """
    settings: dict[str, Any] = {"seed": config.loop.seed}
    if spec.kind == "baseline":
        return settings | {"orders": request.orders}
    settings["engine"] = identity(config.engine)
    if spec.scores_alone:
        return settings
    return settings | {
        "rubric": config.judge.rubric,
        "guided": config.judge.guided,
        "sampling": identity(pair_sampling(config, request)),
        "rating": identity(config.rating)
        | {
            "rubric": rubric_recipe(rubric),
            "sampling": identity(rating_sampling(config, request)),
        },
        "votes": request.votes,
        "orders": request.orders,
    }


def default_work(
    spec: JudgeSpec, config: RunConfig, request: EvaluateRequest, rubric: PointwiseRubric
) -> str:
    """The folder of this judge, these files as they are, and these settings."""
    said: dict[str, Any] = {
        "judge": spec.text,
        "settings": settings_of(spec, config, request, rubric),
        "data": sorted([absolute_path(p), files.version_of(p)] for p in request.data),
        "columns": dict(request.columns),
        "max_rows": None if request.limit is None else request.limit.recipe,
        "max_chars": config.evaluation.max_prompt_chars,
    }
    if request.keep_same:
        said["keep_same"] = True
    if request.reading.styled:
        said["styled"] = True
    if request.split != "train":
        said["split"] = request.split
    slug = spec.slug
    if spec.kind == "run":
        iteration, _ = run_checkpoint(spec)
        said["judge"] = [absolute_path(spec.name), iteration]
    elif spec.kind == "likelihood":
        # The four ways to compare are read off the same scores.
        slug = said["judge"] = spec.name
        said["model"] = identity(config.model)
    elif spec.kind != "endpoint":
        said["model"] = identity(config.model)
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]
    return f"runs/evaluations/{slug}-{digest}"
