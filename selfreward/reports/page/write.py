"""Writing a run's page: read the folder, fill the templates, put the file in its place."""

from functools import cache

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from selfreward.errors import DataError, UserError
from selfreward.layout import Layout
from selfreward.reports.page.content import Section
from selfreward.reports.page.cost import cost_section, funnel_section
from selfreward.reports.page.header import header_of
from selfreward.reports.page.judges import bias_section, judges_section
from selfreward.reports.page.llm import llm_section
from selfreward.reports.page.models import models_section
from selfreward.reports.page.numbers import moment
from selfreward.reports.page.samples import samples_of
from selfreward.reports.page.training import training_section
from selfreward.reports.progress import Display
from selfreward.reports.summary import RunSummary, read_summary
from selfreward.storage import files
from selfreward.storage.manifest import now

# What files of another version, or damaged ones, lead to.
_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, OSError, yaml.YAMLError)
_SECTIONS = (
    llm_section,
    models_section,
    judges_section,
    bias_section,
    funnel_section,
    cost_section,
    training_section,
)


def page_of(layout: Layout) -> str:
    """The page of a run, finished or not, as HTML that needs nothing else.

    Raises:
        UserError: there is no run, or it cannot be read.
    """
    try:
        summary = read_summary(layout)
        return (
            _templates()
            .get_template("report.html")
            .render(
                head=header_of(summary),
                sections=_sections(summary),
                samples=samples_of(summary),
                written_at=moment(now()),
            )
        )
    except _UNREADABLE as error:
        told = " ".join(str(error).split())
        raise DataError(
            f"{layout.root} holds what this version cannot read"
            f" ({type(error).__name__}: {told}); run it again, or read it with the version that"
            " wrote it"
        ) from error


def _sections(summary: RunSummary) -> list[Section]:
    return [section for make in _SECTIONS if (section := make(summary)) is not None]


def write_page(layout: Layout, out: str | None = None) -> str:
    """Writes a run's page, by default into its folder, and returns where it lies.

    Raises:
        UserError: there is no run, it cannot be read, or the file cannot be written.
    """
    url = out or layout.report
    files.write_bytes(url, page_of(layout).encode("utf-8", "replace"))
    return url


def keep_page(layout: Layout, display: Display) -> None:
    """Writes the page at the end of an attempt; one that cannot be written is told in a line, for
    it must not fail a run. Nothing is done where the attempt ended before there was a run."""
    try:
        if files.exists(layout.run_json):
            display.line(f"report: {write_page(layout)}")
    except UserError as error:
        display.line(f"no report: {error}")
    except Exception as error:  # whatever the page stumbles over, the run is what counts
        display.line(f"no report: {type(error).__name__}: {error}")


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("selfreward.reports.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
