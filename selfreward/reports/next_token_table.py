"""The likeliest next tokens of one model, or of several side by side, with bars."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

Tokens = Sequence[tuple[str, float]]
"""(token, probability), the likeliest first."""

SIDE_BY_SIDE = 4
"""Models in one table; more would not fit a terminal's width."""
_BAR_WIDTHS = {1: 40, 2: 16, 3: 10}
_NARROW_BAR = 6
_EIGHTHS = " ▏▎▍▌▋▊▉"
_ESCAPES = {" ": "␣", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


def visible(token: str) -> str:
    """A token as one can see it: `␣the`, `\\n`, `\\x1b`."""
    return "".join(_ESCAPES.get(char) or _shown(char) for char in token)


def _shown(char: str) -> str:
    # Controls, formatting marks, lone surrogates, unassigned ones, and blanks of all widths.
    if unicodedata.category(char)[0] not in "CZ":
        return char
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def bar(share: float, width: int) -> str:
    """A bar of `share` (0..1) of `width` characters, exact to an eighth of one."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def next_token_tables(text: str, models: Mapping[str, Tokens]) -> list[Table]:
    """Tables of the likeliest tokens after `text`, `SIDE_BY_SIDE` models in each.

    The longest bar is the largest probability shown, of all models, so that bars compare.
    """
    names = list(models)
    largest = max((p for tokens in models.values() for _, p in tokens), default=0.0)
    return [
        _table(text, {n: models[n] for n in names[start : start + SIDE_BY_SIDE]}, largest)
        for start in range(0, len(names), SIDE_BY_SIDE)
    ]


def _table(text: str, models: Mapping[str, Tokens], largest: float) -> Table:
    title = Text.assemble("Next token after ", (text, "bold"))
    table = Table(title=title, title_justify="left", pad_edge=False)
    width = _BAR_WIDTHS.get(len(models), _NARROW_BAR)
    for name in models:
        table.add_column(Text(name), overflow="fold")
        table.add_column("prob.", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True, min_width=width)
    for rank in range(max((len(tokens) for tokens in models.values()), default=0)):
        cells: list[Text] = []
        for tokens in models.values():
            if rank >= len(tokens):
                cells += [Text(), Text(), Text()]
                continue
            token, probability = tokens[rank]
            share = probability / largest if largest > 0 else 0.0
            cells += [
                Text(visible(token)),
                Text(_probability(probability)),
                Text(bar(share, width)),
            ]
        table.add_row(*cells)
    return table


def _probability(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else f"{value:.0e}"


def next_token_json(text: str, models: Mapping[str, Tokens]) -> dict[str, Any]:
    """The same as plain values; tokens are as they are, not made visible."""
    return {
        "text": text,
        "models": [
            {
                "model": name,
                "tokens": [{"token": token, "probability": p} for token, p in tokens],
            }
            for name, tokens in models.items()
        ],
    }


def next_token_markdown(text: str, models: Mapping[str, Tokens]) -> str:
    """One Markdown table, a column for each model."""
    lines = [
        f"Next token after `{text}`",
        "",
        "| rank | " + " | ".join(_cell(name) for name in models) + " |",
        "|---|" + "---|" * len(models),
    ]
    for rank in range(max((len(tokens) for tokens in models.values()), default=0)):
        cells = [
            f"`{_cell(visible(tokens[rank][0]))}` {_probability(tokens[rank][1])}"
            if rank < len(tokens)
            else ""
            for tokens in models.values()
        ]
        lines.append(f"| {rank + 1} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")
