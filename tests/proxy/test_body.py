"""Requests are read strictly and changed without touching a byte that need not change."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.body import MAX_DEPTH, REMOVE, NotJson, dump, edit, read_json

REFUSED = [
    ("nan", b'{"a": NaN}', "NaN"),
    ("infinity", b'{"a": -Infinity}', "-Infinity"),
    ("same-key-twice", b'{"a": 1, "a": 2}', "same key"),
    ("same-key-twice-inside", b'{"b": [{"a": 1, "\\u0061": 2}]}', "same key"),
    ("not-utf8", b'{"a": "\xff"}', "UTF-8"),
    ("overlong-utf8", b'{"a": "\xc0\x80"}', "UTF-8"),
    ("bom", b'\xef\xbb\xbf{"a": 1}', "Expecting value"),
    ("empty", b"", "column 1"),
    ("cut", b'{"a": ', "column"),
    ("trailing", b"{} {}", "Extra data"),
    ("too-deep", b"[" * 65 + b"]" * 65, "deeper"),
    ("far-too-deep", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "deeper"),
    ("too-many-digits", b'{"a": ' + b"9" * 6000 + b"}", "digits"),
]


@pytest.mark.parametrize(("body", "why"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_is_not_json_is_refused_with_a_reason(body, why):
    with pytest.raises(NotJson, match=why):
        read_json(body)


def test_lone_surrogates_and_large_numbers_are_json():
    value = read_json(b'{"a": "\\ud800", "b": 123456789012345678901234567890, "c": 0.0}')
    assert value == {"a": "\ud800", "b": 123456789012345678901234567890, "c": 0.0}
    assert json.loads(dump(value)) == value


def test_brackets_in_texts_are_not_depth():
    assert read_json(dump({"a": "[" * 500})) == {"a": "[" * 500}
    assert read_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


EDITS = [
    ("model-only", b'{"model": "a", "n": 1}', {"model": "b"}, b'{"model": "b", "n": 1}'),
    (
        "spelling-stays",
        b'{ "x":1e2 ,\n"model":"a","y":0.10}',
        {"model": "b"},
        b'{ "x":1e2 ,\n"model":"b","y":0.10}',
    ),
    ("remove-first", b'{"tailrace": {"a": [1]}, "n": 1}', {"tailrace": REMOVE}, b'{ "n": 1}'),
    ("remove-last", b'{"n": 1, "tailrace": {}}', {"tailrace": REMOVE}, b'{"n": 1}'),
    ("remove-only", b'{"tailrace": 1}', {"tailrace": REMOVE}, b"{}"),
    ("remove-what-is-not-there", b'{"n": 1}', {"tailrace": REMOVE}, b'{"n": 1}'),
    ("add", b'{"n": 1}', {"m": [2]}, b'{"n": 1,"m":[2]}'),
    ("add-to-empty", b"{ }", {"m": 2}, b'{"m":2}'),
    (
        "same-name-inside-stays",
        b'{"metadata": {"model": "x"}}',
        {"model": "b"},
        b'{"metadata": {"model": "x"},"model":"b"}',
    ),
    (
        "escaped-key",
        b'{"\\u006dodel": "a", "metadata": {"model": "x"}}',
        {"model": "b"},
        b'{"\\u006dodel": "b", "metadata": {"model": "x"}}',
    ),
    (
        "several",
        b'{"a": 1, "b": "}", "c": [{"a": 2}]}',
        {"a": 9, "c": REMOVE, "d": None},
        b'{"a": 9, "b": "}","d":null}',
    ),
]


@pytest.mark.parametrize(("body", "changes", "edited"), [r[1:] for r in EDITS], ids=[r[0] for r in EDITS])
def test_edits_touch_only_what_they_change(body, changes, edited):
    assert edit(body, json.loads(body), changes) == edited


keys = st.text(max_size=4)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(keys | st.just("model"), values, max_size=5)


@given(
    objects,
    st.dictionaries(keys | st.just("model"), values | st.just(REMOVE), max_size=3),
    st.sampled_from([None, 1]),
)
def test_an_edited_body_means_what_the_changes_say(doc, changes, indent):
    expected = {k: v for k, v in (doc | changes).items() if v is not REMOVE}
    body = json.dumps(doc, indent=indent).encode()
    assert json.loads(edit(body, doc, changes)) == expected


@given(values)
def test_what_is_dumped_is_read_back(value):
    assert read_json(dump(value)) == value
