"""The transport for providers reached directly: connections are kept, and the freshest is used again first."""

import asyncio
import ssl
from collections.abc import AsyncIterable
from typing import Final

from proxy.outbox import Outbox
from proxy.snapshot import Timeouts
from proxy.tasks import Tasks
from proxy.upstreams.answer import Answer
from proxy.upstreams.connection import Connection
from proxy.upstreams.http1 import request_head, split_length
from proxy.upstreams.inflate import Inflated
from proxy.upstreams.lane import Lane
from proxy.upstreams.transport import Body, Broken, Headers, Response, Target

_BODILESS: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
"""Methods whose requests need no `content-length: 0` (RFC 9110 §8.6)."""


class Pool:
    """See `Transport`.

    At most `per_host` connections to a target; beyond that calls wait in line, at most `waiting` of them.
    A connection that was idle for `idle_expiry_s` is closed: 55 s is below what providers and their load
    balancers allow (60 s and more); a provider that says less in `keep-alive` is believed.
    `tls` None: the system's certificate authorities, made with the first need.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        per_host: int = 2048,
        waiting: int = 1024,
        idle_expiry_s: float = 55,
        outbox: Outbox | None = None,
    ) -> None:
        """Requests leave through `outbox`."""
        self._tls = tls
        self._per_host = per_host
        self._waiting = waiting
        self._idle_expiry_s = idle_expiry_s
        self._lanes: dict[Target, Lane] = {}
        self._tasks = Tasks()
        self._outbox = outbox or Outbox()

    def __repr__(self) -> str:
        return f"<Pool {list(self._lanes.values())}>"

    async def _open_lane(self, target: Target) -> Lane:
        if target.tls and self._tls is None:
            # It reads some hundred certificates from the disk, which must not hold the event loop.
            context = await asyncio.to_thread(ssl.create_default_context)
            context.set_alpn_protocols(["http/1.1"])
            self._tls = self._tls or context
        lane = Lane(
            asyncio.get_running_loop(),
            target,
            outbox=self._outbox,
            tls=self._tls if target.tls else None,
            limit=self._per_host,
            max_waiting=self._waiting,
            idle_expiry_s=self._idle_expiry_s,
        )
        return self._lanes.setdefault(target, lane)

    async def send(
        self, target: Target, method: str, path: str, headers: Headers, body: Body, timeouts: Timeouts
    ) -> Response:
        """See `Transport.send`."""
        lane = self._lanes.get(target) or await self._open_lane(target)
        loop = lane.loop
        began = loop.time()
        total = began + timeouts.total_s
        pieces = length = None
        if body is None:
            framing = "" if method in _BODILESS else "content-length: 0\r\n"
            request = request_head(method, path, lane.host, framing, headers)
        elif isinstance(body, bytes):
            request = (
                request_head(method, path, lane.host, f"content-length: {len(body)}\r\n", headers) + body
            )
        else:
            pieces = body
            length, headers = split_length(headers)
            framing = "transfer-encoding: chunked\r\n" if length is None else f"content-length: {length}\r\n"
            request = request_head(method, path, lane.host, framing, headers)

        connection = lane.take()
        reused = connection is not None
        if connection is None:
            connection, reused = await lane.obtain(began + timeouts.connect_s, total)
        while True:
            answer = Answer(loop, method, timeouts, total)
            connection.begin(answer, request, loop.time())
            if pieces is not None:
                upload = _upload(connection, pieces, length)
                connection.upload = self._tasks.spawn(upload, name="upload")
            await answer.news()
            if answer.status:
                return Inflated(answer) if answer.compressed else answer
            assert answer.error is not None
            if not reused or pieces is not None or answer.touched or not isinstance(answer.error, Broken):
                raise answer.error
            # The provider closed it just as we used it again, which is nobody's failure: once more.
            connection, reused = await lane.obtain(loop.time() + timeouts.connect_s, total, fresh=True)

    async def close(self) -> None:
        """See `Transport.close`."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()
        await self._tasks.close()
        await asyncio.sleep(0)  # sockets are closed in the loop's next round


async def _upload(connection: Connection, body: AsyncIterable[bytes], length: int | None) -> None:
    """Send a body as it comes. What goes wrong in it ends the call."""
    left = 0 if length is None else length
    try:
        async for piece in body:
            if length is not None:
                left -= len(piece)
                connection.write(piece)
            elif piece:
                connection.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if left < 0:
                break
            await connection.drained()
    except Exception as problem:  # noqa: BLE001  whatever the caller's iterator raises is the caller's to see
        connection.fail(problem)
        return
    if left:
        connection.fail(ValueError("the body has another length than its content-length says"))
        return
    if length is None:
        connection.write(b"0\r\n\r\n")
    connection.uploaded()
