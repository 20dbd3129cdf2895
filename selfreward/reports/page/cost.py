"""What went through each stage and what left it there, and what each stage cost."""

from selfreward.reports.page.content import Card, Cell, Section, row, table
from selfreward.reports.page.numbers import ABSENT, count, duration, moment
from selfreward.reports.summary import RunSummary, StageLine


def funnel_section(summary: RunSummary) -> Section | None:
    """Rows in and out of each stage, with drops by reason."""
    if not summary.stages:
        return None
    most = max(max(s.manifest.num_inputs, s.manifest.num_records) for s in summary.stages) or 1
    rows = [
        row(
            _title(line),
            Cell(text=count(line.manifest.num_inputs), share=line.manifest.num_inputs / most),
            Cell(text=count(line.manifest.num_records), share=line.manifest.num_records / most),
            count(sum(line.manifest.drops.values())),
            line.why_dropped,
        )
        for line in summary.stages
    ]
    headings = ("stage", "rows in", "rows out", "dropped", "for which reason")
    title = "Rows of each stage"
    card = Card(title=title, table=table(headings, rows, ends_in_words=True), is_wide=True)
    return Section(
        ident="funnel",
        title="Stage funnel",
        lede="A stage may write more rows than it reads, such as several judgments of a pair. What"
        " left the run lies in the stage's folder dropped/, each row with its reason.",
        cards=(card,),
    )


def _title(line: StageLine) -> str:
    return line.title if line.manifest.is_complete else f"{line.title} (running)"


def cost_section(summary: RunSummary) -> Section | None:
    """Tokens and seconds of each stage that took any, their sums, and the engines' starts."""
    lines = [s for s in summary.stages if s.manifest.seconds or any(_tokens(s))]
    if not lines:
        return None
    seconds = sum(s.manifest.seconds for s in lines)
    sums = [sum(_tokens(s)[i] for s in lines) for i in range(3)]
    longest = max(s.manifest.seconds for s in lines) or 1.0
    largest = [max(_tokens(s)[i] for s in lines) or 1 for i in range(3)]
    rows = [
        row(
            _title(line),
            Cell(text=f"{line.manifest.seconds:,.1f}", share=line.manifest.seconds / longest),
            *(
                Cell(text=count(n), share=n / most) if n else ABSENT
                for n, most in zip(_tokens(line), largest, strict=True)
            ),
        )
        for line in lines
    ]
    rows.append(row("all stages", f"{seconds:,.1f}", *(count(n) for n in sums)))
    headings = ("stage", "seconds", "prompt tokens", "new tokens", "tokens trained on")
    cards = [Card(title="Time and tokens", table=table(headings, rows), is_wide=True)]
    attempts = summary.record.get("attempts", [])
    if attempts:
        told = [
            row(
                str(number),
                moment(attempt.get("finished_at")),
                count(attempt["engine_starts"]),
                count(len(attempt["swap_seconds"])),
                duration(sum(attempt["swap_seconds"])),
            )
            for number, attempt in enumerate(attempts, 1)
        ]
        heads = ("attempt", "finished", "engine starts", "weight swaps", "they took")
        cards.append(Card(title="Attempts", table=table(heads, told, num_left=2)))
    return Section(
        ident="cost",
        title="Cost",
        lede=f"{duration(seconds)} of stages in all, engine starts not counted. Seconds are those"
        " of the clock while a stage ran; a stage that was gone on with adds up its attempts.",
        cards=tuple(cards),
    )


def _tokens(line: StageLine) -> tuple[int, int, int]:
    """Prompt tokens read, tokens generated, tokens trained on."""
    ledger = line.manifest.ledger
    names = ("prompt_tokens", "completion_tokens", "train_tokens")
    prompt, new, trained = (int(ledger.get(name) or 0) for name in names)
    return prompt, new, trained


def total_cost(summary: RunSummary) -> tuple[float, int, int]:
    """Seconds, tokens generated and tokens trained on, of all stages."""
    tokens = [_tokens(s) for s in summary.stages]
    seconds = sum(s.manifest.seconds for s in summary.stages)
    return seconds, sum(t[1] for t in tokens), sum(t[2] for t in tokens)
