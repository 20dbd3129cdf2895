"""AlpacaEval 2: the win rate of a model over a baseline, raw and at equal length.

Length is taken out by the regression of `length_glm.py` (arXiv 2404.04475, section 3).
"""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreward.metrics.intervals import Groups, Resampling, percentiles
from selfreward.metrics.length_glm import (
    LengthGlm,
    finite,
    fit_length_glm,
    is_confounded,
    length_controlled_win_rate,
    length_terms,
)
from selfreward.metrics.protocols.coverage import Coverage

FloatArray = npt.NDArray[np.float64]

NUM_INSTRUCTIONS = 805
"""Instructions of the benchmark."""
MAX_REFITS = 1000
"""Resamples of the length-controlled win rate, of which each is a fit: about two seconds for 805
instructions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlpacaEvalReport:
    """Win rates of a model over a baseline.

    Example: `AlpacaEvalReport(n=805, num_failed=0, win_rate=0.204, standard_error=0.0125,
    discrete_win_rate=0.19, length_controlled_win_rate=0.163, …)`
    """

    n: int
    """Instructions with a preference."""
    num_failed: int
    win_rate: float
    """Mean preference for the model, 0 to 1."""
    standard_error: float | None
    """Of `win_rate`; None for one instruction."""
    discrete_win_rate: float
    """Share of preferences above 0.5, those of exactly 0.5 counted half."""
    length_controlled_win_rate: float | None
    """None where nothing can be fitted: fewer than two preferences, or all lengths differ by the
    same amount."""
    length_controlled_win_rate_ci: tuple[float, float] | None
    """Percentile bootstrap interval over instructions, the regression fitted anew to each resample.
    None where no interval was asked for, nothing was fitted, or published coefficients, whose
    spread is not known, took the place of a fit."""
    glm: LengthGlm | None
    mean_model_length: float
    """Characters, over all instructions."""
    mean_baseline_length: float

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        return asdict(self)

    def headline(self) -> float | None:
        """The length-controlled win rate, which is what the leaderboard ranks by."""
        return self.length_controlled_win_rate

    @property
    def overall_ci(self) -> tuple[float, float] | None:
        """The interval of the headline figure."""
        return self.length_controlled_win_rate_ci

    def section_values(self) -> dict[str, float | None]:
        """The win rates that know no length."""
        return {"win rate": self.win_rate, "discrete win rate": self.discrete_win_rate}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Instructions:
    """1-d arrays by instruction; a preference is nan where the judgment failed."""

    preferences: FloatArray
    model: FloatArray
    baseline: FloatArray
    difficulties: FloatArray | None

    def at(self, places: npt.NDArray[np.int64]) -> "_Instructions":
        difficulties = self.difficulties
        return _Instructions(
            preferences=self.preferences[places],
            model=self.model[places],
            baseline=self.baseline[places],
            difficulties=None if difficulties is None else difficulties[places],
        )

    def fit(self, l2: float) -> LengthGlm | None:
        """None where length cannot be told from the model."""
        is_judged = ~np.isnan(self.preferences)
        if is_judged.sum() < 2 or is_confounded(self.model - self.baseline):
            return None
        difficulties = self.difficulties
        return fit_length_glm(
            self.preferences[is_judged],
            length_terms(self.model, self.baseline)[is_judged],
            None if difficulties is None else difficulties[is_judged],
            l2,
        )


def _length_controlled_interval(
    found: _Instructions, l2: float, prompts: Groups, resampling: Resampling
) -> tuple[float, float] | None:
    """Resamples whole prompts; draws that cannot be fitted are left out."""
    places: dict[Hashable, list[int]] = {}
    for place, prompt in enumerate(prompts):
        places.setdefault(prompt, []).append(place)
    members = [np.array(own, dtype=np.int64) for own in places.values()]
    rng = np.random.default_rng(resampling.seed)
    rates = []
    for _ in range(min(resampling.num_samples, MAX_REFITS)):
        drawn = rng.integers(0, len(members), len(members))
        sample = found.at(np.concatenate([members[i] for i in drawn]))
        try:
            glm = sample.fit(l2)
        except ValueError:
            continue
        if glm is not None:
            rates.append(length_controlled_win_rate(glm, sample.difficulties))
    return percentiles(np.array(rates), resampling.confidence) if rates else None


def alpaca_eval_report(
    preferences: Sequence[float | None],
    model_lengths: npt.ArrayLike,
    baseline_lengths: npt.ArrayLike,
    difficulties: npt.ArrayLike | None = None,
    l2: float = 0.01,
    glm: LengthGlm | None = None,
    prompts: Groups | None = None,
    resampling: Resampling | None = None,
) -> AlpacaEvalReport:
    """Measures a model against a baseline, instruction by instruction (arXiv 2404.04475).

    `preferences` are P(model over baseline) from 0 to 1, None for a failed judgment: those count
    in no win rate and in no fit, but the length-controlled prediction is averaged over all
    instructions, as published. Lengths are in characters. With `glm`, published coefficients of
    the model, none are fitted. With `resampling` the length-controlled win rate has an interval, of
    at most `MAX_REFITS` resamples; rows of equal `prompts` are drawn together. Raises ValueError
    without any preference, for unequal lengths and values out of range, and as `fit_length_glm`
    does.
    """
    is_judged = np.array([p is not None for p in preferences], dtype=bool)
    if not is_judged.any():
        raise ValueError("a win rate needs at least one preference")
    values = finite([p for p in preferences if p is not None], "preferences")
    if ((values < 0) | (values > 1)).any():
        raise ValueError("a preference must lie between 0 and 1")
    model, baseline = finite(model_lengths, "lengths"), finite(baseline_lengths, "lengths")
    hardness = None if difficulties is None else finite(difficulties, "difficulties")
    sides = [model, baseline] if hardness is None else [model, baseline, hardness]
    if any(len(side) != len(preferences) for side in sides):
        raise ValueError("preferences, lengths and difficulties must be of the same instructions")
    n = len(values)
    interval = None
    if glm is None:
        known = np.full(len(preferences), np.nan)
        known[is_judged] = values
        found = _Instructions(
            preferences=known, model=model, baseline=baseline, difficulties=hardness
        )
        glm = found.fit(l2)
        if glm is not None and resampling is not None:
            own = range(len(preferences)) if prompts is None else prompts
            interval = _length_controlled_interval(found, l2, own, resampling)
    return AlpacaEvalReport(
        n=n,
        num_failed=len(preferences) - n,
        win_rate=float(values.mean()),
        standard_error=float(values.std(ddof=1) / np.sqrt(n)) if n >= 2 else None,
        discrete_win_rate=float(((values > 0.5) + (values == 0.5) / 2).mean()),
        length_controlled_win_rate=(
            None if glm is None else length_controlled_win_rate(glm, hardness)
        ),
        length_controlled_win_rate_ci=interval,
        glm=glm,
        mean_model_length=float(model.mean()),
        mean_baseline_length=float(baseline.mean()),
    )


def coverage(report: AlpacaEvalReport) -> Coverage:
    """How many of the 805 instructions were judged, failed readings among them."""
    measured = {"all": report.n + report.num_failed}
    return Coverage.of("AlpacaEval", "instructions", measured, {"all": NUM_INSTRUCTIONS})
