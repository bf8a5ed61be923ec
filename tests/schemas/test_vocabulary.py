import pytest

from schemas.vocabulary import DIALECTS, DRAFT_4, DRAFT_7, DRAFT_2020_12, children, escape, unknown_words

SCHEMA = {
    "properties": {"a/b": {}, "c": True},
    "items": {"type": "string"},
    "allOf": [{}, False],
    "not": {},
    "$defs": {"d": {}},
    "enum": [{"properties": {"x": {}}}],
    "default": {"items": {}},
    "required": ["a"],
}


def test_children_are_the_schemas_and_nothing_that_only_looks_like_one():
    found = {below for _, below, _ in children(SCHEMA, DRAFT_2020_12)}
    assert found == {
        "/properties/a~1b",
        "/properties/c",
        "/items",
        "/allOf/0",
        "/allOf/1",
        "/not",
        "/$defs/d",
    }


def test_reference_hides_all_but_the_stores_in_old_dialects():
    schema = {"$ref": "#", "items": {}, "definitions": {"a": {}}}
    assert [below for _, below, _ in children(schema, DRAFT_7)] == ["/definitions/a"]
    assert [below for _, below, _ in children(schema, DRAFT_2020_12)] == ["/items", "/definitions/a"]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_words_of_other_dialects_are_those_that_its_validator_ignores(dialect):
    probes = {
        "const": ({"const": 1}, 2),
        "contains": ({"contains": False}, [1]),
        "propertyNames": ({"propertyNames": False}, {"a": 1}),
        "if": ({"if": {}, "then": False}, 1),
        "dependentRequired": ({"dependentRequired": {"a": ["b"]}}, {"a": 1}),
        "dependentSchemas": ({"dependentSchemas": {"a": False}}, {"a": 1}),
        "unevaluatedProperties": ({"unevaluatedProperties": False}, {"a": 1}),
        "unevaluatedItems": ({"unevaluatedItems": False}, [1]),
        "prefixItems": ({"prefixItems": [False]}, [1]),
    }
    ignored = {word for word, (schema, value) in probes.items() if dialect.validator(schema).is_valid(value)}
    assert ignored == unknown_words(dialect) & probes.keys()


def test_pointer_parts_are_escaped():
    assert [escape(part) for part in ("a/b~c", 3)] == ["a~1b~0c", "3"]


def test_draft_04_has_its_own_word_for_identity():
    assert {dialect.name for dialect in DIALECTS if dialect.id_keyword == "id"} == {DRAFT_4.name}
