"""Who listens: makes a connection for each client, counts them, and ends them all."""

import asyncio
import resource
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

from proxy.outbox import Outbox
from proxy.serving.connection import ALL, Connection
from proxy.serving.request import Request
from proxy.serving.response import Answer, Response
from proxy.wire.errors import JSON, NO_RETRY, ApiError

Handler = Callable[[Request], Awaitable[Answer]]
BACKLOG: Final = 1024
Network = IPv4Network | IPv6Network
KEEP_ALIVE_S: Final = 75.0
GRACE_S: Final = 0.5
"""After the last connection was accepted, a request that was on its way by then is still served."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What clients may do. More connections, or than files may be open for, are refused with 503.

    Those of loopback and of `uncounted` stand for many clients. `held_bytes`: of bodies that handlers hold at once.
    """

    connections: int
    head_timeout_s: float
    connections_per_client: int = 2**31
    uncounted: tuple[Network, ...] = ()
    held_bytes: int = 512 * 1024 * 1024


class Server:
    """Hands each request to `handler`, in a task of its own that is cancelled when its client leaves."""

    def __init__(
        self,
        handler: Handler,
        bounds: Bounds,
        *,
        keep_alive_s: float = KEEP_ALIVE_S,
        outbox: Outbox | None = None,
    ) -> None:
        """Answers leave through `outbox`."""
        self.handler = handler
        self.outbox = outbox or Outbox()
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()
        self._listening: list[asyncio.Server] = []
        self._date = (0, "")
        self.bound(bounds)
        self.keep_alive_s = keep_alive_s
        self.held_bytes = 0
        """Of bodies that handlers hold now."""
        self._clients: Counter[str] = Counter()
        """Open connections by client, but of those that are not counted."""
        self.draining = False
        self._lenient = True

    def bound(self, bounds: Bounds) -> None:
        """These hold from now on, for connections that come."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Each client may need a connection to a provider as well; the rest is for the ledger and its kin.
        self.max_connections = min(bounds.connections, max(16, files * 9 // 20))
        self.bounds = bounds
        self.head_timeout_s = bounds.head_timeout_s

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Accept connections; gives the address that was bound (port 0 picks one)."""
        server = await self._loop.create_server(
            self._connection, host, port, backlog=BACKLOG, reuse_address=True
        )
        self._listening.append(server)
        made: Any = server
        bound: tuple[str, int] = made.sockets[0].getsockname()[:2]  # a tuple of asyncio, a list of uvloop
        return bound

    async def listen_on(self, bound: socket.socket, door: str = ALL) -> None:
        """Accept connections on a socket that is bound already. Their `door` tells handlers where they came in."""

        def connection() -> Connection:
            return Connection(self, self._loop, door)

        made = self._loop.create_unix_server if bound.family == socket.AF_UNIX else self._loop.create_server
        self._listening.append(await made(connection, sock=bound, backlog=BACKLOG))

    def _connection(self) -> Connection:
        return Connection(self, self._loop)

    def drain(self) -> None:
        """Accept no more connections. Each that is open closes with its next answer, idle ones after a moment."""
        if self.draining:
            return
        self.draining = True
        for server in self._listening:
            server.close()
        self._listening.clear()
        self._loop.call_later(GRACE_S, self._close_idle)

    def _close_idle(self) -> None:
        self._lenient = False
        for connection in list(self._connections):
            connection.close_if_idle()

    @property
    def quiet(self) -> bool:
        """No request can come any more but on connections that are in work."""
        return not self._connections or not self._lenient

    async def close(self) -> None:
        """All connections are closed, all handlers have ended."""
        self.drain()
        in_work = [c.request for c in self._connections]
        tasks = [r.task for r in in_work if r is not None and r.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # sockets are closed in the loop's next round

    # What connections ask for

    def joined(self, connection: Connection) -> str | None:
        """A client has come; the setting of which it is one too many, or None. An idle one makes room."""
        self._connections.add(connection)
        if connection.door != ALL:
            return None  # whoever runs the proxy comes in when it is full, too
        if (client := self._client_of(connection.remote)) is not None:
            connection.client = client
            self._clients[client] += 1
            if self._clients[client] > self.bounds.connections_per_client and not self._make_room(
                connection, client
            ):
                return "server.max_connections_per_client"
        if len(self._connections) > self.max_connections and not self._make_room(connection, None):
            return "server.max_connections"
        return None

    def _make_room(self, connection: Connection, client: str | None) -> bool:
        """An idle connection, of `client` where one is named, is closed; False where there is none."""
        others = (c for c in self._connections if c.idle and c is not connection)
        idle = next((c for c in others if client is None or c.client == client), None)
        if idle is None:
            return False
        self.left(idle)
        idle.close_if_idle()
        return True

    def _client_of(self, remote: str | None) -> str | None:
        """What connections are counted by: an IPv4 address, or the 64 bits of IPv6 that one subscriber gets."""
        try:
            address = ip_address((remote or "").partition("%")[0])
        except ValueError:
            return None
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if address.is_loopback or any(address in network for network in self.bounds.uncounted):
            return None
        return str(address) if isinstance(address, IPv4Address) else address.exploded[:19]

    def left(self, connection: Connection) -> None:
        """A client is gone."""
        self._connections.discard(connection)
        client, connection.client = connection.client, None
        if client is not None:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    def refusal(self, status: int, why: str) -> Response:
        """An answer in OpenAI's shape to what no handler has seen."""
        if status == 503:
            error = ApiError(503, why, "overloaded", type="server_error", headers=(("retry-after", "1"),))
        elif status >= 500 and status not in (501, 505):
            error = ApiError(status, why, "internal_error", type="server_error")
        elif status == 408:
            error = ApiError(status, why, "request_timeout")
        else:
            error = ApiError(status, why, "invalid_request", headers=NO_RETRY)
        return Response(status=status, body=error.body(), headers=[("content-type", JSON), *error.headers])

    def date_line(self) -> str:
        """The header `date`, made once per second."""
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, f"date: {formatdate(now, usegmt=True)}\r\n")
        return self._date[1]
