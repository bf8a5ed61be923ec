import asyncio
import contextlib
import time

import pytest

from policies.chat import Failure, Reply, Usage
from policies.contract import Verdict
from policies.ladder import Attempt
from proxy.learning import MOST_STEPS, Learning, Taught
from proxy.stores.memory import MemoryStore
from proxy.stores.sqlite import SqliteStore

USAGE = Usage(100, 40)
NAMES = {"mini": "mini", "big": "big"}


def attempt(model, **rest):
    return Attempt(1, model, "answer", Reply((), USAGE), verdict=Verdict("valid"), usage=USAGE, **rest)


def taught(alias, step="*"):
    return Taught(None, "r", step, alias)


def test_the_model_whose_answer_was_kept_was_good_and_those_below_it_were_not():
    learning = Learning()
    learning.ended("req_1", taught("big"), [("mini", attempt("mini")), ("big", attempt("big"))])
    known = learning.of("r", NAMES)["*"]
    assert known["mini"].success < 0.5 < known["big"].success
    assert known["big"].n == 1


def test_two_that_agreed_were_both_good():
    learning = Learning()
    pair = [("mini", attempt("mini", set_aside="agreement")), ("big", attempt("big"))]
    learning.ended("req_1", taught("big"), pair)
    assert learning.of("r", NAMES)["*"]["mini"].success > 0.5


def test_a_call_without_a_reply_teaches_nothing():
    learning = Learning()
    down = Attempt(1, "mini", "answer", failure=Failure("connect", "x"))
    learning.ended("req_1", taught(""), [("mini", down)])
    assert not learning.of("r", NAMES)
    assert learning.about("req_1") is None


def test_steps_of_the_clients_choice_are_bounded():
    learning = Learning()
    for n in range(MOST_STEPS + 10):
        learning.ended(f"req_{n}", taught("mini", f"step {n}"), [("mini", attempt("mini"))])
    known = learning.of("r", NAMES)
    assert len(known) == MOST_STEPS + 1
    assert known["*"]["mini"].n == pytest.approx(10, abs=0.01)


@pytest.mark.parametrize("rows", [[["*", "mini"]], [["*", "mini", {"good": "x"}]], [7], "text", {"a": 1}])
async def test_notes_that_cannot_be_read_are_forgotten(rows):
    store, learning = MemoryStore(), Learning()
    await store.put_note("routing/r", rows)
    await learning.load(store)
    assert not learning.of("r", NAMES)


async def test_counts_are_written_down_and_read_again():
    store, learning, later = MemoryStore(), Learning(), Learning()
    learning.ended("req_1", taught("mini", "read"), [("mini", attempt("mini"))])
    learning.feedback(learning.about("req_1"), 0.25)
    await learning.save(store)
    await later.load(store)
    assert later.of("r", NAMES)["read"] == learning.of("r", NAMES)["read"]


@contextlib.asynccontextmanager
async def two_stores(path):
    """One file, opened twice, as by two workers."""
    stores = [SqliteStore(path / "ledger.db", interval_s=0.002) for _ in range(2)]
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()


def teach(learning, n=1, alias="mini", step="read", good=True):
    for _ in range(n):
        kept = alias if good else "big"
        learning.ended("req_1", taught(kept, step), [(alias, attempt(alias))])


async def test_workers_know_what_each_other_has_counted(tmp_path):
    async with two_stores(tmp_path) as (one_store, other_store):
        one, other = Learning(worker="8080.0"), Learning(worker="8080.1")
        await one.load(one_store)
        await other.load(other_store)
        teach(one, 3)
        teach(other, 5, good=False)
        for _ in range(2):  # each reads its own as well, and counts nothing twice
            await one.save(one_store)
            await other.save(other_store)
            await one.refresh(one_store)
            await other.refresh(other_store)
        alone = Learning()
        teach(alone, 3)
        teach(alone, 5, good=False)
        for learning in (one, other):
            known = learning.of("r", NAMES)["read"]["mini"]
            assert known.n == pytest.approx(8, abs=1e-3)
            assert known.success == pytest.approx(alone.of("r", NAMES)["read"]["mini"].success, abs=1e-4)
        teach(one, 2)
        assert one.of("r", NAMES)["read"]["mini"].n == pytest.approx(10, abs=1e-3)


async def test_a_restart_with_fewer_workers_forgets_nothing(tmp_path):
    async with two_stores(tmp_path) as (one_store, other_store):
        for worker, store in (("8080.0", one_store), ("8080.1", other_store)):
            learning = Learning(worker=worker)
            teach(learning, 4)
            await learning.save(store)
        later = Learning(worker="8080.0")
        await later.load(one_store)
        assert later.of("r", NAMES)["read"]["mini"].n == pytest.approx(8, abs=1e-3)
        teach(later, 1)
        await later.save(one_store)
        again = Learning(worker="8080.0")
        await again.load(other_store)
        assert again.of("r", NAMES)["read"]["mini"].n == pytest.approx(9, abs=1e-3)


async def test_what_is_counted_while_sums_are_made_is_not_lost(tmp_path):
    async with two_stores(tmp_path) as (store, _):
        learning = Learning()
        teach(learning, 50)
        await learning.save(store)
        refreshed = asyncio.create_task(learning.refresh(store))
        while not refreshed.done():
            teach(learning)
            await asyncio.sleep(0)
        counted = learning._own["r"]["read", "mini"].n
        assert learning.of("r", NAMES)["read"]["mini"].n == pytest.approx(counted)


async def test_what_a_version_without_workers_wrote_is_read():
    store, learning = MemoryStore(), Learning()
    counts = {"good": 3.0, "bad": 1.0, "calls": 4.0, "output_tokens": 9.0, "stamp_s": time.time()}
    await store.put_note("routing/r", [["read", "mini", counts]])
    await learning.load(store)
    assert learning.of("r", NAMES)["read"]["mini"].n == pytest.approx(4, abs=1e-3)


async def test_what_nobody_has_seen_for_months_is_forgotten():
    store, learning = MemoryStore(), Learning()
    counts = {"good": 3.0, "bad": 1.0, "calls": 4.0, "output_tokens": 9.0, "stamp_s": time.time() - 2e7}
    await store.put_note("routing/0/r", [["read", "mini", counts]])
    await learning.load(store)
    assert not learning.of("r", NAMES)


async def test_steps_of_many_workers_are_bounded():
    store, learning = MemoryStore(), Learning(worker="x")
    for worker in range(4):
        one = Learning(worker=str(worker))
        for n in range(MOST_STEPS):
            teach(one, step=f"{worker} {n}")
        await one.save(store)
    await learning.load(store)
    known = learning.of("r", NAMES)
    assert len(known) == MOST_STEPS + 1
    assert known["*"]["mini"].n == pytest.approx(3 * MOST_STEPS, rel=0.01)
