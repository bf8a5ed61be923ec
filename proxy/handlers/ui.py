"""`GET /ui`, the page for whoever runs the proxy, and `GET /ui/data`, what it shows.

The page is one file without anything from elsewhere; it holds no data and is given to everybody. The data is for
administrators, and comes from the ledger and the counters: prompts and answers are in neither.
"""

import asyncio
import base64
import hashlib
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from policies.cards import ModelCard
from policies.limits import period_bounds
from policies.money import usd_text
from policies.route import Route
from policies.saved import LEVERS
from proxy import serving
from proxy.edges import Visit, admin_only
from proxy.handlers.again import PROVIDER as CACHE
from proxy.handlers.operations import meters
from proxy.handlers.usage import DAY_NS, figures_of
from proxy.services import Services
from proxy.stores.base import Exchange, Row
from proxy.wire.errors import JSON

PAGE = (Path(__file__).parents[1] / "ui" / "page.html").read_bytes()
RECENT = 50
DAYS = 14
FRESH_S = 1.0
"""However many pages are open, the ledger is asked once in this time;"""
HISTORY_FRESH_S = 60.0
"""and for what past days came to once in this."""
BESIDES = frozenset({"summary", "route"})
"""Purposes of calls that no client waited for."""
SHOWN_TEXT = 120
"""Characters of a name that a client chose (run, step, model)."""


def _hash_of(tag: str) -> str:
    """The source expression of a policy that lets exactly our own inline `tag` be used."""
    found = re.search(rf"<{tag}>(.*?)</{tag}>".encode(), PAGE, re.DOTALL)
    assert found is not None, f"the page has no <{tag}>"
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1]).digest()).decode()}'"


HEADERS = (
    ("content-type", "text/html; charset=utf-8"),
    (
        "content-security-policy",
        (
            f"default-src 'none'; script-src {_hash_of('script')}; style-src {_hash_of('style')}; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cache-control", "no-cache"),
)


def page() -> serving.Response:
    """The page itself."""
    return serving.Response(body=PAGE, headers=HEADERS)


class Overview:
    """What all open pages of an app are shown, made at most once a second."""

    def __init__(self) -> None:
        self._making = asyncio.Lock()
        self._made_s = float("-inf")
        self._body = b""
        self._history_s = float("-inf")
        self._history: list[dict[str, Any]] = []

    async def body(self, services: Services) -> bytes:
        """JSON, at most `FRESH_S` old."""
        async with self._making:
            if time.monotonic() - self._made_s > FRESH_S:
                self._body = orjson.dumps(await self._gathered(services))
                self._made_s = time.monotonic()
            return self._body

    async def _gathered(self, services: Services) -> dict[str, Any]:
        now_ns = time.time_ns()
        today_ns, _ = period_bounds("day", now_ns)
        report = await services.store.usage(today_ns, now_ns + 1, ("route",))
        by_route = {of["route"]: figures_of(figures) for of, figures in report.rows}
        answers = await asyncio.to_thread(services.telemetry.answers_by_route)
        return {
            "now_ms": now_ns // 10**6,
            "open": services.ready.keys is None,
            "in_flight": services.in_work - 1,
            "store_failed": services.store.failed,
            "today": figures_of(report.total),
            "days": await self._days(services, today_ns, now_ns),
            "routes": [
                _route(services, route, by_route.get(name), answers.get(name, {}))
                for name, route in services.ready.routes.items()
                if route.ladder or name in by_route
            ],
            "budgets": [
                {
                    "scope": rule.scope,
                    "name": rule.name,
                    "per": rule.per,
                    "limit_usd": usd_text(rule.nanousd),
                    "spent_usd": usd_text(meter.spent),
                }
                for rule, meter in await meters(services, now_ns)
            ],
            "recent": [_exchange(exchange) for exchange in await services.store.recent(RECENT)],
        }

    async def _days(self, services: Services, today_ns: int, now_ns: int) -> list[dict[str, Any]]:
        if time.monotonic() - self._history_s > HISTORY_FRESH_S:
            report = await services.store.usage(today_ns - (DAYS - 1) * DAY_NS, now_ns + 1, ("day",))
            self._history = [dict(of) | dict(figures_of(figures)) for of, figures in report.rows]
            self._history_s = time.monotonic()
        return self._history


async def data(overview: Overview, services: Services, visit: Visit) -> serving.Response:
    """What the page shows. Raises ApiError (403)."""
    admin_only(visit)
    body = await overview.body(services)
    headers = {"content-type": JSON, "cache-control": "no-store", "x-content-type-options": "nosniff"}
    return serving.Response(body=body, headers=headers)


def _route(
    services: Services, route: Route, figures: Mapping[str, Any] | None, answers: Mapping[str, float]
) -> dict[str, Any]:
    snapshot = services.ready.snapshot
    bound, _ = services.bindings.get(route.name, (route.schema, None))
    return {
        "name": route.name,
        "ladder": [_model(alias, snapshot.card_for(alias)) for alias in route.ladder],
        "schema": bound,
        "stream": route.stream,
        "context": route.context.policy,
        "figures": figures,
        "answers": answers,
    }


def _model(alias: str, card: ModelCard | None) -> dict[str, Any]:
    priced = card is not None and card.price is not None
    return {"alias": alias, "provider": card.provider if card else None, "priced": priced}


def _exchange(exchange: Exchange) -> dict[str, Any]:
    rows = exchange.attempts
    first = rows[0]
    ended = [row.ts_ns / 1e6 + row.latency_ms for row in _answering(rows) if row.latency_ms is not None]
    levers = {lever: [getattr(row, f"saved_{lever}") for row in rows] for lever in LEVERS}
    by_lever = {
        lever: sum(known)
        for lever, amounts in levers.items()
        if (known := [a for a in amounts if a is not None])
    }
    costs = [row.cost_nanousd for row in rows if row.status != "open"]
    return {
        "id": exchange.id,
        "ts_ms": first.ts_ns // 10**6,
        "route": first.route,
        "key": first.key,
        "run": _cut(first.run),
        "step": _cut(first.step),
        "stream": first.stream,
        "outcome": outcome_of(rows),
        "cost_usd": None if None in costs else usd_text(sum(c for c in costs if c is not None)),
        "saved_usd": usd_text(sum(by_lever.values())) if by_lever else None,
        "saved_by": {name: usd_text(amount) for name, amount in by_lever.items() if amount},
        "ms": round(max(ended) - first.ts_ns / 1e6, 1) if ended else None,
        "attempts": [_attempt(row) for row in rows],
    }


def _answering(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The calls that the client waited for; shadows and summaries are made besides."""
    return tuple(row for row in rows if row.purpose not in BESIDES) or rows


def outcome_of(rows: tuple[Row, ...]) -> str:
    """What became of a request, in one word of the page's legend."""
    rows = _answering(rows)
    first, last = rows[0], rows[-1]
    if last.status == "open":
        return "running"
    if last.provider == CACHE:
        return "cached"
    if last.status != "ok":
        return "failed" if last.status == "failed" else last.status
    if last.verdict == "invalid":
        return "failed"
    if any(row.verdict == "invalid" for row in rows[:-1]):
        return "escalated" if last.alias != first.alias else "reasked"
    return last.verdict if last.verdict in ("valid", "repaired", "exempt") else "answered"


def _attempt(row: Row) -> dict[str, Any]:
    return {
        "number": row.number,
        "alias": row.alias,
        "model": _cut(row.model),
        "provider": row.provider,
        "purpose": row.purpose,
        "status": row.status,
        "verdict": row.verdict,
        "repairs": [name for name in row.repairs.split(",") if name],
        "failure": row.failure,
        "input_tokens": row.input_tokens,
        "cached_tokens": row.cached_tokens,
        "output_tokens": row.output_tokens,
        "reported": row.reported,
        "cost_usd": None if row.cost_nanousd is None else usd_text(row.cost_nanousd),
        "ms": row.latency_ms,
        "ttft_ms": row.ttft_ms,
    }


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:SHOWN_TEXT]
