"""The judges of a run on pairs kept out of training: learning curves and bias cards."""

from typing import Any

from selfreward.reports.page.content import Card, Row, Section, row, table
from selfreward.reports.page.numbers import count, interval, share
from selfreward.reports.page.plot import Series, line_plot
from selfreward.reports.summary import RunSummary

_FIRST, _LAST = "heldout", "validation"
_FIGURES = (
    ("first_position_rate", "first position chosen", "0.5"),
    ("swap_flip_rate", "verdict changes with the order", "0"),
    ("longer_chosen_rate", "longer response chosen", "the next row"),
    ("share_chosen_longer", "better response is the longer", ""),
    ("accuracy_with_lengths", "accuracy", "1"),
    ("length_only_accuracy", "accuracy of naming the longer", ""),
    ("unparsed_rate", "unparsed", "0"),
    ("truncated_rate", "truncated", "0"),
    ("tie_rate", "ties", "0"),
    ("refused_rate", "refused", "0"),
    ("score_entropy_bits", "entropy of scores, bits", ""),
    ("score_saturation", "scores at the top", ""),
    ("self_preference", "self-preference", "0"),
)
"""Field of a bias card → what it is called and what it is without bias."""


def judges_section(summary: RunSummary) -> Section | None:
    """A card for each set: accuracy with its interval, right in both orders, first position."""
    names = {name for sets in summary.evaluations.values() for name in sets}
    if not names:
        return None
    ordered = sorted(names, key=lambda n: (n != _FIRST, n == _LAST, n))
    return Section(
        ident="judges",
        title="Judging labelled pairs" if summary.figures else "Learning curves",
        lede="Every judge reads every pair in both orders; the better response is known. Accuracy"
        " counts each reading, a band is its interval, and chance is 0.5. A judge that goes by"
        " position names the first response always or never, and is right in both orders of no"
        " pair.",
        cards=tuple(_set_card(summary, name) for name in ordered),
    )


def _set_card(summary: RunSummary, name: str) -> Card:
    found = {i: sets[name] for i, sets in sorted(summary.evaluations.items()) if name in sets}
    reports = list(found.values())
    labels = [f"M{i}" for i in found]
    plot = line_plot(
        labels,
        [
            Series(
                name="accuracy",
                values=tuple(r["accuracy"] for r in reports),
                intervals=tuple((r["accuracy_ci"][0], r["accuracy_ci"][1]) for r in reports),
            ),
            Series(
                name="right in both orders",
                values=tuple(r["position_consistent_accuracy"] for r in reports),
            ),
            Series(
                name="first position chosen",
                values=tuple(r["first_position_rate"] for r in reports),
            ),
        ],
        x_title="judge",
        y_title="share",
        low=0.0,
        high=1.0,
        reference=(0.5, "chance"),
    )
    headings = ("judge", "pairs", "accuracy", "interval", "both orders", "first", "failed")
    rows = [_set_row(f"M{i}", r) for i, r in found.items()]
    return Card(title=_title(name), plot=plot, table=table(headings, rows))


def _set_row(model: str, report: dict[str, Any]) -> Row:
    failed = report["unparsed_rate"] + report["truncated_rate"] + report["refused_rate"]
    return row(
        model,
        count(report["n"]),
        share(report["accuracy"]),
        interval(report["accuracy_ci"]),
        share(report["position_consistent_accuracy"]),
        share(report["first_position_rate"]),
        share(failed),
    )


def _title(name: str) -> str:
    titles = {_FIRST: "Held-out pairs", _LAST: "Validation pairs"}
    return titles.get(name, name)


def bias_section(summary: RunSummary) -> Section | None:
    """The bias card of each judge version, on the pairs that promotion was decided on."""
    cards = _cards(summary)
    if not cards:
        return None
    labels = [f"M{i}" for i in cards]
    known = list(cards.values())
    plot = line_plot(
        labels,
        [
            Series(
                name="position: distance from 0.5",
                values=tuple(_apart(c.get("first_position_rate"), 0.5) for c in known),
            ),
            Series(
                name="verdict changes with the order",
                values=tuple(c.get("swap_flip_rate") for c in known),
            ),
            Series(
                name="length: distance from the labels",
                values=tuple(
                    _apart(c.get("longer_chosen_rate"), c.get("share_chosen_longer")) for c in known
                ),
            ),
        ],
        x_title="judge",
        y_title="bias, 0 is none",
        low=0.0,
    )
    rows = [
        row(title, unbiased, *(share(c.get(field)) for c in known))
        for field, title, unbiased in _FIGURES
        if any(c.get(field) is not None for c in known)
    ]
    pairs = row("pairs", "", *(count(c["n"]) for c in known))
    sets = sorted({name for p in summary.promotions.values() for name in p.get("on", ())})
    note = f"On {', '.join(_title(s).lower() if s == _FIRST else s for s in sets)}." if sets else ""
    card = Card(
        title="Bias card of each judge",
        note=note,
        plot=plot,
        table=table(("figure", "unbiased", *labels), [pairs, *rows], num_left=2),
        is_wide=True,
    )
    return Section(
        ident="bias",
        title="Bias cards",
        lede="What a judge leans on besides quality. A new judge is not promoted where one of these"
        " is worse than its tolerance allows, however accurate it is.",
        cards=(card,),
    )


def _apart(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else abs(value - reference)


def _cards(summary: RunSummary) -> dict[int, dict[str, Any]]:
    """By iteration: of a model's own figures, of a promotion that compared two judges on pairs, or
    what the evaluation of the held-out pairs knows of it."""
    # In the self-rewarding loop each model is measured by itself; a promotion holds its card alone.
    found = {i: f["card"] for i, f in summary.figures.items() if f.get("card")}
    for iteration, promotion in summary.promotions.items():
        if "card_of_compared" in promotion:
            found.setdefault(promotion["compared_with"], promotion["card_of_compared"])
            found[iteration] = promotion["card"]
    for iteration, sets in summary.evaluations.items():
        if iteration not in found and sets:
            found[iteration] = sets.get(_FIRST) or next(iter(sets.values()))
    return dict(sorted(found.items()))


def best_line(summary: RunSummary) -> tuple[str, str] | None:
    """Accuracy of the current judge on held-out pairs and, behind it, that of the seed model."""
    if summary.current is None:
        return None
    report = summary.evaluations.get(summary.current["iteration"], {}).get(_FIRST)
    if report is None:
        return None
    seed = summary.evaluations.get(0, {}).get(_FIRST)
    before = "" if seed is None else f", seed model {share(seed['accuracy'])}"
    return share(report["accuracy"]), f"interval {interval(report['accuracy_ci'])}{before}"
