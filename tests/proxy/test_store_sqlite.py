"""What only a store on a disk can get wrong: restarts, kills, two processes, disks that refuse."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from proxy.stores import open_store
from proxy.stores.base import (
    Row,
    StoreFailed,
    StoreFull,
)
from proxy.stores.sqlite import SqliteStore, connect
from proxy.stores.tables import MIGRATIONS
from tests.proxy.ledger_rows import ALWAYS, all_rows, attempt, book, outcome


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
            assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
            columns = {row[1] for row in connection.execute("PRAGMA table_info(attempts)")}
        connection.close()
        assert columns == {field.name for field in fields(Row)} | {"seq", "owner"}

    async def test_rows_of_every_older_version_are_read_with_what_it_did_not_know_empty(self, tmp_path):
        for version in range(1, len(MIGRATIONS)):
            file = tmp_path / f"{version}.db"
            with sqlite3.connect(file) as connection:
                for script in MIGRATIONS[:version]:
                    connection.executescript(script)
                connection.execute(f"PRAGMA user_version = {version}")
                connection.execute(
                    "INSERT INTO attempts (id, exchange, ts_ns, route, alias, model, provider, number, purpose, stream,"
                    " owner, status, cost_nanousd) VALUES ('req_1.1', 'req_1', 1, 'r', 'a', 'm', 'p', 1, 'answer', 0, 'o', 'ok', 7)"
                )
            connection.close()
            store = SqliteStore(file)
            book(store, attempt(exchange="req_2"), outcome(expected_trimming=-9))
            rows = {row.exchange: row for row in await all_rows(store)}
            await store.close()
            assert (rows["req_1"].cost_nanousd, rows["req_1"].expected_trimming) == (7, None)
            assert rows["req_2"].expected_trimming == -9

    async def test_a_backlog_of_many_batches_is_written_without_a_pause(self, tmp_path):
        store = SqliteStore(tmp_path / "t.db", interval_s=60)
        for number in range(12_000):
            store.begin(attempt(number))
        async with asyncio.timeout(10):
            await store.flush()
            await store.close()


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
        again = SqliteStore(tmp_path / "t.db")  # the journal has what the ledger could not take
        assert [(row.number, row.status) for row in await all_rows(again)] == [(1, "ok"), (2, "ok")]
        await again.close()
        assert {path.name for path in tmp_path.iterdir()} == {"t.db"}

    async def test_intents_are_refused_when_too_many_rows_wait_and_outcomes_never(self, tmp_path):
        disk = Disk()
        store = SqliteStore(tmp_path / "t.db", open_connection=disk, interval_s=0.001, max_waiting=10)
        disk.commit_error = refusal(sqlite3.SQLITE_READONLY, "SQLITE_READONLY")
        taken = 0
        with pytest.raises(StoreFull, match="10 rows wait"):
            for number in range(40):  # some may be in the writer's hand when the next one comes
                store.begin(attempt(number))
                taken = number + 1
        for number in range(taken):
            store.settle(f"req_1.{number}", outcome(1))
        await until(lambda: "READONLY" in (store.failed or ""))
        disk.commit_error = None
        await store.flush()
        store.begin(attempt(99))
        assert (await store.usage(*ALWAYS)).total.cost_nanousd == taken
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
    life, interval_s = sys.argv[1], float(sys.argv[2])
    store = SqliteStore(Path({path!r}), interval_s=interval_s)
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
        assert store.sync()
        print(number, flush=True)
        await asyncio.sleep(0)

asyncio.run(main())
"""


def test_twenty_kills_lose_nothing_that_was_synced_and_double_nothing(tmp_path):
    path = tmp_path / "t.db"
    script = tmp_path / "victim.py"
    script.write_text(_VICTIM.format(root=str(Path(__file__).parents[2]), path=str(path)))
    acknowledged: dict[str, int] = {}
    dice = random.Random(4)
    for turn in range(20):
        life = f"life{turn}"
        interval_s = ("0.001", "0.01", "60")[turn % 3]  # every commit, some, none at all
        child = subprocess.Popen(
            [sys.executable, str(script), life, interval_s], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        last = int(child.stdout.readline())
        time.sleep(dice.random() * 0.04)
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
            if number % 3 != 0 or number + 30 <= last:
                assert (row.status, row.cost_nanousd) == ("ok", 1)
            else:
                assert row.status in {"unsettled", "ok"}
    assert {row.status for row in rows} == {"ok", "unsettled"}
    assert not list(tmp_path.glob("*-owner-*"))


def test_workers_that_make_the_file_together_all_get_it(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    from proxy.stores.sqlite import connect

    for n in range(10):
        with ThreadPoolExecutor(8) as pool:
            for connection in pool.map(lambda _, n=n: connect(tmp_path / f"{n}.db"), range(8)):
                assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
                connection.close()
