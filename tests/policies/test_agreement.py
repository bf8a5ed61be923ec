import copy
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.agreement import agree, agree_calls, agree_texts
from policies.chat import ToolCall

TAGS = {"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True}}}
PRICE = {"properties": {"price": {"type": "number", "multipleOf": 0.01}}}
EXPLAINED = {
    "properties": {"why": {"type": "string", "x-tailrace-agree": "ignore"}, "answer": {"type": "string"}}
}
REFERRED = {
    "$defs": {"set": {"uniqueItems": True}},
    "properties": {"a": {"allOf": [{"$ref": "#/$defs/set"}]}},
}


@pytest.mark.parametrize(
    ("one", "other", "schema", "same"),
    [
        pytest.param({"a": 1, "b": 2}, {"b": 2, "a": 1}, True, True, id="order-of-keys-says-nothing"),
        pytest.param([1, 2], [2, 1], True, False, id="order-of-an-array-does"),
        pytest.param({"tags": ["x", "y"]}, {"tags": ["y", "x"]}, TAGS, True, id="a-set-has-no-order"),
        pytest.param({"tags": ["x", "y"]}, {"tags": ["y", "z"]}, TAGS, False, id="other-members"),
        pytest.param([1, 2], [2, 1], {"x-tailrace-agree": "unordered"}, True, id="declared-without-order"),
        pytest.param([1, 1, 2], [1, 2, 2], {"x-tailrace-agree": "unordered"}, False, id="counts-matter"),
        pytest.param(
            {"tags": [1, 2]},
            {"tags": [2, 1]},
            {"properties": {"tags": {"uniqueItems": True, "x-tailrace-agree": "exact"}}},
            False,
            id="exact-outweighs-the-set",
        ),
        pytest.param(1, 1.0, True, True, id="one-is-one"),
        pytest.param(1, True, True, False, id="true-is-no-number"),
        pytest.param(None, 0, True, False, id="null-is-no-number"),
        pytest.param("1", 1, True, False, id="a-string-is-no-number"),
        pytest.param(0.1 + 0.2, 0.3, True, True, id="rounding-of-floats"),
        pytest.param(100, 101, True, False, id="other-numbers"),
        pytest.param(100, 101, {"x-tailrace-agree": {"tolerance": 0.02}}, True, id="within-the-tolerance"),
        pytest.param(100, 103, {"x-tailrace-agree": {"tolerance": 0.02}}, False, id="beyond-the-tolerance"),
        pytest.param({"price": 9.99}, {"price": 9.992}, PRICE, True, id="below-the-step"),
        pytest.param({"price": 9.99}, {"price": 10.00}, PRICE, False, id="a-step-apart"),
        pytest.param(
            {"why": "a", "answer": "7"}, {"why": "b", "answer": "7"}, EXPLAINED, True, id="ignored-text"
        ),
        pytest.param({"answer": "7"}, {"why": "b", "answer": "7"}, EXPLAINED, True, id="ignored-and-missing"),
        pytest.param(
            {"why": "a", "answer": "7"}, {"why": "a", "answer": "8"}, EXPLAINED, False, id="answers-differ"
        ),
        pytest.param({"a": 1}, {"a": 1, "b": 2}, True, False, id="a-member-too-many"),
        pytest.param({"a": [1, 2]}, {"a": [2, 1]}, REFERRED, True, id="through-references"),
        pytest.param("a  b\n", "a b", True, True, id="white-space"),
        pytest.param("é", "é", True, True, id="unicode-forms"),
        pytest.param("Yes", "yes", True, False, id="case-differs"),
        pytest.param([[1]], [[2]], {"$ref": "#"}, False, id="a-schema-that-refers-to-itself"),
    ],
)
def test_what_counts_as_the_same(one, other, schema, same):
    assert agree(one, other, schema) is same
    assert agree(other, one, schema) is same


def test_pointers_may_be_left_out():
    one, other = {"items": [{"id": 1, "note": "a"}]}, {"items": [{"id": 1, "note": "b"}]}
    assert not agree(one, other)
    assert agree(one, other, ignore=["/items/*/note"])


def test_a_comparison_that_takes_too_long_is_no_agreement():
    values = list(range(1000))
    assert not agree(values, values[::-1], {"uniqueItems": True})
    deep = []
    for _ in range(100):
        deep = [deep]
    assert not agree(deep, copy.deepcopy(deep))


def test_plain_texts():
    assert agree_texts("forty  two ", "forty two")
    assert not agree_texts("forty two", "forty-two")


def test_calls_agree_in_any_order_and_never_where_arguments_did_not_parse():
    one = (ToolCall("1", "book", "{}"), ToolCall("2", "find", "{}"))
    other = (ToolCall("3", "find", "{}"), ToolCall("4", "book", "{}"))
    parsed = {"1": {"n": 2}, "2": {"q": "x"}, "3": {"q": "x"}, "4": {"n": 2.0}}
    assert agree_calls(one, other, parsed)
    assert not agree_calls(one, other, {**parsed, "4": {"n": 3}})
    assert not agree_calls(one, other, {k: v for k, v in parsed.items() if k != "4"})
    assert not agree_calls(one, other[:1], parsed)
    assert agree_calls((), (), {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=50)
@given(JSON)
def test_every_value_agrees_with_itself(value):
    assert agree(value, copy.deepcopy(value))


@settings(max_examples=50)
@given(JSON, JSON)
def test_agreement_goes_both_ways(one, other):
    assert agree(one, other) == agree(other, one)


@settings(max_examples=50)
@given(st.lists(JSON, max_size=6), st.randoms())
def test_a_set_agrees_with_its_shuffled_self(values, dice):
    shuffled = copy.deepcopy(values)
    random.Random(dice.random()).shuffle(shuffled)
    assert agree(values, shuffled, {"uniqueItems": True})


@settings(max_examples=50)
@given(JSON, JSON, JSON)
def test_no_schema_makes_it_fail(one, other, schema):
    assert agree(one, other, schema) in (True, False)
