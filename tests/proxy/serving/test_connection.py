"""Connections: which bytes are a request, what each is answered with, and what becomes of the connection."""

import asyncio
import json
import logging

import pytest

from proxy.serving import BodyBroken, Response, StreamResponse
from proxy.serving import connection as of_connections
from tests.proxy.serving.served import echo, served

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"


def post(*lines, body=b""):
    return b"\r\n".join([b"POST /a HTTP/1.1", b"Host: x", *lines, b"", b""]) + body


READ = {
    "get": (GET, b"GET /a "),
    "post": (POST, b"POST /a hi"),
    "chunked": (
        post(b"Transfer-Encoding: chunked", body=b"1\r\nh\r\n1;x=y\r\ni\r\n0\r\nT: z\r\n\r\n"),
        b"POST /a hi",
    ),
    "no-body": (post(b"Content-Length: 0"), b"POST /a "),
    "escaped-path": (b"GET /a%20b?c=%20 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /a b "),
    "absolute-target": (b"GET http://h:1/a/b?c HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /a/b "),
    "http-1.0": (b"GET /a HTTP/1.0\r\n\r\n", b"GET /a "),
    "blank-lines-before": (b"\r\n\r\n" + GET, b"GET /a "),
    "upgrade-is-not-taken": (
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /a ",
    ),
}


@pytest.mark.parametrize(("data", "said"), READ.values(), ids=READ)
@pytest.mark.parametrize("drip", [False, True], ids=["at-once", "byte-by-byte"])
async def test_a_request_is_read_however_its_bytes_come(data, said, drip):
    async with served() as server, server.client() as client:
        for part in [data[i : i + 1] for i in range(len(data))] if drip else [data]:
            await client.send(part)
            if drip:
                await asyncio.sleep(0)
        status, headers, body = await client.answer()
        assert (status, headers["x-seen"], body) == (200, "yes", said)


REFUSED = {
    "both-framings": (post(b"Content-Length: 2", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "both-framings-turned": (
        post(b"Transfer-Encoding: chunked", b"Content-Length: 2", body=b"0\r\n\r\n"),
        400,
    ),
    "two-lengths": (post(b"Content-Length: 2", b"Content-Length: 2", body=b"hi"), 400),
    "signed-length": (post(b"Content-Length: +2", body=b"hi"), 400),
    "length-of-two-numbers": (post(b"Content-Length: 2, 2", body=b"hi"), 400),
    "another-coding": (post(b"Transfer-Encoding: gzip", body=b"hi"), 501),
    "two-codings": (post(b"Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n"), 501),
    "chunked-in-1.0": (b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
    "blank-before-colon": (post(b"X : y"), 400),
    "folded-line": (post(b"X: y", b" z"), 400),
    "bare-line-feed": (b"GET /a HTTP/1.1\nHost: x\n\n", 400),
    "carriage-return-inside": (post(b"X: y\rTransfer-Encoding: chunked"), 400),
    "no-host": (b"GET /a HTTP/1.1\r\n\r\n", 400),
    "two-hosts": (b"GET /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
    "http-0.9": (b"GET /a\r\n\r\n", 505),
    "http-2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "http-9.9": (b"GET /a HTTP/9.9\r\nHost: x\r\n\r\n", 400),
    "tls": (bytes.fromhex("1603010200010001fc0303") + b"\0" * 50, 400),
    "unknown-method": (b"FOO /a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "many-headers": (post(*[b"X%d: y" % i for i in range(200)]), 431),
    "large-head": (post(b"X: " + b"y" * 100_000), 431),
    "endless-header": (b"GET /a HTTP/1.1\r\nX: " + b"y" * 600_000, 431),
    "endless-blank-lines": (b"\r\n" * 200_000, 431),
    "long-target": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "upgrade-with-a-body": (
        post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 2", body=b"hi"),
        400,
    ),
    "unknown-expectation": (post(b"Expect: tea"), 417),
}


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED)
async def test_what_is_no_clear_request_is_refused_and_the_connection_ends(data, status, caplog):
    async with served() as server, server.client() as client:
        await client.send(data)
        got, headers, body = await client.answer()
        assert (got, headers["connection"]) == (status, "close")
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
        await client.send(GET)
        assert await client.closed(3) == (True, b"")
    assert not caplog.records


async def test_bad_chunks_end_a_body_and_its_handler_is_told():
    told = []

    async def handler(request):
        try:
            return await echo(request)
        except BodyBroken:
            told.append(request.path)
            return Response(status=400)

    for chunks in (
        b"0x2\r\nhi\r\n",
        b"+2\r\nhi\r\n",
        b"2 \r\nhi\r\n",
        b"ffffffffffffffffff\r\n",
        b"2\nhi\n",
        b"g\r\n",
    ):
        async with served(handler) as server:
            status, headers, _ = await server.tell(post(b"Transfer-Encoding: chunked", body=chunks))
            assert (status, headers["connection"]) == (400, "close")
    assert len(told) == 6


async def test_an_endless_trailer_ends_the_connection():
    async def handler(request):
        return await echo(request)

    async with served(handler) as server, server.client() as client:
        await client.send(post(b"Transfer-Encoding: chunked", body=b"0\r\nX: "))
        for _ in range(40):
            await client.send(b"y" * 8192)
        assert (await client.closed())[0]


async def test_a_connection_is_used_again_and_tells_the_time():
    async with served() as server, server.client() as client:
        for _ in range(3):
            await client.send(POST)
            status, headers, _ = await client.answer()
            assert status == 200
            assert headers["date"].endswith("GMT")
            assert "connection" not in headers


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", None),
        (b"GET /a HTTP/1.0\r\n\r\n", None),
        (b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "keep-alive"),
    ],
    ids=["1.1-close", "1.0", "1.0-keep-alive"],
)
async def test_the_client_decides_whether_its_connection_is_kept(head, kept):
    async with served() as server, server.client() as client:
        await client.send(head)
        _, headers, _ = await client.answer()
        assert headers["connection"] == (kept or "close")
        assert (await client.closed(0.2))[0] is (kept is None)


async def test_pipelined_requests_are_answered_one_by_one_in_order():
    at_once = []

    async def handler(request):
        at_once.append(1)
        assert len(at_once) == 1
        await asyncio.sleep(0.02 if request.path == "/0" else 0)
        at_once.pop()
        return await echo(request)

    async with served(handler) as server, server.client() as client:
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(8)))
        for i in range(8):
            assert (await client.answer())[2] == b"GET /%d " % i


async def test_garbage_after_a_request_is_refused_when_that_is_answered():
    async with served() as server, server.client() as client:
        await client.send(POST + b"GARBAGE NOT HTTP\r\n\r\n")
        assert (await client.answer())[0] == 200
        assert (await client.answer())[0] == 400
        assert (await client.closed())[0]


async def test_too_many_requests_ahead_of_their_turn_are_refused():
    async with served() as server, server.client() as client:
        await client.send(GET * (of_connections.MAX_WAITING + 10))
        answers = [await client.answer() for _ in range(of_connections.MAX_WAITING + 2)]
        assert [a[0] for a in answers] == [200] * (of_connections.MAX_WAITING + 1) + [400]
        assert (await client.closed())[0]


async def test_who_waits_for_100_continue_gets_it_when_the_body_is_wanted():
    async with served() as server, server.client() as client:
        await client.send(post(b"Content-Length: 2", b"Expect: 100-continue"))
        assert (await client.answer())[0] == 100
        await client.send(b"hi")
        assert (await client.answer())[2] == b"POST /a hi"


async def test_who_waited_for_100_continue_may_be_refused_after_it():
    async def read_and_refuse(request):
        await request.receive()
        return Response(status=400, body=b"no")

    async with served(read_and_refuse) as server, server.client() as client:
        await client.send(post(b"Content-Length: 2", b"Expect: 100-continue"))
        assert (await client.answer())[0] == 100
        await client.send(b"hi")
        assert (await client.answer())[0] == 400


async def test_another_answer_cannot_follow_one_that_has_begun():
    async def change_its_mind(request):
        begun = StreamResponse(headers=[("content-length", "400")])
        await begun.prepare(request)
        await begun.write(b"half")
        return Response(status=502, body=b"broken")

    async with served(change_its_mind) as server, server.client() as client:
        await client.send(GET)
        ended, said = await client.closed()
        assert ended
        assert b"502" not in said


async def test_a_refusal_needs_no_body_and_is_not_lost_to_a_reset():
    async def refuse(request):
        return Response(status=401, body=b"no")

    async with served(refuse) as server, server.client() as client:
        await client.send(post(b"Content-Length: 10000000", b"Expect: 100-continue"))
        status, headers, body = await client.answer()
        assert (status, body, headers["connection"]) == (401, b"no", "close")
        await client.send(b"x" * 1_000_000)
        assert (await client.closed(0.1))[0]


async def test_a_client_that_sends_on_after_the_last_answer_is_cut(monkeypatch):
    monkeypatch.setattr(of_connections, "LINGER_S", 0.05)

    async def refuse(request):
        return Response(status=413)

    async with served(refuse) as server, server.client() as client:
        await client.send(post(b"Content-Length: 10000000"))
        assert (await client.answer())[0] == 413
        with pytest.raises(ConnectionError):
            for _ in range(200):
                await client.send(b"x" * 1000)
                await asyncio.sleep(0.01)


async def test_who_is_ahead_of_the_handler_has_to_wait():
    go = asyncio.Event()
    sizes = []

    async def slow(request):
        await go.wait()
        while part := await request.receive():
            sizes.append(len(part))
        return Response()

    total = 8_000_000
    async with served(slow) as server, server.client() as client:
        sending = asyncio.create_task(client.send(post(b"Content-Length: %d" % total, body=b"x" * total)))
        await asyncio.sleep(0.1)
        (connection,) = server.server._connections
        assert connection.request.size < 1_000_000
        go.set()
        assert (await client.answer())[0] == 200
        await sending
    assert sum(sizes) == total


async def test_a_head_must_come_in_time():
    async with served(head_timeout_s=0.1) as server, server.client() as client:
        await client.send(GET[:10])
        assert (await client.answer())[0] == 408
        assert (await client.closed())[0]


async def test_a_second_head_must_come_in_time_too():
    async with served(head_timeout_s=0.1) as server, server.client() as client:
        await client.send(GET + GET[:10])
        assert (await client.answer())[0] == 200
        assert (await client.answer())[0] == 408


async def test_who_says_nothing_is_let_go():
    async with served(head_timeout_s=0.05, keep_alive_s=0.2) as server, server.client() as client:
        await client.send(GET)
        assert (await client.answer())[0] == 200
        assert await client.closed(1) == (True, b"")


async def test_a_handler_takes_longer_than_a_head_may():
    async def slow(request):
        await asyncio.sleep(0.3)
        return Response(body=b"late")

    async with served(slow, head_timeout_s=0.05, keep_alive_s=0.1) as server:
        assert (await server.tell(GET))[2] == b"late"


async def test_a_handler_is_cancelled_when_its_client_leaves():
    cancelled = asyncio.Event()

    async def hang(request):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with served(hang) as server:
        async with server.client() as client:
            await client.send(GET)
            await asyncio.sleep(0.05)
        async with asyncio.timeout(1):
            await cancelled.wait()


async def stream(request, pieces=(b"one", b"", b"two"), **kwargs):
    answer = StreamResponse(headers=[("content-type", "text/plain")], **kwargs)
    await answer.prepare(request)
    for piece in pieces:
        await answer.write(piece)
    await answer.write_eof(b"!")
    return answer


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_streamed_answer_is_whole_in_both_versions(version):
    async with served(stream) as server, server.client() as client:
        await client.send(b"GET /a HTTP/%b\r\nHost: x\r\n\r\n" % version)
        _, headers, body = await client.answer()
        assert body == b"onetwo!"
        assert ("transfer-encoding" in headers) is (version == b"1.1")
        assert (await client.closed(0.1))[0] is (version == b"1.0")


async def test_head_gets_no_body():
    async with served(stream) as streamed, served() as whole:
        for server in (streamed, whole):
            async with server.client() as client:
                await client.send(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
                assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_stream_that_its_handler_gave_up_is_not_whole(caplog):
    async def broken(request):
        answer = StreamResponse()
        await answer.prepare(request)
        await answer.write(b"part")
        raise ValueError("a secret text")

    async with served(broken) as server, server.client() as client:
        await client.send(GET)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ValueError)):
            await client.answer()
    assert [r.getMessage() for r in caplog.records] == ["a request failed: ValueError"]


async def test_a_handler_that_breaks_is_a_500_that_tells_nothing(caplog):
    async def broken(request):
        raise ValueError("a secret text")

    async with served(broken) as server:
        status, _, body = await server.tell(GET)
        assert status == 500
        assert b"secret" not in body
    assert "secret" not in caplog.text
    assert caplog.records[0].levelno == logging.ERROR


async def test_a_header_that_would_end_its_line_is_never_sent(caplog):
    async def injected(request):
        return Response(headers=[("x-a", "b\r\nset-cookie: c")])

    async with served(injected) as server:
        status, headers, _ = await server.tell(GET)
        assert status == 500
        assert "set-cookie" not in headers


async def test_a_client_that_takes_nothing_is_left(monkeypatch):
    monkeypatch.setattr(of_connections, "WRITE_STALL_S", 0.2)
    left = asyncio.Event()

    async def flood(request):
        try:
            return await stream(request, [b"x" * 100_000] * 1000)
        except (ConnectionError, asyncio.CancelledError):
            left.set()
            raise

    async with served(flood, head_timeout_s=0.1) as server, server.client() as client:
        await client.send(GET)
        async with asyncio.timeout(3):
            await left.wait()


async def slow(request):
    await asyncio.sleep(0.3)
    return Response(body=b"late")


async def test_who_says_no_more_still_gets_the_answer():
    async with served(slow) as server, server.client() as client:
        await client.send(GET)
        client.writer.write_eof()
        assert (await client.answer())[0] == 100
        assert (await client.answer())[2] == b"late"
        assert await client.closed() == (True, b"")


async def test_who_says_no_more_gets_all_answers_to_what_was_said():
    async with served(slow) as server, server.client() as client:
        await client.send(GET * 3)
        client.writer.write_eof()
        answers = [await client.answer() for _ in range(4)]
        assert sorted(a[0] for a in answers) == [100, 200, 200, 200]
        assert (await client.closed())[0]


async def test_who_leaves_after_saying_no_more_is_noticed_too():
    cancelled = asyncio.Event()

    async def hang(request):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with served(hang) as server:
        async with server.client() as client:
            await client.send(GET)
            await asyncio.sleep(0.05)
            client.writer.write_eof()
            await asyncio.sleep(0.2)
            assert not cancelled.is_set()
        async with asyncio.timeout(3):
            await cancelled.wait()


async def test_an_idle_connection_makes_room_for_a_new_one():
    async with served(connections=1) as server, server.client() as client:
        assert (await server.tell(GET))[0] == 200
        assert (await client.closed())[0]


async def test_one_connection_too_many_is_told_to_come_again():
    async with served(slow, connections=1) as server, server.client() as client:
        await client.send(GET)
        await asyncio.sleep(0.05)
        status, headers, body = await server.tell(GET)
        assert (status, headers["retry-after"]) == (503, "1")
        assert json.loads(body)["error"]["code"] == "overloaded"
