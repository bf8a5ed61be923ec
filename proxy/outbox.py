"""What leaves at the end of a turn of the event loop, together.

A write to a socket wakes whoever reads from it, which on several cores costs as much as the write. Where the
writes of a turn follow upon each other, the first wakes the reader and the others find it awake. And what has to
be on record before anything leaves (the journal of the ledger: a call before it is made, its cost before the
answer is given) is written once for all of them, as databases commit in groups. A turn with much to say says
it in parts, so that the first do not wait for the last: in small ones where many come at once, in large ones where
it goes on like that, and what counts is how much is done. Where turns have one thing to say, it leaves at once.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from proxy.clock import monotonic

_FEW: Final = 8
"""The first waits for what seven others take: less than half a millisecond."""
_MANY: Final = 24
"""What is sent together under lasting load: there the next to be answered wait longer than for these."""
_LASTS_S: Final = 0.1
"""A load that goes on for so long lasts."""
_PAUSE_S: Final = 0.02
"""A load with so long a silence in it has ended."""
_MOST_BYTES: Final = 64 * 1024
"""More than this does not wait for the end of the turn: it is work for the system, and memory here."""


class Outbox:
    """For what one event loop sends; a `transport` that is closed in between gets nothing more."""

    def __init__(
        self, record: Callable[[], bool] | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        """`record` is called before anything leaves; False: it could not be done. It must not raise."""
        self._record = record
        self._clock = clock
        self._ended_s = self._since_s = clock()
        """When the last turn ended, and since when there is a load."""
        self._together = _FEW
        self._waiting: list[tuple[asyncio.WriteTransport, bytes, bool]] = []
        self._bytes = 0
        self._due = False
        self._count = 0
        """Put in this turn."""
        self._alone = True
        """Nothing more than one was put in the last turn."""

    def put(self, transport: asyncio.WriteTransport, data: bytes, *, spends: bool = False) -> None:
        """`data` leaves by the end of this turn, behind what was put before.

        `spends`: it is a call that costs something: where that could not be recorded, it is not made, and its
        transport is closed.
        """
        self._waiting.append((transport, data, spends))
        self._bytes += len(data)
        self._count += 1
        if not self._due:
            self.soon()
        if (
            len(self._waiting) >= self._together
            or self._bytes > _MOST_BYTES
            or (self._alone and self._count == 1)
        ):
            self.flush()

    def soon(self) -> None:
        """There is something to put on record at the end of this turn, whether anything leaves or not."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._turn_ends)

    def flush(self) -> bool:
        """All that was put leaves now: before a transport is closed. False: it could not be recorded before."""
        recorded = self._record is None or self._record()
        if not self._waiting:
            return recorded
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        for transport, data, spends in waiting:
            if transport.is_closing():
                continue
            if spends and not recorded:
                transport.abort()
                continue
            try:
                transport.write(data)
            except RuntimeError:  # it was closed for writing: its own affair, the others get theirs
                transport.abort()
        return recorded

    def _turn_ends(self) -> None:
        self._due = False
        self._alone, self._count = self._count <= 1, 0
        now = self._clock()
        if now - self._ended_s > _PAUSE_S:
            self._since_s = now
        self._ended_s = now
        self._together = _MANY if now - self._since_s > _LASTS_S else _FEW
        self.flush()
