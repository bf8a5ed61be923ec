"""Ask again only for what was wrong: the failing parts by JSON pointer, merged into what was right.

What was valid cannot drift, and the model writes a few tokens instead of the whole answer again.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.check import Problem
from schemas.compiled import Compiled, compile_schema
from schemas.errors import SchemaRefused
from schemas.values import dataclass

MAX_PARTS = 4
"""More failing parts than this are asked for as a whole: a model loses count of pointers."""

_ANYTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What was wrong of `value`, and the schema of the object that mends it: a member for each pointer."""

    value: Any
    pointers: tuple[str, ...]
    schema: Compiled
    problems: tuple[Problem, ...]


def patch_for(value: Any, problems: Sequence[Problem], schema: Compiled) -> Patch | None:
    """The patch that would mend `value`; None where asking for the whole answer is better.

    Extra members and failing alternatives (anyOf, oneOf, ...) are no parts that could be written anew.
    """
    if not isinstance(value, dict | list) or not problems:
        return None
    pointers: list[str] = []
    for problem in problems:
        found = _parts(problem, value, schema.schema)
        if found is None:
            return None
        pointers += [p for p in found if p not in pointers]
    pointers = [p for p in pointers if not any(p.startswith(other + "/") for other in pointers)]
    if not 0 < len(pointers) <= MAX_PARTS or not _keeps_something(value, pointers):
        return None
    parts = {p: _subschema(schema.schema, _tokens(p)) for p in pointers}
    root = schema.schema if isinstance(schema.schema, dict) else {}
    shared = {k: root[k] for k in ("$schema", "$defs", "definitions") if k in root}
    wanted = {"type": "object", "properties": parts, "required": pointers, "additionalProperties": False}
    try:
        return Patch(value, tuple(pointers), compile_schema(shared | wanted), tuple(problems))
    except SchemaRefused:
        return None  # a part refers to a place that the patch does not carry


def merge(patch: Patch, answer: Any) -> Any:
    """A copy of the patched value with the parts of `answer`, an object that satisfies `patch.schema`."""
    merged = copy.deepcopy(patch.value)
    for pointer in patch.pointers:
        *way, last = _tokens(pointer)
        place = merged
        for token in way:
            place = place[int(token)] if isinstance(place, list) else place[token]
        if isinstance(place, list):
            place[int(last)] = answer[pointer]
        else:
            place[last] = answer[pointer]
    return merged


def _keeps_something(value: dict[str, Any] | list[Any], pointers: Sequence[str]) -> bool:
    """Whether a member of the root is right as it is, or right in parts: else the patch is the answer."""
    whole = {_tokens(p)[0] for p in pointers if p.count("/") == 1}
    members = value if isinstance(value, dict) else [str(n) for n in range(len(value))]
    return any(name not in whole for name in members)


def _parts(problem: Problem, value: Any, schema: Any) -> list[str] | None:
    """The pointers of what has to be written anew for one problem; None where that is more than a part."""
    if problem.keyword == "required":
        place = _at(value, _tokens(problem.pointer))
        wanted = _subschema(schema, _tokens(problem.pointer)).get("required")
        if not isinstance(place, dict) or not isinstance(wanted, list):
            return None
        missing = [name for name in wanted if isinstance(name, str) and name not in place]
        return [f"{problem.pointer}/{_escaped(name)}" for name in missing] or None
    if problem.keyword in ("additionalProperties", "unevaluatedProperties", "propertyNames", "json"):
        return None
    return [problem.pointer] if problem.pointer else None


def _at(value: Any, tokens: Sequence[str]) -> Any:
    for token in tokens:
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and token.isdecimal() and int(token) < len(value):
            value = value[int(token)]
        else:
            return None
    return value


def _subschema(schema: Any, tokens: Sequence[str]) -> Mapping[str, Any]:
    """The schema that holds at a pointer, as far as plain keywords tell; the empty schema beyond that."""
    root = schema
    for token in (*tokens, None):
        for _ in range(8):  # references to references
            ref = schema.get("$ref") if isinstance(schema, dict) else None
            if not isinstance(ref, str) or not ref.startswith("#/"):
                break
            schema = _at(root, [t.replace("~1", "/").replace("~0", "~") for t in ref[2:].split("/")])
        if not isinstance(schema, dict):
            return _ANYTHING
        if token is None:
            return schema
        schema = _child(schema, token)
    return _ANYTHING


def _child(schema: Mapping[str, Any], token: str) -> Any:
    properties = schema.get("properties")
    if isinstance(properties, dict) and token in properties:
        return properties[token]
    if not token.isdecimal():
        return schema.get("additionalProperties")
    tuple_schemas = schema.get("prefixItems")
    if isinstance(tuple_schemas, list) and int(token) < len(tuple_schemas):
        return tuple_schemas[int(token)]
    return schema.get("items")


def _tokens(pointer: str) -> list[str]:
    return [t.replace("~1", "/").replace("~0", "~") for t in pointer.split("/")[1:]]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
