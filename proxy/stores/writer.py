"""The one thread that writes to SQLite, many rows per transaction.

Whoever has something to write notes it in the journal, appends it to a queue and goes on; the thread takes what has
gathered for a moment and commits it at once. So a commit (with its fsync) is paid per batch and not per row, and
the event loop never waits for the disk. Order is kept: what was queued first is written first.

When the disk refuses, what was to be written stays in the queue. Where that may pass (disk full, read-only,
locked) the thread tries again every second with a fresh connection. Where it may not (an I/O error: after a failed
fsync nobody knows what is on the disk, and trying again may report success for pages that are lost), the
thread stops for good and says so; the rest is found and settled at the next start.
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Final

from policies.saved import Saved
from proxy.stores.base import Attempt, Outcome, StoreFailed, StoreFull
from proxy.stores.journal import Journal
from proxy.stores.tables import write_attempts

_MAX_BATCH: Final = 5_000
_RETRY_S: Final = 1.0

# https://www.sqlite.org/rescode.html, read 2026-11. Shared-memory errors are what a full disk looks like
# when the WAL index has to grow; nothing was written by then.
_PASSING: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    }
)
_PASSING_IO: Final = frozenset(
    {sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP}
)


class _Job:
    """Something else than a ledger row to do in the next transaction, and who waits for it."""

    __slots__ = ("future", "patient", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any], *, patient: bool = False) -> None:
        """`patient`: where the disk refuses, it is tried again later, as rows are."""
        self.work = work
        self.patient = patient
        self.future: Future[Any] = Future()


class Writer:
    """Begin, settle, credit and close from one thread; submit from any."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        owner: str,
        journal: Journal,
        *,
        interval_s: float = 0.25,
        max_waiting: int = 50_000,
    ) -> None:
        """Rows are committed at most `interval_s` plus one commit after they were queued."""
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._owner = owner
        self._journal = journal
        self._interval_s = interval_s
        self._max_waiting = max_waiting
        self._queue: deque[Attempt | tuple[str, Outcome | Saved] | _Job] = deque()
        self._wake = threading.Event()
        self._idle = False
        self._urgent = False
        self._closing = False
        self.failed: str | None = None
        """Why the last transaction could not be written; None again once one was."""
        self.stopped = False
        """Nothing will be written any more: closed, or failed for good."""
        self.lost = 0
        """Outcomes that came when nothing could be written any more."""
        self.committed = 0
        """How many of the rows that were queued are in the database."""
        self._runner = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._runner.start()

    def begin(self, attempt: Attempt) -> None:
        """Queue an intent. Raises StoreFull or StoreFailed: then it is nowhere."""
        queue = self._queue
        if self.stopped:
            raise StoreFailed(self.failed or "the store is closed")
        if len(queue) >= self._max_waiting:
            raise StoreFull(f"{len(queue)} rows wait to be written: {self.failed or 'the disk is too slow'}")
        if not self._journal.begin(attempt, self.committed):
            raise StoreFailed(self._journal.failed or "the journal takes nothing")
        queue.append(attempt)
        if self._idle:
            self._wake.set()

    def settle(self, attempt_id: str, outcome: Outcome) -> None:
        """Queue an outcome."""
        self._journal.settle(attempt_id, outcome, self.committed)
        self._told((attempt_id, outcome))

    def credit(self, attempt_id: str, saved: Saved) -> None:
        """Queue what came of an exchange."""
        self._journal.credit(attempt_id, saved, self.committed)
        self._told((attempt_id, saved))

    def _told(self, item: tuple[str, Outcome | Saved]) -> None:
        if self.stopped:  # the next start finds it in the journal
            self.lost += 1
            return
        self._queue.append(item)
        if self._idle:
            self._wake.set()

    def submit(self, work: Callable[[sqlite3.Connection], Any]) -> "Future[Any]":
        """Do `work` in a transaction after all that was queued before; the future is done after the commit."""
        job = _Job(work)
        self._queue.append(job)
        self._urgent = True
        self._wake.set()
        if self.stopped:
            self._refuse_jobs()
        return job.future

    def later(self, work: Callable[[sqlite3.Connection], Any]) -> "Future[Any]":
        """Do `work` in some transaction soon, with the rows around it; twice does no harm."""
        job = _Job(work, patient=True)
        self._queue.append(job)
        if self._idle:
            self._wake.set()
        if self.stopped:
            self._refuse_jobs()
        return job.future

    @property
    def waiting(self) -> int:
        """Rows in the queue."""
        return len(self._queue)

    def close(self) -> None:
        """Write what waits and end the thread; what could not be written stays counted in `waiting`."""
        self._closing = True
        self._urgent = True
        self._wake.set()
        self._runner.join()

    def _run(self) -> None:
        try:
            while self._gather():
                batch = self._take()
                if batch and not self._write(batch):
                    if self._closing or self.stopped:
                        break
                    self._wake.wait(_RETRY_S)
        except Exception as error:  # noqa: BLE001 - a thread that dies in silence would lose every row from here on
            self.failed = f"the writer broke: {type(error).__name__}: {error}"
        finally:
            self.stopped = True
            self._refuse_jobs()
            self._drop_connection()

    def _gather(self) -> bool:
        """Wait until there is something to write and more had time to join; False when it is time to end."""
        if not self._queue and not self._closing:
            self._idle = True
            if (
                not self._queue and not self._closing
            ):  # looked at again: it may have come before `_idle` was seen
                self._wake.wait()
            self._idle = False
        self._wake.clear()
        if not self._urgent:
            self._wake.wait(self._interval_s)
        self._urgent = False
        return bool(self._queue) or not self._closing

    def _take(self) -> list[Attempt | tuple[str, Outcome | Saved] | _Job]:
        queue = self._queue
        batch = [queue.popleft() for _ in range(min(len(queue), _MAX_BATCH))]
        if queue:  # more than a batch: the rest has waited long enough
            self._urgent = True
        return batch

    def _write(self, batch: Sequence[Attempt | tuple[str, Outcome | Saved] | _Job]) -> bool:
        done: list[tuple[_Job, Any, BaseException | None]] = []
        try:
            if self._connection is None:
                self._connection = self._connect()
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            rows: list[Attempt | tuple[str, Outcome | Saved]] = []
            for item in batch:
                if isinstance(item, _Job):
                    write_attempts(connection, rows, self._owner)
                    rows.clear()
                    done.append(_do(item, connection))
                else:
                    rows.append(item)
            write_attempts(connection, rows, self._owner)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._fail(batch, error)
            return False
        self.failed = None
        self.committed += len(batch) - len(done)
        for job, result, raised in done:
            if not job.future.set_running_or_notify_cancel():
                continue
            if raised is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(raised)
        return True

    def _fail(
        self, batch: Sequence[Attempt | tuple[str, Outcome | Saved] | _Job], error: sqlite3.Error
    ) -> None:
        """Keep the rows for later, tell those who wait, and stop where trying again is not safe."""
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        code = getattr(error, "sqlite_errorcode", 0)
        self.failed = f"{name}: {error}"
        self._drop_connection()
        for item in reversed(batch):
            if isinstance(item, _Job) and not item.patient:
                if item.future.set_running_or_notify_cancel():
                    item.future.set_exception(StoreFailed(self.failed))
            else:
                self._queue.appendleft(item)
        if code & 0xFF not in _PASSING and code not in _PASSING_IO:
            self.stopped = True

    def _refuse_jobs(self) -> None:
        """Those who wait are told; the rows stay in the queue to be counted."""
        queue = self._queue
        for _ in range(len(queue)):
            with suppress(IndexError, InvalidStateError):  # the other thread was faster, or it was cancelled
                item = queue.popleft()
                if isinstance(item, _Job):
                    item.future.set_exception(StoreFailed(self.failed or "the store is closed"))
                else:
                    queue.append(item)

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # why it failed is in `failed` already
                connection.close()  # rolls back what was not committed


def _do(job: _Job, connection: sqlite3.Connection) -> tuple[_Job, Any, BaseException | None]:
    connection.execute("SAVEPOINT job")
    try:
        result = job.work(connection)
    except sqlite3.OperationalError:  # the disk: the whole batch has to wait
        raise
    except Exception as error:  # noqa: BLE001 - the job's own fault is its caller's to hear, the rows around it stay
        connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        return job, None, error
    connection.execute("RELEASE job")
    return job, result, None
