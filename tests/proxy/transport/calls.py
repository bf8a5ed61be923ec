"""How the tests here call a transport."""

import asyncio
import time

from proxy.snapshot import Timeouts
from proxy.upstreams.transport import Target

QUICK = Timeouts(connect_s=0.15, first_byte_s=0.15, idle_s=0.15, total_s=0.3)
CALM = Timeouts(connect_s=5, first_byte_s=5, idle_s=5, total_s=10)


def target(server):
    return Target.parse(f"http://127.0.0.1:{server.port}/v1")


async def send(transport, server, *, method="POST", headers=(), body=b"{}", timeouts=CALM):
    return await transport.send(target(server), method, "/v1/chat", headers, body, timeouts)


async def text(transport, server, **options):
    response = await send(transport, server, **options)
    return await response.read(10_000_000)


async def gathered(response):
    return b"".join([piece async for piece in response.pieces()])


async def iterate(*pieces, pause_s=0.0):
    for piece in pieces:
        await asyncio.sleep(pause_s)
        yield piece


async def left(visit, within_s=1.0):
    """The client has closed this connection."""
    deadline = time.monotonic() + within_s
    while visit.ended_at is None and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    return visit.ended_at is not None
