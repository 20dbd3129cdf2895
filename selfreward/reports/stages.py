"""The table of a custom-LLM run: what each stage's model can do, and what the stage changed.

Figures come in measured; here they are only set out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from selfreward.reports.next_token_table import (
    Tokens,
    next_token_json,
    next_token_markdown,
    next_token_tables,
)

Interval = tuple[float, float]

TABLE_WIDTH = 150
"""Where the output is no terminal: a table wrapped to 80 columns is not readable as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measured number.

    Example: `Figure(value=13.2, ci=(12.1, 14.4))`
    """

    value: float
    ci: Interval | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(value=data["value"], ci=_interval(data.get("ci")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a stage is for, and how far its model moved in that from the model it began with.

    Example: `Change(what="bits per byte of general text", difference=-2.31, ci=(-2.4, -2.22),
    lower_is_better=True)`
    """

    what: str
    difference: float
    """After minus before."""
    ci: Interval | None
    lower_is_better: bool

    @property
    def verdict(self) -> str:
        """`improved` or `worse` where the interval lies on one side of 0."""
        if self.ci is None or not all(math.isfinite(v) for v in (self.difference, *self.ci)):
            return "not measured"
        low, high = self.ci
        if low <= 0 <= high:
            return "no clear difference"
        return "improved" if (high < 0) == self.lower_is_better else "worse"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            what=data["what"],
            difference=data["difference"],
            ci=_interval(data["ci"]),
            lower_is_better=data["lower_is_better"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFigures:
    """What was measured of the model after one stage; None where it was not.

    Example: `StageFigures(stage="1 pretrain", general_perplexity=Figure(value=41.5,
    ci=(38.9, 44.2)), change=Change(…))`
    """

    stage: str
    general_perplexity: Figure | None = None
    domain_perplexity: Figure | None = None
    exact_match: Figure | None = None
    """Share of the task's answers that are the target."""
    rouge_l: Figure | None = None
    chrf: Figure | None = None
    """0..100, as its library gives it."""
    instruction_following: Figure | None = None
    """Share of the checkable constraints that are kept."""
    reward_model_accuracy: Figure | None = None
    """Share of held-out preferences whose better answer the reward model scores higher."""
    mean_reward: Figure | None = None
    kl: Figure | None = None
    """To the model that preferences were first learnt from, or where none were, that online
    training started from; in nats a response, on answers drawn at temperature 1."""
    change: Change | None = None
    """None for the model before the first stage."""

    def to_dict(self) -> dict[str, Any]:
        """Returns a dictionary of plain values; `from_dict` reads it back."""
        return dict(_plain(asdict(self)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        change = data.get("change")
        return cls(
            stage=data["stage"],
            change=None if change is None else Change.from_dict(change),
            **{
                name: Figure.from_dict(data[name]) for name in COLUMNS if data.get(name) is not None
            },
        )


def _interval(values: Sequence[float] | None) -> Interval | None:
    return None if values is None else (values[0], values[1])


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [*value] if isinstance(value, tuple) else value


def _perplexity(value: float) -> str:
    """Four digits, however large; there is no last digit to trust beyond."""
    if not math.isfinite(value) or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{3 - math.floor(math.log10(max(value, 1.0)))}f}"


def _share(value: float) -> str:
    return f"{value:.3f}"


def _points(value: float) -> str:
    return f"{value:.1f}"


COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "general_perplexity": ("general ppl", _perplexity),
    "domain_perplexity": ("domain ppl", _perplexity),
    "exact_match": ("exact match", _share),
    "rouge_l": ("ROUGE-L", _share),
    "chrf": ("chrF", _points),
    "instruction_following": ("instructions", _share),
    "reward_model_accuracy": ("reward model", _share),
    "mean_reward": ("reward", _share),
    "kl": ("KL", _share),
}
"""Field of `StageFigures` → heading and how its numbers are written, in the order shown."""


def _range(ci: Interval, form: Callable[[float], str]) -> str:
    low, high = form(ci[0]), form(ci[1])
    return f"{low} to {high}" if ci[0] < 0 else f"{low}-{high}"


def _cell(figure: Figure | None, form: Callable[[float], str], between: str) -> str:
    """The number, and its interval behind `between`; "-" where it was not measured."""
    if figure is None:
        return "-"
    value = form(figure.value)
    if figure.ci is None:
        return value
    return f"{value}{between}{_range(figure.ci, form)}"


def _cells(row: StageFigures, between: str) -> list[str]:
    return [
        row.stage,
        *(_cell(getattr(row, name), form, between) for name, (_, form) in COLUMNS.items()),
    ]


def _headings() -> list[str]:
    return ["stage", *(heading for heading, _ in COLUMNS.values())]


def change_line(row: StageFigures) -> str | None:
    """What a stage is for and whether it did that, in a line; None where nothing was compared."""
    change = row.change
    if change is None:
        return None
    told = f"{row.stage}: {change.what} {change.difference:+.3f}"
    if change.ci is not None:
        told += f" ({change.ci[0]:+.3f} to {change.ci[1]:+.3f})"
    return f"{told}: {change.verdict}"


def _change_lines(rows: Sequence[StageFigures]) -> list[str]:
    return [line for row in rows if (line := change_line(row)) is not None]


_CHANGES = "Each stage against the one before, in what it is for (with its interval)"


def stages_table(rows: Sequence[StageFigures]) -> Table:
    """One row for each model, intervals below their numbers."""
    table = Table(title="Stages", title_justify="left", pad_edge=False, show_lines=True)
    for number, heading in enumerate(_headings()):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in _cells(row, "\n")))
    return table


def stages_view(
    rows: Sequence[StageFigures],
    probe: str | None = None,
    next_tokens: Mapping[str, Tokens] | None = None,
) -> Group:
    """The table, what each stage changed, and the next tokens of `probe` after each stage.

    `next_tokens` maps a stage's name to its (token, probability) pairs.
    """
    parts: list[Any] = [stages_table(rows)]
    lines = _change_lines(rows)
    if lines:
        parts.append(Text("\n".join([_CHANGES, *(f"  {line}" for line in lines)])))
    if probe is not None and next_tokens:
        parts += next_token_tables(probe, next_tokens)
    return Group(*parts)


def print_stages(
    rows: Sequence[StageFigures],
    console: Console,
    probe: str | None = None,
    next_tokens: Mapping[str, Tokens] | None = None,
) -> None:
    wide = (
        console
        if console.is_terminal
        else Console(width=TABLE_WIDTH, highlight=False, file=console.file)
    )
    wide.print(stages_view(rows, probe, next_tokens))


def stages_markdown(
    rows: Sequence[StageFigures],
    probe: str | None = None,
    next_tokens: Mapping[str, Tokens] | None = None,
) -> str:
    """The same in Markdown, intervals in a second line of their cell."""
    headings = _headings()
    lines = ["| " + " | ".join(headings) + " |", "|---|" + "---:|" * (len(headings) - 1)]
    lines += ["| " + " | ".join(_cells(row, "<br>")) + " |" for row in rows]
    changes = _change_lines(rows)
    if changes:
        lines += ["", f"{_CHANGES}:", "", *(f"- {line}" for line in changes)]
    text = "\n".join([*lines, ""])
    if probe is not None and next_tokens:
        text += "\n" + next_token_markdown(probe, next_tokens)
    return text


def stages_json(
    rows: Sequence[StageFigures],
    probe: str | None = None,
    next_tokens: Mapping[str, Tokens] | None = None,
) -> dict[str, Any]:
    """The same as plain values, each change with its verdict."""
    stages = []
    for row in rows:
        data = row.to_dict()
        if row.change is not None:
            data["change"]["verdict"] = row.change.verdict
        stages.append(data)
    found: dict[str, Any] = {"stages": stages}
    if probe is not None and next_tokens:
        found["next_tokens"] = next_token_json(probe, next_tokens)
    return found
