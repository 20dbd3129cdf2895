"""Commands that look into a model: `selfreward predict`, `selfreward chat`.

Heavy imports wait for their command.
"""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from selfreward.errors import ConfigError
from selfreward.records import Message

if TYPE_CHECKING:
    from selfreward.training.chat_session import ChatSession

PIPE_WIDTH = 150
"""Of tables where the output is no terminal."""

_MODEL = "A model, a folder, a run (its current judge or last stage), or RUN@3 (its stage 3)."


def predict(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar='MODEL [MODEL...] "TEXT"',
            help=f"{_MODEL} The text to continue comes last.",
        ),
    ],
    top: Annotated[int, typer.Option(help="How many tokens.")] = 10,
    form: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
    chat_template: Annotated[
        bool, typer.Option("--chat", help="Ask the text behind the chat template.")
    ] = False,
) -> None:
    """Show the likeliest next tokens of a text, of one model or of several side by side."""
    if form not in ("table", "json"):
        raise ConfigError(f"--format {form!r}: it is table or json")
    if top < 1:
        raise ConfigError(f"--top {top}: it is at least 1")
    if len(words) < 2:
        raise ConfigError(
            "name a model and the text to continue, such as"
            ' `selfreward predict runs/a@1 "The cat sat on the"`'
        )
    from selfreward.evaluation.named_model import named_model
    from selfreward.reports.next_token_table import next_token_json, next_token_tables
    from selfreward.training.next_token import check_text, next_tokens

    *models, text = words
    check_text(text)
    # All names are looked up before the first model is loaded.
    named = {model: named_model(model) for model in models}
    found = {
        model: next_tokens(name, text, top, chat=chat_template) for model, name in named.items()
    }
    if form == "json":
        typer.echo(json.dumps(next_token_json(text, found), indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPE_WIDTH)
    for table in next_token_tables(text, found):
        console.print(table)


def chat(
    model: Annotated[str, typer.Argument(help=_MODEL)],
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token each time.")
    ] = 0.7,
    top_p: Annotated[float, typer.Option(help="Draw from this share of the likeliest.")] = 0.95,
    max_tokens: Annotated[int, typer.Option(help="Tokens of an answer at most.")] = 512,
    system: Annotated[str | None, typer.Option(help="A system message before all.")] = None,
) -> None:
    """Talk with a model. /reset forgets what was said, /quit or Ctrl-D leaves, Ctrl-C ends an
    answer. From a pipe, each line is a question and only the answers are printed."""
    from selfreward.evaluation.named_model import named_model
    from selfreward.training.chat_session import ChatSession

    name = named_model(model)
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        _say(f"loading {model} ...")
    session = ChatSession.open(name, temperature=temperature, top_p=top_p, max_tokens=max_tokens)
    start = [] if system is None else [Message(role="system", content=system)]
    # A model that cannot chat, or not with this system message, says so before the first question.
    session.fitting([*start, Message(role="user", content="a question")])
    if is_terminal:
        _say("/reset forgets, /quit or Ctrl-D leaves, Ctrl-C ends an answer")
    messages = list(start)
    for line in _questions(is_terminal):
        if line == "/quit":
            break
        if line == "/reset":
            messages = list(start)
            if is_terminal:
                _say("forgotten")
            continue
        messages.append(Message(role="user", content=line))
        try:
            messages, left_out = session.fitting(messages)
        except ConfigError as too_long:
            # One long question does not end a conversation; nothing else is lost.
            messages.pop()
            _say(str(too_long))
            continue
        if left_out:
            _say(f"(the oldest {left_out} messages no longer fit and are forgotten)")
        messages.append(Message(role="assistant", content=_answer(session, messages)))


class _LineLeft(Exception):
    """Ctrl-C while a question is typed."""


def _say(text: str) -> None:
    """What is not an answer goes to the error stream."""
    typer.echo(text, err=True)


def _questions(is_terminal: bool) -> Iterator[str]:
    """Lines typed or piped in, without blank ones, until the input ends."""
    while True:
        try:
            line = _typed() if is_terminal else sys.stdin.readline()
        except EOFError:
            typer.echo()
            return
        except _LineLeft:
            typer.echo()
            _say("Ctrl-D or /quit leaves")
            continue
        if not line:
            return
        if line.strip():
            yield line.strip()


def _typed() -> str:
    import readline  # noqa: F401  gives input() its line editing

    def leave(signum: int, frame: FrameType | None) -> None:
        raise _LineLeft

    with _on_ctrl_c(leave):
        return input("> ") + "\n"


def _answer(session: "ChatSession", messages: list[Message]) -> str:
    """Prints an answer as it comes and returns it; Ctrl-C ends it where it is."""

    def stop(signum: int, frame: FrameType | None) -> None:
        session.stop()

    pieces = []
    with _on_ctrl_c(stop):
        for piece in session.reply(messages):
            pieces.append(piece)
            sys.stdout.write(_printable(piece))
            sys.stdout.flush()
    sys.stdout.write("\n")
    sys.stdout.flush()
    return "".join(pieces)


def _printable(text: str) -> str:
    """Without what would steer a terminal, which is not a model's to do."""
    return "".join(c for c in text if c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f"))


@contextmanager
def _on_ctrl_c(handler: Any) -> Iterator[None]:
    """Ctrl-C is `handler`'s for the block; SIGTERM stays as it was and ends the session."""
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
