"""Measuring one judge, of whatever kind, on files of labelled pairs and scored responses.

The same steps as a run's own evaluation: shards, manifests, one warm pool; the same command again
goes on where the last attempt stopped, and a finished evaluation costs seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from selfreward.evaluation.best_of import read_best_of
from selfreward.evaluation.draws import draws_by_outcome
from selfreward.evaluation.evaluated import Evaluated, Ratings, read_ratings
from selfreward.evaluation.judges import parse_judge
from selfreward.evaluation.outcomes import (
    check_probabilities,
    first_draw,
    nothing_judged,
    read_outcomes,
    read_scored_outcomes,
)
from selfreward.evaluation.readings import ChoiceReadings, PairReadings, Readings, ScoreReadings
from selfreward.evaluation.reports import reducer
from selfreward.judging.best_of import BestOfRubric, best_of_rubric
from selfreward.judging.pointwise import PointwiseRubric
from selfreward.judging.rubrics import get_pairwise_rubric
from selfreward.layout import Layout, absolute_path, join
from selfreward.loops.asked_judge import AskedJudge
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
from selfreward.loops.rubric_checks import check_score_tokens
from selfreward.loops.rubrics import load_pointwise_rubric
from selfreward.loops.session import open_cluster
from selfreward.loops.sources import output_of
from selfreward.loops.steps import Output, Run, run_step
from selfreward.metrics.best_of import BestOfOutcome
from selfreward.metrics.pairwise import PairOutcome
from selfreward.metrics.protocols.rewardbench2 import TIES
from selfreward.preflight import Bundle, check_place, evaluation_bundles
from selfreward.records import Judgment
from selfreward.records_scores import BestOfReading, Rating
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
    judge = AskedJudge.of(spec, config)
    layout = Layout(absolute_path(work))

    def held() -> list[list[Bundle]]:
        return evaluation_bundles(config, with_engine=spec.needs_engine)

    with open_cluster(config, layout, display or Display(), held) as run:
        return _Evaluation(run, judge, request, rubric).measure()


class _Evaluation:
    """One evaluation while it runs."""

    def __init__(
        self, run: Run, judge: AskedJudge, request: EvaluateRequest, rubric: PointwiseRubric
    ) -> None:
        self.run, self.judge, self.request, self.rubric = run, judge, request, rubric
        self.spec, self.config = judge.spec, run.config
        self.readings: list[Readings] = []
        self.draws: dict[tuple[str, str], dict[str, int]] = {}

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
            draws=self.draws,
            dropped=dropped,
            readings=self.readings,
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
                by_probability=request.verdict == "probability",
                name="evaluate",
            )
        outcomes = {}
        reduce = reducer(request.verdict, request.votes) if spec.writes else first_draw
        for data, folder in self._step(logic, sets, dropped):
            if isinstance(logic, Judge) and logic.by_probability:
                check_probabilities(data.name, folder)
            found = (
                read_scored_outcomes(data.source.folder, folder, spec.variant)
                if spec.scores_alone
                else read_outcomes(data.source.folder, folder, reduce)
            )
            if not found:
                raise nothing_judged(data.name, folder)
            outcomes[data.name] = found
            self.readings.append(
                PairReadings(
                    data=data.name,
                    rows=data.source.folder,
                    folder=folder,
                    outcomes=found,
                    scores_alone=spec.scores_alone,
                    likelihood=spec.variant,
                )
            )
            if isinstance(logic, Judge):
                self.draws["data", data.name] = draws_by_outcome(folder, Judgment, request.votes)
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

        chosen = {}
        for data, folder in self._step(logic, asked, dropped, fit):
            shown = questions[data.name]
            found = chosen[data.name] = read_best_of(shown, folder)
            self.draws["choices", data.name] = draws_by_outcome(
                folder, BestOfReading, self.request.votes
            )
            self.readings.append(
                ChoiceReadings(data=data.name, folder=folder, questions=shown, outcomes=found)
            )
        return chosen

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
        ratings = {}
        for data, folder in self._step(logic, rated, dropped, fit):
            rows = data.source.folder
            ratings[data.name] = read_ratings(data.name, rows, folder, rubric, subset)
            if isinstance(logic, Rate):
                self.draws["scores", data.name] = draws_by_outcome(
                    folder, Rating, self.request.votes
                )
            self.readings.append(
                ScoreReadings(data=data.name, rows=rows, folder=folder, subset=subset)
            )
        return ratings

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
