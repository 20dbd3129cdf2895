"""AlpacaEval 2: the win rate of a model over a baseline, raw and at equal length.

The length-controlled figure (arXiv 2404.04475, section 3) asks what the win rate would be if both
responses were equally long. A logistic regression explains the judge's preference on instruction x
by three terms,

    logit P(model over baseline) = theta + phi · tanh(Δ_x / std(Δ)) + psi · gamma_x

with Δ_x the length of the model's response minus that of the baseline's, in characters, and gamma_x
the difficulty of the instruction. The length term is then set to zero and the predictions are
averaged over all instructions.

Traps, all met in the published implementation (tatsu-lab/alpaca_eval, `glm_winrate.py`):

- The baseline against itself is 50 % by definition and is never fitted there: every Δ is 0, so the
  scaled difference would be 0 / 0. Here the term is 0 in that case, and the fit gives 0.5 itself.
- std(Δ) is of the model's own responses with n - 1 below, and includes the instructions whose
  preference is missing. Two models' phi are thus not on one scale.
- Published phi are mostly negative: they were fitted with Δ as baseline minus model. Theta and psi
  are not affected, and the closed form uses no phi.
- Preferences are probabilities, not labels, so the loss is the cross-entropy with soft targets. In
  annotation files they run from 1 to 2, with both 1.5 and 0 for a draw; here from 0 to 1.

Not reproduced: gamma_x was estimated once from all models of the leaderboard and is an input here;
the published fit is an L1 one whose strength is chosen by 5-fold cross-validation, and it adds the
preferences of two gamed copies of the baseline at a weight of 0.1 each. A refit here is not equal
to a leaderboard figure; the closed form with published coefficients and difficulties is the same
formula.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from selfreward.metrics.protocols.coverage import Coverage

FloatArray = npt.NDArray[np.float64]

NUM_INSTRUCTIONS = 805
"""Instructions of the benchmark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthGlm:
    """The coefficients of one model in the regression; a baseline has all three at 0.

    Example: `LengthGlm(model=-1.62, length=1.53, difficulty=1.06)`
    """

    model: float = 0.0
    """theta: above 0 where the model is better at equal length."""
    length: float = 0.0
    """phi: above 0 where the judge likes the longer response."""
    difficulty: float = 0.0
    """psi: the weight of the instruction's difficulty gamma_x."""


BASELINE_GLM = LengthGlm()


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

    def section_values(self) -> dict[str, float | None]:
        """The win rates that know no length."""
        return {"win rate": self.win_rate, "discrete win rate": self.discrete_win_rate}


def length_controlled_win_rate(
    glm: LengthGlm,
    difficulties: npt.ArrayLike | None = None,
    baseline: LengthGlm = BASELINE_GLM,
) -> float:
    """Returns the mean over instructions of sigmoid(theta + psi · gamma_x), without length.

    `difficulties` are the gamma_x, 1-d, one for each instruction; None where the fit had none.
    With the coefficients of another model as `baseline` their differences are used, so any two
    models fitted against one baseline compare: a model with itself has exactly 0.5, and the two
    directions add up to 1. Raises ValueError where difficulties are needed or misshapen.
    """
    theta, psi = glm.model - baseline.model, glm.difficulty - baseline.difficulty
    if difficulties is None:
        if psi != 0:
            raise ValueError("these coefficients need the difficulty of each instruction")
        return float(expit(theta))
    return float(expit(theta + psi * _finite(difficulties, "difficulties")).mean())


def fit_length_glm(
    preferences: npt.ArrayLike,
    length_terms: npt.ArrayLike,
    difficulties: npt.ArrayLike | None = None,
    l2: float = 0.01,
) -> LengthGlm:
    """Fits theta, phi and psi to one model's preferences; all arrays 1-d, by instruction.

    `preferences` are P(model over baseline) from 0 to 1, `length_terms` come from `length_terms`.
    Minimises the summed cross-entropy plus l2 / 2 times the squared coefficients. The penalty must
    be above 0, since a model that always wins has no finite fit without it; 0.01 is scikit-learn's
    C = 100, which the published code uses where it does not cross-validate. Raises ValueError for
    unequal lengths, values out of range and a fit that does not converge.
    """
    target = _finite(preferences, "preferences")
    lengths = _finite(length_terms, "length terms")
    columns = [np.ones_like(target), lengths]
    if difficulties is not None:
        columns.append(_finite(difficulties, "difficulties"))
    if any(len(c) != len(target) for c in columns):
        raise ValueError("preferences, length terms and difficulties must be of equal length")
    if ((target < 0) | (target > 1)).any():
        raise ValueError("a preference must lie between 0 and 1")
    if not l2 > 0:
        raise ValueError(f"l2 must be above 0, not {l2}")
    design = np.stack(columns, axis=1)
    n, penalty = len(target), l2 / len(target)

    def loss(weights: FloatArray) -> float:
        logits = design @ weights
        fit = np.logaddexp(0, logits) - target * logits
        return float(fit.mean() + penalty / 2 * weights @ weights)

    def gradient(weights: FloatArray) -> FloatArray:
        slope: FloatArray = design.T @ (expit(design @ weights) - target) / n + penalty * weights
        return slope

    def curvature(weights: FloatArray) -> FloatArray:
        chance = expit(design @ weights)
        weighted = design * (chance * (1 - chance))[:, None]
        matrix: FloatArray = design.T @ weighted / n + penalty * np.eye(design.shape[1])
        return matrix

    found = minimize(
        loss,
        np.zeros(design.shape[1]),
        jac=gradient,
        hess=curvature,
        method="trust-exact",
        options={"gtol": 1e-9, "maxiter": 500},
    )
    # Judged by the slope: near the minimum the optimiser may stop for lack of digits in the loss.
    if not np.linalg.norm(gradient(found.x)) < 1e-6:
        raise ValueError(f"the regression did not converge: {found.message}")
    coefficients = [float(w) for w in found.x]
    return LengthGlm(
        model=coefficients[0],
        length=coefficients[1],
        difficulty=coefficients[2] if difficulties is not None else 0.0,
    )


def _is_confounded(differences: FloatArray) -> bool:
    return bool(differences[0] != 0 and (differences == differences[0]).all())


def length_terms(model_lengths: npt.ArrayLike, baseline_lengths: npt.ArrayLike) -> FloatArray:
    """Returns tanh(Δ / std(Δ)) of 1-d lengths in characters, Δ model minus baseline.

    All 0 where no length differs. Raises ValueError where all differ by one and the same amount:
    length and model cannot be told apart then.
    """
    model, baseline = _finite(model_lengths, "lengths"), _finite(baseline_lengths, "lengths")
    if len(model) != len(baseline):
        raise ValueError(f"lengths must be of the same pairs: {len(model)} and {len(baseline)}")
    differences = model - baseline
    if not differences.any():
        return np.zeros_like(differences)
    if _is_confounded(differences):
        raise ValueError(
            f"all lengths differ by {differences[0]:g}: length cannot be told from the model"
        )
    terms: FloatArray = np.tanh(differences / differences.std(ddof=1))
    return terms


def alpaca_eval_report(
    preferences: Sequence[float | None],
    model_lengths: npt.ArrayLike,
    baseline_lengths: npt.ArrayLike,
    difficulties: npt.ArrayLike | None = None,
    l2: float = 0.01,
    glm: LengthGlm | None = None,
) -> AlpacaEvalReport:
    """Measures a model against a baseline, instruction by instruction (arXiv 2404.04475).

    `preferences` are P(model over baseline) from 0 to 1, None for a failed judgment: those count
    in no win rate and in no fit, but the length-controlled prediction is averaged over all
    instructions, as published. Lengths are in characters. With `glm`, published coefficients of
    the model, none are fitted. Raises ValueError without any
    preference, for unequal lengths and values out of range, and as `fit_length_glm` does.
    """
    is_judged = np.array([p is not None for p in preferences], dtype=bool)
    if not is_judged.any():
        raise ValueError("a win rate needs at least one preference")
    values = _finite([p for p in preferences if p is not None], "preferences")
    if ((values < 0) | (values > 1)).any():
        raise ValueError("a preference must lie between 0 and 1")
    model, baseline = _finite(model_lengths, "lengths"), _finite(baseline_lengths, "lengths")
    hardness = None if difficulties is None else _finite(difficulties, "difficulties")
    sides = [model, baseline] if hardness is None else [model, baseline, hardness]
    if any(len(side) != len(preferences) for side in sides):
        raise ValueError("preferences, lengths and difficulties must be of the same instructions")
    n = len(values)
    if glm is None and n >= 2 and not _is_confounded(model - baseline):
        terms = length_terms(model, baseline)[is_judged]
        judged_hardness = None if hardness is None else hardness[is_judged]
        glm = fit_length_glm(values, terms, judged_hardness, l2)
    return AlpacaEvalReport(
        n=n,
        num_failed=len(preferences) - n,
        win_rate=float(values.mean()),
        standard_error=float(values.std(ddof=1) / np.sqrt(n)) if n >= 2 else None,
        discrete_win_rate=float(((values > 0.5) + (values == 0.5) / 2).mean()),
        length_controlled_win_rate=(
            None if glm is None else length_controlled_win_rate(glm, hardness)
        ),
        glm=glm,
        mean_model_length=float(model.mean()),
        mean_baseline_length=float(baseline.mean()),
    )


def coverage(report: AlpacaEvalReport) -> Coverage:
    """How many of the 805 instructions were judged, failed readings among them."""
    measured = {"all": report.n + report.num_failed}
    return Coverage.of("AlpacaEval", "instructions", measured, {"all": NUM_INSTRUCTIONS})


def _finite(values: npt.ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a 1-d array of at least one finite number")
    return array
