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


async def both(ending):
    """The answer that `ending` makes of a listener, and the next one on the same connection."""

    async def handler(request):
        if request.path == "/next":
            return Response(body=b"ok")
        return await ending(Listener(request, list, 0.01, 0.01))

    async with served(handler) as server, server.client() as client:
        await client.send(GET)
        first = await client.answer()
        await client.send(NEXT)
        return first, await client.answer()


@pytest.mark.parametrize("turns", LATER)
async def test_no_comment_follows_the_end(turns):
    async def ending(listener):
        await listener.tell(b"data: 1\n\n")
        await late(turns)
        return await listener.end()

    (status, _, body), following = await both(ending)
    assert (status, body.count(b"data: ")) == (200, 2)
    assert following[2] == b"ok"


@pytest.mark.parametrize("turns", LATER)
async def test_no_status_follows_that_of_an_error(turns):
    async def ending(listener):
        await late(turns)
        if listener.started:
            return await listener.end()
        listener.stop()
        return Response(status=502)

    (status, _, _), following = await both(ending)
    assert status in (200, 502)
    assert following[2] == b"ok"
