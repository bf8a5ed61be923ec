"""Only listed headers cross the proxy."""

import pytest

from proxy.wire.headers import from_upstream, retry_after_s, to_upstream

CLIENT = [
    "authorization",
    "cookie",
    "host",
    "x-api-key",
    "x-forwarded-host",
    "x-tailrace-route",
    "proxy-authorization",
]


@pytest.mark.parametrize("name", CLIENT)
def test_a_clients_secrets_and_addresses_stay_here(name):
    assert to_upstream({name: "x"}) == []


def test_tracing_passes():
    assert to_upstream({"traceparent": "00-1-2-01"}) == [("traceparent", "00-1-2-01")]


def test_what_clients_read_comes_back_and_cookies_do_not():
    headers = [
        ("set-cookie", "a"),
        ("server", "x"),
        ("x-ratelimit-limit-requests", "9"),
        ("x-request-id", "r"),
    ]
    assert from_upstream(headers) == (("x-ratelimit-limit-requests", "9"), ("x-request-id", "r"))


WAITS = [
    ({}, None),
    ({"retry-after": "7"}, 7),
    ({"retry-after": "1", "retry-after-ms": "150"}, 0.15),
    ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 90),
    ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
    ({"retry-after": "soon"}, None),
    ({"retry-after": "-1"}, None),
    ({"retry-after": "nan"}, None),
    ({"retry-after": "1e300"}, 86400),
]


@pytest.mark.parametrize(("headers", "wait"), WAITS, ids=[str(w) for w in range(len(WAITS))])
def test_retry_after_is_read_as_seconds_and_as_a_date(headers, wait):
    assert retry_after_s(headers, now=10.0) == wait
