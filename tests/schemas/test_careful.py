"""Member by member: what the quick reader leaves open is read as it was written, or refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import strict
from schemas.careful import MAX_DEPTH, NotStrict, check_depth, parse_carefully

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.booleans())
def test_what_was_written_is_read_and_both_readers_agree(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse_carefully(text) == value
    assert strict.parse(text) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1, "a": 1}', "twice"),
        ('[{"a": {"b": 1, "b": 2}}]', "twice"),
        ("NaN", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("1e999", "too large"),
        ("{", "not JSON"),
        ("9" * 5_000, "not JSON"),
        ("[" * 100_000, "too deeply"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "too deeply"),
    ],
)
def test_what_is_not_strict_is_refused(text, why):
    with pytest.raises(NotStrict, match=why):
        parse_carefully(text)


def test_the_depth_that_is_allowed():
    value = []
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    check_depth(value)
    with pytest.raises(NotStrict):
        check_depth({"a": value})
