"""One's own LLM, stage after stage: perplexity, tasks, instructions, rewards, next tokens."""

from selfreward.reports.custom_llm import LlmReport
from selfreward.reports.next_token_table import visible
from selfreward.reports.page.content import Card, Cell, Row, Section, row, table
from selfreward.reports.page.numbers import ABSENT, share
from selfreward.reports.page.plot import Series, line_plot
from selfreward.reports.stages import COLUMNS, Change, Figure, StageFigures
from selfreward.reports.summary import RunSummary

_TONES = {"improved": "good", "worse": "bad", "no clear difference": "even"}
_CARDS: tuple[tuple[str, str, tuple[tuple[str, str], ...], tuple[float, float] | None], ...] = (
    (
        "Perplexity of text kept aside",
        "perplexity",
        (("general_perplexity", "general text"), ("domain_perplexity", "domain text")),
        None,
    ),
    (
        "Task metric",
        "share",
        (("exact_match", "exact match"), ("rouge_l", "ROUGE-L")),
        (0.0, 1.0),
    ),
    ("chrF of task answers", "chrF", (("chrf", "chrF"),), (0.0, 100.0)),
    (
        "Instruction following",
        "constraints kept",
        (("instruction_following", "instruction following"),),
        (0.0, 1.0),
    ),
    (
        "Reward model on held-out preferences",
        "accuracy",
        (("reward_model_accuracy", "reward model"),),
        (0.0, 1.0),
    ),
    ("Reward of its own answers", "reward", (("mean_reward", "mean reward"),), None),
    ("KL to where preferences began", "nats", (("kl", "KL"),), None),
)
"""Title, axis, fields of `StageFigures` with their names, and the scale where it has ends."""


def llm_section(summary: RunSummary) -> Section | None:
    """A card for each kind of figure that was measured; None where none was."""
    report = summary.llm
    if report is None or not report.rows:
        return None
    cards = [_changes(report.rows)]
    cards += [_figure_card(report.rows, *which) for which in _CARDS]
    cards.append(_next_tokens(report))
    return Section(
        ident="stages-learned",
        title="Learning curves",
        lede="After every stage the model is measured by the same yardsticks; a band is an"
        " interval. Perplexity is lower for better models; its scale is logarithmic where the"
        " numbers lie far apart.",
        cards=tuple(c for c in cards if c is not None),
    )


def _figure_card(
    rows: list[StageFigures],
    title: str,
    axis: str,
    fields: tuple[tuple[str, str], ...],
    ends: tuple[float, float] | None,
) -> Card | None:
    shown = [(f, name) for f, name in fields if any(getattr(r, f) is not None for r in rows)]
    if not shown:
        return None
    series = [
        Series(
            name=name,
            values=tuple(_value(getattr(r, field)) for r in rows),
            intervals=tuple(_ci(getattr(r, field)) for r in rows),
        )
        for field, name in shown
    ]
    plot = line_plot(
        [r.stage for r in rows],
        series,
        x_title="after stage",
        y_title=axis,
        low=ends[0] if ends else None,
        high=ends[1] if ends else None,
        is_log=axis == "perplexity",
    )
    headings = ["stage"]
    for _, name in shown:
        headings += [name, "interval"]
    cells = [row(r.stage, *(c for f, _ in shown for c in _cells(f, getattr(r, f)))) for r in rows]
    return Card(title=title, plot=plot, table=table(headings, cells))


def _value(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value


def _ci(figure: Figure | None) -> tuple[float, float] | None:
    return None if figure is None else figure.ci


def _cells(field: str, figure: Figure | None) -> tuple[str, str]:
    if figure is None:
        return ABSENT, ABSENT
    form = COLUMNS[field][1]
    ci = figure.ci
    return form(figure.value), ABSENT if ci is None else f"{form(ci[0])} to {form(ci[1])}"


def _changes(rows: list[StageFigures]) -> Card | None:
    lines = [_change_row(r.stage, r.change) for r in rows if r.change is not None]
    if not lines:
        return None
    return Card(
        title="What each stage changed",
        note="Against the model before, in what the stage is for.",
        table=table(("stage", "what for", "verdict", "difference", "interval"), lines, num_left=3),
        is_wide=True,
    )


def _change_row(stage: str, change: Change) -> Row:
    return row(
        stage,
        change.what,
        Cell(text=change.verdict, tone=_TONES.get(change.verdict, "")),
        f"{change.difference:+.3g}",
        ABSENT if change.ci is None else f"{change.ci[0]:+.3g} to {change.ci[1]:+.3g}",
    )


def _next_tokens(report: LlmReport) -> Card | None:
    if not report.next_tokens:
        return None
    largest = max((p for found in report.next_tokens.values() for _, p in found), default=0.0)
    lines = [
        row(
            stage if rank == 0 else "",
            visible(token),
            Cell(text=share(p), share=p / largest if largest else 0.0),
        )
        for stage, found in report.next_tokens.items()
        for rank, (token, p) in enumerate(found[:5])
    ]
    return Card(
        title="Likeliest next tokens",
        note=f"After “{report.probe}”.",
        table=table(("after stage", "token", "probability"), lines, num_left=2),
    )
