"""All request bodies in memory together are bounded, and one more is told to come again."""

import asyncio
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web

from tests.proxy.scripted import Upstream, proxy, reply

MB = 1024 * 1024


def document(size):
    return {"model": "mini", "messages": [{"role": "user", "content": "x" * size}]}


@pytest.fixture
async def upstream():
    async def slow(request, body):
        await asyncio.sleep(0.3)
        return web.json_response(reply("done"))

    async with Upstream(slow).running() as running:
        yield running


async def post(session, size, **more):
    async with session.post("/v1/chat/completions", json=document(size), **more) as r:
        return r.status, r.headers.get("retry-after"), await r.json()


async def test_one_body_more_than_fits_is_refused_and_later_taken(upstream):
    async with proxy(upstream, server=", max_held_mb: 1") as app, aiohttp.ClientSession(app.url) as session:
        answers = await asyncio.gather(*[post(session, 400_000) for _ in range(4)])
        assert sorted(status for status, *_ in answers) == [200, 200, 503, 503]
        for status, after, body in answers:
            if status == 503:
                assert (body["error"]["code"], after) == ("overloaded", "1")
                assert "server.max_held_mb" in body["error"]["message"]
        assert (await post(session, 900_000))[0] == 200
        assert app._server.held_bytes == 0


async def test_small_bodies_are_not_held_up(upstream):
    async with proxy(upstream, server=", max_held_mb: 1") as app, aiohttp.ClientSession(app.url) as session:
        large = [asyncio.create_task(post(session, 500_000)) for _ in range(2)]
        while app._server.held_bytes < 1_000_000:
            await asyncio.sleep(0.01)
        assert (await post(session, 10_000))[0] == 200
        assert [status for status, *_ in await asyncio.gather(*large)] == [200, 200]


async def test_whoever_announces_much_and_sends_nothing_keeps_nobody_out(upstream):
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n"
    async with proxy(upstream, server=", max_held_mb: 1") as app, aiohttp.ClientSession(app.url) as session:
        idle = [await asyncio.open_connection(*app.url.removeprefix("http://").split(":")) for _ in range(5)]
        for _, writer in idle:
            writer.write(head)
        await asyncio.sleep(0.05)
        assert (await post(session, 900_000))[0] == 200
        for _, writer in idle:
            writer.close()


async def test_the_largest_body_always_fits(upstream):
    async with proxy(upstream, server=", max_held_mb: 0.1") as app, aiohttp.ClientSession(app.url) as session:
        assert (await post(session, MB - 1000))[0] == 200


async def test_a_reload_changes_the_bounds(upstream):
    async with proxy(upstream) as app:
        snapshot = app.services.ready.snapshot
        app.reload(
            replace(
                snapshot,
                server=replace(
                    snapshot.server,
                    max_held_mb=7,
                    max_connections_per_client=3,
                    trusted_proxies=("10.0.0.1",),
                ),
            )
        )
        bounds = app._server.bounds
        assert (bounds.held_bytes, bounds.connections_per_client, [str(n) for n in bounds.uncounted]) == (
            7 * MB,
            3,
            ["10.0.0.1/32"],
        )
