"""Checks of the files of an evaluation, after they are read and before anything is judged."""

from collections.abc import Mapping, Sequence
from typing import Any

from selfreward.errors import DataError
from selfreward.evaluation.benchmarks import Benchmark
from selfreward.evaluation.evaluated import Ratings, one_scale
from selfreward.evaluation.judges import parse_judge
from selfreward.evaluation.meta_fields import problem_of, uneven
from selfreward.loops.best_of import questions_of
from selfreward.loops.evaluate_request import EvaluateRequest
from selfreward.loops.labelled import DataSet
from selfreward.metrics.best_of import BestOfOutcome
from selfreward.metrics.intervals import Resampling
from selfreward.metrics.pairwise import PairOutcome
from selfreward.metrics.protocols.rewardbench2 import TIES
from selfreward.records import Outcome, Verdict
from selfreward.records_scores import ScoredResponse, SlotVerdict
from selfreward.storage.shards import read_records, sealed_shards

_KINDS = {"pairs": "pairs", "scores": "scored responses"}
_TIE = Verdict(outcome=Outcome.TIE)
_ONE_RESAMPLE = Resampling(num_samples=1)
"""No interval of these figures is read, and each resample of AlpacaEval is a fit."""


def check_data(request: EvaluateRequest, sets: Sequence[DataSet]) -> None:
    """Sees to it that the judges can read the files, and the benchmark their rows.

    Raises:
        DataError: a file is of the wrong kind, or a row lacks what the benchmark reads of it; the
            line names them.
    """
    protocol = request.protocol
    scored = [s for s in sets if s.kind == "scores"]
    if request.against is not None and len(scored) == len(sets):
        raise DataError(
            f"{_names(sets)}: scored responses; a comparison needs at least one pair file"
        )
    if protocol is not None and all(s.kind != protocol.kind for s in sets):
        raise DataError(
            f"{_names(sets)}: {_KINDS[sets[0].kind]}, and --benchmark {request.benchmark} reads"
            f" {_KINDS[protocol.kind]}; {protocol.data_needed}"
        )
    for judge in filter(None, (request.judge, request.against)):
        if scored and parse_judge(judge).kind in ("baseline", "likelihood"):
            raise DataError(
                f"{judge} compares responses and rates none; leave out {_names(scored)}"
            )
    for data in sets:
        meta = {} if protocol is None else _checked_meta(data, protocol)
        rows = _responses(data)
        rated = [row for row in rows if request.by == "ratings" or row.subset == TIES]
        if rated:
            one_scale(data.name, rated)
        if protocol is not None and data.kind == protocol.kind:
            _score_nothing(request, protocol, data, meta, rated)


def _names(sets: Sequence[DataSet]) -> str:
    return ", ".join(s.name for s in sets)


def _checked_meta(data: DataSet, protocol: Benchmark) -> dict[str, dict[str, Any]]:
    meta, fields = data.read_meta(), protocol.meta_fields
    pairs = data.read_pairs() if fields else []
    for pair in pairs:
        problem = problem_of(meta.get(pair.id, {}), fields)
        if problem is not None:
            raise DataError(
                f"{data.name}: {problem}, in {data.name_row(pair)}; {protocol.data_needed}"
            )
    problem = uneven([meta.get(pair.id, {}) for pair in pairs], fields)
    if problem is not None:
        raise DataError(f"{data.name}: {problem}")
    return meta


def _responses(data: DataSet) -> list[ScoredResponse]:
    urls = sealed_shards(data.source.folder) if data.kind == "scores" else []
    return [row for url in urls for row in read_records(url, ScoredResponse)]


def _score_nothing(
    request: EvaluateRequest,
    protocol: Benchmark,
    data: DataSet,
    meta: Mapping[str, dict[str, Any]],
    rows: Sequence[ScoredResponse],
) -> None:
    """Scores the rows as if every reading were a tie and every rating people's own: what the
    scoring refuses then is due to the rows alone."""
    try:
        of_pairs = protocol.pair_scoring(request.glm)
        if of_pairs is not None:
            in_both = request.orders == "both"
            of_pairs(
                [
                    PairOutcome(
                        pair_id=pair.id,
                        subset=pair.corruption,
                        group=pair.instruction_id,
                        chosen_first=_TIE,
                        rejected_first=_TIE if in_both else None,
                        chosen_length=len(pair.chosen),
                        rejected_length=len(pair.rejected),
                    )
                    for pair in data.read_pairs()
                ],
                dict(meta),
                _ONE_RESAMPLE,
            )
        elif protocol.of_choices is not None and request.by == "choice":
            choices = [
                BestOfOutcome(
                    question_id=question.id,
                    subset=question.subset,
                    gold=0,
                    num_shown=1 + len(question.wrong),
                    verdict=SlotVerdict(outcome=Outcome.UNPARSED),
                )
                for question in questions_of(data)
            ]
            protocol.of_choices(choices, _as_people_do(rows) if rows else None, _ONE_RESAMPLE)
        elif protocol.of_scores is not None:
            protocol.of_scores(_as_people_do(rows), _ONE_RESAMPLE)
    except ValueError as error:
        raise DataError(f"{data.name}: {error}; {protocol.data_needed}") from None


def _as_people_do(rows: Sequence[ScoredResponse]) -> Ratings:
    scale = (rows[0].low, rows[0].high)
    human = tuple(row.score for row in rows)
    return Ratings(
        human=human,
        judge=human,
        groups=tuple(row.group for row in rows),
        subsets=tuple(row.subset for row in rows),
        human_scale=scale,
        judge_scale=scale,
        has_scale=True,
    )
