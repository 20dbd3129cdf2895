"""Measuring one judge, of whatever kind, on files of labelled pairs and scored responses.

The same steps as a run's own evaluation: shards, manifests, one warm pool; the same command again
goes on where the last attempt stopped, and a finished evaluation costs seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from selfreward.config import RunConfig
from selfreward.engines.client import EngineClient
from selfreward.engines.endpoint import EndpointClient, first_model
from selfreward.evaluation.best_of import read_best_of
from selfreward.evaluation.evaluated import Evaluated, Ratings, read_ratings
from selfreward.evaluation.judges import JudgeSpec, parse_judge, run_checkpoint
from selfreward.evaluation.outcomes import (
    first_draw,
    read_outcomes,
    read_scored_outcomes,
)
from selfreward.evaluation.reports import reducer
from selfreward.judging.best_of import BestOfRubric, best_of_rubric
from selfreward.judging.pointwise import PointwiseRubric
from selfreward.judging.rubrics import get_pairwise_rubric
from selfreward.layout import Layout, absolute_path, join
from selfreward.loops.best_of import by_question, num_responses, questions_of
from selfreward.loops.evaluate_checks import check_data
from selfreward.loops.evaluate_request import (
    EvaluateRequest,
    check,
    default_work,
    pair_sampling,
    rating_sampling,
    recipe_of,
    settings_of,
)
from selfreward.loops.labelled import DataSet, build_data_sets
from selfreward.loops.pools import PlacedModel
from selfreward.loops.rubric_checks import check_score_tokens
from selfreward.loops.rubrics import load_pointwise_rubric
from selfreward.loops.session import open_cluster, place, run_model
from selfreward.loops.sources import output_of
from selfreward.loops.steps import Output, Run, run_step
from selfreward.metrics.best_of import BestOfOutcome
from selfreward.metrics.pairwise import PairOutcome
from selfreward.metrics.protocols.rewardbench2 import TIES
from selfreward.preflight import Bundle, check_place, evaluation_bundles
from selfreward.reports.progress import Display
from selfreward.stages.baseline import Baseline
from selfreward.stages.best_of import BestOf
from selfreward.stages.judge import Judge
from selfreward.stages.rate import Rate, RateByReward
from selfreward.stages.runner import StageLogic
from selfreward.stages.score_pairs import ScorePairs
from selfreward.storage.manifest import Manifest


def evaluate_judge(request: EvaluateRequest, display: Display | None = None) -> Evaluated:
    """Runs the judge over every file and returns what it said.

    Raises:
        UserError: a file, judge, option or resource that does not fit, in one line.
        SelfRewardError: the engines failed for good.
    """
    check(request)
    spec = parse_judge(request.judge)
    config = recipe_of(spec, request)
    # Read once, so that what is asked and what the manifests say is the same rubric.
    rubric = load_pointwise_rubric(config.rating.rubric)
    work = request.work or default_work(spec, config, request, rubric)
    check_place(work, "--work")
    config = config.model_copy(update={"run_dir": work})
    judge = _Judge.of(spec, config)
    layout = Layout(absolute_path(work))

    def held() -> list[list[Bundle]]:
        return evaluation_bundles(config, with_engine=spec.needs_engine)

    with open_cluster(config, layout, display or Display(), held) as run:
        return _Evaluation(run, judge, request, rubric).measure()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """A judge ready to be asked: its identity, and how a client for it is made."""

    spec: JudgeSpec
    fingerprint: str
    name: str
    client: Callable[[Run], EngineClient] | None
    placed: PlacedModel | None = None
    """Of a judge that engines of the cluster hold."""
    names: tuple[str, ...] = ()
    """What files may call its model besides."""

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
            placed=placed,
            # What a run trained writes much as its seed does.
            names=(config.model.name,),
        )


def _placed(spec: JudgeSpec, config: RunConfig) -> PlacedModel:
    if spec.kind != "run":
        return place(config.model)
    iteration, _ = run_checkpoint(spec)
    return run_model(Layout(absolute_path(spec.name)), config.model, iteration)


class _Evaluation:
    """One evaluation while it runs."""

    def __init__(
        self, run: Run, judge: _Judge, request: EvaluateRequest, rubric: PointwiseRubric
    ) -> None:
        self.run, self.judge, self.request, self.rubric = run, judge, request, rubric
        self.spec, self.config = judge.spec, run.config

    def measure(self) -> Evaluated:
        request = self.request
        sets = build_data_sets(
            self.run,
            request.data,
            request.columns,
            request.limit,
            keep_same=request.keep_same,
            reading=request.reading,
        )
        check_data(request, sets)
        pairs = [s for s in sets if s.kind == "pairs"]
        scored = [s for s in sets if s.kind == "scores"]
        dropped = {s.name: dict(s.dropped) for s in sets}
        found = Evaluated(
            judge=self.spec.text,
            model=self.judge.name,
            names=self.judge.names,
            fingerprint=self.judge.fingerprint,
            settings=self._told(),
            outcomes=self._judged(pairs, dropped),
            meta={s.name: s.read_meta() for s in pairs},
            choices=self._chosen(scored, dropped) if request.by == "choice" else {},
            ratings=self._rated(scored, dropped),
            dropped=dropped,
            work=self.run.layout.root,
        )
        writers = found.unknown_writers()
        if writers:
            self.run.display.line(
                f"self-preference is not measured: no response is by {self.judge.name}, they are by"
                f" {', '.join(writers[:5])}{' and others' if len(writers) > 5 else ''}"
            )
        return found

    def _told(self) -> dict[str, Any]:
        """The settings that had a say, for the report."""
        settings = settings_of(self.spec, self.config, self.request, self.rubric)
        told = {k: v for k, v in settings.items() if k in ("rubric", "guided", "votes", "seed")}
        told["orders"] = self.request.orders
        if self.request.by == "choice":
            told["by"] = f"choice ({self._best_of().id})"
        if "rubric" in told:
            told["verdict"] = self.request.verdict
        return told

    def _judged(
        self, sets: Sequence[DataSet], dropped: dict[str, dict[str, int]]
    ) -> dict[str, list[PairOutcome]]:
        spec, request, seed = self.spec, self.request, self.config.loop.seed
        logic: StageLogic[Any, Any]
        if spec.kind == "baseline":
            logic = Baseline(baseline=spec.name, seed=seed, orders=request.orders)
        elif spec.scores_alone:
            logic = ScorePairs(alone=spec.kind == "likelihood")
        else:
            logic = Judge(
                rubric_id=self.config.judge.rubric,
                sampling=pair_sampling(self.config, request),
                guided=self.config.judge.guided,
                num_draws=request.votes,
                seed=seed,
                objective="sft",
                adaptive=False,
                orders=request.orders,
                name="evaluate",
            )
        outcomes = {}
        reduce = reducer(request.verdict, request.votes) if spec.writes else first_draw
        for data, folder in self._step(logic, sets, dropped):
            outcomes[data.name] = (
                read_scored_outcomes(data.source.folder, folder, spec.variant)
                if spec.scores_alone
                else read_outcomes(data.source.folder, folder, reduce)
            )
        return outcomes

    def _best_of(self) -> BestOfRubric:
        pairwise = get_pairwise_rubric(self.config.judge.rubric)
        return best_of_rubric(wants_reason=pairwise.wants_reason)

    def _chosen(
        self, sets: Sequence[DataSet], dropped: dict[str, dict[str, int]]
    ) -> dict[str, list[BestOfOutcome]]:
        logic = BestOf(
            rubric=self._best_of(),
            sampling=pair_sampling(self.config, self.request),
            guided=self.config.judge.guided,
            num_draws=self.request.votes,
            seed=self.config.loop.seed,
            apart=TIES,
        )
        questions = {s.name: questions_of(s) for s in sets}
        asked = [s for s in sets if questions[s.name]]

        def fit(data: DataSet, output: Output) -> Output:
            return by_question(self.run, data, output, len(questions[data.name]))

        return {
            data.name: read_best_of(questions[data.name], folder)
            for data, folder in self._step(logic, asked, dropped, fit)
        }

    def _rated(
        self, sets: Sequence[DataSet], dropped: dict[str, dict[str, int]]
    ) -> dict[str, Ratings]:
        if not sets:
            return {}
        rubric: PointwiseRubric | None = None
        subset = TIES if self.request.by == "choice" else None
        sizes = {s.name: num_responses(s, subset) for s in sets}
        logic: StageLogic[Any, Any] = RateByReward()
        if self.spec.kind != "classifier":
            rubric = self.rubric
            if self.judge.placed is not None:
                check_score_tokens(self.run, self.judge.placed, rubric)
            logic = Rate(
                rubric=rubric,
                sampling=rating_sampling(self.config, self.request),
                guided=self.config.rating.guided,
                expected=self.config.rating.expected,
                num_draws=self.request.votes,
                seed=self.config.loop.seed,
                subset=subset,
                # What is rated of a file enters no recipe, so each part has its own folder.
                name="rate" if subset is None else "rate_ties",
            )

        def fit(data: DataSet, output: Output) -> Output:
            return replace(output, num_rows=sizes[data.name])

        rated = [s for s in sets if sizes[s.name]]
        return {
            data.name: read_ratings(data.name, data.source.folder, folder, rubric, subset)
            for data, folder in self._step(logic, rated, dropped, fit)
        }

    def _step(
        self,
        logic: StageLogic[Any, Any],
        sets: Sequence[DataSet],
        dropped: dict[str, dict[str, int]],
        fit: Callable[[DataSet, Output], Output] = lambda _, output: output,
    ) -> list[tuple[DataSet, str]]:
        """Runs a stage over the data sets; returns each with the folder of what was made.

        `fit` changes the output of a stage that does not make one shard of each of the data's.
        """
        settings = settings_of(self.spec, self.config, self.request, self.rubric)
        recipe: Mapping[str, Any] = {"judge": self.judge.fingerprint, **settings}
        folders = [join(self.run.layout.root, logic.name, s.name) for s in sets]
        outputs = [
            fit(data, output_of(folder, data.source, recipe))
            for data, folder in zip(sets, folders, strict=True)
        ]
        make = self.judge.client
        client = None if make is None else lambda: make(self.run)
        done: list[Manifest] = run_step(
            self.run, f"{logic.name} with {self.spec.text}", logic, outputs, client
        )
        for data, manifest in zip(sets, done, strict=True):
            for reason, count in manifest.drops.items():
                dropped[data.name][reason] = dropped[data.name].get(reason, 0) + count
        return list(zip(sets, folders, strict=True))
