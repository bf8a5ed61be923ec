"""Failures become answers in OpenAI's shape, with the upstream's own words where it had some."""

import json

import pytest

from policies.chat import Failure
from proxy.wire.errors import ApiError, complete_error_body, from_failure

OWN = [
    ("timeout", Failure("timeout", "x"), 504, "upstream_timeout"),
    ("connect", Failure("connect", "x"), 502, "upstream_unavailable"),
    ("breaker", Failure("breaker", "x"), 503, "upstream_unavailable"),
    ("broken", Failure("broken", "x"), 502, "upstream_error"),
    ("malformed", Failure("malformed", "x"), 502, "upstream_error"),
    ("too-large", Failure("too_large", "x"), 502, "upstream_error"),
]


@pytest.mark.parametrize(("failure", "status", "code"), [r[1:] for r in OWN], ids=[r[0] for r in OWN])
def test_failures_without_an_answer(failure, status, code):
    error = from_failure(failure, retried=False)
    body = json.loads(error.body())["error"]
    assert (error.status, body["code"], set(body)) == (status, code, {"message", "type", "param", "code"})


def test_an_upstreams_refusal_keeps_status_and_body():
    raw = b'{"error": {"message": "m", "type": "t", "param": null, "code": null, "more": 1}}'
    error = from_failure(
        Failure("status", "m", 429, body=raw, headers=(("retry-after", "7"),)), retried=False
    )
    assert (error.status, error.body()) == (429, raw)
    assert ("retry-after", "7") in error.headers


def test_a_retry_of_ours_is_told_so_that_clients_do_not_multiply_it():
    failure = Failure("status", "m", 503)
    assert ("x-should-retry", "false") in from_failure(failure, retried=True).headers
    assert not from_failure(failure, retried=False).headers


BODIES = [
    ("numeric-code", b'{"error": {"message": "m", "code": 400, "type": "t"}}', "m", "400"),
    ("text-error", b'{"error": "m"}', "m", None),
    ("fastapi-detail", b'{"detail": "m"}', "m", None),
    ("no-object", b"[1]", "The upstream answered 500.", None),
    ("message-missing", b'{"error": {"code": "c"}}', "The upstream answered 500.", "c"),
]


@pytest.mark.parametrize(("body", "message", "code"), [r[1:] for r in BODIES], ids=[r[0] for r in BODIES])
def test_any_error_body_gets_all_four_members(body, message, code):
    told, whole = complete_error_body(body, 500)
    error = json.loads(whole)["error"]
    assert (told, error["message"], error["code"]) == (message, message, code)
    assert set(error) >= {"message", "type", "param", "code"}


def test_plain_text_is_quoted_and_html_is_not():
    assert complete_error_body(b"no capacity", 503) == ("no capacity", None)
    assert complete_error_body(b"<html><body>x", 503) == ("The upstream answered 503.", None)


def test_messages_are_capped():
    told, whole = complete_error_body(json.dumps({"error": {"message": "x" * 100_000}}).encode(), 500)
    assert len(told) == 2000
    assert len(whole) < 3000


def test_an_event_is_one_frame_whatever_the_body():
    error = ApiError(502, "m", None, raw=b'{"error": {\n"message": "x"}}')
    assert error.event().count(b"\n\n") == 1
    assert json.loads(error.event()[6:])["error"]["message"] == "m"
