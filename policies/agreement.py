"""Do two answers say the same? Equality of validated values as their schema means it.

Two cheap models that agree are believed; so whatever is not clearly equal counts as different, and a
comparison that would take too long does too: the ladder is climbed then, which costs money but no truth.

What the schema says: `uniqueItems` makes an array a set, whose order says nothing; `multipleOf` is the step
below which numbers do not differ; an annotation `x-tailrace-agree` says it outright: "ignore" (a text that
explains rather than answers), "unordered", "exact", or {"tolerance": 0.01} (relative).
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from policies.chat import ToolCall
from policies.facts import object_of

MAX_STEPS = 50_000
MAX_DEPTH = 64
ROUNDING = 1e-9
"""Relative difference of numbers that a printed float may have."""


@dataclass(slots=True)
class _Walk:
    """One comparison: the root schema for references, the pointers to leave out, the steps left."""

    root: Any
    ignore: frozenset[str]
    steps: int = field(default=MAX_STEPS)


def agree(one: Any, other: Any, schema: Any = True, ignore: Sequence[str] = ()) -> bool:
    """Whether two JSON values that are valid under `schema` say the same.

    `ignore` are JSON pointers of values that may differ, `*` for any array place.
    """
    return _same(one, other, schema, "", _Walk(schema, frozenset(ignore)))


def agree_texts(one: str, other: str) -> bool:
    """Whether two plain texts are the same but for white space and Unicode forms."""
    return _text(one) == _text(other)


def agree_calls(one: Sequence[ToolCall], other: Sequence[ToolCall], parsed: Mapping[str, Any]) -> bool:
    """Whether two answers call the same tools with the same arguments, in any order.

    `parsed` holds the parsed arguments by call id; a call whose arguments did not parse agrees with nothing.
    """
    if len(one) != len(other):
        return False
    left = list(other)
    for call in one:
        match = next((c for c in left if c.name == call.name and _same_arguments(call, c, parsed)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _same_arguments(one: ToolCall, other: ToolCall, parsed: Mapping[str, Any]) -> bool:
    if one.id not in parsed or other.id not in parsed:
        return False
    return agree(parsed[one.id], parsed[other.id])


def _same(one: Any, other: Any, schema: Any, pointer: str, walk: _Walk) -> bool:
    walk.steps -= 1
    if walk.steps < 0 or pointer.count("/") > MAX_DEPTH:
        return False
    parts = _parts(schema, walk.root)
    said = _said(parts)
    if said == "ignore" or pointer in walk.ignore:
        return True
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return _same_number(one, other, said, parts)
    if isinstance(one, str) and isinstance(other, str):
        return _text(one) == _text(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return _same_object(one, other, parts, pointer, walk)
    if isinstance(one, list) and isinstance(other, list):
        return _same_array(one, other, parts, pointer, walk)
    return one is None and other is None


def _same_number(one: float, other: float, said: Any, parts: Sequence[Mapping[str, Any]]) -> bool:
    if one == other:
        return True
    if said == "exact":
        return False
    steps = [part["multipleOf"] for part in parts if isinstance(part.get("multipleOf"), int | float)]
    if steps and abs(one - other) < min(steps) / 2:
        return True
    asked = object_of(said).get("tolerance", 0.0)
    tolerance = asked if isinstance(asked, int | float) else 0.0
    return bool(abs(one - other) <= max(ROUNDING, tolerance) * max(abs(one), abs(other)))


def _same_object(
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    parts: Sequence[Mapping[str, Any]],
    pointer: str,
    walk: _Walk,
) -> bool:
    """Members one by one; a member that one side leaves out may only be one that is ignored."""
    for name in {**one, **other}:
        schema = {
            "allOf": [part["properties"][name] for part in parts if name in object_of(part.get("properties"))]
        }
        here = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if name in one and name in other:
            if not _same(one[name], other[name], schema, here, walk):
                return False
        elif here not in walk.ignore and _said(_parts(schema, walk.root)) != "ignore":
            return False
    return True


def _same_array(
    one: Sequence[Any],
    other: Sequence[Any],
    parts: Sequence[Mapping[str, Any]],
    pointer: str,
    walk: _Walk,
) -> bool:
    if len(one) != len(other):
        return False
    here = f"{pointer}/*"
    schema = {"allOf": [part["items"] for part in parts if "items" in part]}
    said = _said(parts)
    free = said == "unordered" or (said != "exact" and any(part.get("uniqueItems") is True for part in parts))
    if not free:
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            prefixed = [part["prefixItems"] for part in parts if isinstance(part.get("prefixItems"), list)]
            own = (
                {"allOf": [prefix[place] for prefix in prefixed if place < len(prefix)]}
                if prefixed
                else schema
            )
            if not _same(left, right, own, here, walk):
                return False
        return True
    rest = list(other)
    for left in one:
        place = next((i for i, right in enumerate(rest) if _same(left, right, schema, here, walk)), -1)
        if place < 0:
            return False
        del rest[place]
    return True


def _parts(schema: Any, root: Any) -> list[Mapping[str, Any]]:
    """The schema and all that must hold with it: local references and `allOf`, followed a bounded way."""
    found: list[Mapping[str, Any]] = []
    todo = [schema]
    while todo and len(found) < MAX_DEPTH:
        part = object_of(todo.pop())
        if not part:
            continue
        found.append(part)
        if isinstance(part.get("$ref"), str):
            todo.append(_referred(part["$ref"], root))
        if isinstance(part.get("allOf"), list):
            todo.extend(part["allOf"])
    return found


def _referred(reference: str, root: Any) -> Any:
    if not reference.startswith("#"):
        return None
    here = root
    for name in reference.lstrip("#/").split("/") if reference not in ("#", "#/") else ():
        here = object_of(here).get(name.replace("~1", "/").replace("~0", "~"))
    return here


def _said(parts: Sequence[Mapping[str, Any]]) -> Any:
    return next((part["x-tailrace-agree"] for part in parts if "x-tailrace-agree" in part), None)


def _text(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())
