"""`GET /v1/usage`: the ledger's sums; with `format=csv` every attempt."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, get_args

import orjson

from policies.money import usd_text
from proxy import serving
from proxy.edges import Visit, admin_only
from proxy.services import Services
from proxy.stores.base import Figures, Group
from proxy.stores.export import csv_lines
from proxy.wire.errors import JSON, bad_request

GROUPS = get_args(Group)
DAY_NS = 86_400 * 10**9
_UNIX = re.compile(r"\d{1,12}(\.\d{1,9})?")


async def usage(services: Services, visit: Visit) -> serving.Answer:
    """Sums over attempts begun in [from, to), by default the last 30 days. Raises ApiError (400, 403)."""
    admin_only(visit)
    query = visit.request.query
    now = time.time_ns()
    since = _time(query.get("from"), now - 30 * DAY_NS, "from")
    until = _time(query.get("to"), now, "to")
    wanted = [name for name in query.get("by", "").split(",") if name]
    by = [name for name in GROUPS if name in wanted]
    unknown = [name for name in wanted if name not in GROUPS]
    if unknown:
        raise bad_request(f"'by' takes any of {', '.join(GROUPS)}, not '{unknown[0][:40]}'.", param="by")
    if query.get("format") == "csv":
        return await _csv(services, visit, since, until)
    report = await services.store.usage(since, until, by)
    body = {
        "object": "list",
        "data": [{**of, **figures_of(figures)} for of, figures in report.rows],
        "total": figures_of(report.total),
    }
    return serving.Response(body=orjson.dumps(body), headers={"content-type": JSON})


def figures_of(figures: Figures) -> Mapping[str, Any]:
    """Figures as the API gives them: money as decimal strings of US dollars."""
    return {
        "requests": figures.requests,
        "attempts": figures.attempts,
        "input_tokens": figures.input_tokens,
        "cached_tokens": figures.cached_tokens,
        "output_tokens": figures.output_tokens,
        "cost_usd": usd_text(figures.cost_nanousd),
        "saved_usd": usd_text(figures.saved_nanousd),
        "unpriced": figures.unpriced,
        "unsettled": figures.unsettled,
        "unsettled_usd": usd_text(figures.unsettled_nanousd),
    }


async def _csv(services: Services, visit: Visit, since: int, until: int) -> serving.Answer:
    name = 'attachment; filename="usage.csv"'
    response = serving.StreamResponse(
        headers={"content-type": "text/csv; charset=utf-8", "content-disposition": name}
    )
    await response.prepare(visit.request)
    async for line in csv_lines(services.store.rows(since, until)):
        await response.write(line.encode())
    await response.write_eof()
    return response


def _time(text: str | None, default: int, name: str) -> int:
    """A time as nanoseconds: Unix seconds, or a date or time of ISO 8601, UTC where it names no zone."""
    if text is None:
        return default
    if _UNIX.fullmatch(text):
        return int(float(text) * 10**9)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        message = f"'{name}' must be Unix seconds or a date like 2026-11-22 or 2026-11-22T10:00:00Z."
        raise bad_request(message, param=name) from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 10**9)
