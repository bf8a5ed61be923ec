"""Schemas that clients send, over HTTP: what they cost others, and what comes of their answers."""

import asyncio
import json

import aiohttp
import pytest

from tests.proxy.scripted import Upstream, proxy

USER = [{"role": "user", "content": "Which?"}]
KINDS = [
    {"type": "object", "properties": {"k": {"const": n}, "v": {"type": "string"}}, "required": ["k", "v"]}
    for n in range(150)
]
ROUTES = "  live: {ladder: [mini], stream: checked, repair: {reask: 0}}"


@pytest.fixture
async def upstream():
    async with Upstream('{"k": 7, "v": "x"}').running() as running:
        yield running


@pytest.fixture
async def app(upstream):
    async with proxy(upstream, routes=ROUTES) as running:
        yield running


async def ask(app, schema, model="live", **rest):
    inline = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    document = {"model": model, "messages": USER, "response_format": inline} | rest
    async with aiohttp.ClientSession() as session:
        async with session.post(app.url + "/v1/chat/completions", json=document) as r:
            return r.status, await r.text()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_answer_by_a_costly_schema_is_checked_elsewhere(app, stream):
    status, text = await ask(app, {"oneOf": KINDS}, stream=stream)
    assert (status, len(app.services.sandbox._all)) == (200, 1)
    assert "error" not in text


async def test_a_costly_answer_stalls_nobody_and_is_refused(app, upstream):
    upstream.script = [json.dumps([{"k": 149, "v": "x"}] * 30_000)]
    job = asyncio.get_running_loop().create_task(ask(app, {"type": "array", "items": {"oneOf": KINDS * 6}}))
    worst = 0.0
    async with aiohttp.ClientSession() as session:
        while not job.done():
            began = asyncio.get_running_loop().time()
            async with session.get(app.url + "/healthz") as r:
                assert r.status == 200
            worst = max(worst, asyncio.get_running_loop().time() - began)
            await asyncio.sleep(0.02)
    status, text = await job
    assert (status, json.loads(text)["error"]["code"]) == (422, "schema_unsatisfied")
    assert worst < 0.8  # on a busy machine; checked here it would be seconds


DEEP = [("deeper-than-orjson", 900), ("deeper-than-python", 50_000)]


@pytest.mark.parametrize("depth", [r[1] for r in DEEP], ids=[r[0] for r in DEEP])
async def test_a_deep_answer_to_a_schema_that_holds_itself_is_invalid(app, upstream, depth):
    upstream.script = ["[" * depth + "]" * depth]
    status, _ = await ask(app, {"type": "array", "items": {"$ref": "#"}})
    assert status == 422
