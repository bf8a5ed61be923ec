"""Large documents: read in slices they are what a parser makes of the whole."""

import json
import random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire import large
from proxy.wire.chat import Unreadable, read_object, read_reply
from proxy.wire.large import TooMuch, read_large

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=60,
)
SPACED = [(",", ":"), (", ", ": "), (" ,\n ", "\t: ")]


@settings(max_examples=200, deadline=None)
@given(
    value=values,
    separators=st.sampled_from(SPACED),
    size=st.sampled_from([2, 8, 30]),
    ascii_only=st.booleans(),
)
def test_any_document_is_read_as_a_parser_reads_it(value, separators, size, ascii_only):
    text = json.dumps(value, separators=separators, ensure_ascii=ascii_only).encode()
    before = large.SLICE_BYTES, large.MAX_LARGE_DEPTH
    large.SLICE_BYTES, large.MAX_LARGE_DEPTH = size, 100
    try:
        assert read_large(text, orjson.loads) == orjson.loads(text)
    finally:
        large.SLICE_BYTES, large.MAX_LARGE_DEPTH = before


TEXTS = [
    b"[1,2,3,4,5,6,7,8,9]", b'["aaaaaaaaaaaa",[1,2,3,4,5],"bbbbbbbbbbbb"]', b'{"a":[1,2,3,4,5,6],"b":{"c":"ddddddddddd"}}',
    b"[[1,2,3,4,5,6],[1,2,3,4,5,6]]", b'[ "\\"\\\\", {"a\\"b" : [1,2,3,4,5,6]} ]', b'{"a":1,"a":[1,2,3,4,5,6],"a":3}',
]  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(data=st.data())
def test_what_a_parser_refuses_is_refused(data):
    text = data.draw(st.sampled_from(TEXTS))
    at = data.draw(st.integers(0, len(text)))
    upto = data.draw(st.integers(at, min(len(text), at + 3)))
    text = (
        text[:at]
        + data.draw(st.sampled_from([b"", b",", b"]", b"[", b"}", b'"', b":", b" ", b"\\", b"1"]))
        + text[upto:]
    )
    before = large.SLICE_BYTES
    large.SLICE_BYTES = 8
    try:
        expected = orjson.loads(text)
    except orjson.JSONDecodeError:
        with pytest.raises(ValueError):
            read_large(text, orjson.loads)
    else:
        assert read_large(text, orjson.loads) == expected
    finally:
        large.SLICE_BYTES = before


def runs_of(text):
    """How long the longest text is that a parser is given."""
    longest = 0

    def loads(part):
        nonlocal longest
        longest = max(longest, len(part))
        return orjson.loads(part)

    assert read_large(text, loads) == orjson.loads(text)
    return longest


DENSE = {
    "numbers": b"[" + b",".join([b"%d" % n for n in range(300_000)]) + b"]",
    "lists": b"[" + b",".join([b"[]"] * 300_000) + b"]",
    "objects": b'{"data":[' + b",".join([b'{"a":1}'] * 200_000) + b"]}",
    "names": b"{" + b",".join([b'"%d":1' % n for n in range(200_000)]) + b"}",
    "embeddings": orjson.dumps(
        {"data": [{"embedding": [n / 7 for n in range(3_000)]} for _ in range(50)], "usage": {}}
    ),
    "one-in-another": b'{"a":' * 5 + b"[" + b"1," * 300_000 + b"1]" + b"}" * 5,
}


@pytest.mark.parametrize("text", DENSE.values(), ids=DENSE)
def test_no_parser_is_given_much_more_than_a_slice(text):
    assert runs_of(text) < 2.2 * large.SLICE_BYTES


def test_a_long_text_goes_at_once():
    text = random.Random(7).choices(["a", '"', "\\", "é", "\n"], k=500_000)
    whole = orjson.dumps({"choices": [{"message": {"content": "".join(text)}}], "n": 1})
    assert read_large(whole, orjson.loads) == orjson.loads(whole)


@pytest.mark.parametrize(
    "text", [b"[" * 20 + b"1," * 200_000 + b"1" + b"]" * 20, b"[" + b"[]," * 2_100_000 + b"1]"]
)
def test_what_would_take_too_long_is_refused(text, monkeypatch):
    monkeypatch.setattr(large, "MAX_STEPS", 50_000)
    monkeypatch.setattr("proxy.wire.chat.LARGE_BYTES", 1_000)
    monkeypatch.setattr(large, "SLICE_BYTES", 10_000)
    with pytest.raises(TooMuch):
        read_large(text, orjson.loads)
    with pytest.raises(Unreadable, match="too large to be read"):
        read_object(b'{"a":' + text + b"}")


def test_a_large_reply_is_read_as_a_small_one():
    choice = {"index": 0, "message": {"role": "assistant", "content": "x" * 400_000}, "finish_reason": "stop"}
    body = orjson.dumps({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
    reply = read_reply(body)
    assert (len(reply.choices[0].text), reply.usage.output_tokens) == (400_000, 4)
    for broken in (body[:-1], body[1:], body + b"x", b"[" + body + b"]"):
        with pytest.raises(Unreadable):
            read_reply(broken)
