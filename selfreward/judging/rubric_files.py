"""A pointwise rubric of the user's own, written as YAML.

Two forms: statements worth a point each, or the whole prompt.

    id: support_replies
    statements: [It names the product., It says what to do next.]

    id: one_to_seven
    system: You score replies.
    template: "<t-{tag}>{task}</t-{tag}> <r-{tag}>{response}</r-{tag}> Last line: Score: <1 to 7>"
    scale: [1, 7]

Nothing here opens a file.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from string import Formatter
from typing import Any

import yaml

from selfreward.errors import ConfigError
from selfreward.judging.pointwise import (
    MAX_POINTS,
    POINTWISE_RUBRICS,
    PointwiseRubric,
    additive_rubric,
    get_pointwise_rubric,
)

_ADDITIVE_KEYS = ("id", "statements", "wants_reason")
_WHOLE_KEYS = (
    *("id", "system", "template", "scale"),
    *("wants_reason", "guided_regex", "takes_reference", "score_pattern"),
)
_NEEDED_FIELDS = ("task", "response", "tag")
_FIELDS = (*_NEEDED_FIELDS, "reference")
MAX_SCORE = 100
"""Highest score of a scale at most: beyond that a judge's numbers mean nothing."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
_SCORE_FORM = re.compile(r"score[^\w\n]{0,4}:", re.IGNORECASE)
# A guided reason is one line, as in the rubrics that are shipped.
_REASON_PATTERN = r"[^\n]{20,600}\n"


def rubric_from_text(text: str, source: str) -> PointwiseRubric:
    """Reads a rubric from YAML; `source` says in errors where it stands.

    Raises:
        ConfigError: it is no YAML, or as in `parse_rubric`.
    """
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible date
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{source}{line}: not readable as YAML; mend the syntax") from None
    return parse_rubric(data, source)


def parse_rubric(data: object, source: str) -> PointwiseRubric:
    """Makes a rubric of `{id, statements, wants_reason?}`, one point a statement, or of
    `{id, system, template, scale, wants_reason?, guided_regex?, takes_reference?, score_pattern?}`.

    The fields of a template are `{task}`, `{response}` and `{tag}`, and `{reference}` where one is
    taken; a brace that is text is doubled. Where `wants_reason` is left out there is a reason,
    where `takes_reference` is left out the template decides, and where `guided_regex` is left out
    it is made of the scale; `guided_regex: null` is never guided. `score_pattern` is a regular
    expression whose one group is the score, for judges that do not write `Score: <number>`.

    Raises:
        ConfigError: a key is unknown (the nearest known one is named) or missing, or a value does
            not fit.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"{source}: a rubric is a mapping of keys, not {type(data).__name__};"
            f" write {_keys(_ADDITIVE_KEYS)} or {_keys(_WHOLE_KEYS)}"
        )
    is_additive = "statements" in data
    _check_keys(data, _ADDITIVE_KEYS if is_additive else _WHOLE_KEYS, source)
    needed = ("id", "statements") if is_additive else ("id", "system", "template", "scale")
    for key in needed:
        if key not in data:
            hint = "" if is_additive or key == "id" else " (or `statements` alone)"
            raise ConfigError(f"{source}: the rubric has no {key}{hint}")
    rubric_id = _rubric_id(data["id"], source)
    wants_reason = _flag(data, "wants_reason", True, source)
    if is_additive:
        return additive_rubric(rubric_id, _statements(data["statements"], source), wants_reason)
    system, template = _text(data, "system", source), _text(data, "template", source)
    has_reference = "reference" in _fields(template, source)
    takes_reference = _flag(data, "takes_reference", has_reference, source)
    if takes_reference != has_reference:
        has = "has a" if has_reference else "has no"
        raise ConfigError(
            f"{source}: takes_reference is {str(takes_reference).lower()}, but the template {has}"
            " {reference}"
        )
    pattern = _score_pattern(data, source)
    if pattern is None and wants_reason and not _SCORE_FORM.search(f"{system}\n{template}"):
        raise ConfigError(
            f"{source}: neither system nor template asks for a line `Score: <number>`, which is"
            " how a score is read; mend it, or give the form of your own as score_pattern"
        )
    scale = _scale(data["scale"], source)
    return PointwiseRubric(
        id=rubric_id,
        system=system,
        template=template,
        scale=scale,
        wants_reason=wants_reason,
        guided_regex=_guided_regex(data, scale, wants_reason, source),
        takes_reference=takes_reference,
        score_pattern=pattern,
    )


def rubric_recipe(rubric: PointwiseRubric) -> str | dict[str, Any]:
    """What of a rubric decides the scores, as plain data for a recipe: the id of one that is
    shipped, the whole content of any other, wherever its file lies."""
    if POINTWISE_RUBRICS.get(rubric.id) == rubric:
        return rubric.id
    return asdict(rubric) | {"scale": list(rubric.scale)}


def rubric_of_recipe(recipe: str | Mapping[str, Any]) -> PointwiseRubric:
    """Makes the rubric again of what `rubric_recipe` gave; its file is not needed for it.

    Raises:
        ConfigError: an id that is not shipped, or content of another version.
    """
    if isinstance(recipe, str):
        return get_pointwise_rubric(recipe)
    known = {f.name for f in fields(PointwiseRubric)}
    try:
        made = {name: value for name, value in recipe.items() if name in known}
        return PointwiseRubric(**made | {"scale": tuple(made["scale"])})
    except (KeyError, TypeError):
        raise ConfigError("the rubric was stored by another version") from None


def _keys(keys: Sequence[str]) -> str:
    return "{" + ", ".join(keys) + "}"


def _check_keys(data: Mapping[Any, Any], known: Sequence[str], source: str) -> None:
    for key in data:
        if key in known:
            continue
        if known is _ADDITIVE_KEYS and key in _WHOLE_KEYS:
            raise ConfigError(
                f"{source}: {key} does not go with statements, which make the prompt and the scale"
                " themselves; leave one of the two out"
            )
        # Without statements it may be the key `statements` that is mistyped.
        names = known if known is _ADDITIVE_KEYS else (*known, "statements")
        near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.0)[0]
        raise ConfigError(f"{source}: unknown key {key}; did you mean {near}?")


def _rubric_id(value: object, source: str) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ConfigError(
            f"{source}: id={value!r}: an id is a word of letters, digits and _ . - with at most 80"
            " characters"
        )
    if value in POINTWISE_RUBRICS:
        raise ConfigError(f"{source}: id={value!r} is a shipped rubric's; choose another")
    return value


def _flag(data: Mapping[Any, Any], key: str, default: bool, source: str) -> bool:
    value = data.get(key, default)
    if not isinstance(value, bool):
        raise ConfigError(f"{source}: {key}={value!r}: it is true or false")
    return value


def _text(data: Mapping[Any, Any], key: str, source: str) -> str:
    value = data[key]
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{source}: {key} is no text, or empty")
    return value


def _statements(value: object, source: str) -> list[str]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_POINTS:
        size = f"{len(value)} of them" if isinstance(value, list) else type(value).__name__
        raise ConfigError(
            f"{source}: statements is a list of 1 to {MAX_POINTS} texts about the response,"
            f" not {size}"
        )
    for number, statement in enumerate(value, start=1):
        if not isinstance(statement, str) or not statement.strip():
            # `It is good: very` without quotes is a mapping to YAML.
            raise ConfigError(
                f"{source}: statement {number} is no text, or empty; quote one that holds a colon"
            )
    # One line a statement in the prompt, however it was wrapped in the file.
    return [" ".join(statement.split()) for statement in value]


def _fields(template: str, source: str) -> set[str]:
    """Names of a template's fields, checked."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(
            f"{source}: template: {error}; double a brace that is text: {{{{ and }}}}"
        ) from None
    found = set()
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if name not in _FIELDS or form or conversion:
            written = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            near = difflib.get_close_matches(name, _FIELDS, n=1, cutoff=0.0)[0]
            raise ConfigError(
                f"{source}: template: {{{written}}} is no field; did you mean {{{near}}}?"
                " Double a brace that is text"
            )
        found.add(name)
    missing = [name for name in _NEEDED_FIELDS if name not in found]
    if missing:
        why = (
            "; without the tag in its delimiters a response could close its own block"
            if missing == ["tag"]
            else ""
        )
        raise ConfigError(f"{source}: template: there is no {{{missing[0]}}}{why}")
    return found


def _scale(value: object, source: str) -> tuple[float, float]:
    fits = isinstance(value, list) and len(value) == 2
    numbers = [
        v
        for v in (value if isinstance(value, list) else [])
        if isinstance(v, int | float) and not isinstance(v, bool) and v == v // 1
    ]
    # Below 0 a score's probability could not be read: its sign is a token of its own.
    if not fits or len(numbers) != 2 or not 0 <= numbers[0] < numbers[1] <= MAX_SCORE:
        raise ConfigError(
            f"{source}: scale={value!r}: it is [lowest, highest], two whole numbers from 0 to"
            f" {MAX_SCORE}"
        )
    return (numbers[0], numbers[1])


def _score_pattern(data: Mapping[Any, Any], source: str) -> str | None:
    value = data.get("score_pattern")
    if value is None:
        return None
    try:
        groups = re.compile(value).groups if isinstance(value, str) else 0
    except re.error as error:
        raise ConfigError(f"{source}: score_pattern does not compile: {error}") from None
    if groups != 1:
        raise ConfigError(
            f"{source}: score_pattern={value!r}: it is a regular expression with one group, the"
            " score, such as '<score>([0-9]+)</score>'"
        )
    if "guided_regex" not in data:
        raise ConfigError(
            f"{source}: score_pattern says how a score is read; say in guided_regex how a guided"
            " completion ends in one, or null for a rubric that is never guided"
        )
    return str(value)


def _guided_regex(
    data: Mapping[Any, Any], scale: tuple[float, float], wants_reason: bool, source: str
) -> str | None:
    if "guided_regex" not in data:
        low, high = int(scale[0]), int(scale[1])
        scores = "|".join(str(score) for score in range(high, low - 1, -1))
        score = f"Score: (?:{scores})"
        return f"{_REASON_PATTERN}{score}" if wants_reason else score
    value = data["guided_regex"]
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{source}: guided_regex={value!r}: it is a regular expression or null")
    try:
        re.compile(value)
    except re.error as error:
        raise ConfigError(f"{source}: guided_regex does not compile: {error}") from None
    return value
