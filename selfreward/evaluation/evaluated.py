"""What an evaluation found, and its figures: data sets, their mean, bias card, protocol."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from selfreward.config import EvaluationConfig
from selfreward.errors import DataError
from selfreward.evaluation.outcomes import CardBasis
from selfreward.evaluation.own_answers import WRITERS, Side, is_own, own_sides
from selfreward.evaluation.reports import card_report, macro_report, set_report
from selfreward.judging.pointwise import PointwiseRubric
from selfreward.judging.voting import mean_score
from selfreward.metrics.best_of import BestOfOutcome, best_of_report
from selfreward.metrics.intervals import Resampling
from selfreward.metrics.pairwise import PairOutcome
from selfreward.metrics.score_agreement import agreement_intervals, pointwise_agreement
from selfreward.records import Outcome
from selfreward.records_scores import Rating, ScoredResponse
from selfreward.stages.labelled_meta import read_meta_text
from selfreward.stages.scored import WRITER
from selfreward.storage.shards import read_records, sealed_shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratings:
    """A judge's scores of the responses of one file, beside people's.

    Example: `Ratings(human=(4.0, 2.0), judge=(5.0, None), groups=("p1", "p1"),
    subsets=("chat", "chat"), human_scale=(1.0, 5.0), judge_scale=(0.0, 5.0), has_scale=True)`
    """

    human: tuple[float, ...]
    judge: tuple[float | None, ...]
    """None where no draw had a score."""
    groups: tuple[str, ...]
    """Responses of one group answer the same prompt."""
    subsets: tuple[str, ...]
    human_scale: tuple[float, float]
    judge_scale: tuple[float, float]
    has_scale: bool
    """False for rewards, whose range seen stands in for a scale."""
    models: tuple[str | None, ...] = ()
    """Which model wrote each response, where the file says so."""

    def excess(self) -> list[tuple[str, float]]:
        """Of the responses with a known writer and a score: the writer, and the judge's score minus
        people's, both as a share of their scale. A reward has no scale, so there is none."""
        if not self.has_scale:
            return []
        rows = zip(self.models, self.judge, self.human, strict=False)
        return [
            (model, _share(judge, self.judge_scale) - _share(human, self.human_scale))
            for model, judge, human in rows
            if model is not None and judge is not None
        ]


def _share(score: float, scale: tuple[float, float]) -> float:
    return (score - scale[0]) / (scale[1] - scale[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """All a judge said: enough to make every figure again without asking it."""

    judge: str
    model: str
    fingerprint: str
    settings: dict[str, Any]
    outcomes: dict[str, list[PairOutcome]]
    names: tuple[str, ...] = ()
    """Further names of the judge's model, as files may call it: of a run, its seed's."""
    meta: dict[str, dict[str, dict[str, Any]]]
    """By data set and pair id: what the file says of the pair besides."""
    ratings: dict[str, Ratings]
    choices: dict[str, list[BestOfOutcome]] = field(default_factory=dict)
    """Of files whose questions were asked as one choice."""
    draws: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    """By part of the report, data set and outcome: single draws, before those of one reading were
    made into one."""
    dropped: dict[str, dict[str, int]]
    """By data set and reason: rows that could not be used and pairs that could not be judged."""
    readings: Sequence[Iterable[dict[str, Any]]] = ()
    """What was said to each row (`readings.py`), in the order of `--readings`."""
    work: str

    def report(self, config: EvaluationConfig, seed: int) -> dict[str, Any]:
        """Returns every figure as plain data ready for JSON.

        Raises:
            DataError: no pair of a data set was judged.
        """
        resampling = Resampling(
            confidence=config.confidence, num_samples=config.bootstrap_samples, seed=seed
        )
        report: dict[str, Any] = {
            "judge": self.judge,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "settings": self.settings,
            "data": {
                name: set_report(name, found, config, seed) | self._counts("data", name)
                for name, found in self.outcomes.items()
            },
            "scores": {
                name: agreement_report(r, resampling) | self._counts("scores", name)
                for name, r in self.ratings.items()
            },
            "choices": {
                name: best_of_report(found, resampling).to_dict() | self._counts("choices", name)
                for name, found in self.choices.items()
            },
        }
        if self.outcomes:
            report["macro"] = macro_report(self.outcomes, config, seed)
        if self.outcomes or self.ratings:
            report["card"] = card_report(self.outcomes, self.card_basis())
        return report

    def _counts(self, part: str, name: str) -> dict[str, Any]:
        """What did not become a figure. Only a judge that writes has draws, else null."""
        return {"draws": self.draws.get((part, name)), "dropped": self.dropped[name]}

    def card_basis(self) -> CardBasis:
        """Its own scores, and which responses its own model wrote."""
        scores, scale = self._scores()
        excess = [found for r in self.ratings.values() for found in r.excess()]
        return CardBasis(
            own=self._own_sides(),
            scores=scores,
            scale=scale,
            own_excess=[gap for model, gap in excess if self._is_own(model)],
            other_excess=[gap for model, gap in excess if not self._is_own(model)],
        )

    def unknown_writers(self) -> list[str]:
        """Who wrote the responses by the files' own word, where none of them is this judge's
        model: nothing can then be said about self-preference."""
        rows = [meta for found in self.meta.values() for meta in found.values()]
        named = {str(meta[key]) for meta in rows for key in WRITERS if meta.get(key)}
        named |= {model for r in self.ratings.values() for model in r.models if model is not None}
        return [] if any(map(self._is_own, named)) else sorted(named)

    def _is_own(self, name: Any) -> bool:
        return is_own(name, self._own_names)

    def _scores(self) -> tuple[list[float] | None, tuple[float, float] | None]:
        """All scores with the scale they were given by; rewards have none."""
        if not self.ratings:
            return None, None
        scores = [s for r in self.ratings.values() for s in r.judge if s is not None]
        scales = {r.judge_scale for r in self.ratings.values() if r.has_scale}
        return scores, scales.pop() if len(scales) == 1 else None

    def _own_sides(self) -> dict[str, Side]:
        """Pairs of which the judge's own model wrote one response, by the file's own word."""
        return {
            pair_id: side
            for metas in self.meta.values()
            for pair_id, side in own_sides(metas, self._own_names).items()
        }

    @property
    def _own_names(self) -> tuple[str, ...]:
        return (self.model, *self.names)


def agreement_report(ratings: Ratings, resampling: Resampling) -> dict[str, Any]:
    """The agreement with people's scores and the intervals of its figures, as plain data."""
    scores = (ratings.human, ratings.judge, ratings.human_scale, ratings.judge_scale)
    intervals = agreement_intervals(*scores, groups=ratings.groups, resampling=resampling)
    return asdict(pointwise_agreement(*scores)) | {
        f"{name}_ci": None if interval is None else [*interval]
        for name, interval in intervals.items()
    }


def read_ratings(
    name: str,
    rows_folder: str,
    folder: str,
    rubric: PointwiseRubric | None,
    subset: str | None = None,
) -> Ratings:
    """Joins the responses of the data set `name` with the mean of their ratings.

    With `subset` only those of that subset, which alone were rated then.

    Raises:
        DataError: its responses are scored on several scales.
    """
    rows: list[ScoredResponse] = []
    judge: list[float | None] = []
    for rows_url, ratings_url in zip(
        sealed_shards(rows_folder), sealed_shards(folder), strict=True
    ):
        found: dict[str, list[Rating]] = {}
        for rating in read_records(ratings_url, Rating):
            found.setdefault(rating.response_id, []).append(rating)
        for row in read_records(rows_url, ScoredResponse):
            if subset is not None and row.subset != subset:
                continue
            rows.append(row)
            judge.append(mean_rating(found.get(row.id, [])))
    return Ratings(
        human=tuple(row.score for row in rows),
        judge=tuple(judge),
        groups=tuple(row.group for row in rows),
        subsets=tuple(row.subset for row in rows),
        human_scale=one_scale(name, rows),
        judge_scale=_judge_scale(rubric, judge),
        has_scale=rubric is not None,
        models=tuple(_writer(row) for row in rows),
    )


def one_scale(name: str, rows: Sequence[ScoredResponse]) -> tuple[float, float]:
    """The scale by which the responses of the data set `name` are scored; DataError for several."""
    scales = {(row.low, row.high) for row in rows}
    if len(scales) != 1:
        raise DataError(f"{name}: scores of several scales {sorted(scales)}; split the file")
    return scales.pop()


def _writer(row: ScoredResponse) -> str | None:
    model = (read_meta_text(row.meta) or {}).get(WRITER)
    return model if isinstance(model, str) and model else None


def mean_rating(ratings: Sequence[Rating]) -> float | None:
    """The mean score of the draws that have one; None without any."""
    if not ratings:
        return None
    vote = mean_score([r.verdict for r in ratings])
    return vote.verdict.score if vote.verdict.outcome is Outcome.SCORE else None


def _judge_scale(
    rubric: PointwiseRubric | None, scores: Sequence[float | None]
) -> tuple[float, float]:
    if rubric is not None:
        return rubric.scale
    known = [s for s in scores if s is not None]
    # A reward has no scale of its own: the range seen stands in for it.
    low, high = min(known, default=0.0), max(known, default=1.0)
    # A little wider, since scores are rounded before they are compared.
    return (low - 1e-6, high + 1e-6) if low < high else (low - 0.5, high + 0.5)
