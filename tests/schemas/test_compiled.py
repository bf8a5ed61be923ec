import json

import jsonschema
import pytest
from hypothesis import assume, given, settings

from schemas.compiled import compile_schema
from schemas.errors import SchemaRefused
from tests.schemas.generated import JSON, LEAF_SCHEMAS, SCHEMAS

MALFORMED = {
    "unknown-type": (
        {"properties": {"a": {"type": "text"}}},
        "/properties/a/type",
        "not a type: expected one of null, boolean, integer, number, string, array, object, or a list of them",
    ),
    "negative-length": ({"minLength": -1}, "/minLength", "must be 0 or more"),
    "properties-list": ({"properties": []}, "/properties", "expected object"),
    "required-twice": ({"required": ["a", "a"]}, "/required", "the items must differ from each other"),
    "ref-number": ({"$ref": 7}, "/$ref", "expected string"),
    "look-ahead": (
        {"properties": {"a/b": {"pattern": "^(?!x)"}}},
        "/properties/a~1b/pattern",
        "look-around and back-references are not supported: their time is not bounded",
    ),
    "back-reference": (
        {"pattern": r"(a)\1"},
        "/pattern",
        "look-around and back-references are not supported: their time is not bounded",
    ),
    "look-behind-in-a-name": (
        {"patternProperties": {"(?<=a)b": {}}},
        "/patternProperties/(?<=a)b",
        "look-around and back-references are not supported: their time is not bounded",
    ),
    "broken-pattern": (
        {"pattern": "("},
        "/pattern",
        "not a regular expression, or one that needs too much memory",
    ),
}


@pytest.mark.parametrize(("schema", "pointer", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_schema_is_refused_at_its_place(schema, pointer, message):
    with pytest.raises(SchemaRefused) as refused:
        compile_schema(schema)
    first = refused.value.problems[0]
    assert (first.pointer, first.message) == (pointer, message)


def test_formats_are_asserted():
    compiled = compile_schema({"format": "date-time"})
    assert compiled.is_valid("2026-01-31T00:00:00Z")
    assert not compiled.is_valid("2026-13-31T00:00:00Z")


def test_version_is_of_the_content_and_of_the_order_in_which_properties_are_written():
    one = compile_schema({"type": "object", "properties": {"a": {}, "b": {}}})
    same = compile_schema(json.loads(json.dumps(one.schema, indent=2)))
    other = compile_schema({"type": "object", "properties": {"b": {}, "a": {}}})
    assert one.version == same.version != other.version


def test_names_keep_the_order_they_came_in():
    schema = {"properties": {"z": {}, "a": {}}, "type": "object"}
    assert json.dumps(compile_schema(schema).schema) == json.dumps(schema)


SURROGATES = {
    "length-counts-it-as-one": ({"properties": {"a": {"maxLength": 1}}}, {"a": "\ud800"}, True),
    "too-long": ({"properties": {"a": {"maxLength": 1}}}, {"a": "\ud800x"}, False),
    "equals-no-constant": ({"items": {"enum": ["x", "?", "\ufffd"]}}, ["\ud800"], False),
    "name": ({"additionalProperties": {"type": "integer"}}, {"\ud800": 1}, True),
}


@pytest.mark.parametrize(("schema", "value", "valid"), SURROGATES.values(), ids=SURROGATES)
def test_lone_surrogate_is_a_character_like_others(schema, value, valid):
    assert compile_schema(schema).is_valid(value) is valid


def test_reference_resolves_against_the_nearest_identity():
    inner = {"$id": "urn:inner", "$defs": {"a": {"type": "string"}}, "items": {"$ref": "#/$defs/a"}}
    compiled = compile_schema({"$defs": {"a": {"type": "integer"}}, "properties": {"list": inner}})
    assert compiled.is_valid({"list": ["x"]})
    assert [p.message for p in compiled.problems({"list": [1]})] == ["expected string"]


def every_error(errors):
    """The reference validator's errors with those of all alternatives, as (pointer, keyword)."""
    for error in errors:
        yield "".join(f"/{part}" for part in error.absolute_path), error.validator
        yield from every_error(error.context)


@settings(max_examples=150, deadline=None)
@given(SCHEMAS, LEAF_SCHEMAS, JSON)
def test_verdict_and_places_of_problems_are_those_of_the_reference_implementation(schema, stored, value):
    schema = {**schema, "$defs": {"a": stored}}
    try:
        compiled = compile_schema(schema)
    except SchemaRefused:
        assume(False)
    checker = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    errors = list(checker.iter_errors(value))
    assert compiled.is_valid(value) is (not errors)
    seen = {pointer for pointer, _ in every_error(errors)}
    for problem in compiled.problems(value):
        # The reference blames the container for some problems that we find in one of its parts.
        of_parts = ("additionalProperties", "propertyNames", "uniqueItems", "false")
        parent = problem.pointer.rsplit("/", 1)[0]
        assert problem.pointer in seen or (problem.keyword in of_parts and parent in seen)
