"""What an upstream may do to us, and what the client hears of it."""

import asyncio
import json

import aiohttp
import pytest
from aiohttp import web

from tests.proxy.scripted import Upstream, chunks, proxy

USER = [{"role": "user", "content": "How old?"}]
ERROR = {"error": {"message": "no capacity", "type": "server_error", "code": "x"}}


@pytest.fixture
async def upstream():
    async with Upstream("hello").running() as running:
        yield running


@pytest.fixture
async def app(upstream):
    async with proxy(upstream) as running:
        yield running


async def post(app, **body):
    async with aiohttp.ClientSession() as session:
        document = {"model": "mini", "messages": USER} | body
        async with session.post(app.url + "/v1/chat/completions", json=document) as r:
            return r.status, await r.text()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_error_in_a_200_is_an_error(app, upstream, stream):
    upstream.script = [ERROR]
    status, text = await post(app, stream=stream)
    assert status == 502
    assert json.loads(text)["error"]["message"] == "no capacity"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": "x"}], ids=["none", "empty", "no-list"])
async def test_an_answer_without_choices_is_none(app, upstream, stream, body):
    upstream.script = [body]
    status, text = await post(app, stream=stream)
    assert (status, json.loads(text)["error"]["code"]) == (502, "upstream_error")


def streaming(pieces, pause_s=0.0):
    async def answer(request, _):
        out = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await out.prepare(request)
        for piece in pieces:
            await out.write(piece)
            await asyncio.sleep(pause_s)
        return out

    return answer


def events(**kwargs):
    return [b"data: " + json.dumps(c).encode() + b"\n\n" for c in chunks("hello", **kwargs)]


@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n"], ids=["cut", "done"])
async def test_a_stream_without_finish_reason_ends_with_an_error(app, upstream, end):
    upstream.script = [streaming([*events(finish=None, usage=None), end])]
    _, text = await post(app, stream=True)
    assert '"error"' in text
    assert "[DONE]" not in text
    assert '"stop"' not in text


@pytest.mark.parametrize(
    "drip", [b": waiting\n\n", b"d", b": x\n"], ids=["comments", "bytes-of-one-event", "comment-lines"]
)
async def test_what_is_no_event_does_not_put_the_time_out_off(upstream, drip):
    times = "timeouts: {connect_s: 2, first_byte_s: 0.4, idle_s: 0.4, total_s: 20}, retries: 0"
    more = f"  slow: {{base_url: '{upstream.url}', {times}}}"
    upstream.script = [streaming([events()[0], *[drip] * 100], 0.05)]
    async with proxy(upstream, providers=more, models="  slow: {provider: slow}") as app:
        began = asyncio.get_running_loop().time()
        _, text = await post(app, model="slow", stream=True)
        assert '"error"' in text
        assert asyncio.get_running_loop().time() - began < 2
