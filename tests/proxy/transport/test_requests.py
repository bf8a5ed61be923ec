"""What is sent: what the caller gave, and nothing that a receiver could read as more."""

import asyncio
import contextlib
import time

import pytest

from proxy.snapshot import Timeouts
from proxy.upstreams.transport import (
    Broken,
    FirstByteTimeout,
    IdleTimeout,
)
from tests.proxy.hostile_server import answers, chunked, hostile, whole
from tests.proxy.transport.calls import CALM, iterate, left, send, target, text


async def test_request_holds_what_was_given_and_no_more(transport):
    async with hostile(answers(whole())) as server:
        await text(transport, server, headers=[("authorization", "Bearer k"), ("X-Trace", "1")])
        lines = server.visits[0].heads[0].decode().split("\r\n")
        assert lines[0] == "POST /v1/chat HTTP/1.1"
        assert {line.lower() for line in lines[1:-2]} == {
            f"host: 127.0.0.1:{server.port}",
            "content-length: 2",
            "authorization: bearer k",
            "x-trace: 1",
        }
        await text(transport, server, method="GET", body=None)
        assert (
            server.visits[0].heads[1].decode().lower()
            == f"get /v1/chat http/1.1\r\nhost: 127.0.0.1:{server.port}\r\n\r\n"
        )


UNSAFE = {
    "line-break-in-value": [("x", "a\r\ny: b")],
    "line-feed-in-value": [("x", "a\nb")],
    "return-in-value": [("x", "a\rb")],
    "nul-in-value": [("x", "a\0b")],
    "line-break-in-name": [("x: a\r\ny", "b")],
    "colon-in-name": [("x:", "b")],
    "space-in-name": [("x y", "b")],
    "no-name": [("", "b")],
    "beyond-latin-1": [("x", "日本")],
    "own-host": [("Host", "elsewhere")],
    "own-length": [("Content-Length", "2")],
    "own-transfer-encoding": [("Transfer-Encoding", "chunked")],
    "own-connection": [("Connection", "close")],
}


@pytest.mark.parametrize("headers", UNSAFE.values(), ids=UNSAFE)
async def test_unsafe_headers_are_not_sent(transport, headers):
    async with hostile(answers(whole())) as server:
        with pytest.raises(ValueError):
            await text(transport, server, headers=headers)
        assert not server.visits


@pytest.mark.parametrize("path", ["", "v1", "/a b", "/a\r\nx: y", "/ä", "/a\tb", "/a\0"])
async def test_unsafe_paths_are_not_sent(transport, path):
    async with hostile(answers(whole())) as server:
        with pytest.raises(ValueError):
            await transport.send(target(server), "GET", path, (), None, CALM)
        with pytest.raises(ValueError):
            await transport.send(target(server), "GET / HTTP/1.1\r\nx:", "/", (), None, CALM)
        assert not server.visits


async def test_body_of_pieces_is_sent_as_it_comes(transport):
    async with hostile(answers(whole())) as server:
        assert await text(transport, server, body=iterate(b"one", b"", b"two", pause_s=0.01)) == b"ok"
        assert (
            await text(transport, server, body=iterate(b"onetwo"), headers=[("content-length", "6")]) == b"ok"
        )
        assert await text(transport, server, body=iterate()) == b"ok"
        heads = [head.lower() for head in server.visits[0].heads]
        assert b"transfer-encoding: chunked" in heads[0]
        assert b"content-length: 6" in heads[1]
        assert b"transfer-encoding" not in heads[1]
        assert server.visits[0].bodies == [b"onetwo", b"onetwo", b""]


async def test_body_that_fails_ends_the_call_and_the_connection(transport):
    async def failing():
        yield b"one"
        raise KeyError("the client has left")

    async def script(visit):
        with contextlib.suppress(ValueError):
            await visit.request()
        visit.ended_at = time.monotonic()

    async with hostile(script) as server:
        with pytest.raises((KeyError, Broken)):
            await asyncio.wait_for(text(transport, server, body=failing()), 2)
        assert await left(server.visits[0])


async def test_upload_that_is_refused_early_gets_its_answer(transport):
    async def script(visit):
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.say(whole(b"too large", status="413 Content Too Large"))
        await visit.hang()

    async with hostile(script) as server:
        response = await send(transport, server, body=iterate(*[b"x" * 1000] * 10_000, pause_s=0.01))
        assert (response.status, await response.read(100)) == (413, b"too large")
        assert await left(server.visits[0])


async def test_first_byte_is_waited_for_from_the_end_of_the_upload(transport):
    async def script(visit):
        await visit.request()
        await visit.hang()

    async with hostile(script) as server:
        began = time.monotonic()
        with pytest.raises(FirstByteTimeout):
            body = iterate(*[b"x"] * 15, pause_s=0.02)
            await text(transport, server, body=body, timeouts=Timeouts(first_byte_s=0.15))
        assert 0.4 < time.monotonic() - began < 0.8


async def test_upload_stops_with_the_head_of_a_refusal(transport, kind):
    if kind == "session":
        pytest.skip("aiohttp goes on to send until the answer is whole")
    taken = 0

    async def endless():
        nonlocal taken
        while True:
            await asyncio.sleep(0.005)
            taken += 1
            yield b"x"

    async def script(visit):
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.say(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo")
        await asyncio.sleep(0.1)
        await visit.say(b" large")
        await visit.hang()

    async with hostile(script) as server:
        response = await send(transport, server, body=endless())
        before = taken
        assert await response.read(100) == b"too large"
        assert taken - before <= 1


async def test_upload_waits_for_an_upstream_that_does_not_read(transport):
    taken = 0

    async def endless():
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 100_000

    async def script(visit):
        await asyncio.sleep(5)

    async with hostile(script) as server:
        with pytest.raises((IdleTimeout, FirstByteTimeout)):
            await text(transport, server, body=endless(), timeouts=Timeouts(idle_s=0.2, first_byte_s=0.2))
        assert taken < 200


async def test_answer_waits_for_a_consumer_that_does_not_read(transport):
    said = 0

    async def script(visit):
        nonlocal said
        await visit.request()
        await visit.say(chunked(end=b""))
        for _ in range(1000):
            await visit.say(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            said += 1

    async with hostile(script) as server:
        response = await send(transport, server)
        await anext(aiter(response.pieces()))
        await asyncio.sleep(0.3)
        assert said < 300
        response.abort()
