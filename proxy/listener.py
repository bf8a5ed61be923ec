"""The client's end of a streamed answer: when its status line goes out, and what fills its silences."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from proxy import serving
from proxy.clock import monotonic
from proxy.wire.errors import ApiError
from proxy.wire.sse import DONE, comment, frame

HEADERS: Final = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))
Headers = Sequence[tuple[str, str]]
KEEP_ALIVE: Final = comment("keep-alive")


class Listener:
    """Writes one event stream.

    The 200 is held back until the first piece, at most `hold_s`: until then an error keeps its status.
    After that, what `waiting` gives goes out in every silence of `keepalive_s`, so that nobody on the way
    times out; nothing where it gives nothing.
    """

    def __init__(
        self,
        request: serving.Request,
        headers: Callable[[], Headers],
        hold_s: float,
        keepalive_s: float,
        waiting: Callable[[], bytes] = lambda: KEEP_ALIVE,
    ) -> None:
        self._request = request
        self._headers = headers
        self._keepalive_s = keepalive_s
        self._waiting = waiting
        self._response: serving.StreamResponse | None = None
        self._starting = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._spoke_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(hold_s, self._silent)
        self._comment: asyncio.Task[None] | None = None
        self.spoke_first_s: float | None = None
        """When the first event of the answer went out (monotonic), comments do not count."""
        self.told: list[bytes] | None = None
        """All events so far, where they are to be kept."""

    @property
    def started(self) -> bool:
        """Whether the status line is out."""
        return self._response is not None

    async def tell(self, data: bytes) -> None:
        """Send whole events. Waits while the client is slow; raises ConnectionError when it left."""
        response = self._response
        if response is None:
            response = await self._start()
        self._note(data)
        await response.write(data)

    def tell_at_once(self, data: bytes) -> bool:
        """Send whole events of an answer that has begun; False where the client is slow, or has left."""
        response = self._response
        assert response is not None, "tell comes first"
        self._note(data)
        try:
            return response.write_at_once(data)
        except ConnectionError:
            return False  # the handler is told by the server

    def _note(self, data: bytes) -> None:
        self._spoke_at = self._loop.time()
        if self.spoke_first_s is None and not data.startswith(b":"):
            self.spoke_first_s = monotonic()
        if self.told is not None and not data.startswith(b":"):
            self.told.append(data)

    async def _start(self) -> serving.StreamResponse:
        async with self._starting:  # the first piece and the first comment may come together
            if self._response is None:
                response = serving.StreamResponse(headers=[*HEADERS, *self._headers()])
                await response.prepare(self._request)
                self._response = response
            return self._response

    def _silent(self) -> None:
        """The timer: say something if nothing was said for long, and look again later."""
        left = self._spoke_at + self._keepalive_s - self._loop.time()
        if self._response is None or left <= 0.001:
            self._comment = self._loop.create_task(self._say_waiting(), name="keepalive")
            left = self._keepalive_s
        self._timer = self._loop.call_later(left, self._silent)

    async def _say_waiting(self) -> None:
        try:
            if self._timer is not None and self._response is None:
                await self._start()
            said = b"" if self._timer is None else self._waiting()  # it ended since this was due
            if said:
                self._spoke_at = self._loop.time()
                assert self._response is not None
                await self._response.write(said)
        except (ConnectionError, RuntimeError):
            self.stop()  # the client left; its handler is told by the server

    def stop(self) -> None:
        """No more comments."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def cut(self, error: ApiError) -> None:
        """End a stream from outside: an error event if it has begun, and its handler is cancelled."""
        task = self._request.task
        assert task is not None
        try:
            if self._response is not None:
                await self.fail(error)
        except (ConnectionError, RuntimeError):
            pass
        task.cancel()

    async def end(self, last: bytes = b"") -> serving.Answer:
        """Send the last events and the end of the stream."""
        self.stop()
        await self.tell(last + frame(DONE))
        assert self._response is not None
        await self._response.write_eof()
        return self._response

    async def fail(self, error: ApiError) -> serving.Answer:
        """End a stream that has begun with an error event; no `[DONE]` follows, the answer is not done."""
        self.stop()
        await self.tell(error.event())
        assert self._response is not None
        self._response.came_to = error.status
        await self._response.write_eof()
        return self._response
