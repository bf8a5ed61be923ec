"""Server-sent events as bytes: cut a stream into frames, however its pieces fall.

Rules from the HTML standard, "9.2.6 Interpreting an event stream": lines end with CRLF, LF or CR, a blank
line ends an event, a leading BOM is dropped, several data lines are joined with LF. Never `splitlines`:
it also cuts at U+2028 and friends, which JSON strings may hold.
"""

from collections.abc import Iterator
from typing import Final

DONE: Final = b"[DONE]"
_BOM: Final = b"\xef\xbb\xbf"


class TooLong(Exception):
    """One event is larger than the limit; `limit` in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"an event of the stream is larger than {limit} bytes")


class Splitter:
    """Feeds on pieces of a stream and yields the data of each event, joined per the standard.

    Comments, event names and ids carry nothing in OpenAI's dialect and are not yielded. The result is
    the same for every way of cutting the stream into pieces. What is not ended by a blank line is not an
    event: `rest` tells whether such bytes remain at the end of the stream.
    """

    __slots__ = ("_after_cr", "_buffer", "_parts", "_size", "_started", "limit")

    def __init__(self, limit: int = 4 * 1024 * 1024) -> None:
        self._buffer = b""
        self._parts: list[bytes] = []  # pieces without a line end: joined once, so that drips stay linear
        self._size = 0
        self._started = False
        self._after_cr = False  # the last piece ended with a CR: a LF that follows belongs to it
        self.limit = limit

    @property
    def rest(self) -> bool:
        """Whether bytes of an unfinished event remain."""
        return bool(self._buffer.strip()) or any(part.strip() for part in self._parts)

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of each event that `piece` completes. Raises TooLong."""
        if self._started and not (self._after_cr or self._buffer or self._parts) and _is_one_event(piece):
            return [piece[6:-2]]
        if self._after_cr and piece:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        if b"\n" not in piece and b"\r" not in piece and self._started:
            return self._keep(piece)
        buffer = b"".join((self._buffer, *self._parts, piece)) if self._buffer or self._parts else piece
        self._parts.clear()
        self._size = 0
        if not self._started:
            if len(buffer) < 3 and _BOM.startswith(buffer):
                self._buffer = buffer
                return []
            self._started = True
            buffer = buffer.removeprefix(_BOM)
        if b"\r" in buffer:
            # A CR at the very end may be half of a CRLF; it ends its line all the same, and now.
            self._after_cr = buffer.endswith(b"\r")
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events = buffer.split(b"\n\n")
        self._buffer = events.pop()
        if len(self._buffer) > self.limit:
            raise TooLong(self.limit)
        return list(_data_of(events))

    def _keep(self, piece: bytes) -> list[bytes]:
        self._parts.append(piece)
        self._size += len(piece)
        if len(self._buffer) + self._size > self.limit:
            raise TooLong(self.limit)
        return []


def _is_one_event(piece: bytes) -> bool:
    """Whether it is an event of one line, and nothing else: what most pieces of most streams are."""
    return (
        piece.startswith(b"data: ")
        and piece.endswith(b"\n\n")
        and piece.count(b"\n") == 2
        and b"\r" not in piece
    )


def _data_of(events: list[bytes]) -> Iterator[bytes]:
    for event in events:
        if event.startswith(b"data: ") and b"\n" not in event:  # nearly every event there is
            yield event[6:]
            continue
        lines = [_value(line) for line in event.split(b"\n") if line == b"data" or line.startswith(b"data:")]
        if lines:
            yield b"\n".join(lines)


def _value(line: bytes) -> bytes:
    value = line[5:]
    return value[1:] if value.startswith(b" ") else value


def frame(data: bytes) -> bytes:
    """One event that carries `data`; a line end in it becomes a further data line, as the standard has it."""
    if b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    return b"data: " + data + b"\n\n"


def comment(text: str) -> bytes:
    """A comment: one line and ONE newline; a blank line after it breaks released clients."""
    return b": " + text.encode("utf-8", "replace").replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"
