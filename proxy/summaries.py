"""Summaries of what left prompts: which are being written, and what came of those that were.

One object per app; nothing of it is written down. What was refused is remembered too, and not asked for again.
"""

from cachetools import LRUCache

MOST_AT_ONCE = 8
"""Summaries that are being written at the same time; beyond that a span waits for its conversation's next turn."""
REMEMBERED_CHARS = 4_000_000


class Summaries:
    """Finished summaries by the name of their span, the longest unused forgotten first."""

    def __init__(self) -> None:
        self._known: LRUCache[bytes, str] = LRUCache(REMEMBERED_CHARS, getsizeof=lambda text: 100 + len(text))
        self._writing: set[bytes] = set()

    def begin(self, conversation: bytes) -> bool:
        """Whether a summary of this conversation may be written now: one at a time. `end` it."""
        if conversation in self._writing or len(self._writing) >= MOST_AT_ONCE:
            return False
        self._writing.add(conversation)
        return True

    def end(self, conversation: bytes) -> None:
        """Its summary is written, or will not be."""
        self._writing.discard(conversation)

    def of(self, span: bytes) -> str | None:
        """What was written of this span: "" where it was refused, None where nothing was tried."""
        return self._known.get(span)

    def keep(self, span: bytes, text: str) -> None:
        """Remember what was written of the span; "" where it was refused."""
        self._known[span] = text
