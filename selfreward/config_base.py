"""What every section of the config is made of: its strictness, its marks, and sampling."""

import glob
import os
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

OPERATIONAL: dict[str, Any] = {"operational": True}
ADDED: dict[str, Any] = {"added": True}

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


def from_anywhere(path: str) -> str:
    """A relative path of what is there, as it is known from any working directory: the process
    that reads a file has another one. Anything else (a URL, a sample, a hub id) as it is."""
    local = os.path.abspath(os.path.expanduser(path))
    return local if path and (os.path.exists(local) or glob.glob(local)) else path


DataPath = Annotated[str, AfterValidator(from_anywhere)]
"""Where a user's data is; tasks on any node read it."""


class Section(BaseModel):
    # Infinities and NaN have no JSON form, so no fingerprint.
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


def operational(default: Any, **limits: Any) -> Any:
    """A field that says where or how fast, not what: left out of fingerprints."""
    return Field(default=default, json_schema_extra=OPERATIONAL, **limits)


def added(default: Any, **limits: Any) -> Any:
    """A field newer than run folders that are to go on: it enters fingerprints only where it has
    another value than its default, with which all is made as before there was the field."""
    return Field(default=default, json_schema_extra=ADDED, **limits)


def identity_fields(section: BaseModel) -> Iterator[str]:
    """Yields the names of the fields that say what is made, not where or how fast."""
    for name, field in type(section).model_fields.items():
        mark = field.json_schema_extra
        is_left_out = mark == ADDED and getattr(section, name) == field.default
        if mark != OPERATIONAL and not is_left_out:
            yield name


class SamplingConfig(Section):
    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    """0 is off."""
    min_p: Fraction = 0.0
    max_tokens: int = Field(default=512, ge=1)
