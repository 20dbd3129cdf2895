"""What a report page is made of, as plain data: sections of cards, a card of a chart and its table.

Nothing here is markup: the templates set it out and escape every text.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from selfreward.reports.page.bars import BarPlot
from selfreward.reports.page.plot import Plot

MAX_COLUMNS_BESIDE = 6
"""Of a table beside a chart; a wider one stands below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of a table; `share` (0..1) draws a bar beside the text.

    Example: `Cell(text="12,345", share=0.4)`
    """

    text: str
    share: float | None = None
    tone: str = ""
    """`good`, `bad`, `even`, or none: a colour that only repeats what the text says."""


Row = tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableView:
    """Headings and rows; the first `num_left` columns are words, and the last where it says so;
    the others are numbers.

    Example: `TableView(headings=("model", "accuracy"), rows=(row("M0", "0.500"),))`
    """

    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    num_left: int = 1
    ends_in_words: bool = False

    def is_number(self, column: int) -> bool:
        """Whether a column, from 0, is set to the right."""
        is_last = column == len(self.headings) - 1
        return column >= self.num_left and not (is_last and self.ends_in_words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A chart, the table of its numbers, or both, under one title.

    Example: `Card(title="heldout", note="90 pairs", plot=Plot(…), table=TableView(…))`
    """

    title: str
    note: str = ""
    plot: Plot | None = None
    bars: BarPlot | None = None
    table: TableView | None = None
    is_wide: bool = False

    @property
    def is_split(self) -> bool:
        """Whether chart and table have room side by side."""
        columns = len(self.table.headings) if self.table is not None else 0
        return self.is_wide and self.plot is not None and columns <= MAX_COLUMNS_BESIDE


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page with an entry in its contents.

    Example: `Section(ident="judges", title="Judges", lede="…", cards=(Card(…),))`
    """

    ident: str
    title: str
    lede: str
    cards: tuple[Card, ...]


def row(*texts: str | Cell) -> Row:
    """A row of a table, plain texts made cells."""
    return tuple(t if isinstance(t, Cell) else Cell(text=t) for t in texts)


def table(
    headings: Iterable[str],
    rows: Iterable[Row],
    num_left: int = 1,
    ends_in_words: bool = False,
) -> TableView:
    return TableView(
        headings=tuple(headings),
        rows=tuple(rows),
        num_left=num_left,
        ends_in_words=ends_in_words,
    )
