"""What trimming left out of requests, in SQLite: one record per request, and each message once however often it was left out.

Messages are kept under the hash of their content, so that a conversation whose every turn leaves out the same
hundred messages keeps these once. All of it goes when its time has come, some rows with each record that is written.
"""

import json
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from policies.trimming import Dropped
from proxy.stores.base import ContextRecord, KeptContext

MIGRATION = """
    CREATE TABLE contexts (
        id TEXT PRIMARY KEY,
        until_ns INTEGER NOT NULL,
        record BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX contexts_until ON contexts (until_ns);
    CREATE TABLE context_messages (
        hash TEXT PRIMARY KEY,
        until_ns INTEGER NOT NULL,
        message BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX context_messages_until ON context_messages (until_ns);
"""
FORGOTTEN_AT_ONCE = 500
"""Rows of each table that are deleted in one transaction at most."""
_SLACK = 8
"""A message is kept an eighth longer than its first record, so that the next turns need not write it anew."""


def left_out(record: ContextRecord, messages: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The messages that a record is about, by hash."""
    return {gone.hash: messages[gone.index] for gone in record.dropped}


def packed(value: Any) -> bytes:
    """Compressed JSON of a value, lone surrogates and all."""
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 1)


def unpacked(blob: bytes) -> Any:
    """The value that `packed` was given."""
    return json.loads(zlib.decompress(blob))


def as_values(record: ContextRecord) -> list[Any]:
    """A record as JSON values, in the order of its fields."""
    dropped = [[d.hash, d.index, d.tokens, d.score, d.reason, d.span] for d in record.dropped]
    return [*record[:-1], dropped]


def as_record(values: Sequence[Any]) -> ContextRecord:
    """The record that `as_values` was given."""
    gone = [
        Dropped(name, index, tokens, score, reason, None if span is None else (span[0], span[1]))
        for name, index, tokens, score, reason, span in values[-1]
    ]
    return ContextRecord._make([*values[:-1], tuple(gone)])


def write_context(
    connection: sqlite3.Connection, record: ContextRecord, messages: Sequence[Mapping[str, Any]]
) -> None:
    """The record and its messages are in the tables; writing it twice changes nothing."""
    forget(connection, record.ts_ns)
    connection.execute(
        "INSERT OR REPLACE INTO contexts VALUES (?, ?, ?)",
        (record.id, record.until_ns, packed(as_values(record))),
    )
    longer_ns = record.until_ns + (record.until_ns - record.ts_ns) // _SLACK
    for name, message in left_out(record, messages).items():
        known = connection.execute("SELECT until_ns FROM context_messages WHERE hash = ?", (name,)).fetchone()
        if known is None:
            values = (name, longer_ns, packed(message))
            connection.execute("INSERT INTO context_messages VALUES (?, ?, ?)", values)
        elif known[0] < record.until_ns:
            connection.execute("UPDATE context_messages SET until_ns = ? WHERE hash = ?", (longer_ns, name))


def forget(connection: sqlite3.Connection, now_ns: int, limit: int = FORGOTTEN_AT_ONCE) -> int:
    """Some of what has had its time is gone; how many rows that were."""
    gone = 0
    for table, name in (("contexts", "id"), ("context_messages", "hash")):
        sql = (
            f"DELETE FROM {table} WHERE {name} IN "  # noqa: S608 - names from the line above
            f"(SELECT {name} FROM {table} WHERE until_ns <= ? LIMIT ?)"
        )
        gone += connection.execute(sql, (now_ns, limit)).rowcount
    return gone


def select_context(connection: sqlite3.Connection, record_id: str, now_ns: int) -> KeptContext | None:
    """A record and its messages; None where there is none any more."""
    sql = "SELECT record FROM contexts WHERE id = ? AND until_ns > ?"
    found = connection.execute(sql, (record_id, now_ns)).fetchone()
    if found is None:
        return None
    record = as_record(unpacked(found[0]))
    messages = {}
    for name in dict.fromkeys(gone.hash for gone in record.dropped):
        row = connection.execute("SELECT message FROM context_messages WHERE hash = ?", (name,)).fetchone()
        if row is not None:
            messages[name] = unpacked(row[0])
    return KeptContext(record, messages)
