"""What an evaluation is asked for: options read, checked, and made into a recipe and a folder."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import yaml

from selfreward.config import RunConfig, SamplingConfig
from selfreward.config_base import from_anywhere
from selfreward.config_loading import identity, load_config, parse_config
from selfreward.errors import ConfigError
from selfreward.evaluation.benchmarks import BENCHMARKS, get_benchmark
from selfreward.evaluation.judges import JudgeSpec, parse_judge, run_checkpoint
from selfreward.evaluation.reports import Method
from selfreward.judging.pointwise import PointwiseRubric
from selfreward.judging.rubric_files import rubric_recipe
from selfreward.judging.rubrics import get_pairwise_rubric
from selfreward.layout import Layout, absolute_path
from selfreward.loops.rubrics import load_pointwise_rubric
from selfreward.storage import files

Orders = Literal["both", "random"]
By = Literal["choice", "ratings"]


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
    max_rows: int | None = None
    by: By = "ratings"
    """How responses with scores are asked about: each rated alone, or the best named in one reading
    where a benchmark has questions for that."""
    keep_same: bool = False
    """Whether pairs of two equal responses are read: for a benchmark that counts them as draws."""
    work: str | None = None
    """Folder or URL of the evaluation; None: `runs/evaluations/<judge>-<digest>`, where another
    judge, recipe, option or content of a file has another digest."""


def make_request(
    *,
    judge: str,
    data: Sequence[str],
    config: str | None,
    overrides: Sequence[str],
    votes: int,
    orders: str,
    verdict: str,
    columns: Sequence[str],
    max_rows: int | None,
    work: str | None,
    by: By = "ratings",
    keep_same: bool = False,
) -> EvaluateRequest:
    """Reads what the command line says, and checks it before anything is started.

    Raises:
        ConfigError: an option or a key that does not fit.
    """
    if orders not in get_args(Orders):
        raise ConfigError(f"--orders {orders!r}: it is both or random")
    if verdict not in get_args(Method):
        raise ConfigError(f"--verdict {verdict!r}: it is one of {', '.join(get_args(Method))}")
    if not data:
        raise ConfigError("--data names no file: give one or more pair or score files")
    if votes < 1:
        raise ConfigError(f"--votes {votes}: at least one")
    if max_rows is not None and max_rows < 1:
        raise ConfigError(f"--max-rows {max_rows}: at least one")
    if votes > 1 and verdict == "greedy":
        raise ConfigError(
            "--votes above 1 needs --verdict sampled (or probability): greedy draws are all alike"
        )
    request = EvaluateRequest(
        judge=judge,
        data=tuple(map(from_anywhere, data)),
        config=config,
        overrides=tuple(overrides),
        votes=votes,
        orders=cast("Orders", orders),
        verdict=cast("Method", verdict),
        columns=dict(_column(text) for text in columns),
        max_rows=max_rows,
        by=by,
        keep_same=keep_same,
        work=work,
    )
    check(request)
    return request


def asked_by(judge: str, benchmark: str | None, by: str | None) -> By:
    """How a benchmark is put to a judge: as published, or as `by` says.

    RewardBench 2 asks judges that write for the best of four (arXiv 2506.01937).

    Raises:
        ConfigError: `by` does not fit the benchmark or the judge.
    """
    has_choice = benchmark is not None and get_benchmark(benchmark).of_choices is not None
    writes = parse_judge(judge).writes if has_choice else False
    if by is None:
        return "choice" if writes else "ratings"
    if by not in get_args(By):
        raise ConfigError(f"--by {by!r}: it is choice or ratings")
    if not has_choice:
        known = ", ".join(name for name, b in BENCHMARKS.items() if b.of_choices is not None)
        raise ConfigError(f"--by belongs to --benchmark {known}: leave it out")
    if by == "choice" and not writes:
        raise ConfigError(f"--by choice: {judge} writes no verdicts, leave it out")
    return cast("By", by)


COLUMNS = frozenset(
    {
        *("id", "source", "subset", "prompt", "messages", "chosen", "rejected", "meta"),
        *("response", "score", "scale", "model", "chosen_model", "rejected_model"),
    }
)


def _column(text: str) -> tuple[str, str]:
    ours, sign, theirs = text.partition("=")
    if not (ours and sign and theirs):
        raise ConfigError(f"--column {text!r}: write it as ours=theirs")
    if ours not in COLUMNS:
        raise ConfigError(
            f"--column {text!r}: there is no {ours!r}; ours are {', '.join(sorted(COLUMNS))}"
        )
    return ours, theirs


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
        "max_rows": request.max_rows,
        "max_chars": config.evaluation.max_prompt_chars,
    }
    if request.keep_same:
        said["keep_same"] = True
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
