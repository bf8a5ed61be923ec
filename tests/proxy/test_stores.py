"""One contract for every store, and what only the one on a disk can get wrong."""

import asyncio
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from policies.chat import Usage
from policies.saved import Saved
from proxy.stores import open_store
from proxy.stores.base import (
    GROUPS,
    Attempt,
    Binding,
    Figures,
    Outcome,
    Row,
    Store,
    StoredKey,
    StoreFailed,
    StoreFull,
    UnknownStore,
)
from proxy.stores.memory import MemoryStore
from proxy.stores.sqlite import SqliteStore, connect

DAY_NS = 86_400 * 1_000_000_000
NOON_NS = 20_000 * DAY_NS + DAY_NS // 2
ALWAYS = (0, 2**62)


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path):
    made: Store = (
        MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "t.db", interval_s=0.002)
    )
    yield made
    await made.close()


def attempt(number: int = 1, exchange: str = "req_1", **facts: Any) -> Attempt:
    made = Attempt(
        id=f"{exchange}.{number}",
        exchange=exchange,
        ts_ns=NOON_NS + number,
        route="invoice",
        alias="mini",
        model="gpt-4o-mini",
        provider="openai",
        number=number,
        reserved_nanousd=900_000,
    )
    return made._replace(**facts)


def outcome(cost_nanousd: int | None = 450_000, **facts: Any) -> Outcome:
    return Outcome(status="ok", usage=Usage(1000, 500, 200), cost_nanousd=cost_nanousd)._replace(**facts)


def book(store: Store, made: Attempt, done: Outcome) -> None:
    store.begin(made)
    store.settle(made.id, done)


async def all_rows(store: Store) -> list[Row]:
    return [row async for row in store.rows(*ALWAYS)]


class TestLedger:
    async def test_a_settled_attempt_reads_back_with_every_fact(self, store):
        intent = attempt(
            2,
            key="team-a",
            run="run_9",
            step="draft",
            purpose="reask",
            stream=True,
        )
        done = Outcome(
            status="failed",
            usage=Usage(10, 20, 3, 4, 5, reported=False),
            cost_nanousd=77,
            saved=Saved(1, -2, 3, 4),
            verdict="repaired",
            repairs=("fence", "trailing_comma"),
            failure="timeout",
            latency_ms=12.5,
            ttft_ms=3.25,
        )
        book(store, intent, done)
        assert await all_rows(store) == [
            Row(
                id="req_1.2",
                exchange="req_1",
                ts_ns=NOON_NS + 2,
                route="invoice",
                alias="mini",
                model="gpt-4o-mini",
                provider="openai",
                key="team-a",
                run="run_9",
                step="draft",
                number=2,
                purpose="reask",
                stream=True,
                reserved_nanousd=900_000,
                status="failed",
                input_tokens=10,
                output_tokens=20,
                cached_tokens=3,
                cache_write_tokens=4,
                reasoning_tokens=5,
                reported=False,
                cost_nanousd=77,
                saved_routing=1,
                saved_trimming=-2,
                saved_caching=3,
                saved_patch=4,
                verdict="repaired",
                repairs="fence,trailing_comma",
                failure="timeout",
                latency_ms=12.5,
                ttft_ms=3.25,
            )
        ]

    async def test_an_intent_settled_much_later_is_the_same_row(self, store):
        store.begin(attempt())
        await store.flush()
        assert [row.status for row in await all_rows(store)] == ["open"]
        store.settle("req_1.1", outcome(purpose="cancelled", status="cancelled"))
        (row,) = await all_rows(store)
        assert (row.status, row.purpose, row.cost_nanousd, row.reserved_nanousd) == (
            "cancelled",
            "cancelled",
            450_000,
            900_000,
        )

    @pytest.mark.parametrize("flushed", [False, True], ids=["in-one-batch", "in-two-batches"])
    async def test_what_is_written_twice_counts_once_and_the_first_outcome_stays(self, store, flushed):
        for cost in (100, 200):
            book(store, attempt(), outcome(cost))
            store.settle("req_1.1", outcome(300))
            if flushed:
                await store.flush()
        report = await store.usage(*ALWAYS)
        assert (report.total.attempts, report.total.cost_nanousd) == (1, 100)

    async def test_an_outcome_without_an_intent_changes_nothing(self, store):
        store.settle("nobody.1", outcome())
        assert await all_rows(store) == []

    async def test_usage_is_summed_by_every_group_and_exchanges_count_once(self, store):
        book(store, attempt(1, "a", key="k1"), outcome(100, saved=Saved(5, 1, 0, -2)))
        book(store, attempt(2, "a", key="k1", purpose="reask", alias="flagship"), outcome(200))
        book(store, attempt(1, "b", route="chat", ts_ns=NOON_NS + DAY_NS), outcome(None))
        report = await store.usage(*ALWAYS, ("route", "model", "key", "purpose", "day"))
        names = [tuple(group[g] for g in GROUPS) for group, _ in report.rows]
        assert names == [
            ("chat", "mini", None, "answer", "2024-10-05"),
            ("invoice", "flagship", "k1", "reask", "2024-10-04"),
            ("invoice", "mini", "k1", "answer", "2024-10-04"),
        ]
        one = Figures(requests=1, attempts=1, input_tokens=1000, cached_tokens=200, output_tokens=500)
        assert [figures for _, figures in report.rows] == [
            replace(one, unpriced=1),
            replace(one, cost_nanousd=200),
            replace(one, cost_nanousd=100, saved_nanousd=4),
        ]
        assert report.total == Figures(
            requests=2,
            attempts=3,
            input_tokens=3000,
            cached_tokens=600,
            output_tokens=1500,
            cost_nanousd=300,
            saved_nanousd=4,
            unpriced=1,
        )

    async def test_usage_by_one_group_counts_a_request_in_each_group_it_touched(self, store):
        book(store, attempt(1, "a"), outcome(1))
        book(store, attempt(2, "a", purpose="escalate"), outcome(2))
        report = await store.usage(*ALWAYS, ["purpose"])
        assert [(group["purpose"], figures.requests) for group, figures in report.rows] == [
            ("answer", 1),
            ("escalate", 1),
        ]
        assert report.total.requests == 1

    async def test_usage_takes_the_start_and_leaves_the_end(self, store):
        for number in (1, 2, 3):
            book(store, attempt(number, ts_ns=number * 10), outcome(number))
        assert (await store.usage(10, 30)).total.cost_nanousd == 3
        assert (await store.usage(30, 10)).total == Figures()

    async def test_calls_under_way_are_not_in_the_sums(self, store):
        store.begin(attempt())
        report = await store.usage(*ALWAYS, ["route"])
        assert (report.rows, report.total) == ((), Figures())

    async def test_spent_is_of_one_scope_and_time(self, store):
        book(store, attempt(1, "a", key="k1", run="r1", ts_ns=100), outcome(1))
        book(store, attempt(1, "b", key="k1", route="chat", ts_ns=200), outcome(10))
        book(store, attempt(1, "c", key="k2", ts_ns=200), outcome(None))
        assert await store.spent("key", "k1", 0, 300) == 11
        assert await store.spent("key", "k1", 0, 200) == 1
        assert await store.spent("key", "k2", 0, 300) == 0
        assert await store.spent("route", "invoice", 0, 300) == 1
        assert await store.spent("run", "r1", 0, 300) == 1

    async def test_recent_exchanges_come_newest_first_with_all_attempts_in_order(self, store):
        book(store, attempt(1, "old", ts_ns=10), outcome())
        book(store, attempt(1, "new", ts_ns=20), outcome())
        store.begin(attempt(3, "new", ts_ns=40))
        book(store, attempt(2, "new", ts_ns=30), outcome())
        found = await store.recent(10)
        assert [(e.id, [a.number for a in e.attempts]) for e in found] == [("new", [1, 2, 3]), ("old", [1])]
        assert [e.id for e in await store.recent(1)] == ["new"]
        assert await store.exchange("old") == found[1]
        assert await store.exchange("never") is None

    async def test_an_export_has_every_attempt_of_its_time(self, store):
        for number in range(5000):
            book(store, attempt(number, "big", ts_ns=number), outcome())
        ids = [row.id async for row in store.rows(10, 4990)]
        assert sorted(ids) == sorted(f"big.{n}" for n in range(10, 4990))

    @pytest.mark.parametrize(
        "text",
        ["'; DROP TABLE attempts; --", "a\x00b", "\ud800 lone", "x" * 100_000, "ünï" * 1000],
        ids=["sql", "nul", "lone-surrogate", "long", "long-not-ascii"],
    )
    async def test_no_text_of_a_client_can_stop_the_ledger(self, store, text):
        book(store, attempt(1, "bad", alias=text, model=text, step=text, run=text), outcome())
        book(store, attempt(1, "good"), outcome())
        assert {row.exchange for row in await all_rows(store)} == {"bad", "good"}
        assert (await store.usage(*ALWAYS, ["model"])).total.attempts == 2

    async def test_no_number_of_an_upstream_can_stop_the_ledger(self, store):
        book(
            store, attempt(1, reserved_nanousd=10**40), outcome(-(10**40), usage=Usage(10**30, 2**63, 2**64))
        )
        book(store, attempt(2), outcome(1))
        assert (await store.usage(*ALWAYS)).total.attempts == 2

    async def test_a_closed_store_refuses_intents_and_closes_twice(self, store):
        await store.close()
        with pytest.raises(StoreFailed):
            store.begin(attempt())
        store.settle("req_1.1", outcome())
        assert (store.stopped, store.lost, store.waiting) == (True, 1, 0)
        with pytest.raises(StoreFailed):
            await store.flush()
        await store.close()


class TestRegistry:
    async def test_versions_stay_and_the_last_one_put_is_the_newest(self, store):
        assert await store.put_schema("b", "v1", "{}", 1)
        assert await store.put_schema("b", "v2", "[]", 2)
        assert not await store.put_schema("b", "v2", "[]", 3)
        assert await store.put_schema("a", "v1", "{}", 4)
        assert await store.put_schema("b", "v1", "{}", 5)
        found = [(s.name, s.version, s.created_ns) for s in await store.schemas()]
        assert found == [("a", "v1", 4), ("b", "v2", 2), ("b", "v1", 5)]

    async def test_a_deleted_schema_takes_its_bindings_along(self, store):
        await store.put_schema("a", "v1", "{}", 1)
        await store.put_schema("b", "v1", "{}", 1)
        await store.bind(Binding("r1", "a", None))
        await store.bind(Binding("r2", "a", "v1"))
        await store.bind(Binding("r2", "b", "v1"))
        assert await store.delete_schema("a")
        assert not await store.delete_schema("a")
        assert [s.name for s in await store.schemas()] == ["b"]
        assert await store.bindings() == (Binding("r2", "b", "v1"),)

    async def test_a_route_can_lose_its_binding(self, store):
        await store.bind(Binding("r1", "a", None))
        assert await store.unbind("r1")
        assert not await store.unbind("r1")
        assert await store.bindings() == ()


class TestKeys:
    async def test_a_key_reads_back_as_it_was_made(self, store):
        full = StoredKey("b", b"\x00\xff" * 16, 5, frozenset({"r2", "r1"}), True, 10**9, "day", 60, 1000)
        bare = StoredKey("a", b"d" * 32, 6)
        assert await store.put_key(full)
        assert await store.put_key(bare)
        assert await store.stored_keys() == (bare, full)

    async def test_a_name_is_never_used_twice(self, store):
        first = StoredKey("a", b"1" * 32, 5)
        assert await store.put_key(first)
        assert not await store.put_key(StoredKey("a", b"2" * 32, 6))
        assert await store.revoke_key("a", 7)
        assert not await store.put_key(StoredKey("a", b"3" * 32, 8))
        assert await store.stored_keys() == (replace(first, revoked_ns=7),)

    async def test_a_key_is_revoked_once(self, store):
        await store.put_key(StoredKey("a", b"1" * 32, 5))
        assert await store.revoke_key("a", 7)
        assert not await store.revoke_key("a", 8)
        assert not await store.revoke_key("b", 8)


async def test_notes_hold_json_until_taken_away(store):
    assert await store.note("demo") is None
    await store.put_note("demo", {"at": [1, "é", None]})
    await store.put_note("demo", {"at": [2]})
    assert await store.note("demo") == {"at": [2]}
    await store.put_note("demo", None)
    assert await store.note("demo") is None


class LedgerMachine(RuleBasedStateMachine):
    """A store on a disk, closed and opened again at will, tells the same as the one in memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.disk = SqliteStore(Path(tempfile.mkdtemp(dir=folder)) / "t.db", interval_s=0.0)
        self.plain = MemoryStore()
        self.open: set[str] = set()

    exchanges = st.sampled_from(["a", "b", "c"])
    numbers = st.integers(1, 4)
    times = st.integers(0, 5).map(lambda n: n * DAY_NS // 2)
    labels = st.sampled_from(["x", "y", None])

    @rule(exchange=exchanges, number=numbers, ts_ns=times, key=labels, alias=st.sampled_from(["m", "n"]))
    def begin(self, exchange: str, number: int, ts_ns: int, key: str | None, alias: str) -> None:
        made = attempt(number, exchange, ts_ns=ts_ns, key=key, alias=alias)
        self.disk.begin(made)
        self.plain.begin(made)
        self.open.add(made.id)

    @rule(
        exchange=exchanges,
        number=numbers,
        cost=st.none() | st.integers(-5, 5),
        saved=st.none() | st.builds(Saved, st.integers(-5, 5), st.integers(-5, 5)),
        purpose=st.sampled_from([None, "cancelled"]),
    )
    def settle(self, exchange: str, number: int, cost: int | None, saved: Saved | None, purpose: Any) -> None:
        done = outcome(cost, saved=saved, purpose=purpose)
        self.disk.settle(f"{exchange}.{number}", done)
        self.plain.settle(f"{exchange}.{number}", done)

    @rule()
    def flush(self) -> None:
        self.loop.run_until_complete(self.disk.flush())

    @rule(by=st.lists(st.sampled_from(GROUPS)), start=times, end=times)
    def same_usage(self, by: list[Any], start: int, end: int) -> None:
        ours = self.loop.run_until_complete(self.disk.usage(start, end, by))
        assert ours == self.loop.run_until_complete(self.plain.usage(start, end, by))

    @rule(scope=st.sampled_from(["key", "route", "run"]), name=st.sampled_from(["x", "invoice"]), start=times)
    def same_spent(self, scope: Any, name: str, start: int) -> None:
        ours = self.loop.run_until_complete(self.disk.spent(scope, name, start, 2**62))
        assert ours == self.loop.run_until_complete(self.plain.spent(scope, name, start, 2**62))

    @invariant()
    def same_recent(self) -> None:
        ours = self.loop.run_until_complete(self.disk.recent(2))
        assert ours == self.loop.run_until_complete(self.plain.recent(2))

    def teardown(self) -> None:
        self.loop.run_until_complete(self.disk.close())
        self.loop.close()


def test_the_disk_tells_the_same_as_memory(tmp_path):
    run_state_machine_as_test(
        lambda: LedgerMachine(tmp_path),
        settings=settings(
            max_examples=25,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


class TestUrls:
    async def test_a_relative_path_is_of_the_working_directory(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        await open_store("sqlite:///here.db").close()
        await open_store(f"sqlite:///{tmp_path}/there.db").close()
        assert (tmp_path / "here.db").exists()
        assert (tmp_path / "there.db").exists()

    async def test_memory_forgets(self):
        first = open_store("memory:")
        book(first, attempt(), outcome())
        assert await all_rows(open_store("memory:")) == []

    @pytest.mark.parametrize(
        ("url", "says"),
        [
            ("postgresql://me:secret@host/db", "not built yet"),
            ("postgres://me:secret@host/db", "not built yet"),
            ("redis://me:secret@host", "names no store"),
            ("", "names no store"),
            ("sqlite:///", "names no store"),
        ],
    )
    def test_other_urls_are_refused_without_their_secrets(self, url, says):
        with pytest.raises(UnknownStore, match=says) as caught:
            open_store(url)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("what", ["missing folder", "no database", "a folder", "newer"])
    def test_what_cannot_be_opened_says_which_file(self, tmp_path, what):
        path = tmp_path / "x.db"
        if what == "missing folder":
            path = tmp_path / "no" / "x.db"
        elif what == "no database":
            path.write_bytes(b"this is not a database, not at all" * 100)
        elif what == "a folder":
            path.mkdir()
        else:
            with sqlite3.connect(path) as connection:
                connection.execute("PRAGMA user_version = 9999")
            connection.close()
        with pytest.raises(StoreFailed, match=re.escape(str(path))):
            open_store(f"sqlite:///{path}")


class TestOnDisk:
    async def test_a_second_start_finds_what_the_first_one_wrote(self, tmp_path):
        first = SqliteStore(tmp_path / "t.db")
        book(first, attempt(), outcome())
        await first.put_note("a", 1)
        await first.close()
        second = SqliteStore(tmp_path / "t.db")
        assert [row.cost_nanousd for row in await all_rows(second)] == [450_000]
        assert await second.note("a") == 1
        await second.close()

    async def test_an_intent_left_open_is_unsettled_at_the_next_start_with_what_was_reserved(self, tmp_path):
        first = SqliteStore(tmp_path / "t.db")
        first.begin(attempt(1, key="k"))
        book(first, attempt(2, key="k"), outcome(5))
        await first.close()
        second = open_store(f"sqlite:///{tmp_path}/t.db")
        assert second.unsettled_at_start == 1
        total = (await second.usage(*ALWAYS)).total
        assert (total.attempts, total.cost_nanousd, total.unpriced) == (2, 5, 0)
        assert (total.unsettled, total.unsettled_nanousd) == (1, 900_000)
        assert await second.spent("key", "k", *ALWAYS) == 900_005
        await second.close()

    async def test_intents_of_a_living_process_stay_open(self, tmp_path):
        first = SqliteStore(tmp_path / "t.db")
        first.begin(attempt())
        await first.flush()
        second = SqliteStore(tmp_path / "t.db")
        assert second.unsettled_at_start == 0
        first.settle("req_1.1", outcome(7))
        await first.flush()
        assert [(row.status, row.cost_nanousd) for row in await all_rows(second)] == [("ok", 7)]
        await first.close()
        await second.close()
        assert {path.name for path in tmp_path.iterdir()} == {"t.db"}

    async def test_two_stores_write_to_one_file(self, tmp_path):
        stores = [SqliteStore(tmp_path / "t.db", interval_s=0.001) for _ in range(2)]
        for number in range(200):
            book(stores[number % 2], attempt(number), outcome(1))
            if number % 20 == 0:
                await stores[number % 2].flush()
        for store in stores:
            await store.flush()
        assert (await stores[0].usage(*ALWAYS)).total.cost_nanousd == 200
        for store in stores:
            await store.close()

    async def test_tables_of_an_older_version_are_brought_forward_once(self, tmp_path):
        first = SqliteStore(tmp_path / "t.db")
        book(first, attempt(), outcome())
        await first.close()
        second = SqliteStore(tmp_path / "t.db")
        await second.close()
        with sqlite3.connect(tmp_path / "t.db") as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (1,)
            columns = {row[1] for row in connection.execute("PRAGMA table_info(attempts)")}
        connection.close()
        assert columns == {field.name for field in fields(Row)} | {"seq", "owner"}


class Disk:
    """What stands between the store and its file: full, or broken, when told so."""

    def __init__(self) -> None:
        self.max_pages: int | None = None
        self.commit_error: sqlite3.Error | None = None
        self.opened = 0

    def __call__(self, path: Path) -> sqlite3.Connection:
        disk = self
        self.opened += 1

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
                if sql == "COMMIT" and disk.commit_error is not None:
                    raise disk.commit_error
                return super().execute(sql, *arguments)

        plain = connect(path)
        plain.close()
        made = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Connection)
        made.execute("PRAGMA synchronous = FULL")
        if self.max_pages is not None:
            made.execute(f"PRAGMA max_page_count = {self.max_pages}")
        return made


def refusal(code: int, name: str) -> sqlite3.Error:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    error.sqlite_errorname = name
    return error


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


class TestFailingDisk:
    async def test_a_full_disk_is_told_and_nothing_is_lost_when_there_is_room_again(self, tmp_path):
        await SqliteStore(tmp_path / "t.db").close()
        disk = Disk()
        disk.max_pages = 1  # no page more than there are
        store = SqliteStore(tmp_path / "t.db", open_connection=disk, interval_s=0.001)
        for number in range(500):
            book(store, attempt(number), outcome(1))
        with pytest.raises(StoreFailed, match="SQLITE_FULL"):
            await store.flush()
        assert "SQLITE_FULL" in (store.failed or "")
        assert not store.stopped
        assert (await store.usage(*ALWAYS)).total.attempts == 0  # reports still answer
        disk.max_pages = 100_000
        await store.flush()
        assert store.failed is None
        assert (await store.usage(*ALWAYS)).total.cost_nanousd == 500
        await store.close()

    async def test_a_failed_fsync_stops_and_is_not_tried_again(self, tmp_path):
        disk = Disk()
        store = SqliteStore(tmp_path / "t.db", open_connection=disk, interval_s=0.001)
        book(store, attempt(1), outcome(1))
        await store.flush()
        opened = disk.opened
        disk.commit_error = refusal(sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC")
        store.begin(attempt(2))
        with pytest.raises(StoreFailed, match="SQLITE_IOERR_FSYNC"):
            await store.flush()
        await until(lambda: store.stopped)
        disk.commit_error = None
        with pytest.raises(StoreFailed, match="SQLITE_IOERR_FSYNC"):
            store.begin(attempt(3))
        store.settle("req_1.2", outcome())
        assert store.lost == 1
        with pytest.raises(StoreFailed):
            await store.put_note("a", 1)
        assert disk.opened == opened
        with pytest.raises(StoreFailed, match="1 rows"):
            await store.close()

    async def test_intents_are_refused_when_too_many_rows_wait_and_outcomes_never(self, tmp_path):
        disk = Disk()
        store = SqliteStore(tmp_path / "t.db", open_connection=disk, interval_s=0.001, max_waiting=10)
        disk.commit_error = refusal(sqlite3.SQLITE_READONLY, "SQLITE_READONLY")
        store.begin(attempt(0))
        with pytest.raises(StoreFailed, match="READONLY"):
            await store.flush()
        for number in range(1, 10):
            store.begin(attempt(number))
        with pytest.raises(StoreFull, match="10 rows"):
            store.begin(attempt(10))
        for number in range(10):
            store.settle(f"req_1.{number}", outcome(1))
        disk.commit_error = None
        await store.flush()
        store.begin(attempt(10))
        assert (await store.usage(*ALWAYS)).total.cost_nanousd == 10
        await store.close()

    async def test_a_disk_that_comes_back_is_found_without_anyone_asking(self, tmp_path):
        disk = Disk()
        store = SqliteStore(tmp_path / "t.db", open_connection=disk, interval_s=0.001)
        disk.commit_error = refusal(sqlite3.SQLITE_BUSY, "SQLITE_BUSY")
        book(store, attempt(), outcome())
        await until(lambda: store.failed is not None)
        disk.commit_error = None
        await until(lambda: store.failed is None)
        assert store.waiting == 0
        await store.close()

    async def test_one_bad_piece_of_work_does_not_take_the_rows_around_it(self, tmp_path):
        store = SqliteStore(tmp_path / "t.db")
        store.begin(attempt(1))
        with pytest.raises(TypeError):
            await store.put_note("a", object())
        with pytest.raises(sqlite3.IntegrityError):
            await store.put_schema("a", "v", None, 1)  # type: ignore[arg-type]
        store.begin(attempt(2))
        assert len(await all_rows(store)) == 2
        await store.close()


_VICTIM = """
import asyncio, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from policies.chat import Usage
from proxy.stores.base import Attempt, Outcome
from proxy.stores.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path({path!r}), interval_s=0.002)
    life = sys.argv[1]
    done = Outcome("ok", Usage(10, 1), 1)
    number = 0
    while True:
        for _ in range(7):
            number += 1
            store.begin(Attempt(f"{{life}}.{{number}}", life, number, "r", "a", "m", "p", reserved_nanousd=5))
            if number % 3:
                store.settle(f"{{life}}.{{number}}", done)
            elif number > 30:
                store.settle(f"{{life}}.{{number - 30}}", done)
        await store.flush()
        print(number, flush=True)

asyncio.run(main())
"""


def test_twenty_kills_lose_nothing_acknowledged_and_double_nothing(tmp_path):
    path = tmp_path / "t.db"
    root = Path(__file__).parents[2]
    script = tmp_path / "victim.py"
    script.write_text(_VICTIM.format(root=str(root), path=str(path)))
    acknowledged: dict[str, int] = {}
    dice = random.Random(4)
    for turn in range(20):
        life = f"life{turn}"
        child = subprocess.Popen([sys.executable, str(script), life], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        last = int(child.stdout.readline())
        time.sleep(dice.random() * 0.05)
        os.kill(child.pid, signal.SIGKILL)
        for line in child.stdout.read().splitlines():
            last = int(line) if line else last
        child.wait(5)
        child.stdout.close()
        acknowledged[life] = last

    async def read() -> list[Row]:
        store = SqliteStore(path)
        rows = await all_rows(store)
        await store.close()
        return rows

    rows = asyncio.run(read())
    assert len({row.id for row in rows}) == len(rows)
    found = {row.id: row for row in rows}
    for life, last in acknowledged.items():
        for number in range(1, last + 1):
            row = found[f"{life}.{number}"]
            settled = number % 3 != 0 or number + 30 <= last
            if settled:
                assert (row.status, row.cost_nanousd) == ("ok", 1)
            else:
                assert row.status in {"unsettled", "ok"}
    assert {row.status for row in rows} == {"ok", "unsettled"}
    assert not list(tmp_path.glob("*-owner-*"))
