"""The stages' table and the next-token table as they are printed."""

import io
import json

from rich.console import Console

from selfreward.reports.next_token_table import (
    bar,
    next_token_json,
    next_token_markdown,
    next_token_tables,
    visible,
)
from selfreward.reports.stages import (
    Change,
    Figure,
    StageFigures,
    change_line,
    print_stages,
    stages_json,
    stages_markdown,
)

ROWS = (
    StageFigures(
        stage="0 initial",
        general_perplexity=Figure(value=4211.4, ci=(4105.2, 4320.9)),
    ),
    StageFigures(
        stage="1 pretrain",
        general_perplexity=Figure(value=41.523, ci=(38.91, 44.2)),
        domain_perplexity=Figure(value=8.1234),
        change=Change(
            what="bits per byte of general text",
            difference=-2.31,
            ci=(-2.4, -2.22),
            lower_is_better=True,
        ),
    ),
    StageFigures(
        stage="6 reinforce",
        chrf=Figure(value=31.26, ci=(28.0, 34.0)),
        exact_match=Figure(value=0.0),
        mean_reward=Figure(value=0.1, ci=(-0.2, 0.4)),
        kl=Figure(value=0.0213),
        change=Change(what="mean reward", difference=0.05, ci=(-0.01, 0.11), lower_is_better=False),
    ),
)
NEXT = {
    "0 initial": [(" the", 0.25), ("\n", 0.125)],
    "1 pretrain": [(" mat", 0.5), ("[b]", 0.0001)],
}


def printed(*parts: object, width: int = 150) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for part in parts:
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def cells(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.lstrip("│┃ ").startswith(start))
    return [cell.strip() for cell in line.replace("┃", "|").replace("│", "|").strip("|").split("|")]


def test_the_table_shows_intervals_below_and_a_dash_for_what_is_unknown() -> None:
    file = io.StringIO()
    print_stages(ROWS, Console(file=file), "The cat sat on the", NEXT)
    text = file.getvalue()
    assert cells(text, "stage")[1:4] == ["general ppl", "domain ppl", "exact match"]
    assert cells(text, "0 initial") == ["0 initial", "4,211", *["-"] * 8]
    assert cells(text, "1 pretrain")[:4] == ["1 pretrain", "41.52", "8.123", "-"]
    # A measured 0 is no dash.
    assert cells(text, "6 reinforce") == [
        *("6 reinforce", "-", "-", "0.000", "-", "31.3", "-", "-", "0.100", "0.021")
    ]
    assert "4,105-4,321" in text and "38.91-44.20" in text and "-0.200 to 0.400" in text
    assert "Next token after The cat sat on the" in text


def test_what_a_stage_is_for_is_said_plainly() -> None:
    first, improved, unclear = ROWS
    assert change_line(first) is None
    assert change_line(improved) == (
        "1 pretrain: bits per byte of general text -2.310 (-2.400 to -2.220): improved"
    )
    assert change_line(unclear) == (
        "6 reinforce: mean reward +0.050 (-0.010 to +0.110): no clear difference"
    )


def test_verdicts() -> None:
    def verdict(difference: float, ci: tuple[float, float] | None, lower: bool) -> str:
        return Change(what="x", difference=difference, ci=ci, lower_is_better=lower).verdict

    assert verdict(0.2, (0.1, 0.3), False) == verdict(-0.2, (-0.3, -0.1), True) == "improved"
    assert verdict(0.2, (0.1, 0.3), True) == verdict(-0.2, (-0.3, -0.1), False) == "worse"
    assert verdict(0.0, (0.0, 0.0), True) == "no clear difference"
    assert verdict(0.2, None, True) == "not measured"
    assert verdict(float("nan"), (float("nan"), 0.1), True) == "not measured"


def test_markdown_and_json() -> None:
    text = stages_markdown(ROWS, "The cat", NEXT)
    assert cells(text, "| 1 pretrain")[1:3] == ["41.52<br>38.91-44.20", "8.123"]
    assert "- 1 pretrain: bits per byte of general text -2.310" in text
    assert "| 1 | `␣the` 0.250 | `␣mat` 0.500 |" in text
    data = json.loads(json.dumps(stages_json(ROWS, "The cat", NEXT)))
    assert data["stages"][1]["change"]["verdict"] == "improved"
    assert data["stages"][0]["kl"] is None
    assert data["next_tokens"] == next_token_json("The cat", NEXT)
    # What was written is read back as it was.
    assert tuple(StageFigures.from_dict(row) for row in data["stages"]) == ROWS


def test_ruined_figures_are_shown_as_they_are() -> None:
    ruined = StageFigures(
        stage="1 pretrain",
        general_perplexity=Figure(value=float("inf")),
        domain_perplexity=Figure(value=float("nan")),
    )
    assert "| 1 pretrain | inf | nan | - |" in stages_markdown([ruined])


def test_next_tokens_of_one_model() -> None:
    (table,) = next_token_tables("The cat", {"a": [(" the", 0.5), ("\n", 0.25), ("[b]", 0.00004)]})
    text = printed(table)
    # Bars are of 40 characters for the largest probability: 20 for half of it.
    assert cells(text, "␣the") == ["␣the", "0.500", "█" * 40]
    assert cells(text, "\\n") == ["\\n", "0.250", "█" * 20]
    assert cells(text, "[b]")[:2] == ["[b]", "4e-05"]


def test_models_side_by_side_share_one_scale() -> None:
    (table,) = next_token_tables("The cat", NEXT)
    row = cells(printed(table), "␣the")
    # 0.5 is the largest: 16 characters; 0.25 is half of that.
    assert row == ["␣the", "0.250", "█" * 8, "␣mat", "0.500", "█" * 16]
    six = next_token_tables("The cat", {f"stage {n}": NEXT["0 initial"] for n in range(6)})
    assert len(six) == 2
    assert "stage 3" in printed(six[0], width=118) and "stage 5" in printed(six[1], width=118)
    assert "│ 2" not in next_token_markdown("x", {"a": [("|", 1.0)]})
    assert "`\\|` 1.000" in next_token_markdown("x", {"a": [("|", 1.0)]})


def test_tokens_are_made_visible() -> None:
    assert visible(" the") == "␣the"
    assert visible("\n\t\r") == "\\n\\t\\r"
    assert visible("\x1b\x00é\u200b\u3000") == "\\x1b\\x00é\\u200b\\u3000"
    assert visible("\\n") == "\\\\n"


def test_bars_are_exact_to_an_eighth() -> None:
    assert bar(1.0, 4) == "████"
    # 0.3 of 32 eighths are 9.6, rounded 10: one whole and two eighths.
    assert bar(0.3, 4) == "█▎"
    assert bar(0.0, 4) == "" and bar(7.0, 4) == "████"
