"""What an answer that only passes by tells of its tokens."""

import json

import pytest

from policies.chat import Usage
from proxy.wire.passing import Passing

USAGE = {"prompt_tokens": 3, "completion_tokens": 2}
STREAM = b"".join(
    b"data: " + json.dumps(event).encode() + b"\n\n"
    for event in (
        {"type": "response.output_text.delta", "delta": "a"},
        {"type": "response.output_text.delta", "delta": "b"},
        {"type": "response.completed", "response": {"usage": {"input_tokens": 3, "output_tokens": 2}}},
    )
)


def passed(content_type, body, size=7, limit=10_000):
    passing = Passing(content_type, limit)
    for at in range(0, len(body), size):
        passing.feed(body[at : at + size])
    passing.end()
    return passing


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_usage_is_found_however_the_body_is_cut(size):
    body = json.dumps({"data": [], "usage": USAGE}).encode()
    assert passed("application/json; charset=utf-8", body, size).usage == Usage(3, 2)
    stream = passed("text/event-stream", STREAM, size)
    assert (stream.usage, stream.deltas, stream.streams) == (Usage(3, 2), 2, True)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"usage": 5}', b"\xff"])
def test_what_tells_nothing_is_none(body):
    assert passed("application/json", body).usage is None


def test_a_large_body_says_so_and_its_usage_is_found():
    small, body = passed("application/json", b"{}"), json.dumps({"data": [0.5] * 100_000, "usage": USAGE})
    passing = Passing("application/json", 10**7)
    passing.feed(body.encode())
    assert (small.large, passing.large, passing.usage) == (False, True, None)
    passing.end()
    assert passing.usage == Usage(3, 2)


def test_what_is_no_text_is_not_looked_into():
    assert passed("audio/wav", json.dumps({"usage": USAGE}).encode()).usage is None


def test_a_body_over_the_limit_is_not_kept():
    body = json.dumps({"pad": "x" * 200, "usage": USAGE}).encode()
    assert passed("application/json", body, limit=100).usage is None
    assert passed("text/event-stream", b"data: " + b"x" * 500, limit=100).usage is None
