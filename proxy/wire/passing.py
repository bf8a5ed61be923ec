"""What an answer that only passes by tells of its tokens: a JSON body, or the events of a stream."""

from collections.abc import Mapping

import orjson

from policies.chat import Usage
from policies.money import usage_of
from proxy.wire.body import LARGE_BYTES
from proxy.wire.errors import JSON
from proxy.wire.large import read_large
from proxy.wire.sse import Splitter, TooLong


class Passing:
    """Feeds on the pieces of a body; more than `limit` bytes of one event, or of JSON, are not looked into."""

    def __init__(self, content_type: str, limit: int) -> None:
        self._limit = limit
        self._splitter = Splitter(limit) if content_type.startswith("text/event-stream") else None
        self._json: list[bytes] | None = [] if content_type.startswith(JSON) else None
        self._size = 0
        self._found: Usage | None = None
        self.streams = self._splitter is not None
        self.deltas = 0
        """Events that added something to the answer: a token each, as streams of the Responses API go."""

    def feed(self, piece: bytes) -> None:
        """Look at the next piece."""
        if self._splitter is not None:
            self._read_events(self._splitter, piece)
        elif self._json is not None:
            self._size += len(piece)
            self._json.append(piece)
            if self._size > self._limit:
                self._json = None

    def _read_events(self, splitter: Splitter, piece: bytes) -> None:
        try:
            events = splitter.feed(piece)
        except TooLong:
            self._splitter = None
            return
        for data in events:
            self.deltas += b'"delta"' in data
            if b'"usage"' in data:
                self._found = _usage_in(data) or self._found

    @property
    def large(self) -> bool:
        """Whether `end` takes long enough to be felt by others."""
        return self._json is not None and self._size > LARGE_BYTES

    def end(self) -> None:
        """All has passed: what a whole document says of usage is known now."""
        if self._json:
            self._found = _usage_in(b"".join(self._json))
            self._json = None

    @property
    def usage(self) -> Usage | None:
        """What was reported so far; of a whole document after `end`."""
        return self._found


def _usage_in(data: bytes) -> Usage | None:
    try:
        doc = orjson.loads(data) if len(data) <= LARGE_BYTES else read_large(data, orjson.loads)
    except ValueError:
        return None
    if not isinstance(doc, Mapping):
        return None
    inner = doc.get("response")
    return usage_of(doc.get("usage")) or (
        usage_of(inner.get("usage")) if isinstance(inner, Mapping) else None
    )
