"""What `--judge` names: a model, a run, an endpoint, a reward model, or a baseline."""

import re
from dataclasses import dataclass
from typing import Literal

from selfreward.errors import ConfigError, DataError
from selfreward.judging.baselines import BASELINES
from selfreward.judging.likelihood import LIKELIHOODS
from selfreward.layout import Layout
from selfreward.storage import files
from selfreward.storage.checkpoints import read_current

Kind = Literal["model", "run", "endpoint", "classifier", "baseline", "likelihood"]

LIKELIHOOD = "likelihood"
DEFAULT_LIKELIHOOD = "relative_mean"
_ENDPOINT = re.compile(r"https?://")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSpec:
    """A judge as the user named it.

    Example: `JudgeSpec(text="runs/quickstart@1", kind="run", name="runs/quickstart",
    iteration=1)`
    """

    text: str
    kind: Kind
    name: str
    """The model, run folder, URL, or baseline."""
    iteration: int | None = None
    """Of a run: which iteration's judge; None is the current one."""
    variant: str | None = None
    """Of an endpoint: the model's name there; of a likelihood: how the numbers are compared."""

    @property
    def scores_alone(self) -> bool:
        """Whether it scores each response by itself and reads no order."""
        return self.kind in ("likelihood", "classifier")

    @property
    def writes(self) -> bool:
        """Whether it gives its verdicts as text."""
        return self.kind in ("model", "run", "endpoint")

    @property
    def needs_engine(self) -> bool:
        """Whether engines of the cluster have to be started for it."""
        return self.kind not in ("baseline", "endpoint")

    @property
    def slug(self) -> str:
        """The judge's name as a folder name."""
        return re.sub(r"[^A-Za-z0-9.]+", "-", self.text).strip("-.")[-60:]


def parse_judge(text: str) -> JudgeSpec:
    """Reads a judge's name.

    `baseline:longest|shortest|first|random`; `baseline:likelihood` with an optional
    `-sum|-mean|-relative-sum|-relative-mean` (log-probabilities of the seed model);
    `http(s)://…[#MODEL]`; `classifier:MODEL` (a sequence classifier with one output); a run
    folder, with `@t` behind it for the judge of iteration t; else a model, named as in a config.

    Raises:
        ConfigError: an unknown baseline, or no name at all.
    """
    if not text.strip():
        raise ConfigError("--judge is empty: name a model, a run, an endpoint URL or a baseline")
    head, _, rest = text.partition(":")
    if head == "baseline":
        return _baseline(text, rest)
    if head == "classifier":
        return JudgeSpec(text=text, kind="classifier", name=rest)
    if _ENDPOINT.match(text):
        url, _, model = text.partition("#")
        return JudgeSpec(text=text, kind="endpoint", name=url, variant=model or None)
    folder, _, number = text.rpartition("@")
    if folder and number.isdigit() and _is_run(folder):
        return JudgeSpec(text=text, kind="run", name=folder, iteration=int(number))
    if _is_run(text):
        return JudgeSpec(text=text, kind="run", name=text)
    return JudgeSpec(text=text, kind="model", name=text)


def _baseline(text: str, name: str) -> JudgeSpec:
    if name in BASELINES:
        return JudgeSpec(text=text, kind="baseline", name=name)
    head, _, variant = name.partition("-")
    chosen = variant.replace("-", "_") or DEFAULT_LIKELIHOOD
    if head == LIKELIHOOD and chosen in LIKELIHOODS:
        return JudgeSpec(text=text, kind="likelihood", name=LIKELIHOOD, variant=chosen)
    known = [*BASELINES, LIKELIHOOD, *(f"{LIKELIHOOD}-{v.replace('_', '-')}" for v in LIKELIHOODS)]
    raise ConfigError(f"no baseline {name!r}; there are {', '.join(known)}")


def _is_run(folder: str) -> bool:
    return files.exists(Layout(folder).run_json)


def run_checkpoint(spec: JudgeSpec) -> tuple[int, str | None]:
    """Iteration and checkpoint folder of a run's judge; None stands for the run's seed model.

    Raises:
        DataError: the run has no such judge yet.
    """
    layout = Layout(spec.name)
    iteration = spec.iteration
    if iteration is None:
        current = read_current(layout)
        if current is None:
            raise DataError(f"run {spec.name} has no current judge yet; name one as {spec.name}@1")
        iteration = current.iteration
    if iteration == 0:
        return 0, None
    checkpoint = layout.checkpoint(iteration)
    if not files.exists(f"{checkpoint}/config.json"):
        raise DataError(f"run {spec.name} has no trained judge of iteration {iteration}")
    return iteration, checkpoint
