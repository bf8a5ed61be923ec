"""Probes are as large as asked for, and reach the places where a schema is slow."""

import json

import pytest

from schemas.compiled import compile_schema
from schemas.probes import MAX_PLACES, probes

SIZE = 20_000
KINDS = [{"properties": {"k": {"const": n}, "v": {"type": "string"}}, "required": ["k"]} for n in range(4)]
ROWS = {"type": "array", "items": {"oneOf": KINDS}}
SCHEMAS = {
    "anything": True,
    "nothing": False,
    "a-text": {"type": "string", "pattern": "^a+$"},
    "rows-in-an-object": {"type": "object", "properties": {"a/b~c": ROWS}},
    "rows-behind-a-reference": {
        "$defs": {"rows": ROWS},
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/rows"}},
    },
    "itself": {"type": "object", "properties": {"child": {"$ref": "#"}, "rows": ROWS}},
    "names": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
    "branches": {"anyOf": [{"type": "array", "items": {"type": ["null", "string"]}}, {"type": "object"}]},
    "very-many-places": {
        "type": "object",
        "properties": {f"p{n}": {"type": "array", "items": {"type": "string"}} for n in range(500)},
    },
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_probes_are_about_as_large_as_asked_for_and_bounded_in_number(schema):
    found = list(probes(compile_schema(schema), SIZE))
    assert 5 <= len(found) <= 6 * (MAX_PLACES + 1)
    for what, value in found:
        assert SIZE / 4 < len(json.dumps(value)) < SIZE * 2, what


def named(schema):
    return {what.rpartition(" at ")[2] for what, _ in probes(compile_schema(schema), SIZE)}


def test_the_places_of_values_are_reached_and_each_is_of_its_kind():
    assert "/properties/a~1b~0c" in named(SCHEMAS["rows-in-an-object"])
    assert "/$defs/rows" in named(SCHEMAS["rows-behind-a-reference"])
    assert {"/properties/rows", "/properties/rows/items"} <= named(SCHEMAS["itself"])
    kinds = {
        what.split(" at ")[0]
        for what, _ in probes(compile_schema({"properties": {"t": {"type": "string"}}}), SIZE)
        if "/t" in what
    }
    assert kinds == {"a text", "a text of many words"}


def test_a_list_at_its_place_is_put_where_the_schema_looks_at_it():
    schema = compile_schema(SCHEMAS["rows-behind-a-reference"])
    lists = [value for what, value in probes(schema, SIZE) if what == "a list of objects at /$defs/rows"]
    assert all(set(value) == {"x"} for value in lists)
    assert any({"k", "v"} == value["x"][0].keys() for value in lists)
