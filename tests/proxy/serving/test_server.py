"""The server as a whole: it stops listening, lets answers finish, and ends."""

import asyncio

import pytest

from proxy.serving import Response
from proxy.serving.response import head
from tests.proxy.serving.served import served
from tests.proxy.serving.test_connection import GET


async def test_draining_finishes_what_is_in_work_and_closes_what_is_idle():
    go = asyncio.Event()

    async def slow(request):
        await go.wait()
        return Response(body=b"done")

    async with served(slow) as server, server.client() as busy, server.client() as idle:
        await busy.send(GET)
        await asyncio.sleep(0.02)
        server.server.drain()
        assert (await idle.closed())[0]
        with pytest.raises(ConnectionError):
            await server.tell(GET)
        go.set()
        _, headers, body = await busy.answer()
        assert (body, headers["connection"]) == (b"done", "close")
        assert (await busy.closed())[0]


async def test_closing_ends_handlers_and_connections():
    ended = []

    async def hang(request):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(request.path)

    async with served(hang) as server, server.client() as client:
        await client.send(GET)
        await asyncio.sleep(0.02)
        await server.server.close()
        assert ended == ["/a"]
        assert (await client.closed())[0]
    assert not server.server._connections


async def test_a_socket_that_is_bound_already_is_listened_on():
    import socket

    async def hello(request):
        return Response(body=(request.remote or "").encode())

    async with served(hello) as server:
        with socket.create_server(("127.0.0.1", 0)) as bound:
            await server.server.listen_on(bound.dup())
            server.address = bound.getsockname()
            assert (await server.tell(GET))[2] == b"127.0.0.1"


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\rb", "a\0b"])
def test_a_value_that_ends_its_line_is_refused(value):
    with pytest.raises(ValueError, match="ends its line"):
        head(200, [("x", value)], "")


def test_a_head_is_written_as_it_is_given():
    assert head(200, [("x", "é")], "y: z\r\n") == "HTTP/1.1 200 OK\r\nx: é\r\ny: z\r\n\r\n".encode()
    assert head(299, [], "") == b"HTTP/1.1 299 \r\n\r\n"
