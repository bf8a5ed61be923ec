"""One contract for every store, and what only the one on a disk can get wrong."""

import asyncio
import contextlib
import csv
import io
import re
import shutil
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from policies.chat import Usage
from policies.saved import LEVERS, Saved
from proxy.stores import open_store
from proxy.stores.base import (
    GROUPS,
    Binding,
    Figures,
    Outcome,
    Row,
    Store,
    StoredKey,
    StoreFailed,
    UnknownStore,
)
from proxy.stores.export import csv_lines
from proxy.stores.memory import MemoryStore
from proxy.stores.sqlite import SqliteStore
from tests.proxy.ledger_rows import ALWAYS, DAY_NS, NOON_NS, all_rows, attempt, book, outcome


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path):
    made: Store = (
        MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "t.db", interval_s=0.002)
    )
    yield made
    await made.close()


class TestLedger:
    async def test_a_settled_attempt_reads_back_with_every_fact(self, store):
        intent = attempt(
            2,
            key="team-a",
            run="run_9",
            step="draft",
            purpose="reask",
            stream=True,
            propensity=0.75,
            reason="holdout: drawn",
        )
        done = Outcome(
            status="failed",
            usage=Usage(10, 20, 3, 4, 5, reported=False),
            cost_nanousd=77,
            saved=Saved(1, -2, 3, 4, -5),
            verdict="repaired",
            repairs=("fence", "trailing_comma"),
            failure="timeout",
            latency_ms=12.5,
            ttft_ms=3.25,
            expected_trimming=-6,
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
                propensity=0.75,
                reason="holdout: drawn",
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
                saved_shadow=-5,
                verdict="repaired",
                repairs="fence,trailing_comma",
                failure="timeout",
                latency_ms=12.5,
                ttft_ms=3.25,
                expected_trimming=-6,
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

    @pytest.mark.parametrize("flushed", [False, True], ids=["in-one-batch", "in-two-batches"])
    async def test_a_credit_takes_the_place_of_what_the_outcome_said(self, store, flushed):
        for number, before in ((1, Saved(7)), (2, None)):
            book(store, attempt(number), outcome(100, saved=before))
        if flushed:
            await store.flush()
        store.credit("req_1.1", Saved(-3, 2, 0, 1, -4))
        store.credit("req_1.2", Saved(-10))
        first, second = await all_rows(store)
        assert [getattr(first, f"saved_{lever}") for lever in LEVERS] == [-3, 2, 0, 1, -4]
        assert (second.saved_routing, second.saved_shadow, second.cost_nanousd) == (-10, 0, 100)
        assert (await store.usage(*ALWAYS)).total.saved_nanousd == -14

    async def test_a_credit_of_what_is_not_settled_changes_nothing(self, store):
        store.begin(attempt())
        store.credit("req_1.1", Saved(-3))
        store.credit("nobody.1", Saved(-3))
        (row,) = await all_rows(store)
        assert (row.status, row.saved_routing) == ("open", None)

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

    async def test_one_exchange_is_not_taken_for_another_that_begins_like_it(self, store):
        for exchange in ("req", "req_1", "req_11", "req_1.1"):
            book(store, attempt(1, exchange), outcome())
        assert [a.id for a in (await store.exchange("req_1")).attempts] == ["req_1.1"]
        assert [a.id for a in (await store.exchange("req_1.1")).attempts] == ["req_1.1.1"]

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


class TestExport:
    async def test_a_row_per_attempt_with_money_as_digits(self, store):
        book(store, attempt(1, key="team-a"), outcome(450_000, saved=Saved(-1, 0, 0, 0)))
        book(store, attempt(2), outcome(None))
        lines = [line async for line in csv_lines(store.rows(*ALWAYS))]
        first, second = list(csv.DictReader(io.StringIO("".join(lines))))
        assert (first["id"], first["time"], first["key"]) == (
            "req_1.1",
            "2024-10-04T12:00:00.000000Z",
            "team-a",
        )
        assert (first["cost_usd"], first["saved_routing_usd"], first["reserved_usd"]) == (
            "0.00045",
            "-0.000000001",
            "0.0009",
        )
        assert (second["cost_usd"], second["saved_routing_usd"]) == ("", "")

    async def test_a_text_that_a_spreadsheet_would_run_is_defused(self, store):
        book(store, attempt(1, alias="=HYPERLINK(1)", model='a"b,c\n', step="@x"), outcome())
        lines = [line async for line in csv_lines(store.rows(*ALWAYS))]
        (row,) = csv.DictReader(io.StringIO("".join(lines), newline=""))
        assert (row["alias"], row["model"], row["step"]) == ("'=HYPERLINK(1)", 'a"b,c\n', "'@x")


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


async def test_a_note_that_is_added_stays_as_it_was_first(store):
    assert await store.add_note("said/a", 1)
    assert not await store.add_note("said/a", 2)
    assert await store.note("said/a") == 1


async def test_notes_are_listed_by_how_their_names_begin(store):
    for name in ("routing/1/a", "routing/1/b", "routing/2/a", "routinh", "routing", "é"):
        await store.put_note(name, {"of": name})
    assert list(await store.notes("routing/")) == ["routing/1/a", "routing/1/b", "routing/2/a"]
    assert await store.notes("routing/1/") == {n: {"of": n} for n in ("routing/1/a", "routing/1/b")}
    assert list(await store.notes("routing/", limit=2)) == ["routing/1/a", "routing/1/b"]


class LedgerMachine(RuleBasedStateMachine):
    """A store on a disk, closed or killed and opened again at will, tells the same as the one in memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        self.disk = SqliteStore(Path(tempfile.mkdtemp(dir=folder)) / "t.db", interval_s=0.2)
        self.plain = MemoryStore()

    exchanges = st.sampled_from(["a", "b", "c"])
    numbers = st.integers(1, 4)
    times = st.integers(0, 5).map(lambda n: n * DAY_NS // 2)
    labels = st.sampled_from(["x", "y", None])

    @rule(exchange=exchanges, number=numbers, ts_ns=times, key=labels, alias=st.sampled_from(["m", "n"]))
    def begin(self, exchange: str, number: int, ts_ns: int, key: str | None, alias: str) -> None:
        made = attempt(number, exchange, ts_ns=ts_ns, key=key, alias=alias)
        self.disk.begin(made)
        self.plain.begin(made)

    @rule(
        exchange=exchanges,
        number=numbers,
        cost=st.none() | st.integers(-5, 5),
        saved=st.none() | st.builds(Saved, st.integers(-5, 5), st.integers(-5, 5)),
        purpose=st.sampled_from([None, "cancelled"]),
    )
    def settle(self, exchange: str, number: int, cost: int | None, saved: Saved | None, purpose: Any) -> None:
        done, name = outcome(cost, saved=saved, purpose=purpose), f"{exchange}.{number}"
        row = self.plain._rows.get(name)
        if row is None:
            return  # nobody settles what was not begun: within one batch the order would not matter
        self.disk.settle(name, done)
        if row.status == "unsettled":  # who comes back to it may still say what it was
            self.plain._rows[name] = replace(row, status="open")
        self.plain.settle(name, done)

    @rule(exchange=exchanges, number=numbers, saved=st.builds(Saved, *[st.integers(-5, 5)] * len(LEVERS)))
    def credit(self, exchange: str, number: int, saved: Saved) -> None:
        name = f"{exchange}.{number}"
        if (row := self.plain._rows.get(name)) is not None and row.status != "open":
            self.disk.credit(name, saved)
            self.plain.credit(name, saved)

    @rule()
    def closed_and_opened(self) -> None:
        self.loop.run_until_complete(self.disk.close())
        self._open(self.disk.path)

    @rule()
    def killed_and_opened(self) -> None:
        """What the system has of a process that ends now: the files, while nothing writes to them."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        assert self.disk.sync()
        with contextlib.closing(sqlite3.connect(self.disk.path, timeout=10, isolation_level=None)) as pause:
            pause.execute("BEGIN IMMEDIATE")
            for path in self.disk.path.parent.iterdir():
                if not path.name.endswith("-shm"):
                    shutil.copy(path, folder)
            pause.execute("ROLLBACK")
        self.loop.run_until_complete(self.disk.close())
        self._open(folder / "t.db")

    def _open(self, path: Path) -> None:
        """What was under way when the store ended is unsettled."""
        self.disk = SqliteStore(path, interval_s=0.2)  # long enough that a kill finds what is not written
        rows = self.plain._rows
        begun = [row for row in rows.values() if row.status == "open"]
        assert self.disk.unsettled_at_start == len(begun)
        for row in begun:
            rows[row.id] = replace(row, status="unsettled")
        self.same_recent()

    @property
    def unsettled(self) -> bool:
        """The store in memory has no sums of what a process left behind: it leaves nothing."""
        return any(row.status == "unsettled" for row in self.plain._rows.values())

    @rule()
    def flush(self) -> None:
        self.loop.run_until_complete(self.disk.flush())

    @rule(by=st.lists(st.sampled_from(GROUPS)), start=times, end=times)
    def same_usage(self, by: list[Any], start: int, end: int) -> None:
        if self.unsettled:
            return
        ours = self.loop.run_until_complete(self.disk.usage(start, end, by))
        assert ours == self.loop.run_until_complete(self.plain.usage(start, end, by))

    @rule(scope=st.sampled_from(["key", "route", "run"]), name=st.sampled_from(["x", "invoice"]), start=times)
    def same_spent(self, scope: Any, name: str, start: int) -> None:
        if self.unsettled:
            return
        ours = self.loop.run_until_complete(self.disk.spent(scope, name, start, 2**62))
        assert ours == self.loop.run_until_complete(self.plain.spent(scope, name, start, 2**62))

    @rule()
    def same_recent(self) -> None:
        ours = self.loop.run_until_complete(self.disk.recent(2))
        assert ours == self.loop.run_until_complete(self.plain.recent(2))

    def teardown(self) -> None:
        self.same_recent()
        self.loop.run_until_complete(self.disk.close())
        self.loop.close()


def test_the_disk_tells_the_same_as_memory(tmp_path):
    run_state_machine_as_test(
        lambda: LedgerMachine(tmp_path),
        settings=settings(
            max_examples=15,
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
