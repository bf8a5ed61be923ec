r"""One connection to a provider: HTTP/1.1 over asyncio and llhttp, one call at a time.

    idle -- begin --> waiting -- head --> streaming -- last byte --> idle, or closed
      \______ bytes nobody asked for, any failure, abort ___________> closed

There is no task and, while a connection is busy, no new timer: one timer per connection fires at the
earliest time anything could be late, looks at the clock, and goes to sleep again. A call costs one future,
one write and one read.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Final, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from proxy.outbox import Outbox
from proxy.upstreams.answer import Answer
from proxy.upstreams.http1 import UNTIL_CLOSED, keep_alive_s, read_head
from proxy.upstreams.transport import (
    MAX_HEAD_BYTES,
    SLOWEST_BYTES_S,
    AnswerTooLarge,
    Broken,
    FirstByteTimeout,
    IdleTimeout,
    Malformed,
    TotalTimeout,
    TransportError,
    is_finished,
)

HELD_BYTES: Final = 64 * 1024
"""A consumer that is this far behind stops its upstream."""
LINGER_S: Final = 0.25
"""After `close`, the end of an answer may still take this long, and have HELD_BYTES."""
_NEVER: Final = float("inf")


class Keeper(Protocol):
    """Who keeps connections: a lane of `proxy.upstreams.pool`."""

    @property
    def idle_expiry_s(self) -> float:
        """How long a connection that gets idle now is kept."""

    def put_back(self, connection: "Connection") -> None:
        """The connection can serve the next call."""

    def lost(self, connection: "Connection") -> None:
        """The connection is gone; said once."""


class Connection(asyncio.Protocol):
    """See the module's docstring. `lost` once it cannot serve any more."""

    __slots__ = (
        "_answer",
        "_drained",
        "_due",
        "_expires",
        "_expiry_s",
        "_keep",
        "_keeper",
        "_loop",
        "_moved",
        "_names",
        "_outbox",
        "_parser",
        "_paused",
        "_poll",
        "_problem",
        "_sent_at",
        "_spoilt",
        "_timer",
        "_transport",
        "_unframed",
        "_values",
        "_whole",
        "lost",
        "upload",
    )

    _transport: asyncio.Transport
    _poll: Callable[[float], list[tuple[int, int]]]

    def __init__(self, loop: asyncio.AbstractEventLoop, outbox: Outbox) -> None:
        """Requests leave through `outbox`."""
        self._loop = loop
        self._outbox = outbox
        self._keeper: Keeper | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._answer: Answer | None = None
        self._names: list[bytes] = []
        self._values: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._expires = 0.0
        self._expiry_s: float | None = None
        """What the provider said of its own patience with the first answer."""
        self._sent_at = 0.0
        self._moved = 0.0
        self._unframed = 0
        """Bytes since the last byte of a body: heads, chunk sizes, trailers."""
        self._paused = False
        self._whole = False
        self._spoilt = False
        self._keep = False
        self._problem: TransportError | None = None
        self._drained: asyncio.Future[None] | None = None
        self.upload: asyncio.Task[None] | None = None
        self.lost = False

    def __repr__(self) -> str:
        answer = self._answer
        state = (
            "closed"
            if self.lost
            else "idle"
            if answer is None
            else "streaming"
            if answer.status
            else "waiting"
        )
        return f"<Connection {state}>"

    # What the pool asks for

    def adopt(self, keeper: Keeper) -> None:
        """From here on `keeper` is told when the connection is free or lost."""
        self._keeper = keeper

    def stale(self) -> bool:
        """Its end has come while it was idle, or bytes that would be taken for the next call's answer.

        The socket is asked: what has come may still be in front of the event loop.
        """
        return self.lost or bool(self._poll(0))

    def begin(self, answer: Answer, data: bytes, now: float) -> None:
        """Send `data`, and let `answer` get what comes back."""
        self._answer = answer
        answer.connection = self
        self._whole = self._spoilt = False
        self._unframed = 0
        self._problem = None
        self._sent_at = self._moved = now
        timeouts = answer.timeouts
        self._wake_at(min(now + timeouts.first_byte_s, now + timeouts.idle_s, answer.total))
        self._outbox.put(self._transport, data, spends=True)

    def uploaded(self) -> None:
        """The upload is complete: from here on the upstream is waited for."""
        answer = self._answer
        self.upload = None
        self._sent_at = self._moved = self._loop.time()
        if answer is not None:
            self._wake_at(self._moved + min(answer.timeouts.first_byte_s, answer.timeouts.idle_s))

    def write(self, data: bytes) -> None:
        """Send a part of a body."""
        self._outbox.put(self._transport, data, spends=True)

    async def drained(self) -> None:
        """What was written is on its way, but for a little."""
        if self._drained is not None:
            await self._drained

    def fail(self, error: BaseException) -> None:
        """End the call with `error`, and the connection."""
        answer, self._answer = self._answer, None
        self.drop()
        if answer is not None:
            answer.fail(error)

    def drop(self) -> None:
        """Close now, without a farewell: what TLS would still say nobody waits for."""
        if not self.lost:
            self._forget()
            self._transport.abort()

    # What the answer asks for

    def resume(self) -> None:
        """The consumer has taken what was held."""
        if self._paused:
            self._paused = False
            self._moved = self._loop.time()
            self._transport.resume_reading()

    def linger(self) -> None:
        """The consumer wants no more: let the answer end by itself if it does so very soon."""
        self._moved = self._loop.time()
        self._unframed = 0
        self.resume()
        self._wake_at(self._moved + LINGER_S)

    def give_up(self) -> None:
        """The consumer is gone."""
        self.fail(Broken("the answer was given up"))

    # What the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Both asyncio and uvloop have set TCP_NODELAY."""
        self._transport = cast("asyncio.Transport", transport)
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._poll = poll.poll

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        parser = self._parser
        if answer is None or parser is None:
            self.drop()
            return
        answer.touched = True
        size, headless = answer.size, not answer.status
        if headless and self._unframed + len(data) > MAX_HEAD_BYTES:
            self._received_with_long_head(answer, data)
            return
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self._whole:
                self.fail(self._problem or Malformed(f"the answer is not HTTP/1.1: {error}"))
                return
            self._spoilt = True
        if self._whole:
            self._settle(answer)
        elif answer.size > size:
            now = self._loop.time()
            self._unframed = 0
            if answer.came:
                self._moved = (
                    min(now, self._moved + (answer.size - size) / SLOWEST_BYTES_S) if answer.finished else now
                )
            elif not answer.finished or not answer.held[-1].isspace():
                self._moved = now
                answer.came = True
                self._wake_at(now + answer.timeouts.idle_s)
            if answer.size >= answer.wanted:
                answer.wake()
                if answer.size >= HELD_BYTES and not self._paused:
                    self._hold(answer)
        else:
            self._unframed += len(data)
            if self._unframed > MAX_HEAD_BYTES:
                self.fail(Malformed("the answer has more framing than body"))
            elif headless and answer.status:
                self._moved = self._loop.time()
                answer.wake()

    def _received_with_long_head(self, answer: Answer, data: bytes) -> None:
        """The head must end within its bound, however much has come with it."""
        room = MAX_HEAD_BYTES - self._unframed
        if room > 0:
            self.data_received(data[:room])
        if self._answer is answer and not answer.status:
            self.fail(AnswerTooLarge("the answer's head is too large"))
        elif not self.lost:
            self.data_received(data[room:])

    def _hold(self, answer: Answer) -> None:
        if answer.closing:
            self.fail(Broken("the answer went on after it was closed"))
        else:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc)

    def pause_writing(self) -> None:
        self._moved = self._loop.time()
        self._drained = self._loop.create_future()
        if self._answer is not None:
            self._wake_at(self._moved + self._answer.timeouts.idle_s)

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # What llhttp finds

    def on_message_begin(self) -> None:
        if self._whole:
            raise Malformed("an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._names.append(name)
        self._values.append(value)

    def on_headers_complete(self) -> None:
        """Raises to stop llhttp; the reason is kept in `_problem`."""
        answer, parser = self._answer, self._parser
        if answer is None or parser is None:
            return
        status = parser.get_status_code()
        try:
            if status == 101 or not 100 <= status < 200:  # RFC 9110 §15.2: after those the answer still comes
                answer.names, answer.values, answer.length, answer.compressed = read_head(
                    status, self._names, self._values
                )
                answer.finished = is_finished(answer.header("content-length"), answer.header("content-type"))
                answer.status = status
        except Malformed as problem:
            self._problem = problem
            raise
        finally:
            self._names.clear()
            self._values.clear()
        if not answer.status:
            return
        if self._expiry_s is None:
            self._expiry_s = keep_alive_s(answer.header("keep-alive"))
        if answer.method == "HEAD":
            self._whole = True
            raise Malformed("llhttp would wait for a body")
        if status >= 300:  # the provider has made up its mind about what is still on its way
            self._stop_upload()

    def on_body(self, data: bytes) -> None:
        answer = self._answer
        if answer is not None:
            answer.held.append(data)
            answer.size += len(data)

    def on_message_complete(self) -> None:
        if self._names:  # trailers
            self._names.clear()
            self._values.clear()
        answer, parser = self._answer, self._parser
        if answer is not None and answer.status and parser is not None:  # not one of the 1xx
            self._whole = True
            self._keep = parser.should_keep_alive()

    # Ends

    def _settle(self, answer: Answer) -> None:
        """The answer is whole: the connection serves again, or is closed."""
        self._answer = None
        if self.upload is not None or self._keeper is None or not self._keep or self._spoilt:
            self.drop()
        else:
            self.resume()
            now = self._loop.time()
            expiry_s = self._keeper.idle_expiry_s
            if self._expiry_s is not None and self._expiry_s < expiry_s:
                expiry_s = self._expiry_s
            self._expires = now + expiry_s
            self._wake_at(self._expires)
            self._keeper.put_back(self)
        answer.end()

    def _ended(self, exc: Exception | None) -> None:
        """The other side has closed. That is how an answer without a length ends, and no other."""
        if self.lost:
            return
        answer, self._answer = self._answer, None
        self.drop()
        if answer is not None:
            if exc is None and answer.status and answer.length == UNTIL_CLOSED:
                answer.end()
            else:
                answer.fail(Broken("the connection ended before the answer did"))

    def _stop_upload(self) -> None:
        if self.upload is not None:
            self._spoilt = True
            self.upload.cancel()
            self.upload = None

    def _forget(self) -> None:
        self.lost = True
        self._parser = None  # it holds our methods: a cycle
        self._stop_upload()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._keeper is not None:
            self._keeper.lost(self)

    # Time

    def _wake_at(self, due: float) -> None:
        """Look at the clock at `due` or earlier."""
        timer = self._timer
        if timer is None or due < self._due:
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_at(due, self._look)
            self._due = due

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        answer = self._answer
        due, late = (self._expires, None) if answer is None else self._deadline(answer, now)
        if now < due:
            self._wake_at(due)
        elif late is None:
            self.drop()
        else:
            self.fail(late)

    def _deadline(self, answer: Answer, now: float) -> tuple[float, TransportError]:
        """When the call is late, and what that is called."""
        timeouts = answer.timeouts
        late: TransportError
        if answer.closing:
            due, late = self._moved + LINGER_S, Broken("the answer went on after it was closed")
        elif not answer.status and self.upload is None:
            due, late = self._sent_at + timeouts.first_byte_s, FirstByteTimeout("no answer in time")
        elif not answer.status and self._drained is None:
            due, late = _NEVER, TotalTimeout("")  # it is the client who is slow, or nobody
        else:
            # While we do not read, the silence is not the upstream's.
            due = (now if self._paused else self._moved) + timeouts.idle_s
            late = IdleTimeout("the answer stood still" if answer.status else "the request is not taken")
            if not answer.came:
                due = max(due, self._sent_at + timeouts.first_byte_s)
        if answer.total < due:
            return answer.total, TotalTimeout("the call took too long")
        return due, late
