"""The store of one machine: SQLite in WAL mode.

Durability: whatever ends the process, nothing is lost that was queued before `sync`: each record is in the
journal (`proxy.stores.journal`) by then, and a batch that was committed is in the file. A power cut may
take what was not committed yet, at most the last 250 ms (`interval_s`) plus one commit, and never anything that
`flush` has returned for: `synchronous=FULL`, so that a commit is on the disk. `benchmarks/ledger.py` has the
numbers behind this: a commit costs a few hundred microseconds of CPU whether it syncs or not, so that four a
second are cheap at any load, and the fsync waits in a thread that no request waits for.

Writes go through one thread (`Writer`), reads through another with a connection that cannot write, so that
a long report never holds up the ledger. Every read first waits for what was queued before it.
"""

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from policies.saved import Saved
from proxy.stores import contexts, tables
from proxy.stores.base import (
    Attempt,
    Binding,
    ContextRecord,
    Exchange,
    Figures,
    Group,
    KeptContext,
    Outcome,
    Row,
    SchemaVersion,
    Scope,
    StoredKey,
    StoreFailed,
    UsageReport,
)
from proxy.stores.journal import Journal, read_journal
from proxy.stores.owners import Owner, dead_owner, is_dead, journals
from proxy.stores.writer import Writer

T = TypeVar("T")

_EXPORT_ROWS = 2_000
_CONTEXT_BYTES_WAITING = 64 * 1024 * 1024
"""Contexts that may wait to be written; where the disk is slower than that, further ones are not kept."""


def _use_wal(connection: sqlite3.Connection, tries: int = 50) -> None:
    """The journal is write-ahead. Workers that make a file together get "locked" at once here: SQLite does not wait."""
    for left in range(tries, 0, -1):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if left == 1 or error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            time.sleep(0.1)
        else:
            return


def connect(path: Path) -> sqlite3.Connection:
    """A connection that may write; transactions are begun and ended by hand."""
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    return connection


class SqliteStore:
    """A `Store` in one SQLite file; several processes may have it open, one thread of each may use it."""

    def __init__(
        self,
        path: Path,
        *,
        open_connection: Callable[[Path], sqlite3.Connection] = connect,
        interval_s: float = 0.25,
        max_waiting: int = 50_000,
    ) -> None:
        """The file is there with its tables, and what dead processes left open is unsettled.

        Raises StoreFailed where the file cannot be opened, is no database or of a newer version.
        """
        self.path = path
        try:
            connection = open_connection(path)
            try:
                tables.migrate(connection)
                self.unsettled_at_start = _take_over(connection, path)
                """Attempts of dead processes that never got their outcome."""
            finally:
                connection.close()
            self._owner = Owner(path)
        except (sqlite3.Error, OSError, ValueError) as error:
            raise StoreFailed(f"cannot open {path}: {error}") from error
        self._journal = Journal(self._owner.file)
        self._writer = Writer(
            lambda: open_connection(path),
            self._owner.name,
            self._journal,
            interval_s=interval_s,
            max_waiting=max_waiting,
        )
        self._reader = ThreadPoolExecutor(1, "store-reader")
        self._read_connection: sqlite3.Connection | None = None
        self._closed = False
        self._context_bytes = 0
        self._counting = threading.Lock()

    @property
    def owner(self) -> str:
        """The name under which this process's rows are open; its lock lives as long as the process."""
        return self._owner.name

    @property
    def failed(self) -> str | None:
        """Why nothing can be written now; None while all is well."""
        return self._writer.failed or self._journal.failed

    @property
    def stopped(self) -> bool:
        """Nothing will be written any more until a restart."""
        return self._writer.stopped

    @property
    def waiting(self) -> int:
        """What is queued and not yet committed."""
        return self._writer.waiting

    @property
    def lost(self) -> int:
        """Outcomes that came after the store had stopped."""
        return self._writer.lost

    def begin(self, attempt: Attempt) -> None:
        self._writer.begin(attempt)

    def settle(self, attempt_id: str, outcome: Outcome) -> None:
        self._writer.settle(attempt_id, outcome)

    def credit(self, attempt_id: str, saved: Saved) -> None:
        self._writer.credit(attempt_id, saved)

    def sync(self) -> bool:
        return not self._closed and self._journal.sync()

    async def flush(self) -> None:
        await self._write(lambda _: None)

    async def close(self) -> None:
        if self._closed:
            return
        self._journal.sync()
        self._closed = True
        await asyncio.to_thread(self._close)
        if self._writer.waiting:
            raise StoreFailed(f"{self._writer.waiting} rows could not be written: {self._writer.failed}")

    def _close(self) -> None:
        self._writer.close()
        self._reader.submit(self._close_reader).result()
        self._reader.shutdown()
        self._owner.release(keep=self._writer.waiting > 0 or self._writer.lost > 0)

    def _close_reader(self) -> None:
        if self._read_connection is not None:
            self._read_connection.close()

    async def usage(self, from_ns: int, to_ns: int, by: Sequence[Group] = ()) -> UsageReport:
        groups = tuple(dict.fromkeys(by))

        def read(connection: sqlite3.Connection) -> UsageReport:
            connection.execute("BEGIN")  # rows and total are of one moment
            try:
                total = tables.select_figures(connection, from_ns, to_ns, ())[0][1]
                rows = tables.select_figures(connection, from_ns, to_ns, groups) if groups else []
            finally:
                connection.execute("COMMIT")
            return UsageReport(
                groups,
                tuple((dict(zip(groups, names, strict=True)), figures) for names, figures in rows),
                total if total.attempts else Figures(),
            )

        return await self._read(read)

    async def spent(self, scope: Scope, name: str, from_ns: int, to_ns: int) -> int:
        return await self._read(lambda c: tables.select_spent(c, scope, name, from_ns, to_ns))

    async def recent(self, limit: int = 50) -> tuple[Exchange, ...]:
        limit = max(1, min(limit, 500))
        return await self._read(lambda c: tables.select_exchanges(c, tables.newest_exchange_ids(c, limit)))

    async def exchange(self, exchange_id: str) -> Exchange | None:
        found = await self._read(lambda c: tables.select_exchanges(c, [exchange_id]))
        return found[0] if found else None

    async def rows(self, from_ns: int, to_ns: int) -> AsyncIterator[Row]:
        after = 0
        while True:
            found = await self._read(partial(tables.select_rows_after, after, from_ns, to_ns, _EXPORT_ROWS))
            for _, row in found:
                yield row
            if len(found) < _EXPORT_ROWS:
                return
            after = found[-1][0]

    async def put_schema(self, name: str, version: str, text: str, created_ns: int) -> bool:
        def write(connection: sqlite3.Connection) -> bool:
            newest = connection.execute(
                "SELECT version FROM schemas WHERE name = ? ORDER BY seq DESC LIMIT 1", (name,)
            ).fetchone()
            if newest is not None and newest[0] == version:
                return False
            connection.execute(
                "INSERT OR REPLACE INTO schemas (name, version, text, created_ns) VALUES (?, ?, ?, ?)",
                (name, version, text, created_ns),
            )
            return True

        return await self._write(write)

    async def schemas(self) -> tuple[SchemaVersion, ...]:
        sql = "SELECT name, version, text, created_ns FROM schemas ORDER BY name, seq"
        return await self._read(lambda c: tuple(SchemaVersion(*row) for row in c.execute(sql)))

    async def delete_schema(self, name: str) -> bool:
        def write(connection: sqlite3.Connection) -> bool:
            connection.execute("DELETE FROM bindings WHERE schema = ?", (name,))
            return connection.execute("DELETE FROM schemas WHERE name = ?", (name,)).rowcount > 0

        return await self._write(write)

    async def bind(self, binding: Binding) -> None:
        values = (binding.route, binding.schema, binding.version)
        await self._write(lambda c: c.execute("INSERT OR REPLACE INTO bindings VALUES (?, ?, ?)", values))

    async def unbind(self, route: str) -> bool:
        sql = "DELETE FROM bindings WHERE route = ?"
        return await self._write(lambda c: c.execute(sql, (route,)).rowcount > 0)

    async def bindings(self) -> tuple[Binding, ...]:
        sql = "SELECT route, schema, version FROM bindings ORDER BY route"
        return await self._read(lambda c: tuple(Binding(*row) for row in c.execute(sql)))

    async def put_key(self, key: StoredKey) -> bool:
        values = (
            key.name,
            key.digest,
            key.created_ns,
            None if key.routes is None else json.dumps(sorted(key.routes)),
            key.admin,
            key.budget_nanousd,
            key.budget_per,
            key.rpm,
            key.tpm,
            key.revoked_ns,
        )
        sql = "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        return await self._write(lambda c: c.execute(sql, values).rowcount > 0)

    async def revoke_key(self, name: str, at_ns: int) -> bool:
        sql = "UPDATE keys SET revoked_ns = ? WHERE name = ? AND revoked_ns IS NULL"
        return await self._write(lambda c: c.execute(sql, (at_ns, name)).rowcount > 0)

    async def stored_keys(self) -> tuple[StoredKey, ...]:
        sql = (
            "SELECT name, digest, created_ns, routes, admin, budget_nanousd, budget_per, rpm, tpm, revoked_ns "
            "FROM keys ORDER BY name"
        )
        return await self._read(lambda c: tuple(_key_of(row) for row in c.execute(sql)))

    def keep_context(self, record: ContextRecord, messages: Sequence[Mapping[str, Any]], size: int) -> bool:
        if self.stopped or self._context_bytes + size > _CONTEXT_BYTES_WAITING:
            return False
        self._context_waits(size)
        written = self._writer.later(lambda c: contexts.write_context(c, record, messages))
        written.add_done_callback(lambda _: self._context_waits(-size))
        return True

    def _context_waits(self, size: int) -> None:
        with self._counting:
            self._context_bytes += size

    async def context(self, record_id: str, now_ns: int) -> KeptContext | None:
        return await self._read(lambda c: contexts.select_context(c, record_id, now_ns))

    async def forget_contexts(self, now_ns: int) -> int:
        return await self._write(lambda c: contexts.forget(c, now_ns))

    async def put_note(self, name: str, value: Any) -> None:
        if value is None:
            await self._write(lambda c: c.execute("DELETE FROM notes WHERE name = ?", (name,)))
            return
        text = json.dumps(value)
        await self._write(lambda c: c.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, text)))

    async def add_note(self, name: str, value: Any) -> bool:
        text = json.dumps(value)
        sql = "INSERT INTO notes VALUES (?, ?) ON CONFLICT DO NOTHING"
        return await self._write(lambda c: c.execute(sql, (name, text)).rowcount > 0)

    async def notes(self, prefix: str, limit: int = 1000) -> Mapping[str, Any]:
        after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        sql = "SELECT name, value FROM notes WHERE name >= ? AND name < ? ORDER BY name LIMIT ?"

        def read(connection: sqlite3.Connection) -> dict[str, Any]:  # decoded here too: they may be large
            found = connection.execute(sql, (prefix, after, limit))
            return {name: json.loads(value) for name, value in found}

        return await self._read(read)

    async def note(self, name: str) -> Any:
        found = await self._read(
            lambda c: c.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        )
        return None if found is None else json.loads(found[0])

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        result: T = await asyncio.wrap_future(self._writer.submit(work))
        return result

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` finds, all that was queued before included unless the disk refuses it."""
        if self._closed:
            raise StoreFailed("the store is closed")
        with suppress(StoreFailed):  # reports go on with what is there; `failed` says that it is not all
            await self.flush()
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._read_now, work)

    def _read_now(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._read_connection is None:
                self._read_connection = sqlite3.connect(
                    self.path, timeout=5.0, isolation_level=None, check_same_thread=False
                )
                self._read_connection.execute("PRAGMA query_only = ON")
            return work(self._read_connection)
        except sqlite3.OperationalError as error:
            raise StoreFailed(f"cannot read {self.path}: {error}") from error


def _take_over(connection: sqlite3.Connection, database: Path) -> int:
    """What dead processes queued is in the ledger; how many of their attempts are unsettled now."""
    count = 0
    for path in journals(database):
        with dead_owner(database, path) as name:
            if name is not None and path.exists():
                connection.execute("BEGIN IMMEDIATE")
                tables.write_attempts(connection, read_journal(path), name)
                count += connection.execute(tables.UNSETTLE, (name,)).rowcount
                connection.execute("COMMIT")
    for (name,) in connection.execute(tables.OPEN_OWNERS).fetchall():
        if is_dead(database, name):
            count += connection.execute(tables.UNSETTLE, (name,)).rowcount
    return count


def _key_of(row: Sequence[Any]) -> StoredKey:
    name, digest, created_ns, routes, admin, *rest = row
    return StoredKey(
        name,
        digest,
        created_ns,
        None if routes is None else frozenset(json.loads(routes)),
        bool(admin),
        *rest,
    )
