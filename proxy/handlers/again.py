"""An answer that is given again from the route's kept ones: no model is asked, and the ledger says what that saved."""

import time

from policies.chat import Usage
from policies.money import usd_text
from policies.saved import saved_by_cache
from proxy import serving
from proxy.cache import Answer
from proxy.edges import Visit
from proxy.listener import HEADERS
from proxy.selection import Selected
from proxy.services import Services
from proxy.stores import base as stores
from proxy.wire.ask import Ask
from proxy.wire.errors import JSON
from proxy.wire.sse import DONE, frame

PROVIDER = "cache"
"""Stands in the ledger where no provider was asked."""


async def again(
    services: Services, visit: Visit, ask: Ask, selected: Selected, answer: Answer
) -> serving.Answer:
    """Deliver a kept answer; it costs nothing and is booked with what its call would have cost."""
    gain = saved_by_cache(answer.usage, selected.flagship.price)
    attempt_id = f"{visit.id}.1"
    services.store.begin(
        stores.Attempt(
            attempt_id,
            visit.id,
            time.time_ns(),
            selected.route.name,
            answer.card.alias,
            answer.card.name or answer.card.alias,
            PROVIDER,
            visit.key.name if visit.key else None,
            ask.controls.run,
            ask.controls.step,
            stream=answer.stream,
            reserved_nanousd=0,
        )
    )
    services.store.settle(attempt_id, stores.Outcome("ok", Usage(), 0, saved=gain))
    services.telemetry.cache_hit(selected.route.name, answer.card.alias, answer.schema, gain)
    headers = [
        ("x-request-id", visit.id),
        ("x-tailrace-request-id", visit.id),
        ("x-tailrace-route", selected.route.name),
        ("x-tailrace-model", answer.model),
        ("x-tailrace-attempts", "0"),
        ("x-tailrace-schema", answer.schema),
        ("x-tailrace-cost-usd", "0"),
        ("x-tailrace-saved-usd", "unpriced" if gain is None else usd_text(gain.total)),
        ("x-tailrace-cache", "hit"),
    ]
    if not answer.stream:
        return serving.Response(body=answer.body, headers=[("content-type", JSON), *headers])
    response = serving.StreamResponse(headers=[*HEADERS, *headers])
    await response.prepare(visit.request)
    await response.write(answer.body + frame(DONE))
    await response.write_eof()
    return response
