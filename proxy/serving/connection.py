r"""One client's connection: HTTP/1.1 over asyncio and llhttp, one request at a time, its answer before the next.

    idle -- head --> in work -- answer --> idle, or closed
      \__ time-out, not HTTP, client leaves (its handler is cancelled) __> closed

llhttp is strict: both framings in one head, a doubled length, bare line feeds, folded lines and blanks before a
colon are refused by it. What it leaves open is refused here. After a refusal, or where the rest of a body is not
wanted, the answer is sent, our side is shut, and what still comes is thrown away for a moment, so that the
answer is not lost to a reset.

There is one timer per connection. It is not moved with each request: it fires from time to time, looks what is
due when, and sleeps again.
"""

import asyncio
import logging
import select
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from proxy.serving.request import HELD_BYTES, Refused, Request
from proxy.serving.response import Answer, Response

if TYPE_CHECKING:
    from proxy.serving.server import Server

log: Final = logging.getLogger("tailrace.server")

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_TARGET_BYTES: Final = 16 * 1024
MAX_HEADERS: Final = 128
MAX_WAITING: Final = 32
"""Requests that a client may send ahead of their turn."""
ALL: Final = "all"
"""The door of those who came in at an address that is for everybody."""
UNIX: Final = "unix"
"""The address of clients that came by a socket of the file system."""
LINGER_S = 2.0
WRITE_STALL_S = 60.0
"""A client that takes nothing for so long has gone."""
_KEEP_ALIVE_10: Final = "connection: keep-alive\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE: Final = "connection: close\r\n"
_TOO_LARGE: Final = f"The head of the request is larger than {MAX_HEAD_BYTES} bytes."


class Connection(asyncio.Protocol):
    """See the module's docstring."""

    __slots__ = (
        "_began",
        "_broken",
        "_chars",
        "_closing",
        "_doubts",
        "_fields",
        "_half",
        "_headers",
        "_in_head",
        "_incoming",
        "_loop",
        "_moved",
        "_parser",
        "_paused",
        "_request",
        "_server",
        "_since",
        "_spoke",
        "_stalled_at",
        "_target",
        "_timer",
        "_transport",
        "_unfit",
        "_unframed",
        "_waiting",
        "client",
        "door",
        "drained",
        "lost",
        "remote",
    )

    _transport: asyncio.Transport

    def __init__(self, server: "Server", loop: asyncio.AbstractEventLoop, door: str = ALL) -> None:
        self._server = server
        self.door = door
        self._loop = loop
        self._parser: HttpRequestParser | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._headers: dict[str, str] = {}
        self._fields = self._chars = 0
        self._target = b""
        self._in_head = False
        self._moved = False
        self._unframed = 0
        """Bytes since the last head or piece of a body was complete."""
        self._unfit: Refused | None = None
        self._request: Request | None = None
        """In work: its answer is not complete."""
        self._incoming: Request | None = None
        """Whose body is arriving."""
        self._waiting: deque[Request] = deque()
        self._broken: Refused | None = None
        """What came last is no HTTP: said when all before it is answered."""
        self._half = False
        """The client says no more, and waits for its answers."""
        self._doubts: asyncio.TimerHandle | None = None
        self._closing = False
        """Our side is shut; what comes is thrown away."""
        self._paused = False
        self._began = False
        """A byte of the next head has come."""
        self._spoke = False
        """A part of the answer is out."""
        self._since = loop.time()
        self._stalled_at = 0.0
        self.drained: asyncio.Future[None] | None = None
        """Done when the client has taken what was written; None while it takes it as it comes."""
        self.lost = False
        self.client: str | None = None
        """What the server counts it by; None where it does not."""
        self.remote: str | None = None

    def __repr__(self) -> str:
        state = "closed" if self.lost else "shut" if self._closing else "in work" if self._request else "idle"
        return f"<Connection {state}>"

    @property
    def request(self) -> Request | None:
        """In work: its answer is not complete."""
        return self._request

    # What the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Both asyncio and uvloop have set TCP_NODELAY."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.remote = peer[0] if isinstance(peer, tuple) else UNIX if isinstance(peer, str | bytes) else None
        self._parser = HttpRequestParser(self)
        self._wake_after(self._server.head_timeout_s)
        if (limit := self._server.joined(self)) is not None:
            self._refuse(Refused(503, f"Too many connections are open ({limit})."))

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if self._closing or parser is None:
            return
        if self._request is None and not self._began:
            self._began = True
            self._since = self._loop.time()
        self._moved = False
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:
            self._parser = None  # what follows is not HTTP/1.1; the answer ends the connection
        except HttpParserError:
            self._parsed_badly()
            return
        self._unframed = 0 if self._moved else self._unframed + len(data)
        if self._unframed > MAX_HEAD_BYTES:
            self._unfit = Refused(431, _TOO_LARGE)
            self._parsed_badly()
            return
        incoming = self._incoming
        if not self._paused and (self._waiting or (incoming is not None and incoming.size >= HELD_BYTES)):
            self._paused = True
            self._transport.pause_reading()

    def _parsed_badly(self) -> None:
        """What has come cannot be read on: an answer says so when it is its turn, and ends the connection."""
        self._parser = None
        refused = self._unfit or Refused(400, "The request is not valid HTTP/1.1.")
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.keep_alive = False
            incoming.fail()  # its handler says so
        elif self._request is None:
            self._refuse(refused)
        else:
            self._broken = refused

    def eof_received(self) -> bool:
        """The client says no more: it has left, or only waits for its answer. True keeps our side open.

        Both look alike until something is sent. So `100 Continue` is, which every client passes over (RFC 9110
        §15.2): one that has left answers it with a reset, and `_doubt` sees that.
        """
        request = self._request
        if request is None or self._spoke or self._closing or request.version != "1.1" or not request.whole:
            return False
        self._half = True
        self._server.outbox.put(self._transport, _CONTINUE)
        self._doubt(0.01)
        return True

    def _doubt(self, after_s: float) -> None:
        """Look whether a client that said no more has left: the event loop does not, nothing is read any more."""
        self._doubts = self._loop.call_later(after_s, self._look_for_reset, after_s)

    def _look_for_reset(self, waited_s: float) -> None:
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), 0)  # errors are always told
        if poll.poll(0):
            self._transport.abort()
        elif self._request is not None:
            if waited_s > 0.1 and not self._spoke:  # perhaps it has left since
                self._server.outbox.put(self._transport, _CONTINUE)
            self._doubt(min(2 * waited_s, 1.0))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True
        self._parser = None  # it holds our methods: a cycle
        if self._doubts is not None:
            self._doubts.cancel()
            self._doubts = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._server.left(self)
        self._waiting.clear()
        if self.drained is not None and not self.drained.done():
            self.drained.set_exception(ConnectionResetError("the client left"))
            self.drained.exception()  # perhaps nobody waits
        request = self._request
        if request is not None and request.task is not None:
            request.task.cancel()

    def pause_writing(self) -> None:
        self._stalled_at = self._loop.time()
        self.drained = self._loop.create_future()

    def resume_writing(self) -> None:
        if self.drained is not None and not self.drained.done():
            self.drained.set_result(None)
        self.drained = None

    # What llhttp finds

    def on_message_begin(self) -> None:
        self._headers = {}
        self._fields = self._chars = 0
        self._target = b""
        self._in_head = True

    def on_url(self, part: bytes) -> None:
        self._target += part
        if len(self._target) > MAX_TARGET_BYTES:
            self._unfit = Refused(414, f"The request target is longer than {MAX_TARGET_BYTES} bytes.")
            raise self._unfit

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        if self._fields > MAX_HEADERS:
            self._unfit = Refused(431, f"The request has more than {MAX_HEADERS} headers.")
            raise self._unfit
        if not self._in_head:
            return  # a trailer: nobody asked for it
        key = name.lower().decode("latin-1")
        text = value.decode("utf-8", "surrogateescape")
        self._chars += len(text)
        headers = self._headers
        if key in headers:
            if key == "host":
                self._unfit = Refused(400, "The request has more than one Host header.")
                raise self._unfit
            text = f"{headers[key]}, {text}"
        headers[key] = text

    def on_headers_complete(self) -> None:
        """Begins the request, or queues it behind those that came before. Raises to stop llhttp."""
        parser = self._parser
        assert parser is not None
        self._in_head = self._began = False
        self._moved = True
        version = parser.get_http_version()
        headers = self._headers
        request = Request(
            self, parser.get_method().decode("latin-1"), self._target.decode("latin-1"), version, headers
        )
        try:
            self._look_at_head(request, parser)
        except Refused as refused:
            self._unfit = refused
            raise
        self._incoming = request
        if self._request is None:
            self._begin(request)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting.append(request)
        else:
            self._incoming = None
            self._unfit = Refused(400, f"More than {MAX_WAITING} requests were sent ahead of their turn.")
            raise self._unfit

    def _look_at_head(self, request: Request, parser: HttpRequestParser) -> None:
        """What llhttp leaves open. Raises Refused."""
        headers = request.headers
        if self._chars > MAX_HEAD_BYTES:
            raise Refused(431, _TOO_LARGE)
        if request.version not in ("1.1", "1.0"):
            raise Refused(505, "HTTP/1.1 is spoken here.")
        if request.version == "1.1" and "host" not in headers:
            raise Refused(400, "The request has no Host header.")  # RFC 9112 §3.2
        request.keep_alive = parser.should_keep_alive()
        if (length := headers.get("content-length")) is not None:
            request.content_length = int(length)  # llhttp has seen to it that it is one number
        elif (coding := headers.get("transfer-encoding")) is not None:
            if coding.lower() != "chunked" or request.version == "1.0":
                raise Refused(501, "Of transfer codings only 'chunked' is supported.")
            request.chunked = True
        if parser.should_upgrade():
            if request.body_exists:
                raise Refused(400, "No upgrade is offered here: send the request without it.")
            request.keep_alive = False
        if "expect" in headers:
            if headers["expect"].lower() != "100-continue":
                raise Refused(417, "Of expectations only '100-continue' is known.")
            request.expects = request.version == "1.1"

    def on_body(self, data: bytes) -> None:
        self._moved = True
        if self._incoming is not None:
            self._incoming.feed(data)

    def on_message_complete(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.end()

    # Requests and answers

    def _begin(self, request: Request) -> None:
        self._request = request
        self._spoke = False
        # Not the loop's create_task, which makes up a name for each.
        request.task = asyncio.Task(self._serve(request), loop=self._loop, name="request")

    async def _serve(self, request: Request) -> None:
        """Have the request answered, and go on to the next, or close."""
        try:
            self._answered(request, await self._server.handler(request))
        except ConnectionError:
            self._end()
        except asyncio.CancelledError:
            self._end()
            raise
        except Exception as error:  # noqa: BLE001  its text may quote a prompt, and is not logged
            log.error("a request failed: %s", type(error).__name__)  # noqa: TRY400  its stack too
            if self._spoke:
                self.abort()
            else:
                self._refuse(Refused(500, "Tailrace failed on this request."))
        finally:
            if request.holds:
                self._server.held_bytes -= request.holds

    def _answered(self, request: Request, answer: Answer) -> None:
        if self.lost:
            return
        if self._spoke if isinstance(answer, Response) else not answer.ended:
            self.abort()  # never as if it were whole, and nothing else in its place
            return
        if isinstance(answer, Response):
            if not request.whole:  # what is left of the body is not worth reading
                request.keep_alive = False
            data = answer.encode(self.framing(request), bodiless=request.method == "HEAD")
            self._server.outbox.put(self._transport, data)
        self._request = None
        self._since = self._loop.time()
        self._began = self._in_head
        last = self._half and not self._waiting
        if not (request.keep_alive and request.whole) or last or self._server.draining:
            self._shut()
        elif self._waiting:
            self._begin(self._waiting.popleft())
            if not self._waiting:
                self.resume()
        elif self._broken is not None:
            self._refuse(self._broken)

    def _refuse(self, refused: Refused) -> None:
        """The last answer on this connection."""
        response = self._server.refusal(refused.status, refused.why)
        self._server.outbox.put(self._transport, response.encode(self._server.date_line() + _CLOSE))
        self._shut()

    def _shut(self) -> None:
        """Nothing more is said; what the client still says is not heard."""
        self._closing = True
        self.resume()
        self._server.outbox.flush()
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._wake_after(LINGER_S)
        else:  # TLS
            self._transport.close()

    def _end(self) -> None:
        """The handler gave up: what it has written still goes out, as far as the client takes it."""
        if not self.lost:
            self._server.outbox.flush()
            self._transport.close()

    # What requests and answers ask for

    def write(self, data: bytes) -> None:
        """Send bytes. Raises ConnectionResetError when the client left."""
        if self.lost or self._transport.is_closing():
            raise ConnectionResetError("the client left")
        self._spoke = True
        self._server.outbox.put(self._transport, data)

    def framing(self, request: Request) -> str:
        """The lines of an answer's head that are the server's business."""
        date = self._server.date_line()
        if not request.keep_alive or self._server.draining:
            return date + _CLOSE
        return date if request.version == "1.1" else date + _KEEP_ALIVE_10

    def hold(self, count: int) -> bool:
        """So many more bytes are held by a handler; False, and they are not, where all hold too much together."""
        server = self._server
        if server.held_bytes + count > server.bounds.held_bytes:
            return False
        server.held_bytes += count
        return True

    def has_room_for(self, count: int) -> bool:
        """Whether so many bytes might be held now."""
        return self._server.held_bytes + count <= self._server.bounds.held_bytes

    def say_continue(self) -> None:
        """Ask for the body that the client holds back. Raises ConnectionResetError when it left."""
        self.write(_CONTINUE)
        self._spoke = False  # that was no part of an answer

    def resume(self) -> None:
        """Read on: what was held has been taken, and nobody waits."""
        if self._paused and (self._closing or not self._waiting):
            self._paused = False
            if not self.lost:
                self._transport.resume_reading()

    def close_if_idle(self) -> None:
        """Close unless a request is in work; its answer will close it."""
        if self._request is None:
            self._end()

    @property
    def idle(self) -> bool:
        """Nothing has come of a next request."""
        return self._request is None and not self._began and not self._closing and not self.lost

    def abort(self) -> None:
        """Close now; what was written before has left."""
        if not self.lost:
            self._server.outbox.flush()
            self._transport.abort()

    # Time

    def _wake_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Close what is late; look again when something may be."""
        self._timer = None
        now, server = self._loop.time(), self._server
        if self._closing:
            self._transport.abort()
            return
        if self.drained is not None:
            due = self._stalled_at + WRITE_STALL_S
        elif self._request is not None:
            due = now + server.head_timeout_s  # its handler has time-outs of its own
        elif self._began:
            due = self._since + server.head_timeout_s
        else:
            due = self._since + server.keep_alive_s
        if due > now:
            self._wake_after(min(due - now, server.head_timeout_s))
        elif self._began and self._request is None:
            self._refuse(Refused(408, "The head of the request did not arrive in time."))
        else:
            self._transport.abort()
