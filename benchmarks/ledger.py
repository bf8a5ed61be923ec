"""What the ledger costs: CPU of begin+settle on the event loop, of the writer thread, and commits to the disk.

    .venv/bin/python benchmarks/ledger.py [--rows 20000] [--rate 500] [--seconds 5] [--dir .]

The first table calls begin and settle as fast as they go (the loop's share). The second feeds `rate` attempts
a second, each settled 300 ms after it began as a short model call would be, and shows the CPU of the writer's
thread. The third is how long a single `flush` waits with `synchronous=FULL` and with NORMAL.
"""

import argparse
import asyncio
import sqlite3
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from policies.chat import Usage
from policies.limits import BudgetRule, Claim, RateRule
from policies.saved import Saved
from proxy.stores.base import Attempt, Outcome
from proxy.stores.limiter import MemoryLimiter
from proxy.stores.memory import MemoryStore
from proxy.stores.sqlite import SqliteStore, connect


def attempt(number: int) -> Attempt:
    return Attempt(
        id=f"req_{number:032x}.1",
        exchange=f"req_{number:032x}",
        ts_ns=time.time_ns(),
        route="invoice",
        alias="mini",
        model="gpt-4o-mini",
        provider="openai",
        key="team-a",
        number=1,
        reserved_nanousd=1_500_000,
    )


def outcome() -> Outcome:
    return Outcome(
        status="ok",
        usage=Usage(1200, 340, 512),
        cost_nanousd=345_600,
        saved=Saved(1_000, 200, 0, 0),
        verdict="valid",
        latency_ms=812.5,
        ttft_ms=231.0,
    )


async def burst(folder: Path, rows: int) -> None:
    # a long interval keeps the writer out of the measured part: what is left is the loop's own work
    store = SqliteStore(folder / "burst.db", interval_s=30, max_waiting=10**9)
    attempts = [attempt(n) for n in range(rows)]
    done = outcome()
    await asyncio.sleep(0.05)
    calls = time.thread_time_ns()
    for a in attempts:
        store.begin(a)
        store.settle(a.id, done)
    calls = time.thread_time_ns() - calls
    making = time.thread_time_ns()
    for n in range(rows):
        attempt(n)
        outcome()
    making = time.thread_time_ns() - making
    cpu, wall = time.process_time_ns(), time.perf_counter()
    await store.flush()
    cpu, wall = time.process_time_ns() - cpu, time.perf_counter() - wall
    await store.close()
    print(f"loop: begin+settle       {calls / rows / 1000:6.2f} CPU-us per attempt")
    print(
        f"loop: making both values {making / rows / 1000:6.2f} CPU-us per attempt (Usage and Saved included)"
    )
    print(
        f"writer: one pass, whole  {cpu / rows / 1000:6.2f} CPU-us per attempt, {rows / wall:,.0f} attempts/s"
    )


async def steady(folder: Path, rate: int, seconds: float, interval_s: float) -> None:
    ledger = SqliteStore(folder / f"steady-{interval_s}.db", interval_s=interval_s)
    pending: deque[tuple[float, str]] = deque()
    number = 0
    start = time.perf_counter()
    cpu, loop = time.process_time_ns(), time.thread_time_ns()
    while (now := time.perf_counter()) - start < seconds:
        while number < (now - start) * rate:
            a = attempt(number)
            done = outcome()
            number += 1
            pending.append((now + 0.3, a.id))
            ledger.begin(a)
        while pending and pending[0][0] <= now:
            _, attempt_id = pending.popleft()
            ledger.settle(attempt_id, done)
        await asyncio.sleep(0.001)
    await ledger.flush()
    cpu, loop = time.process_time_ns() - cpu, time.thread_time_ns() - loop
    await ledger.close()
    each = (cpu - loop) / number / 1000
    print(f"writer: {rate}/s, commit each {interval_s * 1000:3.0f} ms {each:6.1f} CPU-us per attempt")


def normal(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


async def commits(folder: Path, name: str, open_connection, count: int = 300) -> None:
    store = SqliteStore(folder / f"commit-{name}.db", open_connection=open_connection)
    waits = []
    for number in range(count):
        a = attempt(number)
        store.begin(a)
        store.settle(a.id, outcome())
        start = time.perf_counter()
        await store.flush()
        waits.append(time.perf_counter() - start)
    await store.close()
    waits.sort()
    print(
        f"flush of one attempt, {name:6}  p50 {waits[count // 2] * 1e3:.2f} ms, p99 {waits[int(count * 0.99)] * 1e3:.2f} ms"
    )


async def limits(count: int) -> None:
    store = MemoryStore()
    limiter = MemoryLimiter(store)
    rules = [
        BudgetRule("key", "team-a", 10**15),
        BudgetRule("route", "invoice", 10**15),
        RateRule("key", "team-a", "requests", 10**9),
        RateRule("key", "team-a", "tokens", 10**12),
    ]
    now_ns = time.time_ns()
    await limiter.reserve(rules, Claim(1), now_ns)
    cpu = time.thread_time_ns()
    for _ in range(count):
        granted = await limiter.reserve(rules, Claim(1_500_000, 5_000), now_ns)
        limiter.settle(granted, 345_600, 1_540)
    cpu = time.thread_time_ns() - cpu
    print(f"limiter: reserve+settle  {cpu / count / 1000:6.2f} CPU-us per attempt, two budgets and two rates")


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--dir", type=Path, default=Path(), help="a folder on the disk to be measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        folder = Path(name)
        await burst(folder, options.rows)
        await limits(options.rows)
        for interval_s in (0.005, 0.02, 0.05, 0.1, 0.25):
            await steady(folder, options.rate, options.seconds, interval_s)
        await commits(folder, "FULL", connect)
        await commits(folder, "NORMAL", normal)


if __name__ == "__main__":
    asyncio.run(main())
