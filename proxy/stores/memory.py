"""A store that forgets everything at the end: for tests and trials."""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

from policies.saved import LEVERS, Saved
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
    StoreFull,
    UsageReport,
)
from proxy.stores.contexts import left_out, packed, unpacked

_CONTEXT_BYTES = 64 * 1024 * 1024
"""Contexts that are kept in memory; the oldest go first."""


class MemoryStore:
    """A `Store` of plain dictionaries. It keeps at most `max_rows` attempts and then refuses new ones."""

    failed: str | None = None
    waiting = 0
    unsettled_at_start = 0

    def __init__(self, max_rows: int = 1_000_000) -> None:
        self._max_rows = max_rows
        self._rows: dict[str, Row] = {}
        self._schemas: dict[tuple[str, str], SchemaVersion] = {}
        self._bindings: dict[str, Binding] = {}
        self._keys: dict[str, StoredKey] = {}
        self._notes: dict[str, str] = {}
        self._contexts: dict[str, tuple[ContextRecord, bytes]] = {}
        self.stopped = False
        self.lost = 0

    def begin(self, attempt: Attempt) -> None:
        if self.stopped:
            raise StoreFailed("the store is closed")
        if len(self._rows) >= self._max_rows:
            raise StoreFull(f"{len(self._rows)} attempts are kept in memory, more do not fit")
        if attempt.id not in self._rows:
            self._rows[attempt.id] = _open_row(attempt)

    def settle(self, attempt_id: str, outcome: Outcome) -> None:
        if self.stopped:
            self.lost += 1
            return
        row = self._rows.get(attempt_id)
        if row is not None and row.status == "open":
            self._rows[attempt_id] = _settled_row(row, outcome)

    def credit(self, attempt_id: str, saved: Saved) -> None:
        if self.stopped:
            self.lost += 1
            return
        row = self._rows.get(attempt_id)
        if row is not None and row.status != "open":
            self._rows[attempt_id] = replace(row, **_levers(saved))

    def sync(self) -> bool:
        return not self.stopped  # the end of the process takes all there is

    async def flush(self) -> None:
        if self.stopped:
            raise StoreFailed("the store is closed")

    async def close(self) -> None:
        self.stopped = True

    async def usage(self, from_ns: int, to_ns: int, by: Sequence[Group] = ()) -> UsageReport:
        groups = tuple(dict.fromkeys(by))
        rows = [row for row in self._between(from_ns, to_ns) if row.status != "open"]
        grouped: dict[tuple[str | None, ...], list[Row]] = defaultdict(list)
        for row in rows:
            grouped[tuple(_group_of(row, group) for group in groups)].append(row)
        ordered = sorted(grouped, key=lambda names: [(name is not None, name or "") for name in names])
        found: list[tuple[Mapping[Group, str | None], Figures]] = [
            (dict(zip(groups, names, strict=True)), _figures(grouped[names])) for names in ordered
        ]
        return UsageReport(groups, tuple(found) if groups else (), _figures(rows))

    async def spent(self, scope: Scope, name: str, from_ns: int, to_ns: int) -> int:
        rows = [row for row in self._between(from_ns, to_ns) if getattr(row, scope) == name]
        return sum(row.cost_nanousd or 0 for row in rows)

    async def recent(self, limit: int = 50) -> tuple[Exchange, ...]:
        newest: dict[str, int] = {}
        for row in self._rows.values():
            newest[row.exchange] = max(row.ts_ns, newest.get(row.exchange, row.ts_ns))
        ids = sorted(newest, key=lambda i: (-newest[i], i))[: max(1, min(limit, 500))]
        return tuple(Exchange(i, self._attempts_of(i)) for i in ids)

    async def exchange(self, exchange_id: str) -> Exchange | None:
        attempts = self._attempts_of(exchange_id)
        return Exchange(exchange_id, attempts) if attempts else None

    async def rows(self, from_ns: int, to_ns: int) -> AsyncIterator[Row]:
        for row in self._between(from_ns, to_ns):
            yield row

    async def put_schema(self, name: str, version: str, text: str, created_ns: int) -> bool:
        versions = [key for key in self._schemas if key[0] == name]
        if versions and versions[-1] == (name, version):
            return False
        self._schemas.pop((name, version), None)
        self._schemas[name, version] = SchemaVersion(name, version, text, created_ns)
        return True

    async def schemas(self) -> tuple[SchemaVersion, ...]:
        return tuple(sorted(self._schemas.values(), key=lambda schema: schema.name))

    async def delete_schema(self, name: str) -> bool:
        versions = [key for key in self._schemas if key[0] == name]
        for key in versions:
            del self._schemas[key]
        self._bindings = {r: b for r, b in self._bindings.items() if b.schema != name}
        return bool(versions)

    async def bind(self, binding: Binding) -> None:
        self._bindings[binding.route] = binding

    async def unbind(self, route: str) -> bool:
        return self._bindings.pop(route, None) is not None

    async def bindings(self) -> tuple[Binding, ...]:
        return tuple(self._bindings[route] for route in sorted(self._bindings))

    async def put_key(self, key: StoredKey) -> bool:
        return self._keys.setdefault(key.name, key) is key

    async def revoke_key(self, name: str, at_ns: int) -> bool:
        key = self._keys.get(name)
        if key is None or key.revoked_ns is not None:
            return False
        self._keys[name] = replace(key, revoked_ns=at_ns)
        return True

    async def stored_keys(self) -> tuple[StoredKey, ...]:
        return tuple(self._keys[name] for name in sorted(self._keys))

    def keep_context(self, record: ContextRecord, messages: Sequence[Mapping[str, Any]], size: int) -> bool:
        if self.stopped or size > _CONTEXT_BYTES:
            return False
        self._contexts.pop(record.id, None)
        self._contexts[record.id] = record, packed(left_out(record, messages))
        while sum(len(blob) for _, blob in self._contexts.values()) > _CONTEXT_BYTES:
            del self._contexts[next(iter(self._contexts))]
        return True

    async def context(self, record_id: str, now_ns: int) -> KeptContext | None:
        record, blob = self._contexts.get(record_id, (None, b""))
        if record is None or record.until_ns <= now_ns:
            return None
        return KeptContext(record._replace(dropped=tuple(record.dropped)), unpacked(blob))

    async def forget_contexts(self, now_ns: int) -> int:
        old = [name for name, (record, _) in self._contexts.items() if record.until_ns <= now_ns]
        for name in old:
            del self._contexts[name]
        return len(old)

    async def put_note(self, name: str, value: Any) -> None:
        if value is None:
            self._notes.pop(name, None)
        else:
            self._notes[name] = json.dumps(value)

    async def add_note(self, name: str, value: Any) -> bool:
        if name in self._notes:
            return False
        self._notes[name] = json.dumps(value)
        return True

    async def notes(self, prefix: str, limit: int = 1000) -> Mapping[str, Any]:
        names = sorted(name for name in self._notes if name.startswith(prefix))
        return {name: json.loads(self._notes[name]) for name in names[:limit]}

    async def note(self, name: str) -> Any:
        return json.loads(self._notes[name]) if name in self._notes else None

    def _attempts_of(self, exchange_id: str) -> tuple[Row, ...]:
        rows = [row for row in self._rows.values() if row.exchange == exchange_id]
        return tuple(sorted(rows, key=lambda row: (row.ts_ns, row.number)))

    def _between(self, from_ns: int, to_ns: int) -> list[Row]:
        return [row for row in self._rows.values() if from_ns <= row.ts_ns < to_ns]


def _open_row(attempt: Attempt) -> Row:
    return Row(
        **{field.name: getattr(attempt, field.name) for field in fields(attempt)},
        status="open",
        input_tokens=0,
        output_tokens=0,
        cached_tokens=0,
        cache_write_tokens=0,
        reasoning_tokens=0,
        reported=False,
        cost_nanousd=None,
        **_levers(None),
        verdict=None,
        repairs="",
        failure=None,
        latency_ms=None,
        ttft_ms=None,
        expected_trimming=None,
    )


def _settled_row(row: Row, outcome: Outcome) -> Row:
    usage = outcome.usage
    return replace(
        row,
        status=outcome.status,
        purpose=outcome.purpose or row.purpose,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        reported=usage.reported,
        cost_nanousd=outcome.cost_nanousd,
        **_levers(outcome.saved),
        verdict=outcome.verdict,
        repairs=",".join(outcome.repairs),
        failure=outcome.failure,
        latency_ms=outcome.latency_ms,
        ttft_ms=outcome.ttft_ms,
        expected_trimming=outcome.expected_trimming,
    )


def _levers(saved: Saved | None) -> dict[str, Any]:
    """The columns of what was saved."""
    return {f"saved_{lever}": None if saved is None else getattr(saved, lever) for lever in LEVERS}


def _group_of(row: Row, group: Group) -> str | None:
    if group == "day":
        return datetime.fromtimestamp(row.ts_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d")
    return {"route": row.route, "model": row.alias, "key": row.key, "purpose": row.purpose}[group]


def _figures(rows: Sequence[Row]) -> Figures:
    return Figures(
        requests=len({row.exchange for row in rows}),
        attempts=len(rows),
        input_tokens=sum(row.input_tokens for row in rows),
        cached_tokens=sum(row.cached_tokens for row in rows),
        output_tokens=sum(row.output_tokens for row in rows),
        cost_nanousd=sum(row.cost_nanousd or 0 for row in rows),
        saved_nanousd=sum(getattr(row, f"saved_{lever}") or 0 for row in rows for lever in LEVERS),
        unpriced=sum(row.cost_nanousd is None for row in rows),
    )
