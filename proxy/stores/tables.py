"""The tables in SQLite, how they came to be, what is written into them and read of them."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import lru_cache
from itertools import islice
from typing import Any

from policies.saved import LEVERS, Saved
from proxy.stores import contexts
from proxy.stores.base import Attempt, Exchange, Figures, Group, Outcome, Row, Scope
from proxy.stores.rows import Rows

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE attempts (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        exchange TEXT NOT NULL,
        ts_ns INTEGER NOT NULL,
        route TEXT NOT NULL,
        alias TEXT NOT NULL,
        model TEXT NOT NULL,
        provider TEXT NOT NULL,
        key TEXT,
        run TEXT,
        step TEXT,
        number INTEGER NOT NULL,
        purpose TEXT NOT NULL,
        stream INTEGER NOT NULL,
        reserved_nanousd INTEGER,
        owner TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'open',
        input_tokens INTEGER NOT NULL DEFAULT 0,
        output_tokens INTEGER NOT NULL DEFAULT 0,
        cached_tokens INTEGER NOT NULL DEFAULT 0,
        cache_write_tokens INTEGER NOT NULL DEFAULT 0,
        reasoning_tokens INTEGER NOT NULL DEFAULT 0,
        reported INTEGER NOT NULL DEFAULT 0,
        cost_nanousd INTEGER,
        saved_routing INTEGER,
        saved_trimming INTEGER,
        saved_caching INTEGER,
        saved_patch INTEGER,
        verdict TEXT,
        repairs TEXT NOT NULL DEFAULT '',
        failure TEXT,
        latency_ms REAL,
        ttft_ms REAL
    );
    CREATE INDEX attempts_ts ON attempts (ts_ns);
    CREATE INDEX attempts_open ON attempts (owner) WHERE status = 'open';
    CREATE TABLE schemas (
        seq INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        version TEXT NOT NULL,
        text TEXT NOT NULL,
        created_ns INTEGER NOT NULL,
        UNIQUE (name, version)
    );
    CREATE TABLE bindings (route TEXT PRIMARY KEY, schema TEXT NOT NULL, version TEXT) WITHOUT ROWID;
    CREATE TABLE keys (
        name TEXT PRIMARY KEY,
        digest BLOB NOT NULL,
        created_ns INTEGER NOT NULL,
        routes TEXT,
        admin INTEGER NOT NULL,
        budget_nanousd INTEGER,
        budget_per TEXT,
        rpm INTEGER,
        tpm INTEGER,
        revoked_ns INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    """,
    contexts.MIGRATION,
    "ALTER TABLE attempts ADD COLUMN saved_shadow INTEGER",
    "ALTER TABLE attempts ADD COLUMN propensity REAL; ALTER TABLE attempts ADD COLUMN reason TEXT",
    "ALTER TABLE attempts ADD COLUMN expected_trimming INTEGER",
)
"""Step n makes user_version n+1 of version n. A step that was released is never changed."""

_OUTCOME = (
    "purpose",
    "status",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "reported",
    "cost_nanousd",
    "saved_routing",
    "saved_trimming",
    "saved_caching",
    "saved_patch",
    "saved_shadow",
    "verdict",
    "repairs",
    "failure",
    "latency_ms",
    "ttft_ms",
    "expected_trimming",
)
_INTENT = (*(field.name for field in fields(Attempt) if field.name != "purpose"), "owner", "purpose")
_ALL = (*_INTENT[:-1], *_OUTCOME)
_ROW = tuple(field.name for field in fields(Row))
_UNDECIDED = "attempts.status IN ('open', 'unsettled')"

_AT_ONCE = (256, 32, 4, 1)
"""Rows in one statement. After each, SQLite takes Python's lock again, which the event loop is using: by single rows
that takes as long as writing them."""


_SLICE = 512
"""Items that are sorted at once: that is machine code, and nothing else runs meanwhile."""
_DO_NOTHING = "NOTHING"
_DO_SETTLE = f"UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _OUTCOME)} WHERE {_UNDECIDED}"
_SETTLE = (
    f"UPDATE attempts SET purpose = COALESCE(?, purpose), {', '.join(f'{name} = ?' for name in _OUTCOME[1:])} "  # noqa: S608 - names from above
    f"WHERE id = ? AND {_UNDECIDED}"
)
_SAVED = tuple(f"saved_{lever}" for lever in LEVERS)
_CREDIT = (
    f"UPDATE attempts SET {', '.join(f'{name} = ?' for name in _SAVED)} "  # noqa: S608 - names from above
    "WHERE id = ? AND status <> 'open'"
)
_SELECT_ROWS = f"SELECT {', '.join(_ROW)} FROM attempts"  # noqa: S608 - names from above
_SELECT_ROWS_AFTER = (
    f"SELECT seq, {', '.join(_ROW)} FROM attempts "  # noqa: S608 - names from above
    "WHERE seq > ? AND ts_ns >= ? AND ts_ns < ? ORDER BY seq LIMIT ?"
)
OPEN_OWNERS = "SELECT DISTINCT owner FROM attempts WHERE status = 'open'"
UNSETTLE = "UPDATE attempts SET status = 'unsettled' WHERE status = 'open' AND owner = ?"

_GROUP_SQL: dict[Group, str] = {
    "route": "route",
    "model": "alias",
    "key": "key",
    "purpose": "purpose",
    "day": "date(ts_ns / 1000000000, 'unixepoch')",
}
_FIGURES_SQL = """
    COUNT(DISTINCT exchange), COUNT(*),
    COALESCE(SUM(input_tokens), 0), COALESCE(SUM(cached_tokens), 0), COALESCE(SUM(output_tokens), 0),
    COALESCE(SUM(cost_nanousd), 0),
    COALESCE(SUM(saved_routing + saved_trimming + saved_caching + saved_patch + COALESCE(saved_shadow, 0)), 0),
    COUNT(*) FILTER (WHERE cost_nanousd IS NULL AND status <> 'unsettled'),
    COUNT(*) FILTER (WHERE status = 'unsettled'),
    COALESCE(SUM(reserved_nanousd) FILTER (WHERE status = 'unsettled'), 0)
"""


def migrate(connection: sqlite3.Connection) -> None:
    """The tables are those of this version. Raises ValueError where a newer version made them."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        have = int(connection.execute("PRAGMA user_version").fetchone()[0])
        for number, script in enumerate(MIGRATIONS[have:], have + 1):
            for statement in script.split(";"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    if have > len(MIGRATIONS):
        raise ValueError(f"its tables are of version {have}, this program knows up to {len(MIGRATIONS)}")


def write_attempts(
    connection: sqlite3.Connection, items: Iterable[Attempt | tuple[str, Outcome | Saved]], owner: str
) -> None:
    """Intents, outcomes and credits, in the order they were queued, are in the tables.

    An attempt that began and ended within `items` is written once, as a whole.
    """
    rows = Rows(owner)
    left = iter(items)
    while some := list(islice(left, _SLICE)):
        rows.take(some)
    for sort, values in rows.whole.items():
        _insert(connection, _ALL, sort, values, _DO_SETTLE)
    for sort, values in rows.begun().items():
        _insert(connection, _INTENT, sort, values, _DO_NOTHING)
    if rows.settled:
        connection.executemany(_SETTLE, rows.settled)
    if rows.credited:  # their outcomes came before them
        connection.executemany(_CREDIT, rows.credited)


def _insert(
    connection: sqlite3.Connection, among: tuple[str, ...], sort: int, values: list[Any], conflict: str
) -> None:
    """Write rows of one sort; see `proxy.stores.rows.Rows`."""
    columns = tuple(name for place, name in enumerate(among) if sort >> place & 1)
    most = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)  # 999 before SQLite 3.32
    at = 0
    for count in _AT_ONCE:
        step = count * len(columns)
        while at + step <= len(values) and step <= most:
            connection.execute(_statement(columns, count, conflict), values[at : at + step])
            at += step


@lru_cache(128)  # as many as a connection keeps ready
def _statement(columns: tuple[str, ...], count: int, conflict: str) -> str:
    rows = ", ".join([f"({', '.join('?' * len(columns))})"] * count)
    return f"INSERT INTO attempts ({', '.join(columns)}) VALUES {rows} ON CONFLICT (id) DO {conflict}"  # noqa: S608 - names from above


def row_of(values: Sequence[Any]) -> Row:
    """A row as _SELECT_ROWS gives it."""
    row = list(values)
    for name in ("stream", "reported"):
        position = _ROW.index(name)
        row[position] = bool(row[position])
    return Row(*row)


def select_rows_after(
    after: int, from_ns: int, to_ns: int, limit: int, connection: sqlite3.Connection
) -> list[tuple[int, Row]]:
    """The next `limit` rows after the place `after`, each with its own place."""
    found = connection.execute(_SELECT_ROWS_AFTER, (after, from_ns, to_ns, limit))
    return [(values[0], row_of(values[1:])) for values in found]


def select_figures(
    connection: sqlite3.Connection, from_ns: int, to_ns: int, by: Sequence[Group]
) -> list[tuple[tuple[str | None, ...], Figures]]:
    """Sums by group, in the groups' order; one row without groups."""
    groups = [_GROUP_SQL[group] for group in by]
    tail = f"GROUP BY {', '.join(groups)} ORDER BY {', '.join(groups)}" if groups else ""
    sql = (
        f"SELECT {', '.join([*groups, _FIGURES_SQL])} FROM attempts "  # noqa: S608 - from the table above
        f"WHERE ts_ns >= ? AND ts_ns < ? AND status <> 'open' {tail}"
    )
    found = connection.execute(sql, (from_ns, to_ns)).fetchall()
    return [(tuple(row[: len(groups)]), Figures(*row[len(groups) :])) for row in found]


def select_spent(connection: sqlite3.Connection, scope: Scope, name: str, from_ns: int, to_ns: int) -> int:
    """Nano-USD of one scope; unsettled attempts count as reserved."""
    column = {"route": "route", "key": "key", "run": "run"}[scope]
    sql = (
        "SELECT COALESCE(SUM(CASE status WHEN 'unsettled' THEN reserved_nanousd ELSE cost_nanousd END), 0) "  # noqa: S608 - from the table above
        f"FROM attempts WHERE ts_ns >= ? AND ts_ns < ? AND {column} = ?"
    )
    return int(connection.execute(sql, (from_ns, to_ns, name)).fetchone()[0])


def select_exchanges(connection: sqlite3.Connection, ids: Sequence[str]) -> tuple[Exchange, ...]:
    """These exchanges, in the order of `ids`; one that is not there is left out."""
    # attempt ids begin with the exchange's and a dot; "/" is the character after it
    sql = f"{_SELECT_ROWS} WHERE id >= ? AND id < ? AND exchange = ? ORDER BY ts_ns, number, seq"
    found = []
    for exchange_id in ids:
        rows = connection.execute(sql, (f"{exchange_id}.", f"{exchange_id}/", exchange_id)).fetchall()
        if rows:
            found.append(Exchange(exchange_id, tuple(row_of(values) for values in rows)))
    return tuple(found)


def newest_exchange_ids(connection: sqlite3.Connection, limit: int) -> list[str]:
    """The exchanges with the newest attempts, newest first."""
    # an exchange has few attempts: looking at eight times as many rows finds enough of them without a scan
    sql = (
        "SELECT exchange FROM (SELECT exchange, ts_ns FROM attempts ORDER BY ts_ns DESC LIMIT ?) "
        "GROUP BY exchange ORDER BY MAX(ts_ns) DESC, exchange LIMIT ?"
    )
    return [row[0] for row in connection.execute(sql, (limit * 8, limit))]
