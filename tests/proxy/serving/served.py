"""A server with a scripted handler on a real socket, and a client that speaks in bytes."""

import asyncio
import contextlib

from proxy.serving import Response
from proxy.serving.server import Bounds, Server


class Client:
    """One connection to the server under test."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, within_s=5):
        """The next answer: status, headers by lower-case name, body. None where the connection ended first."""
        async with asyncio.timeout(within_s):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
            line, *fields = head.decode().split("\r\n")[:-2]
            headers = {n.lower(): v.strip() for n, _, v in (f.partition(":") for f in fields)}
            status = int(line.split(" ")[1])
            return status, headers, await self._body(status, headers)

    async def _body(self, status, headers):
        if status in (100, 204, 304):
            return b""
        if headers.get("transfer-encoding") == "chunked":
            parts = []
            while size := int((await self.reader.readline()).strip(), 16):
                parts.append(await self.reader.readexactly(size))
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
            return b"".join(parts)
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        return await self.reader.read()

    async def closed(self, within_s=5):
        """Whether the server has ended the connection; what it still said."""
        try:
            async with asyncio.timeout(within_s):
                return True, await self.reader.read()
        except TimeoutError:
            return False, b""
        except ConnectionError:
            return True, b""


class Served:
    """The server, and what its handler saw."""

    def __init__(self, server, address):
        self.server = server
        self.address = address

    @contextlib.asynccontextmanager
    async def client(self):
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def tell(self, data, **kwargs):
        """The first answer to these bytes."""
        async with self.client() as client:
            await client.send(data)
            return await client.answer(**kwargs)


async def echo(request):
    """Answers with what it read of the request."""
    parts = []
    while part := await request.receive():
        parts.append(part)
    return Response(
        body=b" ".join([request.method.encode(), request.path.encode(), b"".join(parts)]),
        headers=[("x-seen", "yes")],
    )


@contextlib.asynccontextmanager
async def served(handler=echo, **kwargs):
    keep_alive = {"keep_alive_s": kwargs.pop("keep_alive_s")} if "keep_alive_s" in kwargs else {}
    server = Server(handler, Bounds(**{"connections": 100, "head_timeout_s": 5} | kwargs), **keep_alive)
    address = await server.listen("127.0.0.1", 0)
    try:
        yield Served(server, address)
    finally:
        await server.close()
