"""What counting costs: CPU of all telemetry of one request beside the ledger's, and of one scrape.

    .venv/bin/python benchmarks/telemetry.py [--requests 20000] [--routes 10] [--models 6]

The first line is what `Telemetry` does for a plain request of one attempt; the second for one that was trimmed,
streamed, mended and saved something; the third what the event loop does for the ledger (making both values
included); the fourth all of the worse together. The last line is a scrape with every route and model in use.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.ledger import attempt as intent
from benchmarks.ledger import outcome
from policies.cards import ModelCard, Price
from policies.chat import Usage
from policies.contract import Verdict
from policies.ladder import Attempt
from policies.saved import Saved
from proxy.stores.sqlite import SqliteStore
from proxy.telemetry import Telemetry
from schemas.check import Change

CHANGES = tuple(Change(name, "lossless", (0, 0), "", "", "") for name in ("fence", "trailing_comma"))
PLAIN = Attempt(
    1, "mini", "answer", usage=Usage(1200, 340), cost_nanousd=345_600, ended_s=0.8, first_byte_s=0.2
)
MENDED = Attempt(
    1,
    "mini",
    "answer",
    verdict=Verdict("repaired", changes=CHANGES),
    usage=Usage(1200, 340, 512, 0, 100),
    cost_nanousd=345_600,
    ended_s=0.8,
    first_byte_s=0.2,
)


def request(
    telemetry: Telemetry, card: ModelCard, attempt: Attempt, *, route: str = "invoice", worse: bool
) -> None:
    telemetry.request_began("req_1")
    if worse:
        telemetry.trimmed(route, 4000, 1200)
    telemetry.attempt_ended("req_1", route, card, "chat/completions", attempt, 0.7)
    telemetry.exchange_ended(route, card.alias, "repaired", Saved(1000, 200) if worse else None)
    if worse:
        telemetry.stream_ended("req_1", route, time.monotonic())
    telemetry.request_ended("req_1", route, 200)


def cpu_us(requests: int, attempt: Attempt, *, worse: bool) -> float:
    telemetry, card = Telemetry(), ModelCard("mini", "openai", "gpt-4o-mini", Price(1, 1))
    best = float("inf")
    for _ in range(5):
        began = time.thread_time_ns()
        for _ in range(requests // 5):
            request(telemetry, card, attempt, worse=worse)
        best = min(best, (time.thread_time_ns() - began) / (requests // 5) / 1000)
    return best


async def ledger_us(folder: Path, requests: int) -> float:
    # a long interval keeps the writer's thread out of the measured part, as in benchmarks/ledger.py
    store = SqliteStore(folder / "ledger.db", interval_s=30, max_waiting=10**9)
    best = float("inf")
    for part in range(5):
        began = time.thread_time_ns()
        for n in range(requests // 5):
            made = intent(part * requests + n)
            store.begin(made)
            store.settle(made.id, outcome())
        best = min(best, (time.thread_time_ns() - began) / (requests // 5) / 1000)
    await store.close()
    return best


def scrape(routes: int, models: int) -> tuple[float, int]:
    telemetry = Telemetry()
    for model in range(models):
        card = ModelCard(f"model-{model}", "openai", f"gpt-{model}", Price(1, 1))
        for route in range(routes):
            request(telemetry, card, MENDED, route=f"route-{route}", worse=True)
    began = time.thread_time_ns()
    text = telemetry.render()
    return (time.thread_time_ns() - began) / 1e6, text.count(b"\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--routes", type=int, default=10)
    parser.add_argument("--models", type=int, default=6)
    given = parser.parse_args()
    plain = cpu_us(given.requests, PLAIN, worse=False)
    mended = cpu_us(given.requests, MENDED, worse=True)
    with tempfile.TemporaryDirectory() as folder:
        ledger = asyncio.run(ledger_us(Path(folder), given.requests))
    print(f"metrics, plain request              {plain:6.2f} CPU-us")
    print(f"metrics, streamed, mended, trimmed  {mended:6.2f} CPU-us")
    print(f"ledger on the event loop            {ledger:6.2f} CPU-us")
    print(f"all accounting of a request         {mended + ledger:6.2f} CPU-us")
    ms, lines = scrape(given.routes, given.models)
    print(
        f"one scrape, {given.routes} routes x {given.models} models: {lines} lines, {ms:.1f} CPU-ms in a thread"
    )


if __name__ == "__main__":
    main()
