"""What a request asks for, and what of it is ours."""

import json

import pytest

from proxy.wire.ask import read_ask
from proxy.wire.body import REMOVE
from proxy.wire.errors import ApiError

MESSAGES = [{"role": "user", "content": "hi"}]


def ask(headers=None, path_route=None, **doc):
    doc = {"model": "m", "messages": MESSAGES} | doc
    return read_ask("chat/completions", json.dumps(doc).encode(), headers or {}, path_route)


BAD = [
    ("no-object", "chat/completions", b"[]", None, "JSON object"),
    ("not-json", "chat/completions", b"{", None, "not valid JSON"),
    ("model-number", "chat/completions", b'{"model": 5}', "model", "a number"),
    ("messages-missing", "chat/completions", b'{"model": "m"}', "messages", "missing"),
    ("messages-text", "chat/completions", b'{"model": "m", "messages": "x"}', "messages", "a string"),
    ("messages-empty", "chat/completions", b'{"model": "m", "messages": []}', "messages", "at least one"),
    ("message-null", "chat/completions", b'{"model": "m", "messages": [null]}', "messages[0]", "null"),
    ("stream-text", "completions", b'{"stream": "yes"}', "stream", "a string"),
    ("options-list", "completions", b'{"stream_options": []}', "stream_options", "an array"),
    ("tailrace-text", "completions", b'{"tailrace": "x"}', "tailrace", "a string"),
    ("tailrace-unknown", "completions", b'{"tailrace": {"rute": "x"}}', "tailrace", "known: route"),
    ("progress-unknown", "completions", b'{"tailrace": {"progress": "x"}}', "tailrace.progress", "comment"),
    (
        "cost-words",
        "completions",
        b'{"tailrace": {"max_cost_usd": "cheap"}}',
        "tailrace.max_cost_usd",
        "0.05",
    ),
]


@pytest.mark.parametrize(
    ("endpoint", "body", "param", "words"), [r[1:] for r in BAD], ids=[r[0] for r in BAD]
)
def test_bad_requests_name_the_field_and_what_was_expected(endpoint, body, param, words):
    with pytest.raises(ApiError) as caught:
        read_ask(endpoint, body, {}, None)
    error = json.loads(caught.value.body())["error"]
    assert (caught.value.status, error["code"], error["param"]) == (400, "invalid_request", param)
    assert words in error["message"]
    assert ("x-should-retry", "false") in caught.value.headers


def test_a_plain_request_has_nothing_of_ours():
    found = ask(stream=True, stream_options={"include_usage": True})
    assert (found.model, found.stream, found.include_usage, found.own) == ("m", True, True, {})
    assert found.controls.route is None


ROUTES = [
    ("path-first", {"x-tailrace-route": "header"}, "path", {"tailrace": {"route": "body"}}, "path"),
    ("header-second", {"x-tailrace-route": "header"}, None, {"tailrace": {"route": "body"}}, "header"),
    ("body-third", {}, None, {"tailrace": {"route": "body"}, "metadata": {"tailrace_route": "meta"}}, "body"),
    ("metadata-fourth", {}, None, {"metadata": {"tailrace_route": "meta"}}, "meta"),
]


@pytest.mark.parametrize(
    ("headers", "path", "doc", "route"), [r[1:] for r in ROUTES], ids=[r[0] for r in ROUTES]
)
def test_the_strongest_selection_of_a_route_wins(headers, path, doc, route):
    assert ask(headers, path, **doc).controls.route == route


def test_what_is_ours_is_taken_out_and_nothing_else():
    found = ask(tailrace={"explain": True}, metadata={"tailrace_route": "r", "mine": "1"})
    assert found.own == {"tailrace": REMOVE, "metadata": {"mine": "1"}}
    assert ask(metadata={"tailrace_route": "r"}).own == {"metadata": REMOVE}
    assert found.controls.explain
