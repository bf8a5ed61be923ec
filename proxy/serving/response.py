"""Answers: whole ones, whose head and body go out in one write, and those that are written piece by piece."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.serving.connection import Connection
    from proxy.serving.request import Request

Headers = Iterable[tuple[str, str]] | Mapping[str, str]

_STATUS_LINES: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}
_BODILESS: Final = frozenset({204, 304})


def head(status: int, headers: list[tuple[str, str]], framing: str) -> bytes:
    """The bytes of an answer's head; `framing` are the lines that the server itself writes.

    Raises ValueError where a value holds what would end its line: it would be read as another header.
    """
    lines = [_STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"]
    said: list[str] = []
    for name, value in headers:
        said.append(name)
        said.append(value)
        lines.append(name)
        lines.append(": ")
        lines.append(value)
        lines.append("\r\n")
    told = "".join(said)
    if "\n" in told or "\r" in told or "\0" in told:
        raise ValueError("a header of the answer holds a character that ends its line")
    lines.append(framing)
    lines.append("\r\n")
    text = "".join(lines)
    return text.encode() if text.isascii() else text.encode("utf-8", "replace")


def _pairs(headers: Headers) -> list[tuple[str, str]]:
    if isinstance(headers, list):
        return headers
    return list(headers.items() if isinstance(headers, Mapping) else headers)


def _first(headers: list[tuple[str, str]], wanted: str) -> str | None:
    for name, value in headers:
        if name == wanted:
            return value
    return None


class Response:
    """A whole answer. The server writes it when the handler has given it back."""

    __slots__ = ("body", "headers", "status")
    prepared = False

    def __init__(self, *, status: int = 200, body: bytes = b"", headers: Headers = ()) -> None:
        self.status = status
        self.body = body
        self.headers = _pairs(headers)

    @property
    def came_to(self) -> int:
        """The status; what a stream came to may be another than its status."""
        return self.status

    def header(self, name: str) -> str | None:
        """The first value of `name` (lower case)."""
        return _first(self.headers, name)

    def encode(self, framing: str, *, bodiless: bool = False) -> bytes:
        """Head and body. `framing`: the server's own lines; `bodiless`: the answer to HEAD."""
        body = self.body
        if self.status in _BODILESS:
            return head(self.status, self.headers, framing)
        data = head(self.status, self.headers, f"content-length: {len(body)}\r\n{framing}")
        return data if bodiless else data + body


class StreamResponse:
    """An answer that is written piece by piece: `prepare`, `write` as often as needed, `write_eof`."""

    __slots__ = ("_bodiless", "_chunked", "_connection", "came_to", "ended", "headers", "status")

    def __init__(self, *, status: int = 200, headers: Headers = ()) -> None:
        self.status = status
        self.came_to = status
        """The status that would have told how it ended."""
        self.headers = _pairs(headers)
        self.ended = False
        self._connection: Connection | None = None
        self._chunked = False
        self._bodiless = False

    @property
    def prepared(self) -> bool:
        """Whether the head is out."""
        return self._connection is not None

    def header(self, name: str) -> str | None:
        """The first value of `name` (lower case)."""
        return _first(self.headers, name)

    async def prepare(self, request: "Request") -> None:
        """Send the head. Raises ConnectionError when the client left."""
        self._connection = connection = request.connection
        framed = self.header("content-length") is not None
        self._bodiless = request.method == "HEAD" or self.status in _BODILESS
        self._chunked = not framed and not self._bodiless and request.version == "1.1"
        if not framed and not self._chunked and not self._bodiless:
            request.keep_alive = False  # HTTP/1.0: the end of the connection is the end of the answer
        framing = "transfer-encoding: chunked\r\n" if self._chunked else ""
        connection.write(head(self.status, self.headers, framing + connection.framing(request)))

    async def write(self, data: bytes) -> None:
        """Send a piece. Waits while the client is slow; raises ConnectionError when it left."""
        connection = self._connection
        assert connection is not None, "prepare comes first"
        if not self.write_at_once(data) and connection.drained is not None:
            await connection.drained

    def write_at_once(self, data: bytes) -> bool:
        """Send a piece; False where the client is slow. Raises ConnectionError when it left."""
        connection = self._connection
        assert connection is not None, "prepare comes first"
        if self.ended:
            raise RuntimeError("the answer has ended: more would be taken for the next")
        if data and not self._bodiless:
            connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        return connection.drained is None

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the last piece, if any, and the end."""
        connection = self._connection
        assert connection is not None, "prepare comes first"
        if self._bodiless:
            data = b""
        elif self._chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        if data:
            connection.write(data)
        self.ended = True
        if connection.drained is not None:
            await connection.drained


Answer = Response | StreamResponse
