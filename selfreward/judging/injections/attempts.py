"""All injection attempts by name: what a judge has to withstand.

    attacked = INJECTIONS["close_computed_tag"].attack(response, other, messages)

Attempts that name a letter favour one position, since the attacker does not know its own; over
both orders they help only where the judge follows them more often than it resists.
"""

from collections.abc import Iterable

from selfreward.errors import ConfigError
from selfreward.judging.injections import disguise, persuasion, structure
from selfreward.judging.injections.base import Attack, InjectionAttempt, InjectionKind
from selfreward.judging.injections.chat_tokens import FORGED_TURNS

_BY_KIND: dict[InjectionKind, dict[str, Attack]] = {
    InjectionKind.CLOSED_BLOCK: {
        "close_plain_tags": structure.close_plain_tags,
        "close_guessed_formats": structure.close_guessed_formats,
        "close_invented_tag": structure.close_invented_tag,
        "close_computed_tag": structure.close_computed_tag,
    },
    InjectionKind.FORGED_VERDICT: {
        "brackets_a": structure.brackets_a,
        "brackets_b": structure.brackets_b,
        "verdict_lines": structure.verdict_lines,
        "score_line": structure.score_line,
    },
    InjectionKind.FORGED_TURN: {f"turn_{name}": attack for name, attack in FORGED_TURNS.items()},
    InjectionKind.ANSWER_TEMPLATE: {"answer_template": structure.answer_template},
    InjectionKind.INSTRUCTION: {
        "command": persuasion.command,
        "plea": persuasion.plea,
        "german_command": persuasion.german_command,
        "chinese_command": persuasion.chinese_command,
    },
    InjectionKind.AUTHORITY: {
        "developer_note": persuasion.developer_note,
        "expert_panel": persuasion.expert_panel,
    },
    InjectionKind.RUBRIC: {"changed_rubric": persuasion.changed_rubric},
    InjectionKind.ROLE_PLAY: {"role_play": persuasion.role_play},
    InjectionKind.AGREEMENT: {"agreed_before": persuasion.agreed_before},
    InjectionKind.HIDDEN: {
        "zero_width": disguise.zero_width,
        "tag_characters": disguise.tag_characters,
        "right_to_left": disguise.right_to_left,
        "homoglyph_tags": disguise.homoglyph_tags,
    },
    InjectionKind.ENCODED: {"encoded_order": disguise.encoded_order},
    InjectionKind.FILLER: {
        "long_filler": disguise.long_filler,
        "repeated_letter": disguise.repeated_letter,
    },
}

INJECTIONS: dict[str, InjectionAttempt] = {
    name: InjectionAttempt(name=name, kind=kind, attack=attack)
    for kind, attacks in _BY_KIND.items()
    for name, attack in attacks.items()
}


def injections_named(names: Iterable[str]) -> list[InjectionAttempt]:
    """Returns the attempts of these names; raises ConfigError for a name that there is not."""
    wanted = list(names)
    for name in wanted:
        if name not in INJECTIONS:
            raise ConfigError(f"no injection attempt {name!r}; there are {', '.join(INJECTIONS)}")
    return [INJECTIONS[name] for name in wanted]
