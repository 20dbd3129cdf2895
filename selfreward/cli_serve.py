"""`selfreward serve`: the judge as an HTTP endpoint until Ctrl-C."""

import itertools
import re
import time
from typing import Annotated

import typer
from rich.console import Console

POLL_S = 1.0
LOOKS = 10
"""Polls between two looks at the service, which cost its cores something."""
_OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)+=")


def serve(
    target: Annotated[
        str | None,
        typer.Argument(help="A run folder, whose current judge is served, or a model."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.key=value, e.g. serving.port=9000")
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="A YAML file of the sections model, engine, serving, ray.")
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="No API keys; listens on loopback only.")
    ] = False,
) -> None:
    """Serve a judge over HTTP, with a web page to try it and to review its judgments."""
    from selfreward import interrupts
    from selfreward.serving.start import check_running, read_service, running

    if target is not None and _OVERRIDE.match(target):
        # With --config there may be no target, and what comes first is an override.
        overrides = [target, *(overrides or ())]
        target = None
    wanted = [*(overrides or ()), *(["serving.auth.enabled=false"] if no_auth else [])]
    served, service = read_service(target, config, wanted)
    console = Console(highlight=False, soft_wrap=True)
    what = f"run {served.layout.root}" if served.layout else served.model
    console.print(f"starting the judge of {what} ...", markup=False)
    start = time.monotonic()
    with running(served, service) as address:
        console.print(
            f"serving at {address}  (page: {address}/, API: {address}/docs); up in"
            f" {time.monotonic() - start:.0f} s",
            markup=False,
        )
        console.print("Ctrl-C ends it")
        for poll in itertools.count(1):
            interrupts.check()
            if poll % LOOKS == 0:
                check_running()
            time.sleep(POLL_S)
