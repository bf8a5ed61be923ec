"""Answers that come compressed though identity was asked for."""

import asyncio
import zlib

import pytest

from proxy.upstreams.transport import (
    AnswerTooLarge,
    Malformed,
)
from tests.proxy.hostile_server import answers, hostile, once, whole
from tests.proxy.transport.calls import gathered, send, text

PLAIN = b'{"choices": []}' * 3000


def compressed(data, wbits, coding):
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return whole(packer.compress(data) + packer.flush(), f"Content-Encoding: {coding}")


CODINGS = {
    "gzip": (31, "gzip"),
    "x-gzip": (31, "X-GZIP"),
    "deflate": (15, "deflate"),
    "bare-deflate": (-15, "deflate"),
}


@pytest.mark.parametrize(("wbits", "coding"), CODINGS.values(), ids=CODINGS)
async def test_compressed_answer_is_handed_out_plain(transport, wbits, coding):
    async with hostile(answers(compressed(PLAIN, wbits, coding))) as server:
        response = await send(transport, server)
        assert (response.header("content-encoding"), response.header("content-length")) == (None, None)
        assert await response.read(len(PLAIN)) == PLAIN
        assert await gathered(await send(transport, server)) == PLAIN
        with pytest.raises(AnswerTooLarge):
            await (await send(transport, server)).read(len(PLAIN) - 1)


async def test_compressed_events_come_as_they_are_flushed(transport):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    first = packer.compress(b"data: 1\n\n") + packer.flush(zlib.Z_SYNC_FLUSH)

    async def script(visit):
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + first)
        await visit.hang()

    async with hostile(script) as server:
        response = await send(transport, server)
        assert await asyncio.wait_for(anext(aiter(response.pieces())), 2) == b"data: 1\n\n"
        response.abort()


async def test_compressed_bomb_is_refused(transport):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b"\0" * 1_000_000) for _ in range(50)) + packer.flush()
    async with hostile(answers(whole(bomb, "Content-Encoding: gzip"))) as server:
        with pytest.raises(AnswerTooLarge):
            await gathered(await send(transport, server))
        with pytest.raises(AnswerTooLarge):
            await (await send(transport, server)).read(1_000_000)


UNREADABLE = {
    "brotli": whole(b"ok", "Content-Encoding: br"),
    "coded-twice": whole(b"ok", "Content-Encoding: gzip, gzip"),
    "cut": compressed(PLAIN, 31, "gzip")[:-100].replace(b"Content-Length", b"X-Length"),
    "garbage": whole(b"not gzip at all", "Content-Encoding: gzip"),
    "more-after-the-end": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
    + compressed(PLAIN, 31, "gzip").partition(b"\r\n\r\n")[2]
    + b"more",
}


@pytest.mark.parametrize("reply", UNREADABLE.values(), ids=UNREADABLE)
async def test_compressed_answer_that_cannot_be_read_is_malformed(transport, reply):
    async with hostile(once(lambda visit: visit.say(reply), kept=False)) as server:
        with pytest.raises(Malformed):
            await text(transport, server)
