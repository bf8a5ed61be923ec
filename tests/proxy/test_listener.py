"""The client's end of a stream: nothing is said once it has ended."""

import asyncio
import time

import pytest

from proxy.listener import Listener
from proxy.serving import Response
from tests.proxy.serving.served import served

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
LATER = [*range(5)]
"""Turns of the event loop between a comment that is due and the end of the answer."""


async def late(turns):
    """A comment is due by now, and so many turns of the event loop have passed since."""
    time.sleep(0.02)  # noqa: ASYNC251  the loop is late: what is due and what is ready meet
    for _ in range(turns):
        await asyncio.sleep(0)


@pytest.mark.parametrize("turns", LATER)
async def test_no_comment_follows_the_end(turns):
    async def handler(request):
        if request.path == "/next":
            return Response(body=b"ok")
        listener = Listener(request, list, 0.01, 0.01)
        await listener.tell(b"data: 1\n\n")
        await late(turns)
        return await listener.end()

    async with served(handler) as server, server.client() as client:
        await client.send(GET)
        status, _, body = await client.answer()
        assert (status, body.count(b"data: ")) == (200, 2)
        await client.send(NEXT)
        assert (await client.answer())[2] == b"ok"


@pytest.mark.parametrize("turns", LATER)
async def test_no_status_follows_that_of_an_error(turns):
    async def handler(request):
        if request.path == "/next":
            return Response(body=b"ok")
        listener = Listener(request, list, 0.01, 0.01)
        await late(turns)
        if listener.started:
            return await listener.end()
        listener.stop()
        return Response(status=502)

    async with served(handler) as server, server.client() as client:
        await client.send(GET)
        status, _, _ = await client.answer()
        assert status in (200, 502)
        await client.send(NEXT)
        assert (await client.answer())[2] == b"ok"
