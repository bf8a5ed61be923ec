import pytest

from schemas.coerce import Fitter, same

EXACT = {
    "integer-in-quotes": ({"type": "integer"}, "42", 42),
    "integer-with-blanks": ({"type": "integer"}, " -7 ", -7),
    "integer-with-zero-fraction": ({"type": "integer"}, "42.0", 42),
    "number-in-quotes": ({"type": "number"}, "4.50", 4.5),
    "boolean-in-quotes": ({"type": "boolean"}, "true", True),
    "boolean-of-python": ({"type": "boolean"}, "False", False),
    "yes": ({"type": "boolean"}, "yes", True),
    "zero-for-false": ({"type": "boolean"}, 0, False),
    "null-in-quotes": ({"type": ["integer", "null"]}, "null", None),
    "enum-in-other-case": ({"enum": ["High", "Low"]}, "high ", "High"),
    "number-of-an-enum": ({"enum": [1, 2]}, "2", 2),
    "key-with-blanks": (
        {"properties": {"a": {}}, "additionalProperties": False},
        {" a ": "b"},
        {"a": "b"},
    ),
    "key-in-other-case": ({"properties": {"aB": {}}, "required": ["aB"]}, {"AB": "b"}, {"aB": "b"}),
    "nested": (
        {"properties": {"a": {"type": "array", "items": {"type": "integer"}}}},
        {"a": ["1", 2]},
        {"a": [1, 2]},
    ),
    "by-reference": (
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "integer"}}},
        "1",
        1,
    ),
    "map": ({"type": "object", "additionalProperties": {"type": "number"}}, {"a": "1"}, {"a": 1}),
    "pattern-properties": ({"patternProperties": {"^x": {"type": "number"}}}, {"xa": "1"}, {"xa": 1}),
    "the-branch-that-takes-it": ({"anyOf": [{"type": "object"}, {"type": "integer"}]}, "5", 5),
    "all-of": ({"allOf": [{"type": "integer"}, {"minimum": 1}]}, "5", 5),
    "tuple": ({"prefixItems": [{"type": "integer"}], "items": {"type": "string"}}, ["1", "a"], [1, "a"]),
}

REFUSED = {
    "words": ({"type": "integer"}, "forty-two"),
    "fraction-for-an-integer": ({"type": "integer"}, "4.2"),
    "leading-zero": ({"type": "integer"}, "042"),
    "number-for-a-string": ({"type": "string"}, 42),
    "two-members-alike": ({"enum": ["a", "A "]}, " A"),
    "fuzzy-enum": ({"enum": ["high", "low"]}, "highest"),
    "two-branches-differ": ({"anyOf": [{"type": "integer"}, {"enum": [True]}]}, "x"),
    "missing-key": ({"required": ["a"]}, {}),
    "extra-key": ({"properties": {"a": {}}, "additionalProperties": False}, {"a": 1, "b": 2}),
    "number-elsewhere-in-quotes": (
        {"properties": {"a": {"type": "integer"}, "b": {}}},
        {"a": "1", "b": "2"},
    ),
    "either-would-do": (
        {"properties": {"a": {"type": "integer"}, "b": {"type": ["string", "integer"]}}},
        {"a": "1", "b": "2"},
    ),
}


@pytest.mark.parametrize(("schema", "value", "fitted"), EXACT.values(), ids=EXACT)
def test_what_can_be_undone_is_done_and_named(schema, value, fitted):
    fitter = Fitter(schema, {})
    assert same(fitter.fit(value), fitted)
    assert fitter.edits
    assert {edit.kind for edit in fitter.edits} == {"coercion"}


@pytest.mark.parametrize(("schema", "value"), REFUSED.values(), ids=REFUSED)
def test_a_guess_is_refused(schema, value):
    with pytest.raises(ValueError):
        Fitter(schema, {}).fit(value)


def test_what_fits_is_left_alone():
    value = {"a": ["1", {"b": True}]}
    fitter = Fitter({"type": "object", "properties": {"a": {"type": "array"}}}, {})
    assert fitter.fit(value) is value
    assert fitter.edits == []


def test_an_unquoted_scalar_may_be_a_string():
    value = {"zip": 1234}
    fitter = Fitter({"properties": {"zip": {"type": "string"}}}, {(id(value), "zip"): "01234"})
    assert fitter.fit(value) == {"zip": "01234"}
    (edit,) = fitter.edits
    assert (edit.kind, edit.pointer) == ("choice", "/zip")


def test_the_pointer_is_escaped():
    fitter = Fitter({"additionalProperties": {"type": "integer"}}, {})
    fitter.fit({"a/b~": "1"})
    assert fitter.edits[0].pointer == "/a~1b~0"


def test_recursive_references_end():
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "integer"}]}}}
    Fitter(schema, {}).fit(3)


def test_a_wide_value_costs_bounded_work():
    schema = {"anyOf": [{"items": {"type": "integer"}}, {"items": {"type": "boolean"}}]}
    Fitter(schema, {}).fit([1] * 50_000)


def test_true_is_not_one():
    assert not same(True, 1)
    assert not same({"a": [0]}, {"a": [False]})
    assert same({"a": [1.0]}, {"a": [1]})
