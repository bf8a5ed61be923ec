"""Heads: what is written is one head; what is read says once where its body ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstreams.http1 import (
    CHUNKED,
    UNTIL_CLOSED,
    keep_alive_s,
    read_head,
    request_head,
    split_length,
)
from proxy.upstreams.transport import Malformed, Target

anything = st.text(alphabet=st.characters(min_codepoint=0, max_codepoint=0x17F), max_size=20)


def test_head_is_written_as_given():
    head = request_head(
        "POST", "/v1/chat?a=b", "host:8080", "content-length: 2\r\n", [("X-A", "caf\xe9"), ("b", "")]
    )
    assert (
        head
        == b"POST /v1/chat?a=b HTTP/1.1\r\nhost: host:8080\r\ncontent-length: 2\r\nX-A: caf\xe9\r\nb: \r\n\r\n"
    )


@given(anything, anything, st.lists(st.tuples(anything, anything), max_size=3))
def test_head_that_is_written_is_read_as_one_head_with_these_headers(method, path, headers):
    try:
        head = request_head(method, "/" + path, "h", "", headers)
    except ValueError:
        return
    lines = head.decode("latin-1").split("\r\n")
    assert lines[0] == f"{method} /{path} HTTP/1.1"
    assert lines[0].count(" ") == 2
    assert lines[1:] == ["host: h", *[f"{name}: {value}" for name, value in headers], "", ""]
    assert not {name.lower() for name, _ in headers} & {"host", "content-length", "transfer-encoding"}


def test_declared_length_is_taken_out():
    assert split_length([("a", "1"), ("Content-Length", "12")]) == (12, [("a", "1")])
    assert split_length([("a", "1")]) == (None, [("a", "1")])
    for bad in ("", "-1", "+1", "1_0", "x", "٣", "9" * 30):
        with pytest.raises(ValueError):
            split_length([("content-length", bad)])
    with pytest.raises(ValueError):
        split_length([("content-length", "1"), ("content-length", "1")])


def test_headers_are_text_with_lower_names_and_trimmed_values():
    assert read_head(200, [b"X-A", b"b"], [b"caf\xe9 \t", b""])[:2] == (("x-a", "b"), ["café", ""])
    assert read_head(200, [b"a"], [b"b "])[:2] == (("a",), ["b"])
    assert read_head(200, [b"a"], [b""])[:2] == (("a",), [""])
    assert read_head(200, [], [])[:2] == ((), [])


def shape(status, headers):
    names, values = [name.encode() for name, _ in headers], [value.encode() for _, value in headers]
    return read_head(status, names, values)[2:]


SHAPES = {
    "length": (200, [("content-length", "12")], (12, False)),
    "chunked": (200, [("transfer-encoding", "Chunked")], (CHUNKED, False)),
    "neither": (200, [("a", "b")], (UNTIL_CLOSED, False)),
    "no-content": (204, [], (0, False)),
    "not-modified": (304, [("content-length", "12"), ("content-encoding", "gzip")], (0, False)),
    "compressed": (200, [("content-length", "12"), ("content-encoding", "gzip")], (12, True)),
    "identity": (200, [("content-length", "12"), ("content-encoding", "Identity")], (12, False)),
}


@pytest.mark.parametrize(("status", "headers", "expected"), SHAPES.values(), ids=SHAPES)
def test_shape_of_a_body(status, headers, expected):
    assert shape(status, headers) == expected
    assert shape(status, [(f"x-{n}" * 40, "a") for n in range(50)] + headers) == expected


@pytest.mark.parametrize(
    "headers",
    [
        [("content-length", "1"), ("content-length", "1")],
        [("content-length", "1"), ("transfer-encoding", "chunked")],
        [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        [("transfer-encoding", "gzip, chunked")],
        [("content-length", "1_0")],
        [("content-length", "٣")],
        [("a", "b")] * 101,
        [("a", "b\nc: d")],
        [("content-encoding", "gzip"), ("content-encoding", "gzip")],
    ],
)
def test_shape_that_is_doubtful_is_refused(headers):
    with pytest.raises(Malformed):
        shape(200, headers)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("timeout=5", 4),
        ("max=100, Timeout=60", 59),
        ("timeout=1", 0.5),
        ("timeout=0", 0),
        ("max=5", float("inf")),
        ("", float("inf")),
        (None, float("inf")),
    ],
)
def test_patience_of_a_provider(value, seconds):
    assert keep_alive_s(value) == seconds


TARGETS = {
    "https://api.openai.com/v1": Target("api.openai.com", 443, tls=True, prefix="/v1"),
    "http://127.0.0.1:8081/v1/": Target("127.0.0.1", 8081, tls=False, prefix="/v1"),
    "https://x.test/openai/deployments/a?api-version=1": Target(
        "x.test", 443, tls=True, prefix="/openai/deployments/a", query="api-version=1"
    ),
    "http://[::1]:80": Target("::1", 80, tls=False),
    "https://Bücher.test": Target("xn--bcher-kva.test", 443, tls=True),
}


@pytest.mark.parametrize(("url", "target"), TARGETS.items(), ids=TARGETS)
def test_base_url_says_where_a_provider_lives(url, target):
    assert Target.parse(url) == target


def test_target_makes_paths_and_host_headers():
    target = TARGETS["https://x.test/openai/deployments/a?api-version=1"]
    assert target.path("/chat", "b=2") == "/openai/deployments/a/chat?api-version=1&b=2"
    assert Target.parse("http://h/v1").path("/chat") == "/v1/chat"
    assert (target.host_header, target.scheme) == ("x.test", "https")
    assert Target.parse("http://[::1]:8080").host_header == "[::1]:8080"
    assert Target.parse("http://h:443").host_header == "h:443"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com/v1",
        "ftp://h",
        "http://",
        "http://u:secret@h/",
        "http://h/#f",
        "http://h:0",
        "http://h:99999",
        "http://h/a b",
        "http://h/é",
    ],
)
def test_base_url_that_is_none_is_refused_without_quoting_it(url):
    with pytest.raises(ValueError) as caught:
        Target.parse(url)
    assert "secret" not in str(caught.value)
