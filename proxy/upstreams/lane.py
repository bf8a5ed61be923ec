"""The connections to one target: which are idle, how many there are, and who waits for one."""

import asyncio
import ipaddress
import os
import socket
import ssl
from collections import deque
from contextlib import suppress

from proxy.outbox import Outbox
from proxy.upstreams.connection import Connection
from proxy.upstreams.transport import (
    Broken,
    ConnectFailed,
    ConnectTimeout,
    NotTrusted,
    PoolFull,
    Target,
    TotalTimeout,
    TransportError,
)

KEPT_IDLE = 32
"""Connections beyond so many that are idle at once are closed after SPARE_IDLE_S: a rush is over by then."""
SPARE_IDLE_S = 5.0


class Lane:
    """Never more than `limit` connections.

    Who comes when all are busy waits in line, and a connection that gets free goes to the first in line, past
    anybody who comes later.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        target: Target,
        *,
        outbox: Outbox,
        tls: ssl.SSLContext | None,
        limit: int,
        max_waiting: int,
        idle_expiry_s: float,
    ) -> None:
        self.loop = loop
        self.host = target.host_header
        self._idle_expiry_s = idle_expiry_s
        self._target = target
        self._outbox = outbox
        self._tls = tls
        self._limit = limit
        self._closed = False
        self._max_waiting = max_waiting
        self._idle: list[Connection] = []
        """The freshest last."""
        self._open = 0
        """Connections there are or that are being made."""
        self._connections: set[Connection] = set()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        """Each gets a connection, or None: the right to make one."""

    def __repr__(self) -> str:
        return f"<Lane {self._open} open, {len(self._idle)} idle, {len(self._waiting)} waiting>"

    @property
    def idle_expiry_s(self) -> float:
        """How long a connection that gets idle now is kept."""
        return self._idle_expiry_s if len(self._idle) < KEPT_IDLE else min(SPARE_IDLE_S, self._idle_expiry_s)

    def take(self) -> Connection | None:
        """The freshest idle connection that is still good, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.stale():
                return connection
            connection.drop()
        return None

    async def obtain(self, due: float, total: float, *, fresh: bool = False) -> tuple[Connection, bool]:
        """A connection by `due` and `total`, and whether it was used before. `fresh`: a new one if possible."""
        try:
            return await self._obtain(min(due, total), fresh=fresh)
        except ConnectTimeout:
            if total <= due:
                raise TotalTimeout("the call took too long") from None
            raise

    async def _obtain(self, due: float, *, fresh: bool) -> tuple[Connection, bool]:
        came_before = False
        while not self._closed:
            if not fresh and (idle := self.take()) is not None:
                return idle, True
            if self._open < self._limit:
                self._open += 1
                return await self._connect(due), False
            if (idle := self.take()) is not None:
                return idle, True
            connection = await self._turn(due, first=came_before)
            if connection is None:
                return await self._connect(due), False
            if not connection.stale():
                return connection, True
            connection.drop()
            came_before = True
        raise ConnectFailed("the transport is closed")

    async def _turn(self, due: float, *, first: bool) -> Connection | None:
        """Wait in line: a connection, or None for the right to make one."""
        if len(self._waiting) >= self._max_waiting:
            raise PoolFull("too many calls wait for a connection")
        turn: asyncio.Future[Connection | None] = self.loop.create_future()
        if first:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        timer = self.loop.call_at(due, _too_late, turn)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # Cancelled just after our turn had come: it is the next one's.
                connection = turn.result()
                if connection is None:
                    self._free()
                else:
                    self.put_back(connection)
            else:
                with suppress(ValueError):
                    self._waiting.remove(turn)
            raise
        finally:
            timer.cancel()

    def put_back(self, connection: Connection) -> None:
        """The connection is free."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """The connection is gone."""
        with suppress(ValueError):
            self._idle.remove(connection)
        self._connections.discard(connection)
        self._free()

    def _free(self) -> None:
        """One connection fewer: the first in line may make one."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._open -= 1

    async def _connect(self, due: float) -> Connection:
        """A new connection; the right to make it is given back when that fails."""
        try:
            connection = await self._try_addresses(due)
        except BaseException:  # cancelled too: whoever waits in line gets the chance
            self._free()
            raise
        self._connections.add(connection)
        connection.adopt(self)
        return connection

    async def _try_addresses(self, due: float) -> Connection:
        """The first address that answers; each gets its share of the time that is left."""
        addresses = await self._addresses(due)
        problem: TransportError = ConnectFailed("no such host name")
        for left in range(len(addresses), 0, -1):
            now = self.loop.time()
            try:
                async with asyncio.timeout_at(now + (due - now) / left):
                    _, connection = await self.loop.create_connection(
                        lambda: Connection(self.loop, self._outbox),
                        addresses[-left],
                        self._target.port,
                        ssl=self._tls,
                        server_hostname=self._target.host if self._tls else None,
                    )
            except ssl.SSLCertVerificationError:
                raise NotTrusted("the certificate is not trusted") from None
            except ssl.SSLError:
                problem = ConnectFailed("no TLS connection")
            except TimeoutError:
                problem = ConnectTimeout("no connection in time")
            except OSError as error:  # its own text names the address
                problem = ConnectFailed(os.strerror(error.errno) if error.errno else "no connection")
            else:
                if not connection.lost and not self._closed:
                    return connection
                connection.drop()
                problem = ConnectFailed("the connection was closed at once")
        raise problem

    async def _addresses(self, due: float) -> list[str]:
        """The target's addresses, in the order of the system's preference."""
        host = self._target.host
        with suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        try:
            async with asyncio.timeout_at(due):
                found = await self.loop.getaddrinfo(host, self._target.port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise ConnectTimeout("no address of the host in time") from None
        except (OSError, UnicodeError):
            raise ConnectFailed("no such host name") from None
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def close(self) -> None:
        """Drop all connections and send away who waits."""
        self._closed = True
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(ConnectFailed("the transport is closed"))
        for connection in list(self._connections):
            connection.fail(Broken("the transport is closed"))


def _too_late(turn: asyncio.Future[Connection | None]) -> None:
    if not turn.done():
        turn.set_exception(ConnectTimeout("no free connection in time"))
