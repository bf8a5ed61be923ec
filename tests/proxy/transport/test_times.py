"""Who is late is left, and told by name; so is who cannot be reached."""

import asyncio
import contextlib
import socket
import time

import pytest

from proxy.snapshot import Timeouts
from proxy.upstreams.transport import (
    ConnectFailed,
    ConnectTimeout,
    FirstByteTimeout,
    IdleTimeout,
    Target,
    TotalTimeout,
    TransportError,
)
from tests.proxy.hostile_server import answers, chunked, hostile, spoken, whole
from tests.proxy.transport.calls import CALM, QUICK, left, send, text


async def test_refused_connection(transport):
    async with hostile(answers(whole())) as server:
        pass
    with pytest.raises(ConnectFailed) as caught:
        await text(transport, server)
    assert (caught.value.kind, caught.value.retryable, caught.value.sent) == ("connect", True, False)
    assert str(server.port) not in str(caught.value)


async def test_unknown_host_name(transport):
    nowhere = Target.parse("http://nx.invalid/v1")
    with pytest.raises(ConnectFailed) as caught:
        await transport.send(nowhere, "GET", "/v1/x", (), None, CALM)
    assert "invalid" not in str(caught.value)


async def test_connect_timeout(transport):
    with contextlib.ExitStack() as sockets:
        full = sockets.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        deaf = Target.parse(f"http://127.0.0.1:{full.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(ConnectTimeout):
            await transport.send(deaf, "GET", "/", (), None, QUICK)
        assert 0.14 < time.monotonic() - began < 0.4
        short = Timeouts(connect_s=5, first_byte_s=5, idle_s=5, total_s=0.1)
        with pytest.raises(TransportError) as caught:
            await transport.send(deaf, "GET", "/", (), None, short)
        assert isinstance(caught.value, TotalTimeout)


# Time


async def late(transport, script, timeouts=QUICK):
    """The error of a call, and the seconds it took."""
    async with hostile(script) as server:
        began = time.monotonic()
        with pytest.raises(TransportError) as caught:
            await text(transport, server, timeouts=timeouts)
        took = time.monotonic() - began
        assert await left(server.visits[0])
        return type(caught.value), took


async def test_silence_before_the_head(transport):
    error, took = await late(transport, spoken(b""))
    assert error is FirstByteTimeout
    assert 0.14 < took < 0.4


async def test_dripping_head_is_late_as_a_whole(transport):
    error, took = await late(transport, spoken(whole(b"", "X: " + "x" * 100), 0.02))
    assert error is FirstByteTimeout
    assert 0.14 < took < 0.4


async def test_head_and_then_silence(transport):
    error, took = await late(transport, spoken(chunked(end=b"")))
    assert error is IdleTimeout
    assert 0.14 < took < 0.4


async def test_first_piece_may_take_as_long_as_a_first_byte(transport):
    async def script(visit):
        await visit.request()
        await visit.say(chunked(end=b""))
        await asyncio.sleep(0.2)
        await visit.say(b"2\r\nok\r\n0\r\n\r\n")

    patient = Timeouts(first_byte_s=2, idle_s=0.1)
    async with hostile(script) as server:
        assert await text(transport, server, timeouts=patient) == b"ok"


async def test_silence_between_two_pieces(transport):
    error, took = await late(transport, spoken(chunked(b"hel", end=b"")), Timeouts(idle_s=0.15))
    assert error is IdleTimeout
    assert 0.14 < took < 0.4


async def test_silence_after_a_late_first_piece(transport):
    async def script(visit):
        await visit.request()
        await asyncio.sleep(0.25)
        await visit.say(chunked(b"hel", end=b""))
        await visit.hang()

    error, took = await late(transport, script, Timeouts(first_byte_s=5, idle_s=0.1))
    assert error is IdleTimeout
    assert 0.34 < took < 0.6


async def test_dripping_stream_ends_with_the_total(transport):
    async def script(visit):
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        await visit.spell(b"x" * 1000, 0.01)

    error, took = await late(transport, script, Timeouts(first_byte_s=5, idle_s=0.1, total_s=0.4))
    assert error is TotalTimeout
    assert 0.39 < took < 0.7


@pytest.mark.parametrize("head", [b"Content-Length: 1000", b"Content-Type: application/json"])
async def test_a_drip_of_what_is_whole_at_its_sender_is_silence(transport, head):
    async def script(visit):
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        await visit.spell(b"x" * 1000, 0.02)

    error, took = await late(transport, script, Timeouts(first_byte_s=0.2, idle_s=0.2, total_s=5))
    assert error is IdleTimeout
    assert 0.19 < took < 0.8


async def test_white_space_before_an_answer_is_no_answer(transport):
    async def script(visit):
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        await visit.spell(b" " * 30, 0.01)
        await visit.say(b"{}")

    async with hostile(script) as server:
        patient = Timeouts(first_byte_s=1, idle_s=0.1, total_s=5)
        assert (await text(transport, server, timeouts=patient)).strip() == b"{}"
        hasty = Timeouts(first_byte_s=0.15, idle_s=0.1, total_s=5)
        with pytest.raises(IdleTimeout):
            await text(transport, server, timeouts=hasty)


async def test_total_holds_while_nothing_is_late(transport):
    timeouts = Timeouts(first_byte_s=5, idle_s=5, total_s=0.15)
    error, took = await late(transport, spoken(b""), timeouts)
    assert error is TotalTimeout
    assert 0.14 < took < 0.4


async def test_time_of_the_last_call_does_not_count(transport):
    async def script(visit):
        while await visit.request():
            await asyncio.sleep(0.1)
            await visit.say(whole())

    async with hostile(script) as server:
        for _ in range(4):
            assert await text(transport, server, timeouts=QUICK) == b"ok"
        assert len(server.visits) == 1


async def test_slow_consumer_is_not_the_upstreams_silence(transport):
    async def script(visit):
        await visit.request()
        await visit.say(chunked(*[b"x" * 60_000] * 100))
        await visit.hang()

    async with hostile(script) as server:
        response = await send(transport, server, timeouts=Timeouts(idle_s=0.2))
        size = 0
        async for piece in response.pieces():
            size += len(piece)
            if size < 200_000:
                await asyncio.sleep(0.3)
        assert size == 6_000_000
