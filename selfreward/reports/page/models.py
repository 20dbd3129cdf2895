"""The models of a self-rewarding run: their scores, lengths, comparisons and pairs."""

from collections.abc import Callable, Sequence
from typing import Any

from selfreward.reports.page.bars import bar_plot
from selfreward.reports.page.content import Card, Section, row, table
from selfreward.reports.page.numbers import ABSENT, count, interval, number, share, significant
from selfreward.reports.page.plot import Interval, Series, line_plot
from selfreward.reports.page.watch import watch_cards
from selfreward.reports.rewarding import lost_draws
from selfreward.reports.summary import RunSummary

_SMALL = (
    ("perplexity", "perplexity", "perplexity", "Perplexity of people's answers"),
    ("kl", "kl_per_token", "nats per token", "KL to the seed model on its own answers"),
    ("seed_agreement", "kendall_tau", "Kendall's tau", "Agreement of its scores with the seed's"),
)
"""Section of the figures, its figure, the axis, the title."""


def models_section(summary: RunSummary) -> Section | None:
    """Cards of all that was measured of the models; None where none was."""
    figures = dict(sorted(summary.figures.items()))
    if not figures:
        return None
    cards = [
        _scores(figures),
        _lengths(figures),
        _head_to_head(figures),
        _pairs(figures),
        *(_small(figures, *names) for names in _SMALL),
        *_scored(figures),
        *watch_cards(summary),
    ]
    return Section(
        ident="models",
        title="Learning curves",
        lede="The same held-out instructions are answered by every model. Its own scores say how it"
        " judges itself; the comparisons are made by a judge outside the loop, in both orders.",
        cards=tuple(c for c in cards if c is not None),
    )


def _each(
    figures: dict[int, dict[str, Any]], read: Callable[[dict[str, Any]], float | None]
) -> tuple[float | None, ...]:
    return tuple(read(found) for found in figures.values())


def _labels(figures: dict[int, dict[str, Any]]) -> list[str]:
    return [f"M{i}" for i in figures]


def _scores(figures: dict[int, dict[str, Any]]) -> Card:
    scores = [found["own_scores"] for found in figures.values()]
    values = _each(figures, lambda f: f["own_scores"]["mean_score"])
    levels = [float(level) for s in scores for level in s.get("histogram", {})]
    plot = line_plot(
        _labels(figures),
        [Series(name="mean score", values=values)],
        x_title="model",
        y_title="score",
        low=min(levels, default=None),
        high=max(levels, default=None),
    )
    rows = [
        row(
            label,
            count(s.get("num_candidates")),
            share(s["mean_score"]),
            share(s["top_level_share"]),
            share((f.get("candidates") or {}).get("tie_rate")),
        )
        for label, s, f in zip(_labels(figures), scores, figures.values(), strict=True)
    ]
    headings = ("model", "answers", "mean score", "top score", "tied candidates")
    return Card(title="Scores of its own answers", plot=plot, table=table(headings, rows))


def _lengths(figures: dict[int, dict[str, Any]]) -> Card:
    scores = [found["own_scores"] for found in figures.values()]
    quartiles = [s.get("length_quartiles") for s in scores]
    plot = line_plot(
        _labels(figures),
        [
            Series(
                name="mean length",
                values=tuple(s["mean_length"] for s in scores),
                intervals=tuple(None if not q else (q[0], q[-1]) for q in quartiles),
            )
        ],
        x_title="model",
        y_title="characters",
        low=0.0,
        band="middle half",
    )
    rows = [
        row(label, significant(s["mean_length"]), *(significant(x) for x in (q or [None] * 3)))
        for label, s, q in zip(_labels(figures), scores, quartiles, strict=True)
    ]
    return Card(
        title="Length of its answers",
        plot=plot,
        table=table(("model", "mean", "first quartile", "median", "third quartile"), rows),
    )


def _head_to_head(figures: dict[int, dict[str, Any]]) -> Card | None:
    reports = [
        (f"M{i} against {rival}", report)
        for i, found in figures.items()
        for rival, report in (found.get("head_to_head") or {}).items()
    ]
    if not reports:
        return None
    judges = {f["head_to_head_judge"] for f in figures.values() if f.get("head_to_head_judge")}
    results = ("win", "tie", "loss")
    counted = [(name, r) for name, r in reports if r is not None and r["n"]]
    bars = bar_plot(
        results, [(name, [r[f"{what}_rate"] for what in results]) for name, r in counted]
    )
    rows = [
        row(name, "0", ABSENT if report is None else count(report["num_failed"]), *[ABSENT] * 7)
        if report is None or not report["n"]
        else row(
            name,
            count(report["n"]),
            count(report["num_failed"]),
            *(share(report[f"{what}_rate"]) for what in results),
            share(report["adjusted_win_rate"]),
            interval(report["adjusted_win_rate_ci"]),
            *(significant(report[f"mean_{side}_length"]) for side in ("model", "baseline")),
        )
        for name, report in reports
    ]
    # A judge's liking for length looks like a win: both lengths stand beside it.
    lengths = ("characters", "the other's")
    headings = ("models", "n", "failed", *results, "win + tie/2", "interval", *lengths)
    return Card(
        title="Answers against earlier models",
        note=f"Compared by {', '.join(sorted(judges))}." if judges else "",
        bars=bars,
        table=table(headings, rows),
    )


def _pairs(figures: dict[int, dict[str, Any]]) -> Card | None:
    drawn = {i: f for i, f in figures.items() if f.get("creation") or f.get("candidates")}
    if not drawn:
        return None
    created = _each(drawn, lambda f: (f.get("creation") or {}).get("created"))
    kept = _each(drawn, lambda f: (f.get("creation") or {}).get("kept"))
    pairs = _each(drawn, lambda f: ((f.get("candidates") or {}).get("pairs") or {}).get("n"))
    series = [
        Series(name="instructions created", values=created),
        Series(name="instructions kept", values=kept),
        Series(name="pairs", values=pairs),
    ]
    # One point of each is no curve, and they would lie on one another.
    plot = None
    if len(drawn) > 1:
        plot = line_plot(
            _labels(drawn), series, x_title="for the training of", y_title="rows", low=0.0
        )
    lost = _each(drawn, lambda f: lost_draws(f.get("candidates") or {}))
    rows = [
        row(label, *(number(n) for n in numbers))
        for label, *numbers in zip(_labels(drawn), created, kept, lost, pairs, strict=True)
    ]
    headings = ("for", "created", "kept", "draws lost", "pairs")
    return Card(title="Instructions and pairs", plot=plot, table=table(headings, rows))


def _small(
    figures: dict[int, dict[str, Any]], part: str, figure: str, axis: str, title: str
) -> Card | None:
    reports = {i: f[part] for i, f in figures.items() if f.get(part)}
    if not any(r[figure] is not None for r in reports.values()):
        return None
    intervals = [_interval(r.get(f"{figure}_ci")) for r in reports.values()]
    values = _each(reports, lambda r: r[figure])
    plot = line_plot(
        _labels(reports),
        [Series(name=axis, values=values, intervals=tuple(intervals))],
        x_title="model",
        y_title=axis,
    )
    rows = [
        row(label, significant(value), interval(ci))
        for label, value, ci in zip(_labels(reports), values, intervals, strict=True)
    ]
    return Card(title=title, plot=plot, table=table(("model", axis, "interval"), rows))


def _interval(values: Sequence[float] | None) -> Interval | None:
    return None if values is None else (values[0], values[1])


def _scored(figures: dict[int, dict[str, Any]]) -> list[Card]:
    names = sorted({name for f in figures.values() for name in f["scored"]})
    cards = []
    for name in names:
        reports = {
            i: f["scored"][name]["reward_modelling"]
            for i, f in figures.items()
            if name in f["scored"]
        }
        intervals = [_interval(r["pairwise_accuracy_ci"]) for r in reports.values()]
        values = _each(reports, lambda r: r["pairwise_accuracy"])
        plot = line_plot(
            _labels(reports),
            [Series(name="pairs in people's order", values=values, intervals=tuple(intervals))],
            x_title="model",
            y_title="share",
            low=0.0,
            high=1.0,
            reference=(0.5, "chance"),
        )
        rows = [
            row(
                label,
                share(r["pairwise_accuracy"]),
                interval(ci),
                share(r["spearman"]),
                share(r["kendall_tau"]),
                f"{r['num_failed']} of {r['num_responses']}",
            )
            for label, r, ci in zip(_labels(reports), reports.values(), intervals, strict=True)
        ]
        headings = ("model", "pairs right", "interval", "Spearman", "Kendall", "failed")
        title = f"Scores against people's: {name}"
        cards.append(Card(title=title, plot=plot, table=table(headings, rows)))
    return cards
