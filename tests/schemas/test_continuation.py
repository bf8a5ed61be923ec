"""A delivered prefix is completed to the value, or found to contradict it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.continuation import continue_from

ROWS = [
    ("nothing-said", "", {"a": 1}, '{"a":1}'),
    ("after-colon", '{"age": ', {"age": 7}, "7}"),
    ("in-a-key", '{"na', {"age": 7, "name": "x"}, 'me":"x","age":7}'),
    ("after-a-key", '{"age"', {"age": 7}, ":7}"),
    ("in-a-key-of-spaces", '{" ', {" ": 1}, '":1}'),
    ("spaces-after-a-key", '{"a" ', {"a": 1}, ":1}"),
    ("in-a-string", '{"s": "he', {"s": "hello"}, 'llo"}'),
    ("in-a-number", '{"n": 1', {"n": 12}, "2}"),
    ("after-a-member", '{"a": 1', {"a": 1, "b": [2]}, ',"b":[2]}'),
    ("after-a-comma", '{"a": 1, ', {"a": 1, "b": 2}, '"b":2}'),
    ("in-an-array", "[1, ", [1, 2, 3], "2,3]"),
    ("after-an-item", "[1", [1, 2], ",2]"),
    ("nested", '{"a": [{"b": "x', {"a": [{"b": "xy"}, 1], "c": None}, 'y"},1],"c":null}'),
    ("all-said", '{"a": 1} ', {"a": 1}, ""),
    ("other-spelling", '{"s": "\\u00e9", "t', {"s": "é", "t": 1}, '":1}'),
    ("another-value", '{"a": 2', {"a": 1}, None),
    ("another-key", '{"b', {"a": 1}, None),
    ("comma-too-many", '{"a": 1,', {"a": 1}, None),
    ("another-type", "[", {"a": 1}, None),
    ("closed-too-early", '{"a": 1}', {"a": 1, "b": 2}, None),
    ("string-goes-another-way", '{"s": "hx', {"s": "hello"}, None),
]


@pytest.mark.parametrize(("prefix", "value", "rest"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_what_follows_a_prefix(prefix, value, rest):
    assert continue_from(prefix, value) == rest


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(values, st.data(), st.sampled_from([None, 2]), st.booleans())
def test_every_prefix_of_a_value_is_completed_to_it(value, data, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    cut = data.draw(st.integers(0, len(text)))
    rest = continue_from(text[:cut], value)
    if rest is not None:
        assert json.loads(text[:cut] + rest) == value
    else:  # only half an escape that we would spell otherwise cannot be gone on with
        assert ascii_only
        assert "\\u" in text


@given(values, values, st.data())
def test_what_is_completed_is_always_the_value(one, other, data):
    text = json.dumps(one)
    prefix = text[: data.draw(st.integers(0, len(text)))]
    rest = continue_from(prefix, other)
    assert rest is None or json.loads(prefix + rest) == other
