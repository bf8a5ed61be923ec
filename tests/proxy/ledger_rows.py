"""Attempts and outcomes for tests of the ledger."""

from dataclasses import replace
from typing import Any

from policies.chat import Usage
from proxy.stores.base import Attempt, Outcome, Row, Store

DAY_NS = 86_400 * 1_000_000_000
NOON_NS = 20_000 * DAY_NS + DAY_NS // 2
ALWAYS = (0, 2**62)


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
    return replace(made, **facts)


def outcome(cost_nanousd: int | None = 450_000, **facts: Any) -> Outcome:
    return replace(Outcome(status="ok", usage=Usage(1000, 500, 200), cost_nanousd=cost_nanousd), **facts)


def book(store: Store, made: Attempt, done: Outcome) -> None:
    store.begin(made)
    store.settle(made.id, done)


async def all_rows(store: Store) -> list[Row]:
    return [row async for row in store.rows(*ALWAYS)]
