"""Breaking code in a response: small mutations, a missing end, a body that is left out.

Mutations are those of mutation testing (one operator, bound, name or line is changed); they know
no grammar and serve Python, JavaScript, Java, C, C++, Go and Rust alike. Strings and comments stay.
A mutant can behave like the original; more than one change makes that unlikely, so severity 1 holds
a few pairs whose label is wrong.
"""

import re
from collections.abc import Callable, Iterator

from selfreward.judging.perturbations.base import Given, spliced
from selfreward.judging.perturbations.lengths import fitted
from selfreward.judging.perturbations.tables import word_set

Edit = tuple[int, int, str]

_FENCED = re.compile(r"^[ \t]*+(`{3,}+|~{3,}+)[^\n]*+\n(?P<code>.*?)(?:^[ \t]*\1|\Z)", re.M | re.S)
_CODE_LINE = re.compile(
    r"\s*(?:def |class |(?:for|while|if)\b.*[:{]\s*$|elif |else\b|return\b|import |from \w+ import"
    r"|#include|let |const |var |public |private |static |fn |func |print\(|\}|\{|@\w+)"
    r"|.*[;{}]\s*$|\s*[\w.\[\]]+\s*[-+*/]?=\s*\S"
)
_SYMBOLS = re.compile(r"[=(){};]")
_QUIET = re.compile(
    r"\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z)|/\*.*?(?:\*/|\Z)"
    r"|\"(?:\\.|[^\"\\\n])*+\"|'(?:\\.|[^'\\\n])*+'|(?://|\#)[^\n]*",
    re.S,
)

_OPERATORS = {
    " <= ": (" < ", " >= "),
    " >= ": (" > ", " <= "),
    " < ": (" <= ", " > "),
    " > ": (" >= ", " < "),
    " == ": (" != ",),
    " != ": (" == ",),
    " === ": (" !== ",),
    " !== ": (" === ",),
    " + ": (" - ",),
    " - ": (" + ",),
    " * ": (" + ",),
    " / ": (" * ",),
    " % ": (" / ",),
    " += ": (" -= ", " = "),
    " -= ": (" += ", " = "),
    " *= ": (" += ",),
    " && ": (" || ",),
    " || ": (" && ",),
    " and ": (" or ",),
    " or ": (" and ",),
    " not ": (" ",),
    " is not ": (" is ",),
    "True": ("False",),
    "False": ("True",),
    "true": ("false",),
    "false": ("true",),
    "++": ("--",),
    "min(": ("max(",),
    "max(": ("min(",),
    ".append(": (".remove(",),
    ".push(": (".unshift(",),
    "break": ("continue",),
}
_OPERATOR = re.compile(
    "|".join(
        (r"\b" if key[0].isalpha() else "") + re.escape(key) + (r"\b" if key[-1].isalpha() else "")
        for key in sorted(_OPERATORS, key=lambda key: -len(key))
    )
)
_OFF_BY_ONE = re.compile(
    r"(?P<range>\brange\((?=[^(),\n]+\)))|(?P<len>\blen\([^()\n]{1,60}\)(?! - 1))"
    r"|(?P<minus> - 1\b)|(?P<plus> \+ 1\b)|(?P<number>(?<![\w.])[0-9]{1,6}(?![\w.]))"
)
# In parentheses where no colon follows them, else as Python writes it.
_IF = re.compile(r"\bif ?\((?=[^\n:]{1,120}\)[ \t]*(?:[{\w\n]|\Z))|\bif (?P<not>not )?(?=[\w(])")
_RETURN = re.compile(r"^(?P<indent>[ \t]*)return[ \t]+(?P<value>[^\n;]+)", re.M)
_ASSIGNMENT = re.compile(r"^[ \t]+[\w.\[\]]+[ \t]*[-+*/]?=[ \t]*[^=\n][^\n{(\[]*\n", re.M)
_IDENTIFIER = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?![\w(])")
_KEYWORDS = word_set(
    "and as assert async await auto bool break case catch char class const continue def default del"
    " do double elif else enum except export extends False final finally float fn for from func"
    " function go if impl import in int is lambda let long loop match mut new None not null or pass"
    " public private raise return self short static str string struct super switch this throw True"
    " true false try type undefined use using var void while with yield"
)


def code_spans(text: str) -> list[tuple[int, int]]:
    """Returns (start, end) of the code: inside fences, else runs of lines that look like code."""
    fenced = [m.span("code") for m in _FENCED.finditer(text) if m["code"].strip()]
    if fenced:
        return fenced
    spans: list[tuple[int, int]] = []
    start, position, num_lines = 0, 0, 0
    for line in [*text.split("\n"), "An ordinary line closes the last run"]:
        # A line beyond any code's width is not worth a regular expression's time.
        if line.strip() and len(line) <= 300 and _CODE_LINE.match(line):
            start = start if num_lines else position
            num_lines += 1
        else:
            if num_lines >= 2 and _SYMBOLS.search(text, start, position):
                spans.append((start, min(position, len(text))))
            num_lines = 0
        position += len(line) + 1
    return spans


def _operator_edits(code: str) -> Iterator[tuple[Edit, ...]]:
    for match in _OPERATOR.finditer(code):
        yield tuple((*match.span(), new) for new in _OPERATORS[match[0]])


def _off_by_one_edits(code: str) -> Iterator[tuple[Edit, ...]]:
    for match in _OFF_BY_ONE.finditer(code):
        start, end = match.span()
        if match["range"]:
            yield ((start, end, "range(1, "),)
        elif match["len"]:
            yield ((start, end, f"{match[0]} - 1"),)
        elif match["minus"]:
            yield ((start, end, ""), (start, end, " + 1"))
        elif match["plus"]:
            yield ((start, end, ""), (start, end, " - 1"))
        else:
            value = int(match["number"])
            yield ((start, end, str(value + 1)), (start, end, str(abs(value - 1))))


def _condition_edits(code: str) -> Iterator[tuple[Edit, ...]]:
    for match in _IF.finditer(code):
        if match["not"] or match[0] == "if ":
            yield ((*match.span(), "if " if match["not"] else "if not "),)
        else:
            yield ((match.end(), match.end(), "!"),)


def _line_edits(code: str) -> Iterator[tuple[Edit, ...]]:
    """A `return` that hands nothing back, and assignments that are left out."""
    for match in _RETURN.finditer(code):
        start, end = match.span("value")
        yield ((match.end("indent"), start, ""), (start - 1, end, ""))
    for match in _ASSIGNMENT.finditer(code):
        yield ((*match.span(), ""),)


def _name_edits(code: str) -> Iterator[tuple[Edit, ...]]:
    """One later mention of a name becomes another name of the same code."""
    mentions: dict[str, list[re.Match[str]]] = {}
    for match in _IDENTIFIER.finditer(code):
        if match[0] not in _KEYWORDS:
            mentions.setdefault(match[0], []).append(match)
    often = [name for name, matches in mentions.items() if len(matches) >= 2][:40]
    for k, name in enumerate(often):
        other = often[(k + 1) % len(often)] if len(often) > 1 else f"{name}_"
        for match in mentions[name][1:]:
            yield ((*match.span(), other),)


_MUTATORS: tuple[Callable[[str], Iterator[tuple[Edit, ...]]], ...] = (
    _operator_edits,
    _off_by_one_edits,
    _condition_edits,
    _line_edits,
    _name_edits,
)


def _loud(
    edits: Iterator[tuple[Edit, ...]], quiet: list[tuple[int, int]]
) -> list[tuple[Edit, ...]]:
    """The edits that touch no string and no comment; both lists are in order of their start."""
    kept = []
    k = 0
    for choices in sorted(edits):
        start = choices[0][0]
        while k < len(quiet) and quiet[k][1] <= start:
            k += 1
        if k == len(quiet) or choices[0][1] <= quiet[k][0]:
            kept.append(choices)
    return kept


def mutate_code(text: str, given: Given) -> str | None:
    """Changes code in one place, in three, or in eight.

    A comparison or operator is swapped, a bound is off by one, a condition negated, a `return`
    loses its value or its keyword, an assignment disappears, or a name is exchanged once.
    """
    groups: list[list[tuple[Edit, ...]]] = [[] for _ in _MUTATORS]
    for start, end in code_spans(text):
        code = text[start:end]
        quiet = [match.span() for match in _QUIET.finditer(code)]
        for group, mutator in zip(groups, _MUTATORS, strict=True):
            group.extend(
                tuple((start + a, start + b, new) for a, b, new in choices)
                for choices in _loud(mutator(code), quiet)
            )
    # A kind of mutation first, then a place: names are the most frequent and would always win.
    for group in groups:
        given.rng.shuffle(group)
    done: list[Edit] = []
    wanted = (1, 3, 8)[given.severity - 1]
    while len(done) < wanted and any(groups):
        choices = given.rng.choice([group for group in groups if group]).pop()
        edit = given.rng.choice(choices)
        if all(edit[1] <= a or edit[0] >= b for a, b, _ in done) and edit[:2] not in [
            d[:2] for d in done
        ]:
            done.append(edit)
    return spliced(text, done) if done else None


def _longest_block(text: str) -> tuple[int, int, list[str]] | None:
    """Start, end and lines of the longest code block; None without one of three lines."""
    spans = code_spans(text)
    if not spans:
        return None
    start, end = max(spans, key=lambda span: span[1] - span[0])
    lines = text[start:end].rstrip("\n").split("\n")
    return (start, end, lines) if len(lines) >= 3 else None


def premature_end_code(text: str, given: Given) -> str | None:
    """Ends the longest code block early: after 70-90%, 35-70% or 10-35% of its lines.

    The text behind the block stays, so that only the code shows the cut. Longer: the prose is
    padded.
    """
    block = _longest_block(text)
    if block is None:
        return None
    start, end, lines = block
    low, high = ((0.7, 0.9), (0.35, 0.7), (0.1, 0.35))[given.severity - 1]
    keep = min(len(lines) - 1, max(1, round(len(lines) * given.rng.uniform(low, high))))
    made = text[:start] + "\n".join(lines[:keep]) + "\n" + text[end:]
    return fitted(made, text, given)


_PLACEHOLDERS = (
    "rest of the code goes here",
    "your logic here",
    "the remaining steps are left as an exercise",
    "implement this part as needed",
    "add the details yourself",
)


def stub_code(text: str, given: Given) -> str | None:
    """Replaces lines inside the longest code block by a comment that promises them.

    A quarter, half or all but the first line go. Longer: the prose is padded.
    """
    block = _longest_block(text)
    if block is None:
        return None
    start, end, lines = block
    share = (0.25, 0.5, 1.0)[given.severity - 1]
    count = min(len(lines) - 1, max(1, round(share * len(lines))))
    first = given.rng.randint(1, len(lines) - count)
    gone = lines[first]
    indent = gone[: len(gone) - len(gone.lstrip())]
    sign = "//" if re.search(r"[;{}]\s*$", text[start:end], re.M) else "#"
    stub = f"{indent}{sign} ... {given.rng.choice(_PLACEHOLDERS)}"
    made_lines = [*lines[:first], stub, *lines[first + count :]]
    made = text[:start] + "\n".join(made_lines) + "\n" + text[end:]
    return fitted(made, text, given)
