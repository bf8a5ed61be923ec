"""The transport over aiohttp's ClientSession: for providers that are reached through a proxy of the environment.

It costs several times what the own pool costs. The session follows no redirect, keeps no cookie, reads no
`.netrc`, undoes no coding; the environment is read here, once, so that all of it is visible.
"""

import asyncio
import base64
import select
import ssl
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

import aiohttp
from aiohttp import http_exceptions
from yarl import URL

from proxy.outbox import Outbox
from proxy.snapshot import Timeouts
from proxy.upstreams.http1 import read_head, request_head, split_length
from proxy.upstreams.inflate import Inflated
from proxy.upstreams.transport import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    SLOWEST_BYTES_S,
    AnswerTooLarge,
    Body,
    Broken,
    ConnectFailed,
    ConnectTimeout,
    FirstByteTimeout,
    Headers,
    IdleTimeout,
    Malformed,
    NotTrusted,
    Response,
    Target,
    TotalTimeout,
    TransportError,
    first_value,
    gather,
    is_finished,
)

_READ_BYTES = 64 * 1024
_PROBLEMS = (aiohttp.ClientError, OSError, ssl.SSLError, http_exceptions.HttpProcessingError)


class ClientSessionTransport:
    """`environ` may name `http_proxy`, `https_proxy` and `no_proxy`, in either case; empty: no proxy at all."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        tls: ssl.SSLContext | None = None,
        per_host: int = 2048,
        idle_expiry_s: float = 55,
        outbox: Outbox | None = None,
    ) -> None:
        """What has to be recorded before a request leaves is recorded by `outbox`."""
        self._proxies = _proxies(environ)
        self._tls = tls
        self._per_host = per_host
        self._idle_expiry_s = idle_expiry_s
        self._outbox = outbox or Outbox()
        self._session: aiohttp.ClientSession | None = None
        self._answers: WeakSet[Answer] = WeakSet()

    def _open(self) -> aiohttp.ClientSession:
        """The session, made with the first call: it belongs to the event loop that runs then."""
        if self._session is None:
            watch = aiohttp.TraceConfig()
            watch.on_connection_reuseconn.append(_Call.note_reuse)
            watch.on_request_headers_sent.append(_Call.note_sent)
            watch.on_request_chunk_sent.append(_Call.note_sent)
            self._session = aiohttp.ClientSession(
                connector=_Connector(
                    limit=0,
                    limit_per_host=self._per_host,
                    ssl=self._tls or True,
                    keepalive_timeout=self._idle_expiry_s,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                read_bufsize=_READ_BYTES,
                max_line_size=MAX_HEAD_BYTES,
                max_field_size=MAX_HEAD_BYTES,
                max_headers=MAX_HEADERS,
                skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
                trace_configs=[watch],
            )
        return self._session

    async def send(
        self, target: Target, method: str, path: str, headers: Headers, body: Body, timeouts: Timeouts
    ) -> Response:
        """See `Transport.send`."""
        whole = body is None or isinstance(body, bytes)
        request_head(method, path, target.host_header, "", headers if whole else split_length(headers)[1])
        call = _Call(timeouts)
        proxy, credentials = self._proxy_for(target)
        own = ("proxy-authorization", credentials)
        options: dict[str, Any] = {
            "headers": [*headers, own] if credentials and not target.tls else headers,
            "proxy_headers": dict([own]) if credentials and target.tls else None,
            "proxy": proxy,
            "data": body,
            "allow_redirects": False,
            "timeout": aiohttp.ClientTimeout(connect=timeouts.connect_s, ceil_threshold=timeouts.total_s + 1),
            "trace_request_ctx": call,
        }
        url = URL(f"{target.scheme}://{target.host_header}{path}", encoded=True)
        try:
            response = await self._attempt(method, url, options, call)
        except Broken:
            if not call.reused or not whole:
                raise
            response = await self._attempt(method, url, options, call)
        answer = _answer(response, method, call)
        self._answers.add(answer)
        return Inflated(answer) if answer.compressed else answer

    async def _attempt(
        self, method: str, url: URL, options: dict[str, Any], call: "_Call"
    ) -> aiohttp.ClientResponse:
        call.reused = False
        call.clock = asyncio.timeout_at(call.total)
        try:
            async with call.clock:
                if not self._outbox.flush():
                    raise ConnectFailed("what is called for could not be recorded")
                response = await self._open().request(method, url, **options)
        except TimeoutError as problem:
            if isinstance(problem, aiohttp.ConnectionTimeoutError):
                raise ConnectTimeout("no connection in time") from None
            raise call.late(call.clock.when() or 0, FirstByteTimeout("no answer in time")) from None
        except _PROBLEMS as problem:
            raise _translated(problem) from None
        return response

    def _proxy_for(self, target: Target) -> tuple[str | None, str]:
        """The proxy's URL without its user, and the value of `proxy-authorization` if it has one."""
        proxy = self._proxies.get(target.scheme)
        if not proxy or _exempt(target, self._proxies.get("no", "")):
            return None, ""
        url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        bare = url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()
        if url.username is None:
            return bare, ""
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
        return bare, "Basic " + base64.b64encode(pair.encode()).decode("ascii")

    async def close(self) -> None:
        """See `Transport.close`."""
        for answer in list(self._answers):
            answer.abort()
        if self._session is not None:
            await self._session.close()
            self._session = None


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """`HTTP_PROXY` and its like by scheme, plus `no`; a name in lower case wins, even when it is empty."""
    found = {name.lower(): value for name, value in environ.items() if not name.islower()}
    found |= {name: value for name, value in environ.items() if name.islower()}
    return {
        scheme: found[f"{scheme}_proxy"] for scheme in ("http", "https", "no") if found.get(f"{scheme}_proxy")
    }


def _exempt(target: Target, no_proxy: str) -> bool:
    """Whether `no_proxy` (host names and domains with commas between, or `*`) names the target."""
    names = [name.strip().lower().lstrip(".") for name in no_proxy.split(",")]
    here = (target.host.lower(), f"{target.host.lower()}:{target.port}")
    return any(
        name == "*" or (name and (at == name or at.endswith("." + name))) for name in names for at in here
    )


def _readable(transport: asyncio.BaseTransport | None) -> bool:
    """Bytes or an end wait in the socket, in front of the event loop."""
    if transport is None:
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


class _Connector(aiohttp.TCPConnector):
    """Never gives out a kept connection on which something has come: it would be the next call's answer."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  its name
    ) -> aiohttp.connector.Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is not None and not protocol.should_close and not _readable(protocol.transport):
                return connection
            connection.close()


class _Call:
    """What one call knows of its clock and of its connection."""

    __slots__ = ("began", "clock", "reused", "timeouts", "total")

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self.began = asyncio.get_running_loop().time()
        self.total = self.began + timeouts.total_s
        self.clock = asyncio.timeout_at(self.total)
        self.reused = False

    @staticmethod
    async def note_reuse(_session: object, context: Any, _params: object) -> None:
        """The connection was used before: it may have died unseen."""
        context.trace_request_ctx.reused = True

    @staticmethod
    async def note_sent(_session: object, context: Any, _params: object) -> None:
        """A part of the request is on its way: from here on the upstream is waited for."""
        call: _Call = context.trace_request_ctx
        now = asyncio.get_running_loop().time()
        call.clock.reschedule(min(call.total, now + call.timeouts.first_byte_s))

    def late(self, due: float, error: TransportError) -> TransportError:
        """`error`, or TotalTimeout where that was what came due."""
        return TotalTimeout("the call took too long") if due >= self.total else error


def _answer(response: aiohttp.ClientResponse, method: str, call: _Call) -> "Answer":
    """What the session received, if its head is beyond doubt. Raises Malformed."""
    names = [name for name, _ in response.raw_headers]
    values = [value for _, value in response.raw_headers]
    try:
        lower, texts, _, compressed = read_head(response.status, names, values)
    except Malformed:
        response.close()
        raise
    return Answer(
        response, list(zip(lower, texts, strict=True)), call, compressed=compressed and method != "HEAD"
    )


class Answer:
    """One answer of the session; see `Response`. What came just before a cut may be lost in aiohttp."""

    __slots__ = (
        "__weakref__",
        "_call",
        "_came",
        "_ended",
        "_finished",
        "_gone",
        "_left",
        "_moved",
        "_protocol",
        "_response",
        "compressed",
        "headers",
        "status",
    )

    def __init__(
        self, response: aiohttp.ClientResponse, headers: Headers, call: _Call, *, compressed: bool
    ) -> None:
        self.compressed = compressed
        self._response = response
        self._protocol = response.connection and response.connection.protocol
        self._gone = False
        self._call = call
        self._came = False
        self._moved = self._left = asyncio.get_running_loop().time()
        self._finished = is_finished(
            first_value(headers, "content-length"), first_value(headers, "content-type")
        )
        self._ended = False
        self.status = response.status
        self.headers = headers

    def header(self, name: str) -> str | None:
        """See `Response.header`."""
        return first_value(self.headers, name)

    async def read(self, limit: int) -> bytes:
        """See `Response.read`."""
        if int(self.header("content-length") or 0) > limit:
            self.abort()
            raise AnswerTooLarge(f"the answer is longer than {limit} bytes")
        return await gather(self, limit)

    def pieces(self) -> Self:
        """See `Response.pieces`."""
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._gone:
            raise Broken("the answer was given up")
        if self._ended:
            raise StopAsyncIteration
        now = asyncio.get_running_loop().time()
        # What the consumer took its time for is not the upstream's silence.
        self._moved += now - self._left
        due = self._moved + self._call.timeouts.idle_s
        if not self._came:
            due = max(due, self._call.began + self._call.timeouts.first_byte_s)
        try:
            async with asyncio.timeout_at(min(due, self._call.total)):
                data = await self._response.content.readany()
        except BaseException as problem:  # cancelled too: an upstream that nobody listens to must stop
            self.abort()
            if isinstance(problem, TimeoutError) and not isinstance(problem, aiohttp.ClientError):
                raise self._call.late(due, IdleTimeout("the answer stood still")) from None
            if isinstance(problem, _PROBLEMS):
                raise _translated(problem) from None
            raise
        self._left = asyncio.get_running_loop().time()
        if not self._finished:
            self._came, self._moved = True, self._left
        elif self._came:
            self._moved = min(self._left, self._moved + len(data) / SLOWEST_BYTES_S)
        elif not data.isspace():
            self._came, self._moved = True, self._left
        if not data:
            self._ended = True
            if self._protocol is not None and isinstance(self._protocol.exception(), OSError):
                raise Broken("the connection ended before the answer did")  # aiohttp takes a reset for an end
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        """See `Pieces.aclose`."""
        if not self._ended:
            self.abort()

    async def close(self) -> None:
        """See `Response.close`."""
        self._ended = True
        self._response.release()

    def abort(self) -> None:
        """See `Response.abort`."""
        self._gone = True
        self._response.close()
        self._response.content.set_exception(Broken("the answer was given up"))  # wakes a reader


def _translated(problem: BaseException) -> TransportError:
    """What aiohttp's error means here; its own text may name addresses and is left out."""
    match problem:
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            return NotTrusted("the certificate is not trusted")
        case aiohttp.ClientConnectorSSLError():
            return ConnectFailed("no TLS connection")
        case aiohttp.ClientHttpProxyError():
            return ConnectFailed("the proxy refused the connection")
        case aiohttp.ClientConnectorDNSError():
            return ConnectFailed("no such host name")
        case aiohttp.ClientConnectorError():
            return ConnectFailed("no connection")
        case aiohttp.ClientResponseError() | http_exceptions.HttpProcessingError():
            if isinstance(problem.__cause__ or problem, http_exceptions.LineTooLong):
                return AnswerTooLarge("the answer's head is too large")
            return Malformed("the answer is not HTTP/1.1")
        case aiohttp.ClientPayloadError():
            cut = isinstance(problem.__cause__, http_exceptions.PayloadEncodingError | OSError | None)
            return Broken("the answer was cut") if cut else Malformed("the answer's body is not framed well")
        case _:
            return Broken("the connection ended before the answer")
