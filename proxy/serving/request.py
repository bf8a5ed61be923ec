"""A request as its handler sees it: a head that is complete, and a body that may still be on its way."""

import asyncio
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from proxy.serving.connection import Connection

HELD_BYTES: Final = 256 * 1024
"""A client that is this far ahead of its handler has to wait."""


class BodyBroken(Exception):
    """The body ended early, or its framing is not HTTP/1.1."""


class Refused(Exception):
    """The head asks for what we do not do; stops llhttp."""

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        self.why = why
        super().__init__(why)


class Request:
    """One request. The connection fills its body; the handler takes it, whole or piece by piece."""

    __slots__ = (
        "_connection",
        "_held",
        "_path",
        "_waiter",
        "broken",
        "chunked",
        "content_length",
        "expects",
        "headers",
        "holds",
        "keep_alive",
        "method",
        "raw_query",
        "size",
        "task",
        "version",
        "whole",
    )

    def __init__(
        self, connection: "Connection", method: str, target: str, version: str, headers: dict[str, str]
    ) -> None:
        """`headers` have names in lower case; values of one name are joined by commas (RFC 9110 §5.3)."""
        self._connection = connection
        self._held: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._path, _, self.raw_query = target.partition("?")
        self.method = method
        self.version = version
        self.headers = headers
        self.content_length: int | None = None
        self.chunked = False
        self.expects = False
        """The client waits for `100 Continue` before it sends its body."""
        self.keep_alive = True
        self.size = 0
        """Bytes of the body that are here and not yet taken."""
        self.holds = 0
        """Bytes of the body that count as held until the request has been answered."""
        self.whole = False
        """The last byte of the body has come."""
        self.broken = False
        self.task: asyncio.Task[Any] | None = None
        """In which it is handled."""

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path[:60]}>"

    @property
    def path(self) -> str:
        """The path with its percent signs decoded; that of an absolute target is its own path."""
        path = self._path
        if not path.startswith("/"):
            path = "/" + path.partition("://")[2].partition("/")[2]
        return unquote(path) if "%" in path else path

    @property
    def query(self) -> dict[str, str]:
        """The query's fields, the first of each name."""
        return dict(reversed(parse_qsl(self.raw_query, keep_blank_values=True)))

    @property
    def remote(self) -> str | None:
        """The client's address."""
        return self._connection.remote

    @property
    def host(self) -> str:
        """The host and port that the client asked for; empty where HTTP/1.0 names none."""
        return self.headers.get("host", "")

    @property
    def connection(self) -> "Connection":
        """Where it came from and its answer goes to."""
        return self._connection

    @property
    def body_exists(self) -> bool:
        """Whether there is a body, be it empty."""
        return self.chunked or bool(self.content_length)

    def take(self) -> bytes:
        """What has come of the body since the last time; the client may send on."""
        held = self._held
        data = held[0] if len(held) == 1 else b"".join(held)
        held.clear()
        self.size = 0
        self._connection.resume()
        return data

    def hold(self, count: int) -> bool:
        """So many bytes that were taken stay in memory until this is answered; False where there is no room for them."""
        if not self._connection.hold(count):
            return False
        self.holds += count
        return True

    async def receive(self) -> bytes:
        """The next piece of the body, empty at its end. Raises BodyBroken.

        The client is slowed down while nobody receives.
        """
        while not self._held:
            if self.whole:
                return b""
            if self.broken:
                raise BodyBroken
            await self._news()
        return self.take()

    async def _news(self) -> None:
        if self.expects:
            self.expects = False
            self._connection.say_continue()
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    # The connection's side

    def feed(self, data: bytes) -> None:
        """A piece of the body has come."""
        self._held.append(data)
        self.size += len(data)
        self._wake()

    def end(self) -> None:
        """All of the body has come."""
        self.whole = True
        self._wake()

    def fail(self) -> None:
        """Nothing more will come of it."""
        self.broken = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
