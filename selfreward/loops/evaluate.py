"""Measuring one judge, of whatever kind, on files of labelled pairs and scored responses.

The same steps as a run's own evaluation: shards, manifests, one warm pool; the same command again
goes on where the last attempt stopped, and a finished evaluation costs seconds.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import yaml

from selfreward.config import RunConfig, SamplingConfig
from selfreward.config_loading import identity, load_config, parse_config
from selfreward.engines.client import EngineClient
from selfreward.engines.endpoint import EndpointClient, first_model
from selfreward.errors import ConfigError, DataError
from selfreward.evaluation.evaluated import Evaluated, read_ratings
from selfreward.evaluation.judges import JudgeSpec, parse_judge, run_checkpoint
from selfreward.evaluation.outcomes import read_outcomes, read_scored_outcomes
from selfreward.evaluation.reports import Method, reducer
from selfreward.layout import Layout, join
from selfreward.loops.labelled import DataSet, build_data_sets
from selfreward.loops.pools import PlacedModel
from selfreward.loops.session import absolute_root, open_cluster, place, trained_model
from selfreward.loops.steps import Output, Run, run_step, shards_of
from selfreward.metrics.pairwise import PairOutcome
from selfreward.reports.progress import Display
from selfreward.stages.baseline import Baseline
from selfreward.stages.judge import Judge
from selfreward.stages.rate import Rate, RateByReward
from selfreward.stages.runner import StageLogic
from selfreward.stages.score_pairs import ScorePairs
from selfreward.storage import files


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """What is to be measured, and how.

    Example: `EvaluateRequest(judge="runs/quickstart", data=("pairs.jsonl",),
    config=RunConfig())`
    """

    judge: str
    data: tuple[str, ...]
    config: RunConfig
    votes: int = 1
    orders: Literal["both", "random"] = "both"
    verdict: Method = "greedy"
    columns: Mapping[str, str] = field(default_factory=dict)
    max_rows: int | None = None
    work: str | None = None
    """Folder or URL of the evaluation; None: `runs/evaluations/<judge>-<digest of the files>`."""


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
) -> EvaluateRequest:
    """Reads what the command line says.

    Without a recipe, a run's judge is asked as the run asked it, and others by the defaults.

    Raises:
        ConfigError: an option or a key that does not fit.
    """
    if orders not in ("both", "random"):
        raise ConfigError(f"--orders {orders!r}: it is both or random")
    if verdict not in get_args(Method):
        raise ConfigError(f"--verdict {verdict!r}: it is one of {', '.join(get_args(Method))}")
    mapping = dict(_column(text) for text in columns)
    request = EvaluateRequest(
        judge=judge,
        data=tuple(data),
        config=_recipe_of(judge, config, overrides),
        votes=votes,
        orders=cast("Literal['both', 'random']", orders),
        verdict=cast("Method", verdict),
        columns=mapping,
        max_rows=max_rows,
        work=work,
    )
    _check(request)
    return request


def _column(text: str) -> tuple[str, str]:
    ours, sign, theirs = text.partition("=")
    if not (ours and sign and theirs):
        raise ConfigError(f"--column {text!r}: write it as ours=theirs")
    return ours, theirs


def _recipe_of(judge: str, config: str | None, overrides: Sequence[str]) -> RunConfig:
    if config is not None:
        return load_config(config, overrides)
    spec = parse_judge(judge)
    if spec.kind != "run":
        return parse_config({}, overrides)
    saved = Layout(spec.name).config
    return parse_config(yaml.safe_load(files.read_bytes(saved)), overrides, source=saved)


def evaluate_judge(request: EvaluateRequest, display: Display | None = None) -> Evaluated:
    """Runs the judge over every file and returns what it said.

    Raises:
        UserError: a file, judge, option or resource that does not fit, in one line.
        SelfRewardError: the engines failed for good.
    """
    _check(request)
    spec = parse_judge(request.judge)
    config = _config_of(spec, request)
    display = display or Display()
    layout = Layout(absolute_root(config.run_dir))
    judge = _Judge.of(spec, config)
    with open_cluster(config, layout, display) as run:
        sets = build_data_sets(run, request.data, request.columns, request.max_rows)
        return _measure(run, judge, sets, request)


def _check(request: EvaluateRequest) -> None:
    if not request.data:
        raise ConfigError("--data names no file: give one or more pair or score files")
    if request.votes < 1:
        raise ConfigError(f"--votes {request.votes}: at least one")
    if request.votes > 1 and request.verdict == "greedy":
        raise ConfigError(
            "--votes above 1 needs --verdict sampled (or probability): greedy draws are all alike"
        )


def _config_of(spec: JudgeSpec, request: EvaluateRequest) -> RunConfig:
    """The recipe with the judge's model in it, and the folder of this evaluation."""
    config = request.config
    changes: dict[str, Any] = {"run_dir": request.work or default_work(spec, request)}
    if spec.kind in ("model", "classifier"):
        changes["model"] = config.model.model_copy(update={"name": spec.name, "revision": None})
    if spec.kind == "classifier":
        changes["engine"] = config.engine.model_copy(update={"kind": "classifier"})
    return config.model_copy(update=changes)


def default_work(spec: JudgeSpec, request: EvaluateRequest) -> str:
    """A folder for this judge, these files and these settings: another question, another folder."""
    config = request.config
    said: list[Any] = [
        os.path.abspath(spec.name) if spec.kind == "run" else spec.text,
        sorted(os.path.abspath(p) if "://" not in p else p for p in request.data),
        [request.votes, request.orders, request.verdict, request.max_rows],
        sorted(request.columns.items()),
        [config.judge.rubric, config.judge.pointwise_rubric, config.judge.guided],
        identity(config.judge.sampling),
        config.model.name if spec.kind == "likelihood" else None,
    ]
    # A likelihood's variants are read off the same scores.
    slug = spec.slug if spec.kind != "likelihood" else "likelihood"
    if spec.kind == "likelihood":
        said[0] = slug
    if spec.kind == "run":
        said.append(run_checkpoint(spec)[0])
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:8]
    return f"runs/evaluations/{slug}-{digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """A judge ready to be asked: its identity, and how a client for it is made."""

    spec: JudgeSpec
    fingerprint: str
    name: str
    client: Callable[[Run], EngineClient] | None

    @classmethod
    def of(cls, spec: JudgeSpec, config: RunConfig) -> "_Judge":
        if spec.kind == "baseline":
            return cls(spec=spec, fingerprint=spec.text, name=spec.text, client=None)
        if spec.kind == "endpoint":
            endpoint: Any = EndpointClient(
                url=spec.name,
                model=spec.variant or first_model(spec.name),
                request_timeout_s=config.engine.request_timeout_s,
                recovery_timeout_s=config.engine.recovery_timeout_s,
            )
            return cls(
                spec=spec,
                fingerprint=endpoint.model.fingerprint,
                name=endpoint.model.name,
                client=lambda run: endpoint,
            )
        placed = _placed(spec, config)
        return cls(
            spec=spec,
            fingerprint=placed.ref.fingerprint,
            name=placed.ref.name,
            client=lambda run: run.pools.judge(placed),
        )


def _placed(spec: JudgeSpec, config: RunConfig) -> PlacedModel:
    if spec.kind != "run":
        return place(config.model)
    iteration, checkpoint = run_checkpoint(spec)
    seed = config.model
    return place(seed) if checkpoint is None else trained_model(seed.name, iteration, checkpoint)


def _measure(
    run: Run, judge: _Judge, sets: Sequence[DataSet], request: EvaluateRequest
) -> Evaluated:
    pairs = [s for s in sets if s.kind == "pairs"]
    scored = [s for s in sets if s.kind == "scores"]
    outcomes = dict(zip([s.name for s in pairs], _judge(run, judge, pairs, request), strict=True))
    ratings = {
        s.name: read_ratings(s.name, s.source.folder, folder, rubric)
        for s, folder, rubric in _rate(run, judge, scored, request)
    }
    return Evaluated(
        judge=judge.spec.text,
        model=judge.name,
        fingerprint=judge.fingerprint,
        settings={
            "votes": request.votes,
            "orders": request.orders,
            "verdict": request.verdict,
            "rubric": run.config.judge.rubric,
            "guided": run.config.judge.guided,
            "seed": run.config.loop.seed,
        },
        outcomes=outcomes,
        meta={s.name: s.read_meta() for s in pairs},
        ratings=ratings,
        work=run.layout.root,
    )


def _judge(
    run: Run, judge: _Judge, sets: Sequence[DataSet], request: EvaluateRequest
) -> list[list[PairOutcome]]:
    spec, config = judge.spec, run.config
    scorer = spec.kind in ("likelihood", "classifier")
    if scorer and request.orders == "random":
        raise ConfigError("--orders random: a judge that scores each response reads no order")
    logic: StageLogic[Any, Any]
    if spec.kind == "baseline":
        logic = Baseline(baseline=spec.name, seed=config.loop.seed, orders=request.orders)
    elif scorer:
        logic = ScorePairs(alone=spec.kind == "likelihood")
    else:
        logic = _generative(config, request)
    folders = [join(run.layout.root, logic.name, s.name) for s in sets]
    _run(run, judge, logic, sets, folders, _recipe(judge, config, request, scorer))
    if scorer:
        return [
            read_scored_outcomes(s.source.folder, folder, spec.variant)
            for s, folder in zip(sets, folders, strict=True)
        ]
    reduce = reducer(request.verdict, request.votes)
    return [
        read_outcomes(s.source.folder, folder, reduce)
        for s, folder in zip(sets, folders, strict=True)
    ]


def _generative(config: RunConfig, request: EvaluateRequest) -> Judge:
    return Judge(
        rubric_id=config.judge.rubric,
        sampling=_sampling(config, request),
        guided=config.judge.guided,
        num_draws=request.votes,
        seed=config.loop.seed,
        objective="sft",
        adaptive=False,
        orders=request.orders,
        name="evaluate",
    )


def _sampling(config: RunConfig, request: EvaluateRequest) -> SamplingConfig:
    if request.votes == 1 and request.verdict != "sampled":
        return config.judge.sampling.model_copy(update={"temperature": 0.0, "top_p": 1.0})
    return config.judge.sampling


def _recipe(
    judge: _Judge, config: RunConfig, request: EvaluateRequest, scorer: bool
) -> dict[str, Any]:
    recipe: dict[str, Any] = {"judge": judge.fingerprint, "seed": config.loop.seed}
    if judge.client is None:
        return recipe | {"orders": request.orders}
    if not scorer:
        recipe |= {
            "rubric": config.judge.rubric,
            "pointwise_rubric": config.judge.pointwise_rubric,
            "guided": config.judge.guided,
            "sampling": identity(_sampling(config, request)),
            "votes": request.votes,
            "orders": request.orders,
        }
    return recipe | {"engine": identity(config.engine)}


def _run(
    run: Run,
    judge: _Judge,
    logic: StageLogic[Any, Any],
    sets: Sequence[DataSet],
    folders: Sequence[str],
    recipe: Mapping[str, Any],
) -> None:
    outputs = [
        Output(
            folder=folder,
            inputs=shards_of(s.source.folder),
            recipe={**recipe, "input": s.source.fingerprint},
            num_rows=s.source.num_records,
        )
        for s, folder in zip(sets, folders, strict=True)
    ]
    make = judge.client
    client = None if make is None else lambda: make(run)
    run_step(run, f"{logic.name} with {judge.spec.text}", logic, outputs, client)


def _rate(
    run: Run, judge: _Judge, sets: Sequence[DataSet], request: EvaluateRequest
) -> list[tuple[DataSet, str, str | None]]:
    """Rates scored responses; returns (data set, folder of ratings, rubric or None)."""
    if not sets:
        return []
    spec, config = judge.spec, run.config
    if spec.kind in ("baseline", "likelihood"):
        names = ", ".join(s.name for s in sets)
        raise DataError(f"{spec.text} compares responses and rates none; leave out {names}")
    rewards = spec.kind == "classifier"
    logic: StageLogic[Any, Any]
    if rewards:
        logic = RateByReward()
    else:
        logic = Rate(
            rubric_id=config.judge.pointwise_rubric,
            sampling=_sampling(config, request),
            guided=config.judge.guided,
            num_draws=request.votes,
            seed=config.loop.seed,
        )
    folders = [join(run.layout.root, logic.name, s.name) for s in sets]
    _run(run, judge, logic, sets, folders, _recipe(judge, config, request, rewards))
    rubric = None if rewards else config.judge.pointwise_rubric
    return [(s, folder, rubric) for s, folder in zip(sets, folders, strict=True)]
