"""The command line: `selfreward run`, `status`, `doctor`, `evaluate`, `compare`, and those of
`cli_inspect`, `cli_model`, `cli_serve` and `cli_keys`.

Heavy imports wait for their command.
"""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from selfreward import cli_inspect, cli_keys, cli_model, cli_serve
from selfreward.errors import ConfigError, SelfRewardError, UserError
from selfreward.interrupts import interruptible

if TYPE_CHECKING:
    from selfreward.reports.progress import Display

EXIT_USER_ERROR = 2
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def run(
    config: Annotated[str, typer.Argument(help="A recipe, e.g. ray_jobs/configs/quickstart.yaml")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.key=value, e.g. loop.iterations=2")
    ] = None,
    force: Annotated[
        str | None, typer.Option(help="Redo this stage, or STAGE@ITERATION, and all made from it.")
    ] = None,
) -> None:
    """Run a loop; run the same command again to go on after any interruption."""
    from selfreward.config_loading import load_config
    from selfreward.loops.kinds import run_loop
    from selfreward.reports.progress import Display
    from selfreward.reports.summary import print_summary, read_summary

    display = Display()
    layout = run_loop(load_config(config, overrides or ()), force, display)
    print_summary(read_summary(layout), display.console)


@app.command()
def status(
    run_dir: Annotated[str, typer.Argument(help="A run folder or URL.")],
) -> None:
    """Show what a run folder holds: stages, costs, accuracies, the current judge."""
    from selfreward.layout import Layout
    from selfreward.reports.summary import print_summary, read_summary

    summary = read_summary(Layout(run_dir))
    console = Console(highlight=False)
    print_summary(summary, console)
    console.print("complete" if summary.is_complete else "not complete: run it again to go on")


@app.command()
def doctor(
    config: Annotated[str | None, typer.Argument(help="A recipe to check the machine for.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value")] = None,
) -> None:
    """Check versions, the model, memory, disk and the cluster's resources before a run."""
    from selfreward.doctor import examine

    checks = examine(config, overrides or ())
    console = Console(highlight=False)
    for check in checks:
        mark = "ok  " if check.ok else "FAIL"
        console.print(f"{mark} {check.name}: {check.detail}", markup=False, soft_wrap=True)
    if not all(check.ok for check in checks):
        raise typer.Exit(EXIT_USER_ERROR)


_JUDGE = (
    "A model, a run folder (@t for iteration t), an endpoint URL (#MODEL), classifier:MODEL, or"
    " baseline:longest|shortest|first|random|likelihood."
)
_Data = Annotated[
    list[str] | None, typer.Option("--data", help="Pair or score file; may be given repeatedly.")
]
_Overrides = Annotated[
    list[str] | None, typer.Argument(help="section.key=value, e.g. engine.max_model_len=4096")
]
_Config = Annotated[
    str | None, typer.Option("--config", help="Recipe with the engine and rubric to use.")
]
_Votes = Annotated[int, typer.Option(help="Draws of each order, by majority.")]
_Orders = Annotated[str, typer.Option(help="both or random (one of the two, half the cost).")]
_Verdict = Annotated[str, typer.Option(help="greedy, sampled, or probability.")]
_Columns = Annotated[
    list[str] | None, typer.Option("--column", help="ours=theirs, e.g. chosen=better_answer.")
]
_Split = Annotated[str, typer.Option("--split", help="Split of a saved or Hugging Face dataset.")]
_MaxRows = Annotated[
    int | None, typer.Option(help="So many rows of each file, drawn alike for every judge.")
]
_Work = Annotated[str | None, typer.Option(help="Folder or URL that keeps the judgments.")]
_Format = Annotated[str, typer.Option("--format", help="table, json, or markdown.")]
_Out = Annotated[str | None, typer.Option(help="Write the figures as JSON to this file too.")]
_Readings = Annotated[
    str | None, typer.Option(help="Write what a judge said to each row to this JSONL file.")
]


@app.command()
def evaluate(
    overrides: _Overrides = None,
    judge: Annotated[str, typer.Option(help=_JUDGE)] = "",
    data: _Data = None,
    benchmark: Annotated[
        str | None, typer.Option(help="A published protocol's scoring; `list` prints them.")
    ] = None,
    coefficients: Annotated[
        str | None, typer.Option(help="JSON file of a model's coefficients, for alpaca_eval.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(help="Of rewardbench2: choice (default of judges that write) or ratings."),
    ] = None,
    config: _Config = None,
    votes: _Votes = 1,
    orders: _Orders = "both",
    verdict: _Verdict = "greedy",
    column: _Columns = None,
    split: _Split = "train",
    max_rows: _MaxRows = None,
    work: _Work = None,
    form: _Format = "table",
    out: _Out = None,
    readings: _Readings = None,
) -> None:
    """Measure a judge on labelled pairs and scored responses, both orders, with its biases."""
    from selfreward.evaluation.alpaca_eval import read_coefficients
    from selfreward.evaluation.benchmarks import (
        BENCHMARKS,
        benchmark_figures,
        coverage_of,
        get_benchmark,
    )
    from selfreward.evaluation.judges import parse_judge
    from selfreward.evaluation.readings import write_readings
    from selfreward.evaluation.reports import with_protocol
    from selfreward.loops.evaluate import evaluate_judge
    from selfreward.loops.evaluate_options import asked_by, make_request
    from selfreward.loops.evaluate_request import recipe_of
    from selfreward.metrics.intervals import Resampling
    from selfreward.reports.evaluation import write_evaluation

    if benchmark == "list":
        for known in BENCHMARKS.values():
            typer.echo(known.data_needed)
        return
    if coefficients is not None and benchmark != "alpaca_eval":
        raise ConfigError("--coefficients belong to --benchmark alpaca_eval: leave them out")
    protocol = None if benchmark is None else get_benchmark(benchmark)
    if protocol is not None and not data:
        raise ConfigError(f"--data is missing; {protocol.data_needed}")
    request = make_request(
        judge=judge,
        data=data or (),
        config=config,
        overrides=overrides or (),
        votes=votes,
        orders=orders,
        verdict=verdict,
        columns=column or (),
        max_rows=max_rows,
        work=work,
        by=asked_by(judge, benchmark, by),
        benchmark=benchmark,
        glm=None if coefficients is None else read_coefficients(coefficients),
        split=split,
    )
    display = _display(form)
    found = evaluate_judge(request, display)
    if readings is not None:
        write_readings(readings, found.readings)
    recipe = recipe_of(parse_judge(judge), request)
    report = found.report(recipe.evaluation, recipe.loop.seed)
    if benchmark is not None:
        resampling = Resampling(
            confidence=recipe.evaluation.confidence,
            num_samples=recipe.evaluation.bootstrap_samples,
            seed=recipe.loop.seed,
        )
        scored = benchmark_figures(benchmark, found, request.glm, resampling)
        for name, figures in scored.items():
            section = next(s for s in ("data", "choices", "scores") if name in report[s])
            coverage = coverage_of(benchmark, figures)
            of_set = report[section][name]
            report[section][name] = with_protocol(of_set, benchmark, figures, coverage)
            if coverage is not None and not coverage.is_complete:
                display.line(coverage.line(of_set["dropped"]))
    write_evaluation(report, form, out)


@app.command()
def compare(
    judge_a: Annotated[str, typer.Argument(help=_JUDGE)],
    judge_b: Annotated[str, typer.Argument(help="Another one.")],
    overrides: _Overrides = None,
    data: _Data = None,
    config: _Config = None,
    votes: _Votes = 1,
    orders: _Orders = "both",
    verdict: _Verdict = "greedy",
    column: _Columns = None,
    split: _Split = "train",
    max_rows: _MaxRows = None,
    work: _Work = None,
    form: _Format = "table",
    out: _Out = None,
    readings: _Readings = None,
) -> None:
    """Compare judge B with judge A on the same pairs: difference, interval, p, biases."""
    from selfreward.loops.compare import compare as compare_judges
    from selfreward.loops.evaluate_options import make_request
    from selfreward.reports.evaluation import write_comparison

    request = make_request(
        judge=judge_a,
        data=data or (),
        config=config,
        overrides=overrides or (),
        votes=votes,
        orders=orders,
        verdict=verdict,
        columns=column or (),
        max_rows=max_rows,
        work=work,
        split=split,
    )
    report = compare_judges(judge_a, judge_b, request, _display(form), readings)
    write_comparison(report, form, out)


app.command()(cli_inspect.explain)
app.command()(cli_inspect.export)
app.command()(cli_inspect.report)
app.command()(cli_model.predict)
app.command()(cli_model.chat)
app.command()(cli_serve.serve)
app.add_typer(cli_keys.app, name="keys")


def _display(form: str) -> "Display":
    """Progress goes to the error stream where the output is for another program."""
    from selfreward.reports.evaluation import check_format
    from selfreward.reports.progress import Display

    check_format(form)
    return Display(Console(stderr=form != "table", highlight=False))


def main() -> None:
    """Runs the command line and maps errors to one line and an exit code."""
    error = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        # SIGTERM ends a run as Ctrl-C does: through the clean-up, leaving it resumable.
        with interruptible():
            exit_code = app(standalone_mode=False)
        if exit_code == EXIT_INTERRUPTED:  # typer turns Ctrl-C into this code
            raise KeyboardInterrupt
        sys.exit(exit_code or 0)
    except UserError as wrong:
        error.print(f"selfreward: {wrong}", markup=False)
        sys.exit(EXIT_USER_ERROR)
    except SelfRewardError as failure:
        error.print(f"selfreward: failed: {failure}", markup=False)
        error.print("selfreward: run the same command again to go on", markup=False)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        error.print("selfreward: interrupted; run the same command again to go on", markup=False)
        sys.stdout.flush()
        # Ray's and vLLM's exit handlers may wait for threads of what was interrupted.
        os._exit(EXIT_INTERRUPTED)
    except Exception as wrong:
        if type(wrong).__module__.startswith(("click", "typer")):
            error.print(f"selfreward: {wrong}", markup=False)
            sys.exit(EXIT_USER_ERROR)
        raise
