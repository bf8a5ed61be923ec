"""Requests are read strictly and changed without touching a byte that need not change."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import body as wire_body
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


@pytest.fixture(params=["small", "large"])
def size(request, monkeypatch):
    """Both ways of finding members, whatever the size of the body."""
    if request.param == "large":
        monkeypatch.setattr(wire_body, "LARGE_BYTES", 0)


@pytest.mark.usefixtures("size")
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
    st.booleans(),
    st.booleans(),
)
def test_an_edited_body_means_what_the_changes_say(doc, changes, indent, large, ascii_only):
    expected = {k: v for k, v in (doc | changes).items() if v is not REMOVE}
    body = json.dumps(doc, indent=indent, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(wire_body, "LARGE_BYTES", 0 if large else 10_000)
        assert json.loads(edit(body, doc, changes)) == expected


COUNTS = [
    ("numbers", b"[" + b"1," * 600_000 + b"1]", False),
    ("empty-objects", b"[" + b"{}," * 600_000 + b"1]", False),
    ("texts", b"[" + b'"",' * 600_000 + b'""]', False),
    ("members", b"{" + b",".join(b'"%d":1' % n for n in range(600_000)) + b"}", False),
    ("commas-in-a-text", b'["' + b'a,b\\",' * 300_000 + b'"]', True),
    ("many", b"[" + b"1," * 400_000 + b"1]", True),
]


@pytest.mark.parametrize(("body", "fine"), [r[1:] for r in COUNTS], ids=[r[0] for r in COUNTS])
def test_values_are_counted_before_they_are_made(body, fine):
    began = time.perf_counter()
    if fine:
        assert read_json(body)
    else:
        with pytest.raises(NotJson, match="more than 500000 values"):
            read_json(body)
    assert time.perf_counter() - began < 2


@given(values)
def test_what_is_dumped_is_read_back(value):
    assert read_json(dump(value)) == value
