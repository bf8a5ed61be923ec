"""`/healthz`, `/readyz`, `/metrics`: for those who run the proxy."""

import asyncio
import time

import orjson

from policies.limits import BudgetMeter, BudgetRule
from proxy import serving
from proxy.services import Services
from proxy.stores.base import StoreError
from proxy.wire.errors import JSON

MAX_BUDGETS = 1_000
"""Budgets that metrics show; the ledger knows of all."""


def healthz() -> serving.Response:
    """The process is alive."""
    return serving.Response(body=b'{"status":"ok"}', headers={"content-type": JSON})


def readyz(services: Services) -> serving.Response:
    """200 while requests may be sent here, else 503 with the reasons."""
    reasons = []
    if services.draining:
        reasons.append("draining: the proxy is shutting down")
    if services.store.failed is not None:
        reasons.append(f"store: {services.store.failed}")
    body = {"status": "unavailable" if reasons else "ready", "reasons": reasons}
    return serving.Response(
        status=503 if reasons else 200, body=orjson.dumps(body), headers={"content-type": JSON}
    )


async def metrics(services: Services) -> serving.Response:
    """Prometheus' text format. Written in a thread: with many models it takes longer than a request may wait."""
    now_ns = time.time_ns()
    services.telemetry.budgets(await meters(services, now_ns), now_ns)
    kind = "text/plain; version=0.0.4; charset=utf-8"
    body = await asyncio.to_thread(services.telemetry.render)
    return serving.Response(body=body, headers={"content-type": kind})


async def meters(services: Services, now_ns: int) -> list[tuple[BudgetRule, BudgetMeter]]:
    """How far each budget of a key or route is spent; those that cannot be read now are left out."""
    try:
        return [(rule, await services.limiter.meter(rule, now_ns)) for rule in budget_rules(services)]
    except StoreError:
        return []


def budget_rules(services: Services) -> list[BudgetRule]:
    """The budgets of keys and routes. Those of runs are named by clients, and no metric may be."""
    ready = services.ready
    rules = [
        BudgetRule("key", k.name, k.budget.nanousd, k.budget.per)
        for k in (ready.keys or {}).values()
        if k.budget
    ]
    rules += [
        BudgetRule("route", r.name, r.budget.nanousd, r.budget.per) for r in ready.routes.values() if r.budget
    ]
    return rules[:MAX_BUDGETS]
