"""What an upstream may do to us, and what the client hears of it."""

import asyncio
import json

import aiohttp
import pytest
from aiohttp import web

from proxy.counters import Counter
from proxy.estimates import Estimate, Paces
from proxy.snapshot import Provider
from proxy.upstreams.openai import ChatCall, OpenAIUpstream
from proxy.upstreams.pool import Pool
from tests.proxy.hostile_server import hostile
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


def refused(status, text):
    """The error that a client got, as a status or, where a stream's status was out already, as an event."""
    if status == 200:
        assert "[DONE]" not in text
        text = next(line for line in text.split("\n") if line.startswith("data: ")).removeprefix("data: ")
    else:
        assert status == 502
    return json.loads(text)["error"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_error_in_a_200_is_an_error(app, upstream, stream):
    upstream.script = [ERROR]
    error = refused(*await post(app, stream=stream))
    assert error["message"] == "no capacity"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": "x"}], ids=["none", "empty", "no-list"])
async def test_an_answer_without_choices_is_none(app, upstream, stream, body):
    upstream.script = [body]
    assert refused(*await post(app, stream=stream))["code"] == "upstream_error"


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
        await asyncio.wait_for(upstream.left.wait(), 2)  # its connection is closed: nobody reads on
        assert asyncio.get_running_loop().time() - began < 4


async def test_an_upstream_that_is_down_is_not_called_twice_as_often(app, upstream):
    async def answer(request, _):
        await asyncio.sleep(0.05)
        return web.json_response({"error": {"message": "down"}}, status=503)

    upstream.script = [answer]
    statuses = [status for status, _ in await asyncio.gather(*[post(app) for _ in range(40)])]
    assert set(statuses) == {503}
    assert 40 <= len(upstream.seen) <= 52


async def test_a_broken_model_is_left_alone_and_the_client_told_when_to_come_again(app, upstream):
    upstream.script = [web.json_response({"error": {"message": "down"}}, status=500)]
    for _ in range(4):
        await post(app)
    called = len(upstream.seen)
    began = asyncio.get_running_loop().time()
    async with aiohttp.ClientSession() as session:
        document = {"model": "mini", "messages": USER}
        async with session.post(app.url + "/v1/chat/completions", json=document) as r:
            assert (r.status, (await r.json())["error"]["code"]) == (503, "upstream_unavailable")
            assert 1 <= int(r.headers["retry-after"]) <= 6
    assert asyncio.get_running_loop().time() - began < 0.1
    assert len(upstream.seen) == called


async def test_an_upload_over_the_limit_is_refused_while_it_passes(app, upstream):
    async def parts():
        for _ in range(200):
            yield b"x" * 10_000

    upstream.script = [{"ok": True}]
    async with aiohttp.ClientSession() as session:
        async with session.post(app.url + "/v1/files", data=parts()) as r:
            assert (r.status, (await r.json())["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("framing", ["length", "chunks", "stream"])
async def test_an_answer_passed_on_that_is_cut_ends_and_nothing_takes_its_place(framing):
    kind = b"text/event-stream" if framing == "stream" else b"application/octet-stream"
    length = b"content-length: 900" if framing == "length" else b"transfer-encoding: chunked"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\n" + length + b"\r\n\r\n"
    piece = b"x" * 100 if framing == "length" else b"64\r\n" + b"x" * 100 + b"\r\n"

    async def cut(visit):
        await visit.request()
        await visit.say(head + piece)
        await asyncio.sleep(0.05)
        visit.reset()

    upstream = Upstream()
    async with hostile(cut) as server:
        upstream.url = f"http://127.0.0.1:{server.port}/v1"
        async with proxy(upstream) as app:
            reader, writer = await asyncio.open_connection(*app.url.removeprefix("http://").split(":"))
            writer.write(b"GET /v1/files/f/content HTTP/1.1\r\nhost: x\r\n\r\n")
            try:
                answer = await asyncio.wait_for(reader.read(), 5)  # to the connection's end
            except ConnectionError:
                answer = b""  # a reset says it as well
            writer.close()
            assert answer.count(b"HTTP/1.1") <= 1
            assert b"upstream" not in answer
            assert not answer.endswith(b"0\r\n\r\n")
            cells = app.services.telemetry.families.requests.cells
            assert [labels for labels, cell in cells.items() if cell.value] == [("default", "502")]


async def test_a_client_that_reads_slowly_slows_its_upstream_and_gets_all_of_it_in_order(app, upstream):
    """Some 20 MB: what sockets, the proxy and the upstream hold between them is a fraction of it."""
    written = 0
    first, last = events()[0], b""
    text = "x" * 4_000

    async def flood(request, _):
        nonlocal written
        out = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await out.prepare(request)
        await out.write(first)
        for n in range(5_000):
            said = json.loads(first[6:]) | {"choices": [{"index": 0, "delta": {"content": f"{n:05}{text}"}}]}
            await out.write(b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n")
            written = n
        await out.write(events(usage=None)[-1] + b"data: [DONE]\n\n")
        return out

    upstream.script = [flood]
    host, _, port = app.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**16)
    body = json.dumps({"model": "mini", "messages": USER, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.0\r\nhost: h\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await asyncio.sleep(0.5)
    stuck = written
    await asyncio.sleep(0.3)
    assert written == stuck < 4_000
    numbers = []
    while line := await reader.readline():
        if line.startswith(b"data: {") and b'"content":"0' in line:
            numbers.append(int(line.partition(b'"content":"')[2][:5]))
        last = line if line.strip() else last
    assert numbers == list(range(5_000))
    assert last == b"data: [DONE]\n"
    writer.close()


async def test_waiting_for_the_client_is_not_waiting_for_the_upstream():
    async def script(visit):
        await visit.request()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
        await visit.say(head + events()[1])
        await asyncio.sleep(0.05)
        await visit.say(events()[2])
        await visit.hang()

    pool = Pool()
    async with hostile(script) as server:
        upstream = OpenAIUpstream(Provider("p", f"http://127.0.0.1:{server.port}/v1"), pool)
        estimate = Estimate(Counter(), Paces(), "m", 2, [], most=100)
        options = {
            "number": 1,
            "stream": True,
            "keep_text": False,
            "ask_usage": False,
            "model": "m",
            "estimate": estimate,
        }
        call = ChatCall(upstream, "chat/completions", b"{}", (), **options)
        assert await call.more()
        call.flow(lambda data: False)
        assert await call.more() == []
        waited_s = call.waited_s
        await asyncio.sleep(0.1)
        assert call.waited_s == waited_s
        call.abort()
    await pool.close()
