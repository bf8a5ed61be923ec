"""Request bodies over HTTP: what a large one costs everybody else."""

import asyncio
import io
import json

import aiohttp
import pytest

from tests.proxy.scripted import Upstream, proxy

BODIES = [
    ("text", b'{"model":"mini","stream":true,"messages":[{"role":"user","content":"%b"}]}' % (b"ab, c " * 3_000_000)),
    ("numbers", b'{"model":"mini","messages":[%b1]}' % (b"1," * 8_000_000)),
    ("objects", b'{"model":"mini","messages":[%b{}]}' % (b"{}," * 6_000_000)),
    ("half-the-objects", b'{"model":"mini","messages":[{"role":"user"}],"x":[%b1]}' % (b'{"a":1},' * 400_000)),
]  # fmt: skip


@pytest.mark.parametrize("body", [r[1] for r in BODIES], ids=[r[0] for r in BODIES])
async def test_a_large_body_stalls_nobody(body):
    async def post(session, url):
        headers = {"content-type": "application/json"}
        async with session.post(url + "/v1/chat/completions", data=io.BytesIO(body), headers=headers) as r:
            return r.status, await r.text()

    async def pulse():
        worst, last = 0.0, asyncio.get_running_loop().time()
        while not job.done():
            await asyncio.sleep(0.005)
            now = asyncio.get_running_loop().time()
            worst, last = max(worst, now - last), now
        return worst

    async with Upstream("hello").running() as upstream:
        async with proxy(upstream, body_mb=32) as app, aiohttp.ClientSession() as session:
            job = asyncio.get_running_loop().create_task(post(session, app.url))
            worst = await pulse()
            status, text = await job
    assert status in (200, 400)
    assert status == 200 or json.loads(text)["error"]["code"] == "invalid_request"
    assert worst < 0.8  # on a busy machine
