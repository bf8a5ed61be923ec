import time

import pytest

from schemas.compiled import compile_schema
from schemas.cost import cost_class

CHEAP = {
    "anything": True,
    "flat": {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(500)}},
    "unique": {"type": "array", "uniqueItems": True},
    "recursive": {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}},
    "uuid": {"pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
    "enum": {"enum": [f"v{i}" for i in range(5000)]},
}
SLOW = {
    "many-alternatives": {"items": {"anyOf": [{"required": [str(i)]} for i in range(200)]}},
    "pattern-that-unfolds": {"pattern": "(a|b)*a(a|b){1000}c"},
    "many-patterns-of-names": {"patternProperties": {f"^x{i}": {} for i in range(100)}},
    "enum-of-objects": {"enum": [{"k": i} for i in range(100)]},
}


@pytest.mark.parametrize("schema", CHEAP.values(), ids=CHEAP)
def test_cheap(schema):
    assert cost_class(compile_schema(schema).examined) == "cheap"


@pytest.mark.parametrize("schema", SLOW.values(), ids=SLOW)
def test_maybe_slow(schema):
    assert cost_class(compile_schema(schema).examined) == "maybe_slow"


LARGE = {
    "unique-objects": ({"uniqueItems": True}, [{"a": i, "b": "x" * 10} for i in range(30_000)]),
    "alternatives": (
        {"items": {"anyOf": [{"type": "string", "minLength": i} for i in range(40)]}},
        list(range(100_000)),
    ),
    "members": ({"additionalProperties": {"type": "integer"}}, {f"key{i}": i for i in range(70_000)}),
    "enum": ({"items": {"enum": [f"v{i}" for i in range(5000)]}}, ["v4999"] * 80_000),
    "contains": ({"contains": {"const": 1}}, [0] * 300_000),
}


@pytest.mark.parametrize(("schema", "value"), LARGE.values(), ids=LARGE)
def test_what_is_called_cheap_is_quick_on_a_megabyte(schema, value):
    compiled = compile_schema(schema)
    assert cost_class(compiled.examined) == "cheap"
    start = time.process_time()
    compiled.is_valid(value)
    assert time.process_time() - start < 0.5
