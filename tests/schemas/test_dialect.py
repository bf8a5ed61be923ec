import time

import pytest

from schemas.compiled import compile_schema
from schemas.dialect import MAX_BYTES, MAX_DEPTH, MAX_VALUES, examine
from schemas.errors import SchemaRefused


def nested(levels):
    schema = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def chain(count, step):
    """Definitions 0..count, each made of references to the next by `step`; the last is an integer."""
    return {
        "$ref": "#/$defs/0",
        "$defs": {
            **{str(i): step(f"#/$defs/{i + 1}") for i in range(count)},
            str(count): {"type": "integer"},
        },
    }


def shared_values(levels):
    value = ["x"]
    for _ in range(levels):
        value = [value, value]
    return value


REFUSED = {
    "list": ([], "", "a schema is an object or a boolean"),
    "null": (None, "", "a schema is an object or a boolean"),
    "text": ("{}", "", "a schema is an object or a boolean"),
    "name-is-a-number": ({1: {}}, "", "the names in an object are strings"),
    "not-json": ({"const": {1, 2}}, "", "set is no JSON value"),
    "nan": ({"maximum": float("nan")}, "", "NaN and Infinity are no JSON"),
    "integer-of-5000-digits": ({"maximum": 10**5000}, "", "holds a text or number that is no JSON"),
    "lone-surrogate": ({"const": "\ud800"}, "", "holds a text or number that is no JSON"),
    "too-deep": (nested(MAX_DEPTH), "", f"nested deeper than {MAX_DEPTH}"),
    "far-too-deep": (nested(100_000), "", f"nested deeper than {MAX_DEPTH}"),
    "too-large": ({"description": "x" * MAX_BYTES}, "", f"larger than {MAX_BYTES} bytes"),
    "shared-values-unfold": ({"default": shared_values(40)}, "", f"more than {MAX_VALUES} values"),
    "draft-03": (
        {"$schema": "http://json-schema.org/draft-03/schema#"},
        "/$schema",
        "not a dialect that we know: draft 2020-12, draft 2019-09, draft-07, draft-06, draft-04",
    ),
    "own-dialect": (
        {"$schema": "https://example.test/mine"},
        "/$schema",
        "not a dialect that we know: draft 2020-12, draft 2019-09, draft-07, draft-06, draft-04",
    ),
    "dialect-changes-inside": (
        {"$defs": {"a": {"$id": "urn:a", "$schema": "http://json-schema.org/draft-07/schema#"}}},
        "/$defs/a/$schema",
        "another dialect than the document's",
    ),
    "ref-into-the-network": (
        {"properties": {"a": {"$ref": "https://example.test/a.json"}}},
        "/properties/a/$ref",
        "only references into the schema itself (#...) are followed",
    ),
    "ref-to-a-file": (
        {"$ref": "file:///etc/passwd"},
        "/$ref",
        "only references into the schema itself (#...) are followed",
    ),
    "ref-to-a-relative-file": (
        {"$ref": "other.json#/a"},
        "/$ref",
        "only references into the schema itself (#...) are followed",
    ),
    "ref-to-nothing": (
        {"items": {"$ref": "#/$defs/none"}},
        "/items/$ref",
        "refers to nothing in the schema",
    ),
    "ref-to-unknown-anchor": ({"$ref": "#none"}, "/$ref", "refers to nothing in the schema"),
    "ref-to-what-is-no-schema": (
        {"$ref": "#/required", "required": ["a"]},
        "/$ref",
        "refers to nothing in the schema",
    ),
    "ref-to-itself": ({"$ref": "#"}, "/$ref", "refers to itself without looking any deeper into the value"),
    "ref-circle-through-allof": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}},
        "/$defs/b/$ref",
        "refers to itself without looking any deeper into the value",
    ),
    "ref-circle-through-not": (
        {"not": {"$ref": "#"}},
        "/not/$ref",
        "refers to itself without looking any deeper into the value",
    ),
    "pattern-too-long": ({"pattern": "a" * 10_001}, "/pattern", "a pattern longer than 10000 characters"),
    "pattern-unfolds": (
        {"pattern": "((a{100}){100}){100}"},
        "/pattern",
        "counted repetitions unfold to too much",
    ),
    "pattern-name-unfolds": (
        {"patternProperties": {"a/b": {}, r"\p{L}{2000}": {}}},
        r"/patternProperties/\p{L}{2000}",
        "counted repetitions unfold to too much",
    ),
}


@pytest.mark.parametrize(("schema", "pointer", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_with_pointer_and_reason(schema, pointer, message):
    with pytest.raises(SchemaRefused) as refused:
        examine(schema)
    first = refused.value.problems[0]
    assert (first.pointer, first.message) == (pointer, message)


BOMBS = {
    "allof-doubles": (lambda ref: {"allOf": [{"$ref": ref}, {"$ref": ref}]}, 40),
    "anyof-triples": (lambda ref: {"anyOf": [{"$ref": ref}] * 3}, 40),
    "if-then-else": (lambda ref: {"if": {"$ref": ref}, "then": {"$ref": ref}, "else": {"$ref": ref}}, 40),
    "doubles-with-each-level-of-the-value": (
        lambda ref: {"allOf": [{"properties": {"a": {"$ref": ref}}}, {"properties": {"a": {"$ref": ref}}}]},
        40,
    ),
    "long-chain": (lambda ref: {"oneOf": [{"$ref": ref}, {"$ref": ref}]}, 2000),
}


@pytest.mark.parametrize(("step", "count"), BOMBS.values(), ids=BOMBS)
def test_bomb_of_references_is_refused_at_once(step, count):
    schema = chain(count, step)
    start = time.process_time()
    with pytest.raises(SchemaRefused, match="schemas"):
        examine(schema)
    assert time.process_time() - start < 1


def test_long_chain_of_references_is_no_bomb():
    assert compile_schema(chain(2000, lambda ref: {"$ref": ref})).is_valid(3)


def test_chain_through_places_that_no_keyword_knows_takes_linear_time():
    schema = {"$ref": "#/x0", **{f"x{i}": {"$ref": f"#/x{i + 1}"} for i in range(3000)}, "x3000": {}}
    start = time.process_time()
    examine(schema)
    assert time.process_time() - start < 1


def test_recursion_that_looks_deeper_is_allowed():
    schema = {"type": "object", "properties": {"child": {"$ref": "#"}}, "additionalProperties": False}
    compiled = compile_schema(schema)
    assert compiled.is_valid({"child": {"child": {}}})
    assert not compiled.is_valid({"child": {"child": {"other": 1}}})


def test_language_of_many_kinds_that_hold_each_other_is_no_bomb():
    kinds = [f"k{i}" for i in range(40)]
    any_kind = {"anyOf": [{"$ref": f"#/$defs/{kind}"} for kind in kinds]}
    schema = {
        "$defs": {
            kind: {
                "type": "object",
                "properties": {"kind": {"const": kind}, "left": any_kind, "right": any_kind},
                "required": ["kind"],
            }
            for kind in kinds
        },
        **any_kind,
    }
    value = {"kind": "k39"}
    for _ in range(25):
        value = {"left": value, "kind": "k39"}
    start = time.process_time()
    assert compile_schema(schema).is_valid(value)
    assert time.process_time() - start < 1


def test_broad_schema_is_no_bomb():
    leaf = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(300)}}
    schema = {"$defs": {"leaf": leaf}, "properties": {f"q{i}": {"$ref": "#/$defs/leaf"} for i in range(300)}}
    assert examine(schema).expansion.path < 10


DIALECTS = {
    "none-named-is-the-newest": ({"type": "object"}, "draft 2020-12"),
    "boolean": (True, "draft 2020-12"),
    "none-named-and-only-07-allows-a-list-of-items": ({"items": [{"type": "string"}]}, "draft-07"),
    "none-named-and-only-04-allows-a-boolean-limit": ({"minimum": 1, "exclusiveMinimum": True}, "draft-04"),
    "none-named-and-malformed-in-all": ({"type": 5}, "draft 2020-12"),
    "2020-12": ({"$schema": "https://json-schema.org/draft/2020-12/schema"}, "draft 2020-12"),
    "2019-09": ({"$schema": "https://json-schema.org/draft/2019-09/schema"}, "draft 2019-09"),
    "07-with-empty-fragment": ({"$schema": "http://json-schema.org/draft-07/schema#"}, "draft-07"),
    "07-without": ({"$schema": "http://json-schema.org/draft-07/schema"}, "draft-07"),
    "07-with-https": ({"$schema": "https://json-schema.org/draft-07/schema#"}, "draft-07"),
    "06": ({"$schema": "http://json-schema.org/draft-06/schema#"}, "draft-06"),
    "04": ({"$schema": "http://json-schema.org/draft-04/schema#"}, "draft-04"),
    "the-latest": ({"$schema": "http://json-schema.org/schema#"}, "draft 2020-12"),
}


@pytest.mark.parametrize(("schema", "name"), DIALECTS.values(), ids=DIALECTS)
def test_dialect(schema, name):
    assert examine(schema).dialect.name == name


def test_schema_is_copied_so_that_later_changes_do_not_reach_it():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    compiled = compile_schema(schema)
    schema["properties"]["a"]["type"] = "integer"
    assert compiled.schema == {"type": "object", "properties": {"a": {"type": "string"}}}
