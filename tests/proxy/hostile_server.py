"""A server that says exactly the bytes a test tells it to, and notes what it hears and when it is left."""

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress


class Visit:
    """One connection of a client."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.heads = []
        self.bodies = []
        self.ended_at = None
        """When the client closed, on the clock of `time.monotonic`."""

    async def request(self):
        """Read one request, body included; False when the client has closed instead."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended_at = time.monotonic()
            return False
        self.heads.append(head)
        self.bodies.append(await self._body(head.lower()))
        return True

    async def _body(self, head):
        if b"transfer-encoding: chunked" in head:
            body = b""
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                assert await self.reader.readexactly(2) == b"\r\n"
            assert await self.reader.readexactly(2) == b"\r\n"
            return body
        if b"content-length:" in head:
            return await self.reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        return b""

    async def say(self, data):
        if self.writer.transport.is_closing():  # uvloop has an error of its own for that
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    async def spell(self, data, pause_s=0):
        """One byte at a time."""
        for i in range(len(data)):
            if self.reader.at_eof():
                raise ConnectionResetError
            await self.say(data[i : i + 1])
            await asyncio.sleep(pause_s)

    async def hang(self):
        """Say nothing until the client has closed; `ended_at` tells when that was."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass
        self.ended_at = time.monotonic()

    def reset(self):
        """Close with a RST."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class HostileServer:
    """`script` plays once per connection; when it returns, the connection is closed."""

    def __init__(self, script: Callable[[Visit], Awaitable[None]]) -> None:
        self.script = script
        self.visits: list[Visit] = []
        self.errors: list[BaseException] = []
        self.port = 0
        self._arrived = asyncio.Event()

    async def _serve(self, reader, writer):
        visit = Visit(reader, writer)
        self.visits.append(visit)
        try:
            await self.script(visit)
        except (ConnectionError, asyncio.IncompleteReadError):
            visit.ended_at = visit.ended_at or time.monotonic()
        except Exception as error:  # noqa: BLE001  whatever a script got wrong fails its test
            self.errors.append(error)
        finally:
            writer.close()


@asynccontextmanager
async def hostile(
    script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[HostileServer]:
    """A running HostileServer on a free port; a failed assertion in its script fails the test."""
    server = HostileServer(script)
    tasks = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        with suppress(asyncio.CancelledError):  # asyncio.streams logs it as an error
            await server._serve(reader, writer)

    listener = await asyncio.start_server(serve, host, 0, ssl=tls, backlog=2048)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert not server.errors, server.errors


def answers(*replies: bytes):
    """A script that answers the n-th request of a connection with the n-th reply, the last one again and again."""

    async def script(visit):
        count = 0
        while await visit.request():
            await visit.say(replies[min(count, len(replies) - 1)])
            count += 1

    return script


def once(speak, kept):
    """A script that answers by `speak`, and closes where that is the end of an answer."""

    async def script(visit):
        while await visit.request():
            await speak(visit)
            if not kept:
                return

    return script


def spoken(data, pause_s=0.0):
    """A script that hears one request, says `data`, in single bytes if `pause_s`, and then nothing more."""

    async def script(visit):
        await visit.request()
        await visit.spell(data, pause_s) if pause_s else await visit.say(data)
        await visit.hang()

    return script


def whole(body: bytes = b"ok", *headers: str, status: str = "200 OK") -> bytes:
    """A reply with a content-length."""
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status}\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """A reply in chunks."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + end
