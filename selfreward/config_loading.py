"""Reading a config: YAML file, dotted overrides, clear lines for what cannot be used.

Also the other direction: the resolved YAML saved with a run, and the part of a section that
bears identity (everything that is not marked operational).
"""

import copy
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from selfreward.config import RunConfig
from selfreward.config_base import identity_fields
from selfreward.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a recipe and applies `section.key=value` overrides (values are read as YAML).

    Raises:
        ConfigError: the file is missing or is not YAML, a key is unknown (the nearest known one
            is named), or a value does not fit.
    """
    return parse_config(read_yaml(Path(path)), overrides, source=str(path))


def parse_config(
    raw: dict[str, Any], overrides: Sequence[str] = (), source: str = "config"
) -> RunConfig:
    """Validates plain data with overrides on top; errors as in `load_config`."""
    return parse_as(RunConfig, raw, overrides, source)


def parse_as(
    kind: type[ConfigT], raw: dict[str, Any], overrides: Sequence[str], source: str
) -> ConfigT:
    """The same for any config class."""
    raw = copy.deepcopy(raw)
    for override in overrides:
        _apply_override(raw, override)
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_first_line(error, kind)}") from None


def dump_config(config: RunConfig) -> str:
    """Returns the resolved config as YAML, every default filled in."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def identity(section: BaseModel) -> dict[str, Any]:
    """Returns the fields of a section that change what is made, not where or how fast."""
    out: dict[str, Any] = {}
    for name in identity_fields(section):
        value = getattr(section, name)
        out[name] = identity(value) if isinstance(value, BaseModel) else _plain(value)
    return out


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a mapping from a YAML file; errors as in `load_config`."""
    if not path.is_file():
        raise ConfigError(f"no config file at {path}; recipes are in ray_jobs/configs/")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; change its permissions") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or an impossible date
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ConfigError(f"{path}{line}: not readable as YAML; mend the syntax") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a config is a mapping of sections, not {type(raw).__name__}")
    return raw


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"override {override!r}: write it as section.key=value")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"override {override!r}: the value is not readable as YAML") from None
    # What was quoted is meant as text.
    if isinstance(value, str) and value == text.strip():
        value = _as_number(value)
    *sections, last = key.strip().split(".")
    here = raw
    for section in sections:
        inner = here.get(section)
        if inner is None:
            inner = here[section] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"override {override!r}: {section} is a value, not a section")
        here = inner
    here[last] = value


def _as_number(text: str) -> str | float:
    """YAML 1.1 reads `1e-6` as text, since it has no dot; users mean the number."""
    try:
        return float(text) if text.lstrip("+-")[:1].isdigit() else text
    except ValueError:
        return text


def _first_line(error: ValidationError, kind: type[BaseModel]) -> str:
    """Says the first problem in one line, with the nearest known key for an unknown one."""
    problems = error.errors()
    unknown = [p for p in problems if p["type"] == "extra_forbidden"]
    problem = (unknown or problems)[0]
    key = ".".join(str(part) for part in problem["loc"] if not _is_pydantics(part))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key}; did you mean {_nearest(key, kind)}?{more}"
    message = problem["msg"].removeprefix("Value error, ")
    if not key:
        return message + more
    if problem["type"] == "value_error" and isinstance(problem["input"], dict):
        # A whole section, in which there may be addresses with passwords.
        return f"{key}: {message}{more}"
    return f"{key}={problem['input']!r}: {message[:1].lower()}{message[1:]}{more}"


def _is_pydantics(part: int | str) -> bool:
    """True for what pydantic adds to a place: the member of a union, the key of a mapping."""
    return str(part) in ("str", "[key]") or str(part).startswith("tuple[")


def _nearest(key: str, kind: type[BaseModel]) -> str:
    known = list(known_keys(kind))
    by_full = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if by_full:
        return by_full[0]
    last = key.rpartition(".")[2]
    by_last = {name.rpartition(".")[2]: name for name in reversed(known)}
    matches = difflib.get_close_matches(last, list(by_last), n=1, cutoff=0.0)
    return by_last[matches[0]] if matches else known[0]


def known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yields every dotted key of a config class."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from known_keys(kind, f"{prefix}{name}.")
