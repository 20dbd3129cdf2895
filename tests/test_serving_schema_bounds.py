"""JSON schemas that callers send for guided chats: what is taken, and what is refused in words."""

from typing import Any

import pytest

from selfreward.serving.schema_bounds import MAX_SCHEMA_CHARS, MAX_SCHEMA_DEPTH, check_schema


def nested(depth: int) -> dict[str, Any]:
    """A schema of so many objects within each other."""
    schema: dict[str, Any] = {}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


def long(chars: int) -> dict[str, Any]:
    return {"title": "x" * (chars - len('{"title": ""}'))}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        nested(MAX_SCHEMA_DEPTH),
        long(MAX_SCHEMA_CHARS),
        {"$defs": {"a": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/a"}}},
        # A property of that name is no reference.
        {"properties": {"$ref": {"type": "string"}}},
    ],
)
def test_a_schema_within_the_bounds_is_taken_as_it_is(schema: dict[str, Any]) -> None:
    assert check_schema(schema) == schema


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (nested(MAX_SCHEMA_DEPTH + 1), "nested deeper than 32 levels"),
        (nested(5000), "nested deeper than 32 levels"),
        (long(MAX_SCHEMA_CHARS + 1), "more than 16384 characters"),
        ({"anyOf": [{"$ref": "https://example.org/a.json"}]}, "$ref leads out of the schema"),
        ({"$ref": "other.json#/a"}, "$ref leads out of the schema"),
        ({"items": {"$dynamicRef": "file:///etc/hosts"}}, "$dynamicRef leads out of the schema"),
    ],
)
def test_a_schema_beyond_the_bounds_is_refused_in_words(
    schema: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        check_schema(schema)
    assert message in str(caught.value)
