"""Compressed answers, though `accept-encoding: identity` was sent: made plain, within bounds.

A piece that inflates to a thousand times its size must neither fill the memory nor hold the event loop, so
`Inflate.feed` hands out at most MAX_PIECE bytes at a time, and `Inflated` lets others run in between.
"""

import asyncio
import zlib
from collections.abc import Iterator
from typing import Self

from proxy.upstreams.transport import AnswerTooLarge, Headers, Malformed, Response, first_value, gather

MAX_PIECE = 64 * 1024
MAX_RATIO = 200
"""Prose and JSON compress 3 to 20 times, zeros 1000 times."""
FREE_BYTES = 1024 * 1024
"""An answer shorter than this may have any ratio."""


class Inflate:
    """The plain bytes of one compressed body; `coding` is its `content-encoding`."""

    __slots__ = ("_begun", "_came", "_coding", "_given", "_zlib")

    def __init__(self, coding: str) -> None:
        """Raises Malformed for a coding we cannot undo."""
        if coding not in {"gzip", "x-gzip", "deflate"}:
            raise Malformed("the answer came in a content coding that was not asked for")
        self._coding = coding
        self._begun = b""
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16) if coding != "deflate" else None
        self._came = 0
        self._given = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The plain pieces that `data` completes. Raises Malformed and AnswerTooLarge."""
        self._came += len(data)
        if self._zlib is None:
            self._begun += data
            if len(self._begun) < 2:
                return
            # "deflate" is zlib's format by the book (RFC 9110 §8.4.1.2) and bare deflate by some servers.
            wrapped = self._begun[0] & 15 == 8 and int.from_bytes(self._begun[:2]) % 31 == 0
            self._zlib = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
            data = self._begun
        while data:
            if self._zlib.eof:
                raise Malformed("bytes follow the end of the compressed answer")
            try:
                piece = self._zlib.decompress(data, MAX_PIECE)
            except zlib.error:
                raise Malformed("the compressed answer cannot be read") from None
            data = self._zlib.unconsumed_tail or self._zlib.unused_data
            if piece:
                yield self._counted(piece)
            while not data and len(piece) == MAX_PIECE and not self._zlib.eof:
                # The window may still hold plain bytes of input that is used up already.
                piece = self._zlib.decompress(b"", MAX_PIECE)
                if piece:
                    yield self._counted(piece)

    def _counted(self, piece: bytes) -> bytes:
        self._given += len(piece)
        if self._given > FREE_BYTES and self._given > MAX_RATIO * self._came:
            raise AnswerTooLarge(f"the compressed answer grows more than {MAX_RATIO} times")
        return piece

    def check_ended(self) -> None:
        """The compressed body is whole. Raises Malformed."""
        if self._came and (self._zlib is None or not self._zlib.eof):
            raise Malformed("the compressed answer ends too early")


class Inflated:
    """A compressed answer, handed out plain; see `Response`."""

    __slots__ = ("_inflate", "_plain", "_raw", "_source", "headers")

    def __init__(self, source: Response) -> None:
        """Raises Malformed for a coding we cannot undo; `source` is aborted then."""
        self._source = source
        try:
            self._inflate = Inflate((source.header("content-encoding") or "").lower())
        except Malformed:
            source.abort()
            raise
        self._raw = source.pieces()
        self._plain: Iterator[bytes] = iter(())
        self.headers: Headers = [
            pair for pair in source.headers if pair[0] not in {"content-encoding", "content-length"}
        ]

    @property
    def status(self) -> int:
        """See `Response.status`."""
        return self._source.status

    def header(self, name: str) -> str | None:
        """See `Response.header`."""
        return first_value(self.headers, name)

    async def read(self, limit: int) -> bytes:
        """See `Response.read`."""
        return await gather(self, limit)

    def pieces(self) -> Self:
        """See `Response.pieces`."""
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            while not (piece := next(self._plain, b"")):
                self._plain = self._inflate.feed(await anext(self._raw))
            await asyncio.sleep(0)
        except StopAsyncIteration:
            self._inflate.check_ended()
            raise
        except BaseException:  # cancelled too: an upstream that nobody listens to must stop
            self.abort()
            raise
        return piece

    async def aclose(self) -> None:
        """End the iteration; see `Pieces.aclose`."""
        await self._raw.aclose()

    async def close(self) -> None:
        """See `Response.close`."""
        await self._source.close()

    def abort(self) -> None:
        """See `Response.abort`."""
        self._source.abort()
