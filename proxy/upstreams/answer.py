"""An answer that arrives on a connection of the own pool: held pieces on one side, a consumer on the other."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from proxy.snapshot import Timeouts
from proxy.upstreams.transport import AnswerTooLarge, Broken

if TYPE_CHECKING:
    from proxy.upstreams.connection import Connection


class Answer:
    """See `Response`. The connection fills it, and lets go of it with the last byte or the first failure."""

    __slots__ = (
        "_loop",
        "_sink",
        "_waiter",
        "came",
        "closing",
        "compressed",
        "connection",
        "error",
        "finished",
        "held",
        "length",
        "method",
        "names",
        "size",
        "status",
        "timeouts",
        "total",
        "touched",
        "values",
        "wanted",
        "whole",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, method: str, timeouts: Timeouts, total: float
    ) -> None:
        """`total` is the time, on the loop's clock, when all must be over."""
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Callable[[bytes], bool] | None = None
        """Takes what comes as it comes."""
        self.connection: Connection | None = None
        self.method = method
        self.timeouts = timeouts
        self.total = total
        self.status = 0
        """0 until the head has come."""
        self.names: tuple[str, ...] = ()
        self.values: list[str] = []
        self.length = 0
        self.held: list[bytes] = []
        self.size = 0
        """Bytes held."""
        self.wanted = 0
        """The consumer is woken when this many bytes are held."""
        self.touched = False
        """A byte of it has come."""
        self.came = False
        """A byte of its body has come."""
        self.compressed = False
        self.finished = False
        """See `proxy.upstreams.transport.is_finished`."""
        self.whole = False
        self.closing = False
        self.error: BaseException | None = None

    def __repr__(self) -> str:
        state = "whole" if self.whole else "failed" if self.error else "open"
        return f"<Answer {self.status or 'without a head'}, {state}, {self.size} bytes held>"

    # The connection's side

    def wake(self) -> None:
        """Something has changed for whoever waits."""
        sink = self._sink
        if sink is not None and self.held:
            if not sink(self._take()):
                self._sink = None
            elif not self.whole and self.error is None:
                return
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def end(self) -> None:
        """All has come."""
        self.connection = None
        self.whole = True
        if self.closing:
            self.held.clear()
        self.wake()

    def fail(self, error: BaseException) -> None:
        """Nothing more will come."""
        self.connection = None
        self.error = error
        self.wake()

    # The consumer's side

    async def news(self) -> None:
        """The head has come, or `wanted` bytes, or the end, or a failure. Cancelled: the connection is closed."""
        self._waiter = waiter = self._loop.create_future()
        try:
            await waiter
        except BaseException:  # an upstream that nobody listens to must stop
            self.abort()
            raise

    @property
    def headers(self) -> list[tuple[str, str]]:
        """See `Response.headers`."""
        values = self.values
        return [(name, values[place]) for place, name in enumerate(self.names)]

    def header(self, name: str) -> str | None:
        """See `Response.header`."""
        return self.values[self.names.index(name)] if name in self.names else None

    async def read(self, limit: int) -> bytes:
        """See `Response.read`."""
        self.wanted = limit + 1
        if self.length > limit:
            self.abort()
        elif self.connection is not None:
            self.connection.resume()
        while not self.whole and self.error is None and self.size <= limit:
            await self.news()
        if self.length > limit or self.size > limit:
            self.abort()
            raise AnswerTooLarge(f"the answer is longer than {limit} bytes")
        if not self.whole:
            raise self.error or Broken("the answer was given up")
        return self._take()

    def pieces(self) -> Self:
        """See `Response.pieces`."""
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self.wanted = 1
        while not self.held:
            if self.whole:
                raise StopAsyncIteration
            if self.error is not None:
                raise self.error
            await self.news()
        return self._take()

    async def pushed(self, sink: Callable[[bytes], bool]) -> bool:
        """Hand each piece to `sink` in the moment it comes, until that says False; False when no more will come.

        No task has to be woken for a piece. `sink` raises nothing. Raises as reading does.
        """
        self.wanted = 1
        if self.held and not sink(self._take()):
            return True
        self._sink = sink
        try:
            while self._sink is not None and not self.whole and self.error is None:
                await self.news()
            stopped = self._sink is None
        finally:
            self._sink = None
        if not stopped and self.error is not None:
            raise self.error
        return stopped

    def _take(self) -> bytes:
        held = self.held
        piece = held[0] if len(held) == 1 else b"".join(held)
        held.clear()
        self.size = 0
        if self.connection is not None:
            self.connection.resume()
        return piece

    async def aclose(self) -> None:
        """See `Pieces.aclose`."""
        if not self.closing:
            self.abort()

    async def close(self) -> None:
        """See `Response.close`."""
        self.closing = True
        self.held.clear()
        if self.connection is not None:
            self.connection.linger()

    def abort(self) -> None:
        """See `Response.abort`."""
        self.held.clear()
        if self.connection is not None:
            self.connection.give_up()
