"""What is queued for the ledger, kept where the end of the process does not reach it.

What was queued is written into the system's page cache by one short write before anything that depends on it
leaves the process (see `proxy.outbox`), long before its batch is committed. So whatever ends the process, `kill -9`
included, loses no call that was made and no cost of an answer that was given; the next start reads the journal of the
dead process into the ledger, where what was committed already changes nothing. It is not synced: what a power cut
may take is said in `proxy.stores.sqlite`.

The file has two halves, used in turn. A half is used again when all in it is committed; until then nothing is
written over, and where both are full (the disk refuses the ledger for long) no intent is taken: no call is made
that might never be booked. Outcomes of calls under way are then in memory alone. Where the file refuses to be written,
what was to be written is kept and tried again, and no intent is taken before that has succeeded.
Each half is lines of JSON up to a NUL, the first its turn.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import orjson

from policies.chat import Usage
from policies.saved import Saved
from proxy.stores.base import Attempt, Outcome

_HALF_BYTES: Final = 4 * 1024 * 1024
_FIRST_FIELDS: Final = 14
"""An intent of the first version; what came later is not in its journals."""


class Journal:
    """The journal of one process; one thread writes it."""

    def __init__(self, file: int, half_bytes: int = _HALF_BYTES) -> None:
        """`file` is open for writing, and empty."""
        self._file = file
        self._half_bytes = half_bytes
        self._turn = 0
        self._at = 0
        """Where the next record will be."""
        self._from = 0
        """Where the first of those begins that are not written yet."""
        self._unwritten: list[bytes] = []
        self._full_at = [0, 0]
        self._taken = 0
        self.failed: str | None = None
        """Why some record is in memory alone; None where none is."""
        self._start_half()

    def begin(self, attempt: Attempt, committed: int) -> bool:
        """Take an intent; `committed` is how many of all records the ledger has by now.

        False where it cannot be written: then nothing is taken, and the intent must not be queued either.
        """
        if self.failed is not None and not self.sync():
            return False
        if self._take(_dumps(_of_attempt(attempt)), committed):
            return True
        self._taken -= 1
        return False

    def settle(self, attempt_id: str, outcome: Outcome, committed: int) -> None:
        """Take an outcome."""
        self._take(_dumps(_of_outcome(attempt_id, outcome)), committed)

    def credit(self, attempt_id: str, saved: Saved, committed: int) -> None:
        """Take what an exchange saved or lost."""
        self._take(_dumps((attempt_id, saved.levers)), committed)

    def sync(self) -> bool:
        """All that was taken is written; False where the file refuses, and `failed` says why."""
        if not self._unwritten:
            return True
        data = b"\n".join([*self._unwritten, b"\0"])
        try:
            written = os.pwrite(self._file, data, self._from)
        except OSError as error:
            self.failed = f"{type(error).__name__}: {error}"
            return False
        if written < len(data):  # the last bytes of a disk
            self.failed = "the journal's disk is full"
            return False
        self._unwritten.clear()
        self._from = self._at
        self.failed = None
        return True

    def _take(self, record: bytes, committed: int) -> bool:
        self._taken += 1
        if self._at + len(record) + 2 > (self._turn % 2 + 1) * self._half_bytes:
            if committed < self._full_at[(self._turn + 1) % 2]:
                self.failed = "the journal is full of what the ledger has not taken yet"
                return False
            if not self.sync():
                return False
            self._full_at[self._turn % 2] = self._taken - 1
            self._turn += 1
            self._start_half()
        self._unwritten.append(record)
        self._at += len(record) + 1
        return True

    def _start_half(self) -> None:
        self._from = self._turn % 2 * self._half_bytes
        header = b"%d" % self._turn
        self._unwritten.append(header)
        self._at = self._from + len(header) + 1


def read_journal(
    path: Path, half_bytes: int = _HALF_BYTES
) -> Iterator[Attempt | tuple[str, Outcome | Saved]]:
    """What the journal of a dead process holds, oldest first; a record that was cut short ends its half."""
    halves = []
    with path.open("rb") as file:
        for start in (0, half_bytes):
            file.seek(start)
            turn, *records = file.read(half_bytes).split(b"\0", 1)[0].split(b"\n")
            if turn.isdigit():
                halves.append((int(turn), records))
    for _, records in sorted(halves, key=lambda half: half[0]):
        for record in records:
            item = _item(record)
            if item is None:
                break
            yield item


def _dumps(values: tuple[Any, ...]) -> bytes:
    try:
        return orjson.dumps(values)
    except TypeError:  # a lone surrogate, or a number of more than 64 bits
        return json.dumps(values).encode()


def _of_attempt(attempt: Attempt) -> tuple[Any, ...]:
    return (
        attempt.id,
        attempt.exchange,
        attempt.ts_ns,
        attempt.route,
        attempt.alias,
        attempt.model,
        attempt.provider,
        attempt.key,
        attempt.run,
        attempt.step,
        attempt.number,
        attempt.purpose,
        attempt.stream,
        attempt.reserved_nanousd,
        attempt.propensity,
        attempt.reason,
    )


def _of_outcome(attempt_id: str, outcome: Outcome) -> tuple[Any, ...]:
    usage = outcome.usage
    return (
        attempt_id,
        outcome.status,
        (
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_tokens,
            usage.cache_write_tokens,
            usage.reasoning_tokens,
            usage.reported,
        ),
        outcome.cost_nanousd,
        outcome.purpose,
        None if outcome.saved is None else outcome.saved.levers,
        outcome.verdict,
        outcome.repairs,
        outcome.failure,
        outcome.latency_ms,
        outcome.ttft_ms,
        outcome.expected_trimming,
    )


def _item(record: bytes) -> Attempt | tuple[str, Outcome | Saved] | None:
    try:
        values = json.loads(record)
        if _FIRST_FIELDS <= len(values) <= len(fields(Attempt)):
            return Attempt(*values)
        if len(values) == 2:
            return values[0], _saved(values[1])
        attempt_id, status, usage, cost, purpose, saved, verdict, repairs, *rest = values
        # earlier versions named the fields
        used = Usage(**usage) if isinstance(usage, dict) else Usage(*usage)
        levers = None if saved is None else _saved(saved)
        outcome = Outcome(status, used, cost, purpose, levers, verdict, tuple(repairs), *rest)
    except (ValueError, TypeError):
        return None
    return attempt_id, outcome


def _saved(told: Any) -> Saved:
    return Saved(**told) if isinstance(told, dict) else Saved(*told)
