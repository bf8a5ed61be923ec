"""Whether a schema may be used at all: its dialect, its size, its references. Schemas are hostile.

Everything here costs time linear in the schema, whatever it says.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from schemas import patterns
from schemas.check import Problem
from schemas.errors import SchemaRefused
from schemas.expansion import Expansion, expand
from schemas.refs import Place, Refs, collect, is_resource
from schemas.vocabulary import (
    DIALECTS,
    DRAFT_4,
    DRAFT_7,
    DRAFT_2020_12,
    Dialect,
)

MAX_BYTES = 256 * 1024
MAX_DEPTH = 100  # jsonschema-rs gives up at about 250 containers
MAX_VALUES = 60_000


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """A schema that passed. `schema` is a copy of our own, `text` its compact JSON."""

    schema: Any
    text: str
    dialect: Dialect
    refs: Refs
    places: tuple[Place, ...]
    expansion: Expansion


def examine(schema: Any, uri: str = "") -> Examined:
    """Read `schema` within our budgets. Raises SchemaRefused, the problems pointing into the schema.

    `uri`: that of its dialect, where it was found out before.
    """
    if not isinstance(schema, dict | bool):
        raise _refused("", "schema", "a schema is an object or a boolean")
    _check_values(schema)
    try:
        # Names stay in the order they came in: models write the properties of a value in that order.
        text = json.dumps(schema, separators=(",", ":"), ensure_ascii=False)
        own = json.loads(text)
        size = len(text.encode())
    except (ValueError, RecursionError) as error:
        raise _refused("", "schema", "holds a text or number that is no JSON", str(error)) from error
    if size > MAX_BYTES:
        raise _refused("", "schema", f"larger than {MAX_BYTES} bytes")
    dialect = next((d for d in DIALECTS if d.uri == uri), None) or dialect_of(own)
    refs, places = collect(own, dialect)
    _check_places(refs, places)
    cost = expand(refs, places)
    return Examined(own, text, dialect, refs, tuple(places), cost)


def dialect_of(schema: Any) -> Dialect:
    """The dialect that `$schema` names; without it the newest under which the schema is well formed.

    The newest of all is meant when it is well formed under none. Raises SchemaRefused for a dialect
    that we do not know.
    """
    named = schema.get("$schema") if isinstance(schema, dict) else None
    if named is None:
        for dialect in (DRAFT_2020_12, DRAFT_7, DRAFT_4):
            if isinstance(schema, dict) and _well_formed(schema, dialect):
                return dialect
        return DRAFT_2020_12
    if isinstance(named, str):
        plain = named.removesuffix("#").replace("https://", "http://")
        for dialect in DIALECTS:
            if plain == dialect.uri.replace("https://", "http://"):
                return dialect
        if plain == "http://json-schema.org/schema":
            return DRAFT_2020_12
    known = ", ".join(dialect.name for dialect in DIALECTS)
    raise _refused("/$schema", "$schema", f"not a dialect that we know: {known}")


def _well_formed(schema: dict[str, Any], dialect: Dialect) -> bool:
    try:
        return jsonschema_rs.meta.is_valid({**schema, "$schema": dialect.uri})
    except ValueError:
        return False


def _refused(pointer: str, keyword: str, message: str, detail: str = "") -> SchemaRefused:
    return SchemaRefused([Problem(pointer, keyword, message, detail)])


def _check_values(schema: Any) -> None:
    """Bounds the number of values and their depth before anything recursive reads them."""
    waiting: list[tuple[Any, int]] = [(schema, 1)]
    count = 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > MAX_VALUES:
            raise _refused("", "schema", f"more than {MAX_VALUES} values")
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise _refused("", "schema", "the names in an object are strings")
            parts: Any = value.values()
        elif isinstance(value, list):
            parts = value
        elif isinstance(value, float) and not math.isfinite(value):
            raise _refused("", "schema", "NaN and Infinity are no JSON")
        elif value is None or isinstance(value, str | bool | int | float):
            continue
        else:
            raise _refused("", "schema", f"{type(value).__name__} is no JSON value")
        if depth > MAX_DEPTH:
            raise _refused("", "schema", f"nested deeper than {MAX_DEPTH}")
        waiting += [(part, depth + 1) for part in parts]


def _check_places(refs: Refs, places: list[Place]) -> None:
    problems: list[Problem] = []
    patterns_weight = 0
    for place in places:
        schema = place.schema
        problems += _reference_problems(refs, place)
        named = schema.get("$schema")
        if (
            isinstance(named, str)
            and is_resource(schema, refs.dialect)
            and dialect_of({"$schema": named}) is not refs.dialect
        ):
            problems.append(
                Problem(f"{place.pointer}/$schema", "$schema", "another dialect than the document's")
            )
        for pointer, pattern in patterns.patterns_of(place):
            too_long = len(pattern) > patterns.MAX_CHARS
            patterns_weight += 0 if too_long else patterns.weight(pattern)
            if too_long:
                message = f"a pattern longer than {patterns.MAX_CHARS} characters"
                problems.append(Problem(pointer, "pattern", message))
            elif patterns_weight > patterns.MAX_WEIGHT:
                problems.append(Problem(pointer, "pattern", "counted repetitions unfold to too much"))
                break
        if len(problems) >= 20:
            break
    if problems:
        raise SchemaRefused(problems)


def _reference_problems(refs: Refs, place: Place) -> Iterator[Problem]:
    for keyword, targets in refs.referred(place):
        pointer = f"{place.pointer}/{keyword}"
        ref = place.schema[keyword]
        if not ref.startswith("#"):
            yield Problem(
                pointer, keyword, "only references into the schema itself (#...) are followed", _shown(ref)
            )
        elif not targets:
            yield Problem(pointer, keyword, "refers to nothing in the schema", _shown(ref))


def _shown(text: str) -> str:
    return json.dumps(text if len(text) <= 200 else text[:199] + "…", ensure_ascii=False)
