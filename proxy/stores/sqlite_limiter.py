"""Meters that several workers of one machine share, in a SQLite file beside the ledger's.

Each look-and-write is one transaction that takes the write lock first (BEGIN IMMEDIATE), so that it is atomic
across processes. The file is scratch: it is not synced to the disk, because everything in it can be had from the
ledger again, and it begins empty whenever the first worker starts. What a worker that died still held is spent,
as its open attempts are in the ledger.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from policies.limits import (
    BudgetMeter,
    BudgetRule,
    Claim,
    Granted,
    Meters,
    RateRule,
    Refused,
    reserve,
    settle,
)
from proxy.stores.base import StoreFailed
from proxy.stores.limiter import current_meter, spent_before
from proxy.stores.owners import is_dead
from proxy.stores.sqlite import SqliteStore

T = TypeVar("T")

_TABLES = """
CREATE TABLE IF NOT EXISTS owners (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS budgets (
    name TEXT PRIMARY KEY, start_ns INTEGER NOT NULL, spent INTEGER NOT NULL, held INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rates (name TEXT PRIMARY KEY, empty_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS holds (
    owner TEXT NOT NULL, name TEXT NOT NULL, start_ns INTEGER NOT NULL, nanousd INTEGER NOT NULL,
    PRIMARY KEY (owner, name, start_ns)
) WITHOUT ROWID;
"""
_RATES_TOO_MANY = 50_000
_FORGET_EVERY = 1_000


class SqliteLimiter:
    """A `Limiter` that shares its meters with every other one on the same store."""

    def __init__(self, store: SqliteStore) -> None:
        """Raises StoreFailed where the file cannot be opened."""
        self._store = store
        self._path = store.path.with_name(f"{store.path.name}-limits")
        self._owner = store.owner
        self._thread = ThreadPoolExecutor(1, "limiter")
        self._closed = False
        self._granted = 0
        self.failed: str | None = None
        """Why the last settlement could not be written; what it held stays held."""
        try:
            self._connection = _open(self._path)
            self._in_transaction(self._arrive)
        except (sqlite3.Error, OSError) as error:
            raise StoreFailed(f"cannot open {self._path}: {error}") from error

    async def reserve(
        self, rules: Sequence[BudgetRule | RateRule], claim: Claim, now_ns: int
    ) -> Granted | Refused:
        while True:
            found = await self._do(lambda: self._reserve(rules, claim, now_ns), undo=self._give_back)
            if isinstance(found, (Granted, Refused)):
                return found
            await self._load(found, now_ns)

    def settle(self, granted: Granted, nanousd: int | None, tokens: int) -> None:
        if (granted.held or granted.taken) and not self._closed:
            done = self._thread.submit(self._in_transaction, lambda: self._settle(granted, nanousd, tokens))
            done.add_done_callback(self._note)

    async def meter(self, rule: BudgetRule, now_ns: int) -> BudgetMeter:
        while True:
            meters = await self._do(lambda: self._meters([rule]))
            if rule.meter in meters.budgets:
                return current_meter(meters.budgets[rule.meter], rule, now_ns)
            await self._load([rule], now_ns)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._thread.submit(self._in_transaction, self._leave).result()
        self._thread.shutdown()
        self._connection.close()

    def _note(self, done: "Future[None]") -> None:
        error = done.exception()
        self.failed = None if error is None else f"{type(error).__name__}: {error}"

    async def _do(self, work: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
        if self._closed:
            raise StoreFailed("the limiter is closed")
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._in_transaction, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if undo is not None:  # the transaction goes on without us
                future.add_done_callback(partial(_undo, undo))
            raise
        except sqlite3.Error as error:
            raise StoreFailed(f"cannot use {self._path}: {error}") from error

    def _give_back(self, found: Granted | Refused | list[BudgetRule]) -> None:
        if isinstance(found, Granted):
            self.settle(found, 0, 0)

    async def _load(self, rules: Sequence[BudgetRule], now_ns: int) -> None:
        for rule in rules:
            meter = await spent_before(self._store, rule, now_ns)
            await self._do(partial(self._begin_meter, rule.meter, meter))

    def _begin_meter(self, name: str, meter: BudgetMeter) -> None:
        """Unless another worker was faster."""
        values = (name, meter.start_ns, meter.spent, meter.held)
        self._connection.execute("INSERT OR IGNORE INTO budgets VALUES (?, ?, ?, ?)", values)

    def _in_transaction(self, work: Callable[[], T]) -> T:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = work()
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        return result

    def _arrive(self) -> None:
        """Clear up after dead workers; where none lives, begin anew."""
        names = [row[0] for row in self._connection.execute("SELECT name FROM owners")]
        dead = [name for name in names if is_dead(self._store.path, name)]
        if len(dead) == len(names):
            for table in ("owners", "budgets", "rates", "holds"):
                self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
        for name in dead:
            self._spend_holds(name)
        self._connection.execute("INSERT OR IGNORE INTO owners VALUES (?)", (self._owner,))

    def _leave(self) -> None:
        self._spend_holds(self._owner)

    def _spend_holds(self, owner: str) -> None:
        holds = self._connection.execute(
            "SELECT nanousd, name, start_ns FROM holds WHERE owner = ?", (owner,)
        ).fetchall()
        for nanousd, name, start_ns in holds:
            self._connection.execute(
                "UPDATE budgets SET spent = spent + ?, held = held - ? WHERE name = ? AND start_ns = ?",
                (nanousd, nanousd, name, start_ns),
            )
        self._connection.execute("DELETE FROM holds WHERE owner = ?", (owner,))
        self._connection.execute("DELETE FROM owners WHERE name = ?", (owner,))

    def _reserve(
        self, rules: Sequence[BudgetRule | RateRule], claim: Claim, now_ns: int
    ) -> Granted | Refused | list[BudgetRule]:
        """The answer, or the budgets that have to be loaded first."""
        meters = self._meters(rules)
        missing = [r for r in rules if isinstance(r, BudgetRule) and r.meter not in meters.budgets]
        if missing:
            return missing
        found = reserve(rules, claim, meters, now_ns)
        if isinstance(found, Refused):
            return found
        granted, changed = found
        self._keep(changed)
        self._forget(now_ns)
        for part in granted.held:
            self._connection.execute(
                "INSERT INTO holds VALUES (?, ?, ?, ?) "
                "ON CONFLICT (owner, name, start_ns) DO UPDATE SET nanousd = nanousd + excluded.nanousd",
                (self._owner, part.meter, part.start_ns, part.nanousd),
            )
        return granted

    def _settle(self, granted: Granted, nanousd: int | None, tokens: int) -> None:
        names = [part.meter for part in granted.held] + [part.meter for part in granted.taken]
        self._keep(settle(granted, nanousd, tokens, self._read(names)))
        for part in granted.held:
            key = (self._owner, part.meter, part.start_ns)
            self._connection.execute(
                "UPDATE holds SET nanousd = nanousd - ? WHERE owner = ? AND name = ? AND start_ns = ?",
                (part.nanousd, *key),
            )

    def _meters(self, rules: Sequence[BudgetRule | RateRule]) -> Meters:
        return self._read([rule.meter for rule in rules])

    def _read(self, names: Sequence[str]) -> Meters:
        budgets, rates = {}, {}
        for name in names:
            found = self._connection.execute(
                "SELECT start_ns, spent, held FROM budgets WHERE name = ?", (name,)
            ).fetchone()
            if found is not None:
                budgets[name] = BudgetMeter(*found)
            found = self._connection.execute("SELECT empty_ns FROM rates WHERE name = ?", (name,)).fetchone()
            if found is not None:
                rates[name] = found[0]
        return Meters(budgets, rates)

    def _keep(self, changed: Meters) -> None:
        for name, meter in changed.budgets.items():
            values = (name, meter.start_ns, meter.spent, meter.held)
            self._connection.execute("INSERT OR REPLACE INTO budgets VALUES (?, ?, ?, ?)", values)
        for name, empty_ns in changed.rates.items():
            self._connection.execute("INSERT OR REPLACE INTO rates VALUES (?, ?)", (name, empty_ns))

    def _forget(self, now_ns: int) -> None:
        (count,) = self._connection.execute("SELECT COUNT(*) FROM rates").fetchone()
        if count > _RATES_TOO_MANY:
            self._connection.execute("DELETE FROM rates WHERE empty_ns < ?", (now_ns,))


def _undo(undo: Callable[[T], None], future: "asyncio.Future[T]") -> None:
    if not future.cancelled() and future.exception() is None:
        undo(future.result())


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    return connection
