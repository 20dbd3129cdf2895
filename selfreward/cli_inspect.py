"""Commands that read a finished or half-finished run: `selfreward explain`, `export`, `report`.

Heavy imports wait for their command.
"""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from selfreward.errors import ConfigError

_Run = Annotated[str, typer.Argument(metavar="RUN", help="A run folder or URL.")]


def explain(
    run_dir: _Run,
    ident: Annotated[
        str,
        typer.Argument(metavar="ID", help="An id, or 6 or more characters of it behind the dash."),
    ],
    form: Annotated[str, typer.Option("--format", help="text or json (never shortened).")] = "text",
    full: Annotated[bool, typer.Option("--full", help="Do not shorten long texts.")] = False,
) -> None:
    """Show all that led to a record of a run, and all that became of it."""
    from selfreward.loops.explain import explain as find_lineage
    from selfreward.reports.lineage_text import lineage_text

    if form not in ("text", "json"):
        raise ConfigError(f"--format {form!r}: it is text or json")
    lineage = find_lineage(run_dir, ident)
    if form == "json":
        typer.echo(json.dumps(asdict(lineage), indent=2, ensure_ascii=False))
    else:
        typer.echo(lineage_text(lineage, full), nl=False)


def export(
    run_dir: _Run,
    what: Annotated[
        str,
        typer.Option(help="preferences, sft, instructions, judgments, model, or adapter."),
    ] = "",
    out: Annotated[str, typer.Option(help="The folder or URL to make.")] = "",
    iteration: Annotated[
        str | None,
        typer.Option(help="A number from 1, latest, or of models current (their default)."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="Of rows: dataset (the default), jsonl, or parquet."),
    ] = None,
) -> None:
    """Write training data as a Hugging Face data set, or a model as a plain folder."""
    from selfreward.loops.export import COLUMNS, LATEST, export_rows
    from selfreward.loops.export_model import CURRENT, beside_current, export_model

    models = ("model", "adapter")
    if what not in (*COLUMNS, *models):
        raise ConfigError(f"--what {what!r}: it is one of {', '.join((*COLUMNS, *models))}")
    if not out:
        raise ConfigError("--out is missing: name the folder to make")
    if what in models:
        if form is not None:
            raise ConfigError(f"--format {form}: a {what} has only one; leave it out")
        number, folder = export_model(run_dir, what, iteration or CURRENT, out)
        other = beside_current(run_dir, number)
        typer.echo(f"{what} of iteration {number}{f' ({other})' if other else ''}: {folder}")
        return
    done = export_rows(run_dir, what, iteration or LATEST, out, form or "dataset")
    typer.echo(f"{done.num_rows} {what} of iteration {done.iteration}: {done.out}")


def report(
    run_dir: _Run,
    out: Annotated[
        str | None, typer.Option(help="The file or URL to write; RUN/report.html by default.")
    ] = None,
) -> None:
    """Write a run's page: curves, funnel, costs, biases and sample pairs in one HTML file."""
    from selfreward.layout import Layout
    from selfreward.reports.page.write import write_page

    typer.echo(f"report: {write_page(Layout(run_dir), out)}")
