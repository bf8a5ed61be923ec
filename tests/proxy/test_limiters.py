"""One contract for every limiter; those of several workers share their meters."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from policies.chat import Usage
from policies.limits import BudgetMeter, BudgetRule, Claim, Granted, RateRule, Refused
from proxy.stores import open_limiter, open_store
from proxy.stores.base import Attempt, Outcome, StoreFailed
from proxy.stores.limiter import Limiter, MemoryLimiter
from proxy.stores.memory import MemoryStore
from proxy.stores.sqlite import SqliteStore
from proxy.stores.sqlite_limiter import SqliteLimiter

SECOND = 1_000_000_000
NOW = 1_795_000_000 * SECOND
DAILY = BudgetRule("key", "team-a", 100)
RATE = RateRule("key", "team-a", "requests", 3)


def book(store, cost: int | None, number: int = 1, ts_ns: int = NOW) -> None:
    made = Attempt(
        f"x.{number}", "x", ts_ns, "r", "a", "m", "p", key="team-a", run="run-1", reserved_nanousd=7
    )
    store.begin(made)
    if cost is not None:
        store.settle(made.id, Outcome("ok", Usage(1, 1), cost))


@pytest.fixture(params=["memory", "memory-on-sqlite", "sqlite"])
async def ledger_and_limiter(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "t.db", interval_s=0.001)
    limiter: Limiter = SqliteLimiter(store) if request.param == "sqlite" else MemoryLimiter(store)
    yield store, limiter
    await limiter.close()
    await store.close()


@pytest.fixture
def limiter(ledger_and_limiter):
    return ledger_and_limiter[1]


async def test_sixty_four_parallel_calls_against_a_budget_for_ten_let_ten_through(limiter):
    found = await asyncio.gather(*(limiter.reserve([DAILY], Claim(10), NOW) for _ in range(64)))
    assert sum(isinstance(answer, Granted) for answer in found) == 10
    assert await limiter.meter(DAILY, NOW) == BudgetMeter(
        (NOW // (86_400 * SECOND)) * 86_400 * SECOND, 0, 100
    )


async def test_a_settled_call_leaves_what_it_did_not_cost(limiter):
    granted = await limiter.reserve([DAILY], Claim(100), NOW)
    limiter.settle(granted, 30, 0)
    assert isinstance(await limiter.reserve([DAILY], Claim(70), NOW), Granted)
    assert (await limiter.reserve([DAILY], Claim(1), NOW)).reason == "held"


async def test_rates_count_across_calls(limiter):
    found = [await limiter.reserve([RATE], Claim(None), NOW) for _ in range(4)]
    assert [isinstance(answer, Granted) for answer in found] == [True, True, True, False]
    assert isinstance(await limiter.reserve([RATE], Claim(None), NOW + 20 * SECOND), Granted)


async def test_tokens_are_corrected_when_a_call_ends(limiter):
    rule = RateRule("key", "team-a", "tokens", 100)
    granted = await limiter.reserve([rule], Claim(None, tokens=100), NOW)
    limiter.settle(granted, None, 40)
    assert isinstance(await limiter.reserve([rule], Claim(None, tokens=60), NOW), Granted)
    assert (await limiter.reserve([rule], Claim(None, tokens=1), NOW)).reason == "tokens"


async def test_what_the_ledger_holds_of_this_period_is_spent(ledger_and_limiter):
    store, limiter = ledger_and_limiter
    book(store, 60)
    book(store, 1000, number=2, ts_ns=NOW - 2 * 86_400 * SECOND)
    assert (await limiter.reserve([DAILY], Claim(41), NOW)).reason == "spent"
    assert isinstance(await limiter.reserve([DAILY], Claim(40), NOW), Granted)
    run = BudgetRule("run", "run-1", 1060, "total")
    assert (await limiter.reserve([run], Claim(1), NOW)).reason == "spent"


async def test_many_first_calls_at_once_do_not_count_the_ledger_twice(ledger_and_limiter):
    store, limiter = ledger_and_limiter
    book(store, 50)
    found = await asyncio.gather(*(limiter.reserve([DAILY], Claim(10), NOW) for _ in range(20)))
    assert sum(isinstance(answer, Granted) for answer in found) == 5


async def test_a_new_day_begins_with_nothing_spent(limiter):
    limiter.settle(await limiter.reserve([DAILY], Claim(100), NOW), 100, 0)
    assert isinstance(await limiter.reserve([DAILY], Claim(1), NOW), Refused)
    tomorrow = NOW + 86_400 * SECOND
    assert isinstance(await limiter.reserve([DAILY], Claim(100), tomorrow), Granted)
    assert (await limiter.meter(DAILY, tomorrow)).held == 100


@pytest.mark.parametrize("turns", range(4))
async def test_a_reservation_that_nobody_waits_for_any_more_holds_nothing(limiter, turns):
    await limiter.meter(DAILY, NOW)
    task = asyncio.get_running_loop().create_task(limiter.reserve([DAILY], Claim(100), NOW))
    for _ in range(turns):
        await asyncio.sleep(0)
    if task.cancel():
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.02)
        assert (await limiter.meter(DAILY, NOW)).held == 0
    else:
        assert isinstance(task.result(), Granted)


async def test_a_limiter_closes_twice(limiter):
    await limiter.close()
    await limiter.close()


async def test_names_that_clients_made_up_are_forgotten_and_found_again():
    store = MemoryStore()
    limiter = MemoryLimiter(store, max_meters=10)
    book(store, 5)
    kept = await limiter.reserve([BudgetRule("run", "held", 10)], Claim(4), NOW)
    for number in range(100):
        rules = [BudgetRule("run", f"r{number}", 10), RateRule("run", f"r{number}", "requests", 10)]
        limiter.settle(await limiter.reserve(rules, Claim(1), NOW + number * 60 * SECOND), 0, 0)
    assert len(limiter._budgets) <= 12
    assert len(limiter._rates) <= 12
    assert (await limiter.meter(BudgetRule("run", "held", 10), NOW)).held == 4
    assert (await limiter.meter(BudgetRule("run", "run-1", 10), NOW)).spent == 5
    limiter.settle(kept, 4, 0)


class TestSharedMeters:
    async def test_two_workers_share_one_budget(self, tmp_path):
        stores = [SqliteStore(tmp_path / "t.db") for _ in range(2)]
        limiters = [SqliteLimiter(store) for store in stores]
        calls = (limiters[n % 2].reserve([DAILY], Claim(10), NOW) for n in range(64))
        found = await asyncio.gather(*calls)
        assert sum(isinstance(answer, Granted) for answer in found) == 10
        for n, answer in enumerate(found):
            if isinstance(answer, Granted):
                limiters[n % 2].settle(answer, 7, 0)
        # The second worker is asked first: how many of the first's calls it sees settled is a matter of time.
        early = await limiters[1].meter(DAILY, NOW)
        assert 70 <= early.spent + early.held <= 100
        late = [await limiter.meter(DAILY, NOW) for limiter in limiters]
        assert [(meter.spent, meter.held) for meter in late] == [(70, 0), (70, 0)]
        for limiter, store in zip(limiters, stores, strict=True):
            await limiter.close()
            await store.close()

    async def test_the_first_worker_of_a_start_believes_the_ledger_alone(self, tmp_path):
        store = SqliteStore(tmp_path / "t.db")
        limiter = SqliteLimiter(store)
        limiter.settle(await limiter.reserve([DAILY], Claim(100), NOW), 100, 0)
        await limiter.close()
        await store.close()
        store = SqliteStore(tmp_path / "t.db")
        limiter = SqliteLimiter(store)
        assert (await limiter.meter(DAILY, NOW)).spent == 0
        await limiter.close()
        await store.close()

    async def test_a_broken_file_is_told(self, tmp_path):
        (tmp_path / "t.db-limits").mkdir()
        store = SqliteStore(tmp_path / "t.db")
        with pytest.raises(StoreFailed, match=r"t\.db-limits"):
            SqliteLimiter(store)
        await store.close()


async def test_meters_are_shared_only_where_there_are_workers_to_share_them(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/t.db")
    alone, shared = open_limiter(store), open_limiter(store, workers=2)
    assert isinstance(alone, MemoryLimiter)
    assert isinstance(shared, SqliteLimiter)
    assert isinstance(open_limiter(open_store("memory:"), workers=2), MemoryLimiter)
    await shared.close()
    await store.close()


class LimiterMachine(RuleBasedStateMachine):
    """Two workers on one file answer as one process with one memory does."""

    RULES = (
        BudgetRule("key", "a", 50),
        BudgetRule("route", "r", 30, "hour"),
        RateRule("key", "a", "tokens", 60),
        RateRule("key", "b", "requests", 4),
    )

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        path = Path(tempfile.mkdtemp(dir=folder)) / "t.db"
        self.stores = [SqliteStore(path), SqliteStore(path)]
        self.shared = [SqliteLimiter(store) for store in self.stores]
        self.plain = MemoryLimiter(MemoryStore())
        self.now = NOW
        self.running: list[tuple[int, Granted, Granted]] = []

    @rule(seconds=st.integers(0, 2000))
    def wait(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @rule(
        worker=st.integers(0, 1),
        rules=st.sets(st.sampled_from(RULES)),
        nanousd=st.none() | st.integers(0, 40),
        least=st.none() | st.integers(0, 5),
        tokens=st.integers(0, 40),
    )
    def start(self, worker, rules, nanousd, least, tokens) -> None:
        call = (sorted(rules, key=self.RULES.index), Claim(nanousd, tokens, least), self.now)
        ours = self.loop.run_until_complete(self.shared[worker].reserve(*call))
        plain = self.loop.run_until_complete(self.plain.reserve(*call))
        assert ours == plain
        if isinstance(ours, Granted):
            self.running.append((worker, ours, plain))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 9), nanousd=st.none() | st.integers(0, 40), tokens=st.integers(0, 60))
    def end(self, which: int, nanousd: int | None, tokens: int) -> None:
        worker, ours, plain = self.running.pop(which % len(self.running))
        self.shared[worker].settle(ours, nanousd, tokens)
        self.plain.settle(plain, nanousd, tokens)
        self.loop.run_until_complete(self.shared[worker].meter(self.RULES[0], self.now))  # it is written now

    @invariant()
    def same_meters(self) -> None:
        for budget in self.RULES[:2]:
            ours = self.loop.run_until_complete(self.shared[0].meter(budget, self.now))
            assert ours == self.loop.run_until_complete(self.plain.meter(budget, self.now))

    def teardown(self) -> None:
        for limiter, store in zip(self.shared, self.stores, strict=True):
            self.loop.run_until_complete(limiter.close())
            self.loop.run_until_complete(store.close())
        self.loop.close()


def test_workers_with_shared_meters_answer_as_one(tmp_path):
    run_state_machine_as_test(
        lambda: LimiterMachine(tmp_path),
        settings=settings(
            max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


_WORKER = """
import asyncio, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from policies.limits import BudgetRule, Claim, Granted
from proxy.stores.sqlite import SqliteStore
from proxy.stores.sqlite_limiter import SqliteLimiter

async def main():
    store = SqliteStore(Path({path!r}))
    limiter = SqliteLimiter(store)
    rule = BudgetRule("key", "team-a", {budget})
    passed = 0
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(40):
        granted = await limiter.reserve([rule], Claim(10), {now})
        if isinstance(granted, Granted):
            passed += 1
            if {settle}:
                limiter.settle(granted, 10, 0)
    print(passed, flush=True)
    sys.stdin.readline()
    await limiter.close()
    await store.close()

asyncio.run(main())
"""


def workers(tmp_path: Path, count: int, budget: int, *, settle: bool) -> list[subprocess.Popen[str]]:
    script = tmp_path / "worker.py"
    script.write_text(
        _WORKER.format(
            root=str(Path(__file__).parents[2]),
            path=str(tmp_path / "t.db"),
            budget=budget,
            now=NOW,
            settle=settle,
        )
    )
    started = [
        subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]
    for child in started:
        assert child.stdout.readline() == "ready\n"
    return started


def end(child: subprocess.Popen[str]) -> None:
    child.communicate("\n", timeout=10)


def test_three_processes_together_let_through_what_the_budget_holds(tmp_path):
    started = workers(tmp_path, 3, budget=505, settle=True)
    for child in started:
        child.stdin.write("\n")
        child.stdin.flush()
    passed = [int(child.stdout.readline()) for child in started]
    for child in started:
        end(child)
    assert sum(passed) == 50


def test_what_a_killed_worker_held_is_spent_when_the_next_one_comes(tmp_path):
    (victim,) = workers(tmp_path, 1, budget=10_000, settle=False)

    async def look() -> BudgetMeter:
        store = SqliteStore(tmp_path / "t.db")
        limiter = SqliteLimiter(store)
        try:
            return await limiter.meter(DAILY, NOW)
        finally:
            await limiter.close()
            await store.close()

    (other,) = workers(tmp_path, 1, budget=10_000, settle=False)
    victim.stdin.write("\n")
    victim.stdin.flush()
    assert victim.stdout.readline() == "40\n"
    before = asyncio.run(look())
    assert (before.spent, before.held) == (0, 400)
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate(timeout=10)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        after = asyncio.run(look())
        if after.held == 0:
            break
    assert (after.spent, after.held) == (400, 0)
    other.stdin.write("\n")
    end(other)
