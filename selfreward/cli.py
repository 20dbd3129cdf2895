"""The command line: `selfreward run`, `status`, `doctor`. Heavy imports wait for their command."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from selfreward.errors import SelfRewardError, UserError

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
        str | None, typer.Option(help="Redo this stage and what was made from it.")
    ] = None,
) -> None:
    """Run a loop; run the same command again to go on after any interruption."""
    from selfreward.config_loading import load_config
    from selfreward.loops.self_taught import run_self_taught
    from selfreward.reports.progress import Display
    from selfreward.reports.summary import print_summary, read_summary

    display = Display()
    layout = run_self_taught(load_config(config, overrides or ()), force, display)
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


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: through the clean-up, leaving it resumable."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> None:
    """Runs the command line and maps errors to one line and an exit code."""
    error = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with _terminated_like_interrupted():
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
