"""The history page: judges that were promoted, why, and their bias cards, from a run's files."""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from selfreward.layout import Layout, join
from selfreward.serving.admin_wire import VersionEntry, VersionHistory
from selfreward.serving.review.run_tasks import num_iterations
from selfreward.serving.review_wire import BiasFigure, PromotedJudge, PromotionHistory
from selfreward.serving.versions import run_judge
from selfreward.serving.wire import JudgeVersion
from selfreward.storage import files
from selfreward.storage.checkpoints import CurrentJudge, read_pointers
from selfreward.storage.manifest import read_manifest

NOT_SERVED = 0
"""The version of a judge that a run promoted and this service never served."""

_RATES = (
    "swap_flip_rate",
    "first_position_rate",
    "longer_chosen_rate",
    "unparsed_rate",
    "truncated_rate",
    "tie_rate",
    "refused_rate",
)


def promotion_history(
    layout: Layout | None, served: VersionHistory | None = None
) -> PromotionHistory:
    """Returns the judges that were promoted, newest first.

    These are the versions of the service, and the judges that the run (None: a model is served)
    pointed to while it was not served. Reason and accuracy are those of the run's decision. The
    bias card is that of the labelled pairs which decided; without one, the plain mean of the rates
    over the data sets the judge was measured on, validation left out. Where the judge scored
    responses, figures on its scores stand beside. Nothing is computed anew, and judges of other
    weights than those measured have no card.

    Raises:
        DataError: there is no run.
        StorageError: a file of the run cannot be read, `current.json` for one.
    """
    entries = [] if served is None else [*served.history, served.current]
    if layout is None:
        return PromotionHistory(judges=[_row(entry, None, None) for entry in reversed(entries)])
    pointers = read_pointers(layout)
    figures = _Figures(layout)
    by_weights = {pointer.fingerprint: pointer for pointer in pointers}
    known = {entry.judge.fingerprint for entry in entries if entry.by in ("start", "run")}
    rows = [_row(_entry(p), p, figures) for p in pointers if p.fingerprint not in known]
    rows += [_row(entry, by_weights.get(entry.judge.fingerprint), figures) for entry in entries]
    # Times are of whole seconds: equal ones stay in the order they came.
    rows.sort(key=lambda row: _time(row.since))
    return PromotionHistory(judges=rows[::-1])


def _row(
    entry: VersionEntry, pointer: CurrentJudge | None, figures: "_Figures | None"
) -> PromotedJudge:
    accuracy = None if pointer is None else pointer.accuracy
    if accuracy is None and figures is not None:
        accuracy = figures.accuracy(entry.judge)
    return PromotedJudge(
        judge=entry.judge,
        since=entry.since,
        by=entry.by,
        reason=None if pointer is None else pointer.reason,
        accuracy=accuracy,
        bias_card=[] if figures is None else figures.card(entry.judge),
    )


def _entry(pointer: CurrentJudge) -> VersionEntry:
    model, _ = run_judge(pointer)
    judge = JudgeVersion(
        version=NOT_SERVED,
        model=model.name,
        iteration=model.iteration,
        fingerprint=model.fingerprint,
    )
    return VersionEntry(judge=judge, since=pointer.promoted_at, by="run")


def _time(text: str) -> datetime:
    """An ISO 8601 time; without a zone it is UTC, and what is no time comes before all."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class _Figures:
    """What a run has measured of its judges."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._seed: str | None = (_json(layout.run_json) or {}).get("seed_fingerprint")
        found = ((i, self._of(i, "promotion.json")) for i in range(num_iterations(layout) + 1))
        self._promotions = {i: decision for i, decision in found if decision}

    def _of(self, iteration: int, name: str) -> dict[str, Any]:
        data = _json(join(self._layout.iteration(iteration), name))
        return data if isinstance(data, dict) else {}

    def _is_measured(self, judge: JudgeVersion) -> bool:
        """Whether the figures of its iteration are of these weights."""
        measured = [self._seed] if judge.iteration == 0 else []
        for stage in ("heldout", "own_ratings"):
            manifest = read_manifest(join(self._layout.evaluation(judge.iteration), stage))
            measured.append(manifest.recipe.get("model") if manifest else None)
        return all(m in (None, judge.fingerprint) for m in measured)

    def accuracy(self, judge: JudgeVersion) -> float | None:
        """That of the decision on it, where it was measured on labelled pairs."""
        if not self._is_measured(judge):
            return None
        accuracy: float | None = self._promotions.get(judge.iteration, {}).get("accuracy")
        return accuracy

    def card(self, judge: JudgeVersion) -> list[BiasFigure]:
        if not self._is_measured(judge):
            return []
        card = self._decided_by(judge.iteration) or self._mean_rates(judge.iteration)
        # Figures on scores are None on a card of pairs.
        card = {**card, **self._on_scores(judge.iteration)}
        return [BiasFigure(name=name, value=_finite(value)) for name, value in card.items()]

    def _decided_by(self, iteration: int) -> dict[str, float | None]:
        """The card in the decision on the judge, or in one on a judge it was compared with."""
        decided = self._promotions.get(iteration, {}).get("card")
        compared = (
            decision.get("card_of_compared")
            for decision in self._promotions.values()
            if decision.get("compared_with") == iteration
        )
        return next((dict(card) for card in (decided, *compared) if card), {})

    def _mean_rates(self, iteration: int) -> dict[str, float | None]:
        reports = self._of(iteration, "evaluation/evaluation.json")
        labelled = [r for name, r in reports.items() if name not in ("heldout", "validation")]
        # Pairs that people labelled come before those the loop made itself.
        used = labelled or [r for name, r in reports.items() if name == "heldout"]
        return {name: _mean(report.get(name) for report in used) for name in _RATES if used}

    def _on_scores(self, iteration: int) -> dict[str, float | None]:
        figures = self._of(iteration, "evaluation/figures.json")
        own: Mapping[str, Any] | None = figures.get("own_scores")
        if not own:
            return {}
        nats = own.get("entropy_nats")
        return {
            "score_entropy_bits": None if nats is None else nats / math.log(2),
            "score_saturation": own.get("saturation"),
            "score_unparsed_rate": own.get("unparsed_rate"),
            "score_truncated_rate": own.get("truncated_rate"),
            "score_refused_rate": own.get("refused_rate"),
            "seed_agreement": (figures.get("seed_agreement") or {}).get("kendall_tau"),
        }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return math.fsum(known) / len(known) if known else None


def _finite(value: float | None) -> float | None:
    """Broken measurements write NaN, which the wire refuses."""
    return value if value is not None and math.isfinite(value) else None


def _json(url: str) -> Any:
    try:
        return files.read_json(url)
    except FileNotFoundError:
        return None
