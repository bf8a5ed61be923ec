"""What a provider's adapter knows of the network: send one request, get a head, read the body.

Two transports keep this contract, and one test suite (`tests/proxy/transport/`) runs against
both: `proxy/upstreams/pool.py`, which is fast, and `proxy/upstreams/client_session.py`, for providers that
are reached through a proxy of the environment. Neither follows redirects, keeps cookies, or sends a
header that the caller did not give, except `host`, `content-length` and `transfer-encoding`.

    TransportError
      ConnectFailed        no connection: refused, unreachable, no such name     connect
        NotTrusted         the certificate is not one we trust                   connect
        PoolFull           too many calls wait for a connection already          connect
      ConnectTimeout       no connection within `connect_s`                      timeout
      FirstByteTimeout     no complete head within `first_byte_s`                timeout
      IdleTimeout          the answer (or the upload) stood still for `idle_s`   timeout
      TotalTimeout         the call took longer than `total_s`                   timeout
      Broken               the connection ended before the answer did            broken
      AnswerTooLarge       head or body over its limit                           too_large
      Malformed            not HTTP, doubtful framing, unreadable coding         malformed

Their texts name no address, no header value and no byte of a body: they may be shown and logged.
A request that cannot be written safely (a line break in a header) is the caller's mistake: ValueError.
"""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, Protocol, Self
from urllib.parse import urlsplit

from proxy.snapshot import Timeouts

Kind = Literal["connect", "timeout", "broken", "too_large", "malformed"]
Headers = Sequence[tuple[str, str]]
Body = bytes | AsyncIterable[bytes] | None

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 100
SLOWEST_BYTES_S: Final = 1024
"""What an answer that is finished at its sender may drip: below that, beyond `idle_s`, it stands still."""


class TransportError(Exception):
    """The call brought no whole answer. The tree is in the module's docstring."""

    kind: ClassVar[Kind]
    retryable: ClassVar[bool] = True
    """Whether the same call may well succeed when it is made once more at the same provider."""
    sent: ClassVar[bool] = True
    """Whether the provider may have seen the request, and so may bill it."""


class ConnectFailed(TransportError):
    kind = "connect"
    sent = False


class NotTrusted(ConnectFailed):
    retryable = False


class PoolFull(ConnectFailed):
    retryable = False


class ConnectTimeout(TransportError):
    kind = "timeout"
    sent = False


class FirstByteTimeout(TransportError):
    kind = "timeout"


class IdleTimeout(TransportError):
    kind = "timeout"


class TotalTimeout(TransportError):
    kind = "timeout"
    retryable = False


class Broken(TransportError):
    kind = "broken"


class AnswerTooLarge(TransportError):
    kind = "too_large"
    retryable = False


class Malformed(TransportError):
    kind = "malformed"
    retryable = False


@dataclass(frozen=True, slots=True)
class Target:
    """Where a provider lives. `prefix` is its base path without a slash at the end, `query` is without the `?`."""

    host: str
    port: int
    tls: bool
    prefix: str = ""
    query: str = ""

    def __hash__(self) -> int:
        """Each call looks up its target: the one that dataclasses make is not compiled."""
        return hash((self.host, self.port, self.prefix))

    @property
    def scheme(self) -> Literal["http", "https"]:
        return "https" if self.tls else "http"

    @property
    def host_header(self) -> str:
        """The value of `host`: the port is named when it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def path(self, rest: str, query: str = "") -> str:
        """The request target for `rest` (begins with a slash) below this base, both queries joined."""
        queries = "&".join(q for q in (self.query, query) if q)
        return f"{self.prefix}{rest}?{queries}" if queries else f"{self.prefix}{rest}"

    @classmethod
    def parse(cls, base_url: str) -> Self:
        """Raises ValueError that says what a base URL must be, without quoting what may be a secret in it."""
        url = urlsplit(base_url)
        if url.scheme not in {"http", "https"}:
            raise ValueError("a base URL begins with http:// or https://")
        if url.username is not None or url.password is not None:
            raise ValueError("a base URL holds no user name or password: use api_key or headers")
        if not url.hostname:
            raise ValueError("a base URL names a host")
        if url.fragment:
            raise ValueError("a base URL has no #fragment")
        tls = url.scheme == "https"
        host = url.hostname if url.hostname.isascii() else url.hostname.encode("idna").decode("ascii")
        port = url.port if url.port is not None else (443 if tls else 80)
        target = cls(host, port, tls, url.path.rstrip("/"), url.query)
        if not 0 < port < 65536 or not _visible(host) or not _visible(target.path("/")):
            raise ValueError("a base URL is made of visible ASCII characters and has a port from 1 to 65535")
        return target


def _visible(text: str) -> bool:
    return all("!" <= character <= "~" for character in text)


def is_finished(length: str | None, content_type: str | None) -> bool:
    """Whether a body is whole at its sender as its head comes: JSON, or anything with a length."""
    return length is not None or (content_type or "").startswith("application/json")


def first_value(headers: Headers, name: str) -> str | None:
    """The first value of header `name`; both have names in lower case."""
    for key, value in headers:
        if key == name:
            return value
    return None


class Pieces(Protocol):
    """The body of an answer, piece by piece; `contextlib.aclosing` fits it."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes: ...

    async def aclose(self) -> None:
        """Leave it here: aborts the answer, unless it was read to its end or closed."""
        ...


class Response(Protocol):
    """One answer: its head is here, its body is still to be read, once, by `read` or by `pieces`.

    Whoever gets one ends it: by reading to the end, or by `close` or `abort`. Both may be called at any
    time and again. A cancelled or failed read has ended it already.
    """

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers:
        """Names in lower case, in the order received.

        Of a body that came compressed, and is handed out plain, `content-encoding` and
        `content-length` are left out.
        """
        ...

    def header(self, name: str) -> str | None:
        """The first value of `name` (lower case)."""
        ...

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises AnswerTooLarge when it is longer than `limit` bytes, and TransportError."""
        ...

    def pieces(self) -> Pieces:
        """The body as it comes: no piece is empty, none is held back to make a larger one.

        What came before a failure is handed out before the failure is raised. A consumer that is slow
        stops the upstream from sending; the time it takes does not count as the upstream's silence.
        """
        ...

    async def close(self) -> None:
        """Take no more of the body: for an answer of which all that matters was read (`[DONE]`).

        What is left may still arrive within a moment, so that the connection can serve again.
        """
        ...

    def abort(self) -> None:
        """Close the connection at once: the upstream sees it and stops generating. For a client that left."""
        ...


class Transport(Protocol):
    async def send(
        self, target: Target, method: str, path: str, headers: Headers, body: Body, timeouts: Timeouts
    ) -> Response:
        """The answer's head has come; the time-outs go on to hold for its body.

        `path` is the whole request target, see `Target.path`. A body of pieces is sent as it comes, chunked
        unless the caller gives its `content-length`. When the provider closes a connection that was
        kept alive just as it is used again, the request is sent once more, if its body is whole.

        `first_byte_s` also bounds the time to the first piece of the body when that is later than
        `idle_s` after the head: providers send a head and then think. White space is no piece of it,
        some send it meanwhile. Of a body that is whole at its sender (see `is_finished`) each piece puts
        `idle_s` off by no more than its size is worth at SLOWEST_BYTES_S.

        Raises TransportError, and ValueError for what cannot be sent safely.
        """
        ...

    async def close(self) -> None:
        """End all calls and connections."""
        ...


async def gather(answer: Response, limit: int) -> bytes:
    """The body of `answer` from its pieces. Raises AnswerTooLarge, the answer ended, beyond `limit` bytes."""
    parts: list[bytes] = []
    room = limit
    async for part in answer.pieces():
        room -= len(part)
        if room < 0:
            answer.abort()
            raise AnswerTooLarge(f"the answer is longer than {limit} bytes")
        parts.append(part)
    return b"".join(parts)
