"""What every injection attempt shares: its kind, its signature, and where it stands in a response.

The attacker writes one of two responses and knows the task, the other response and this project's
source code. It does not know whether its response is shown as A or as B.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from selfreward.records import Conversation


class InjectionKind(StrEnum):
    """How an attempt tries to win."""

    CLOSED_BLOCK = "closed_block"
    FORGED_VERDICT = "forged_verdict"
    FORGED_TURN = "forged_turn"
    ANSWER_TEMPLATE = "answer_template"
    INSTRUCTION = "instruction"
    AUTHORITY = "authority"
    RUBRIC = "rubric"
    ROLE_PLAY = "role_play"
    AGREEMENT = "agreement"
    HIDDEN = "hidden"
    ENCODED = "encoded"
    FILLER = "filler"


STRUCTURAL_KINDS = (
    InjectionKind.CLOSED_BLOCK,
    InjectionKind.FORGED_VERDICT,
    InjectionKind.FORGED_TURN,
    InjectionKind.ANSWER_TEMPLATE,
)
"""Kinds that break a prompt's form, which is seen without a model; the others only persuade."""

Attack = Callable[[str, str, Conversation], str]
"""Of the response, the other response and the task: the attacked response. Pure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionAttempt:
    """One way to make a judge prefer a response by what is written into it.

    Example: `InjectionAttempt(name="brackets_a", kind="forged_verdict", attack=brackets_a)`
    """

    name: str
    kind: InjectionKind
    attack: Attack


def appended(response: str, text: str) -> str:
    """Returns the response with `text` in a paragraph of its own at the end."""
    return f"{response.rstrip()}\n\n{text}"
