"""The figures of an evaluation for people: a table for the terminal, Markdown for a page."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from selfreward.errors import ConfigError
from selfreward.storage import files

Cells = Sequence[str]

FORMATS = ("table", "json", "markdown")

_HEADINGS = (
    "data set",
    "pairs",
    "prompts",
    "accuracy",
    "interval",
    "both orders",
    "interval",
    "averaged",
    "first",
    "flips",
    "longer",
    "failed",
    "dropped",
)
# In front of the last two, where some data set has a probability.
_CALIBRATION = {"brier": "Brier", "ece": "ECE"}


_COMPARED = (
    *("data set", "pairs", "prompts", "A", "B"),
    *("B - A", "interval", "p", "p, both orders"),
)


def rate(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.3f}-{ends[1]:.3f}"


def _calibration(report: Mapping[str, Any]) -> list[str]:
    """The figures of the probabilities that were measured of one data set or another."""
    found = report["data"].values()
    return [key for key in _CALIBRATION if any(data.get(key) is not None for data in found)]


def data_headings(report: Mapping[str, Any]) -> Cells:
    """Those of `data_rows`."""
    measured = [_CALIBRATION[key] for key in _calibration(report)]
    return (*_HEADINGS[:-2], *measured, *_HEADINGS[-2:])


def data_rows(report: Mapping[str, Any]) -> list[Cells]:
    """One row a data set, and the plain mean over them where there are several."""
    rows: list[Cells] = []
    calibration = _calibration(report)
    for name, found in report["data"].items():
        failed = found["unparsed_rate"] + found["truncated_rate"] + found["refused_rate"]
        rows.append(
            (
                name,
                str(found["n"]),
                str(found["num_prompts"]),
                rate(found["accuracy"]),
                _interval(found["accuracy_ci"]),
                rate(found["position_consistent_accuracy"]),
                _interval(found["position_consistent_accuracy_ci"]),
                rate(found["order_averaged_accuracy"]),
                rate(found["first_position_rate"]),
                rate(found["swap_flip_rate"]),
                rate(found["longer_chosen_rate"]),
                *(rate(found[key]) for key in calibration),
                rate(failed),
                str(sum(found["dropped"].values())),
            )
        )
    macro = report.get("macro")
    if macro is not None and macro["data_sets"] > 1:
        both = rate(macro["position_consistent_accuracy"])
        mean = rate(macro["accuracy"])
        row = ("mean of sets", "", "", mean, _interval(macro["accuracy_ci"]), both)
        rows.append((*row, *[""] * (len(data_headings(report)) - len(row))))
    return rows


def score_rows(report: Mapping[str, Any]) -> list[Cells]:
    return [
        (
            name,
            str(found["n"]),
            str(found["num_failed"]),
            rate(found["spearman"]),
            _interval(found["spearman_ci"]),
            rate(found["kendall_tau"]),
            rate(found["pearson"]),
            rate(found["mean_absolute_error"]),
            rate(found["quadratic_weighted_kappa"]),
        )
        for name, found in report["scores"].items()
    ]


def choice_rows(report: Mapping[str, Any]) -> list[Cells]:
    """One row a data set whose questions were asked as one choice."""
    return [
        (
            name,
            str(found["n"]),
            rate(found["accuracy"]),
            _interval(found["accuracy_ci"]),
            rate(found["chance"]),
            " ".join(rate(share) for share in found["slot_rates"]),
            rate(found["unparsed_rate"] + found["truncated_rate"] + found["refused_rate"])
            if found["n"]
            else "",
            str(sum(found["dropped"].values())),
        )
        for name, found in report["choices"].items()
    ]


_CHOICE_HEADINGS = (
    *("best of", "questions", "accuracy", "interval", "chance", "by slot"),
    *("failed", "dropped"),
)

_SCORE_HEADINGS = (
    "scores",
    "responses",
    "failed",
    "Spearman",
    "interval",
    "Kendall",
    "Pearson",
    "mean error",
    "kappa",
)


def tables(report: Mapping[str, Any]) -> list[tuple[Cells, list[Cells]]]:
    """(headings, rows) of every table of the report that has something to show."""
    shown: list[tuple[Cells, list[Cells]]] = []
    if report["data"]:
        shown.append((data_headings(report), data_rows(report)))
    if report["choices"]:
        shown.append((_CHOICE_HEADINGS, choice_rows(report)))
    if report["scores"]:
        shown.append((_SCORE_HEADINGS, score_rows(report)))
    sections = (report["data"], report["choices"], report["scores"])
    for name, found in (item for section in sections for item in section.items()):
        protocol = found.get("protocol")
        if protocol is not None:
            headline = [
                ("headline figure", rate(found["overall"])),
                ("its interval", _interval(found["overall_ci"])),
            ]
            figures = [(k, _plain(v)) for k, v in flat(protocol) if k != "name"]
            rows: list[Cells] = [row for row in (*headline, *figures) if row[1]]
            shown.append(((f"{name}: {protocol['name']}", ""), rows))
    if report.get("card"):
        card = [(k.replace("_", " "), _plain(v)) for k, v in report["card"].items()]
        shown.append((("bias card", ""), [row for row in card if row[1]]))
    return shown


def flat(figures: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Nested figures as (path, number or text); lists are left out."""
    found: list[tuple[str, Any]] = []
    for key, value in figures.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            found += flat(value, f"{name} / ")
        elif not isinstance(value, list | tuple):
            found.append((name, value))
    return found


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def title(report: Mapping[str, Any]) -> str:
    said = ", ".join(f"{key} {value}" for key, value in report["settings"].items())
    return f"{report['judge']} ({report['model']}): {said}"


def comparison_tables(report: Mapping[str, Any]) -> list[tuple[Cells, list[Cells]]]:
    rows: list[Cells] = []
    for name, found in report["data"].items():
        test, both = found["accuracy"], found["position_consistent_accuracy"]
        rows.append(
            (
                name,
                str(found["n"]),
                str(found["num_prompts"]),
                rate(found["accuracy_before"]),
                rate(found["accuracy_after"]),
                f"{test['difference']:+.3f}",
                f"{test['ci'][0]:+.3f} to {test['ci'][1]:+.3f}",
                f"{test['p_value']:.2g}",
                "" if both is None else f"{both['p_value']:.2g}",
            )
        )
    macro = report["macro"]
    interval = f"{macro['ci'][0]:+.3f} to {macro['ci'][1]:+.3f}"
    difference = f"{macro['difference']:+.3f}"
    p_value = f"{macro['p_value']:.2g}"
    rows.append(("mean of sets", "", "", "", "", difference, interval, p_value, ""))
    cards = report["cards"]
    biases: list[Cells] = [
        (key.replace("_", " "), _plain(cards["a"][key]), _plain(cards["b"][key]))
        for key in cards["a"]
        if _plain(cards["a"][key]) or _plain(cards["b"][key])
    ]
    worse: list[Cells] = [(line, "") for line in report["worse_in_b"]]
    shown: list[tuple[Cells, list[Cells]]] = [(_COMPARED, rows), (("bias card", "A", "B"), biases)]
    return [*shown, (("worse in B", ""), worse)] if worse else shown


def comparison_title(report: Mapping[str, Any]) -> str:
    lines = []
    for side in ("a", "b"):
        said = ", ".join(f"{k} {v}" for k, v in report["settings"][side].items())
        lines.append(f"{side.upper()}: {report[f'judge_{side}']} ({said})")
    return "\n".join(lines)


def check_format(form: str) -> None:
    """Raises ConfigError for a format that is none."""
    if form not in FORMATS:
        raise ConfigError(f"--format {form!r}: it is one of {', '.join(FORMATS)}")


def write_evaluation(report: Mapping[str, Any], form: str, out: str | None) -> None:
    """Prints a report in the wanted form, and writes it as JSON to `out`."""
    _write(report, title(report), tables(report), form, out)


def write_comparison(report: Mapping[str, Any], form: str, out: str | None) -> None:
    """Prints a comparison in the wanted form, and writes it as JSON to `out`."""
    _write(report, comparison_title(report), comparison_tables(report), form, out)


def _write(
    report: Mapping[str, Any],
    heading: str,
    shown: Sequence[tuple[Cells, list[Cells]]],
    form: str,
    out: str | None,
) -> None:
    if out is not None:
        files.write_json(out, report)
    if form == "json":
        print(json.dumps(report, indent=2))
    elif form == "markdown":
        print(markdown(heading, shown))
    else:
        _print_tables(heading, shown, Console(highlight=False))


def _print_tables(
    heading: str, shown: Sequence[tuple[Cells, list[Cells]]], console: Console
) -> None:
    wide = (
        console if console.is_terminal else Console(width=150, highlight=False, file=console.file)
    )
    parts: list[Any] = [Text(heading)]
    for headings, rows in shown:
        table = Table(pad_edge=False)
        for number, heading in enumerate(headings):
            table.add_column(heading, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        parts.append(table)
    wide.print(Group(*parts))


def markdown(heading: str, shown: Sequence[tuple[Cells, list[Cells]]]) -> str:
    """The tables in Markdown."""
    lines = [heading, ""]
    for headings, rows in shown:
        lines += ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
        lines += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    return "\n".join(lines)
