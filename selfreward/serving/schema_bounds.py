"""What a JSON schema that a text is to be guided by may hold.

An engine compiles a schema to a grammar before it writes a word, so that a huge one costs time that
no token limit bounds. Nothing is ever fetched for one.
"""

import json
from typing import Any

MAX_SCHEMA_CHARS = 16_384
MAX_SCHEMA_DEPTH = 32
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


def check_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns a JSON schema as it is.

    Raises:
        ValueError: it is nested deeper than `MAX_SCHEMA_DEPTH` objects and lists, refers to
            something outside itself, or is longer than `MAX_SCHEMA_CHARS` characters of JSON.
    """
    # Level by level, since JSON can be nested deeper than Python can recurse.
    level: list[Any] = [schema]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_SCHEMA_DEPTH:
            raise ValueError(f"the schema is nested deeper than {MAX_SCHEMA_DEPTH} levels")
        for node in level:
            _check_references(node)
        level = [part for node in level for part in _parts(node) if isinstance(part, dict | list)]
    if len(json.dumps(schema, ensure_ascii=False)) > MAX_SCHEMA_CHARS:
        raise ValueError(f"the schema has more than {MAX_SCHEMA_CHARS} characters")
    return schema


def _parts(node: Any) -> Any:
    return node.values() if isinstance(node, dict) else node


def _check_references(node: Any) -> None:
    if not isinstance(node, dict):
        return
    for name in _REFERENCES:
        target = node.get(name)
        if isinstance(target, str) and not target.startswith("#"):
            raise ValueError(f"{name} leads out of the schema; put what it names into $defs")
