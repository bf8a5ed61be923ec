import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import strict

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)

REFUSED = {
    "duplicate-key": '{"a": 1, "a": 2}',
    "duplicate-key-nested": '[{"b": {"a": 1, "a": 1}}]',
    "duplicate-key-by-escape": '{"a": 1, "\\u0061": 2}',
    "duplicate-key-beside-an-escaped-colon": '{"\\u003a": 1, "a": 2, "a": 3}',
    "nan": "NaN",
    "infinity": "[-Infinity]",
    "number-beyond-a-float": "1e400",
    "trailing-comma": "[1,]",
    "byte-order-mark": "\ufeff1",
    "empty": "",
    "too-deep": "[" * 65 + "]" * 65,
    "deeper-than-orjson-writes": "[" * 900 + "]" * 900,
    "far-too-deep": "[" * 200_000,
    "digits-without-end": "1" * 5000,
    "too-long": '"' + "a" * strict.MAX_CHARS + '"',
    "non-breaking-space": "\u00a01",
}

ACCEPTED = {
    "white-space-around": (" \n[1]\t", [1]),
    "integer-beyond-64-bits": ("123456789012345678901234567890", 123456789012345678901234567890),
    "lone-surrogate": ('"\\ud800"', "\ud800"),
    "as-deep-as-allowed": ("[" * 64 + "]" * 64, None),
    "brackets-in-a-string": ('"' + "[" * 100 + '"', "[" * 100),
    "colons-in-strings": ('{"a:b": "c:d"}', {"a:b": "c:d"}),
    "escaped-colon": ('{"\\u003a": 1}', {":": 1}),
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_another_reader_could_see_otherwise_is_refused(text):
    with pytest.raises(strict.NotStrict):
        strict.parse(text)


@pytest.mark.parametrize(("text", "value"), ACCEPTED.values(), ids=ACCEPTED)
def test_legal_json_is_accepted(text, value):
    parsed = strict.parse(text)
    assert value is None or parsed == value


@given(json_values)
def test_a_serialised_value_comes_back(value):
    assert strict.parse(json.dumps(value)) == value


@given(st.dictionaries(st.text(), json_values, min_size=1, max_size=4), st.data())
def test_a_repeated_key_is_always_seen(members, data):
    pairs = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in members.items()]
    again = data.draw(st.sampled_from(sorted(members)))
    with pytest.raises(strict.NotStrict):
        strict.parse("{" + ", ".join([*pairs, f"{json.dumps(again)}: 1"]) + "}")


@given(st.text())
def test_no_text_raises_anything_else(text):
    with contextlib.suppress(strict.NotStrict):
        strict.parse(text)
