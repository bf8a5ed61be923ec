"""What is read quickly is what the strict reader reads; what it would refuse is never read quickly."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.wire.body import _decoder
from schemas.quick import UNSURE, read_quick

DEPTH = 6

SURE = {
    "chat": b'{"model":"mini","messages":[{"role":"user","content":"hi: \\"a\\": 1, \\n:"}],"temperature":0.5}',
    "python": json.dumps({"model": "mini", "messages": [{"role": "user", "content": "a: b"}]}).encode(),
    "indented": json.dumps({"model": "mini", "stop": ["a", "b"], "n": 1}, indent=2).encode(),
    "arguments": json.dumps({"arguments": json.dumps({"a": json.dumps({"b": 'c":'})})}).encode(),
    "long-text": json.dumps({"content": 'say "a": b, ' * 10_000}).encode(),
    "no-object": b'["a", 1, null, true]',
    "as-deep-as-allowed": b'{"a":' * DEPTH + b"1" + b"}" * DEPTH,
    "64-bits": b"[18446744073709551615,-9223372036854775808]",
}


@pytest.mark.parametrize("body", SURE.values(), ids=SURE)
def test_what_clients_send_is_read_quickly(body):
    assert read_quick(body, DEPTH) == json.loads(body)


UNSURE_ONES = {
    "same-key-twice": b'{"a":1,"a":2}',
    "same-key-in-other-letters": b'{"a":1,"\\u0061":2}',
    "same-key-inside": b'[{"b":[{"a":1,"a":2}]}]',
    "same-key-hidden-by-a-blank": b'{"a" :1,"b":1,"b":2}',
    "same-key-hidden-by-a-line": b'{"a"\n:1,"b":1,"b":2}',
    "same-key-hidden-by-a-tab": b'{"a"\t:1,"b":1,"b":2}',
    "same-key-hidden-by-a-return": b'{"a"\r:1,"b":1,"b":2}',
    "same-key-hidden-by-a-colon": b'{"a:":1,"b":1,"b":2}',
    "same-key-hidden-by-a-backslash": b'{"a\\\\":1,"b":1,"b":2}',
    "same-key-that-ends-with-a-backslash": b'{"b\\\\":1,"b\\\\":2}',
    "more-than-64-bits": b"[18446744073709551616]",
    "less-than-64-bits": b"[-9223372036854775809]",
    "lone-surrogate": b'["\\ud800"]',
    "nan": b"[NaN]",
    "bom": b"\xef\xbb\xbf[]",
    "not-utf8": b'["\xff"]',
    "too-deep": b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1),
    "large": b"[%b1]" % (b"[]," * 100_000),
}


@pytest.mark.parametrize("body", UNSURE_ONES.values(), ids=UNSURE_ONES)
def test_what_may_be_refused_is_left_to_the_strict_reader(body):
    assert read_quick(body, DEPTH) is UNSURE


PIECES = [
    '"',
    '\\"',
    "\\\\",
    ":",
    " ",
    "\n",
    ",",
    "a",
    "b",
    '"a"',
    '"a":',
    '"b":1',
    "{",
    "}",
    "[",
    "]",
    "1",
    "1e30",
    "9" * 20,
]


@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join))
@example('{"a\\\\":1,"b":1,"b":2}')
def test_no_text_is_read_otherwise(text):
    said = read_quick(text.encode(), 64)
    if said is not UNSURE:
        assert said == _decoder.decode(text)


KEYS = st.text(alphabet='ab\\": \n\u00e9', max_size=3)
PAIRS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(KEYS, inner), max_size=4).map(tuple),
    max_leaves=12,
)
SPACES = st.sampled_from(["", "", "", " ", "\n", "\t"])


@given(PAIRS, st.data())
def test_no_object_is_read_otherwise(value, data):
    def written(part):
        def blank():
            return data.draw(SPACES)

        if isinstance(part, tuple):
            pairs = (f"{json.dumps(k)}{blank()}:{blank()}{written(v)}" for k, v in part)
            return "{" + ",".join(pairs) + "}"
        if isinstance(part, list):
            return "[" + ",".join(map(written, part)) + "]"
        return json.dumps(part)

    text = written(value)
    said = read_quick(text.encode(), 64)
    if said is not UNSURE:
        assert said == _decoder.decode(text)
