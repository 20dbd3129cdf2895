"""Prompt forms of tasks: texts with {column} places, filled from a row's columns.

Several forms a task keep a model from learning the form instead of the task; some are kept out of
training, so that what was learnt can be measured on words the model has not been asked in.
"""

from collections.abc import Collection, Mapping, Sequence
from string import Formatter
from typing import Any

from selfreward.errors import ConfigError

_UNSEEN = "unseen"


def places(template: str) -> tuple[str, ...]:
    """Columns a form names, in order, each once; `{{` and `}}` are braces of the text itself.

    Example: `places("Spell out {name}, as {style}: {name}")` is `("name", "style")`.

    Raises:
        ConfigError: a brace is unbalanced, or a place is more than the name of a column.
    """
    names: list[str] = []
    try:
        for _, name, spec, conversion in Formatter().parse(template):
            if name is None:
                continue
            if spec or conversion or not name.strip():
                raise ConfigError(
                    f"prompt form {template!r}: a place is the name of a column alone, as in"
                    " {name}; write {{ and }} for braces of the text"
                )
            names.append(name)
    except ValueError as error:
        raise ConfigError(
            f"prompt form {template!r}: {error}; write {{{{ and }}}} for braces of the text"
        ) from None
    return tuple(dict.fromkeys(names))


def check_templates(templates: Sequence[str], columns: Collection[str], where: str) -> None:
    """Checks that every place of every form is one of the columns; `where` names their file.

    Raises:
        ConfigError: one is not, or a form has no place at all (all its prompts would be one).
    """
    for template in templates:
        names = places(template)
        if not names:
            raise ConfigError(f"prompt form {template!r} has no {{column}} place")
        for name in names:
            if name not in columns:
                raise ConfigError(
                    f"prompt form {template!r}: {where} has no column {name!r};"
                    f" it has {sorted(columns)}"
                )


def columns_of(templates: Sequence[str]) -> tuple[str, ...]:
    """Every column that some form names: what tells one exercise of a task from another."""
    return tuple(dict.fromkeys(name for template in templates for name in places(template)))


def fill(template: str, row: Mapping[str, Any]) -> str:
    """The prompt of a row in one form, without spaces around it.

    Example: `fill("Spell out {name}.", {"name": "parse_url"})` is `"Spell out parse_url."`.
    """
    parts = []
    for text, name, _, _ in Formatter().parse(template):
        parts.append(text)
        if name is not None:
            parts.append(str(row[name]))
    return "".join(parts).strip()


def num_unseen_forms(num_forms: int, kept_out: int) -> int:
    """How many of a task's forms, the last ones, are for measuring: one is left to train on."""
    return max(0, min(kept_out, num_forms - 1))


def form_name(task: str, index: int, unseen: bool) -> str:
    """Example: `form_name("plural", 4, True)` is `"plural/4-unseen"`."""
    return f"{task}/{index}-{_UNSEEN}" if unseen else f"{task}/{index}"


def is_unseen_form(template: str) -> bool:
    """Whether the form of an item, `TaskItem.template`, was kept out of training."""
    return template.endswith(f"-{_UNSEEN}")
