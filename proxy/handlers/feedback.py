"""`POST /v1/feedback`: a client says how good an answer was, and routes learn from it."""

import asyncio
import re
from typing import Any

import orjson

from proxy import serving
from proxy.aftermath import compares, learns
from proxy.edges import Visit, read_body
from proxy.learning import Taught
from proxy.outcomes import feedback_of
from proxy.services import Services
from proxy.wire.body import NotJson, read_json
from proxy.wire.errors import JSON, bad_request, not_found

MAX_BYTES = 64 * 1024
LATE_S = 0.5
"""After so long what another worker has booked is in the ledger."""
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_ANSWERS = frozenset({"answer", "retry", "reask", "patch", "escalate"})
"""Purposes of calls whose answers clients get; others are made besides."""


async def feedback(services: Services, visit: Visit) -> serving.Answer:
    """Count `score` (0 to 1) or `correct` (true or false) of one exchange. Raises ApiError (400, 404)."""
    body = await read_body(visit.request, MAX_BYTES, services.ready.snapshot.server.body_timeout_s)
    try:
        doc = read_json(body)
    except NotJson as error:
        raise bad_request(f"The request body is not valid JSON: {error}.") from None
    exchange_id, score = _read(doc)
    taught = services.learning.about(exchange_id) or await _booked(services, exchange_id)
    key = visit.key
    owns = taught is not None and (key is None or key.admin or key.name == taught.key)
    # One word counts, whichever worker hears it, and whenever.
    if taught is None or not owns or not await services.store.add_note(f"feedback/{exchange_id}", score):
        message = (
            "There is no answered exchange of yours with this request_id that waits for feedback: "
            "it is the value of X-Tailrace-Request-Id, and feedback is given once."
        )
        raise not_found(message, code="exchange_not_found", param="request_id")
    services.learning.feedback(taught, score)
    route = services.ready.routes.get(taught.route)
    if route is not None:
        services.learning.drifts.saw(route, taught.step, taught.alias, "feedback", score)
    if route is not None and compares(route):
        services.outcomes.note(feedback_of(exchange_id, taught.route, score))
    told = {"object": "feedback", "request_id": exchange_id, "score": score}
    return serving.Response(body=orjson.dumps(told), headers={"content-type": JSON})


async def _booked(services: Services, exchange_id: str) -> Taught | None:
    """What the ledger knows of an exchange that another worker served, or this one long ago."""
    if not _ID.fullmatch(exchange_id):
        return None
    found = await services.store.exchange(exchange_id)
    if found is None and services.ready.snapshot.server.workers > 1:
        await asyncio.sleep(LATE_S)
        found = await services.store.exchange(exchange_id)
    answers = [r for r in found.attempts if r.status == "ok" and r.purpose in _ANSWERS] if found else []
    told = [r for r in answers if r.saved_routing is not None] or [
        r for r in answers if r.verdict != "invalid"
    ]
    if not told:
        return None
    row = told[-1]
    route = services.ready.routes.get(row.route)
    if route is None or not (learns(route) or compares(route)) or row.alias not in route.ladder:
        return None
    return Taught(row.key, row.route, row.step or "*", row.alias)


def _read(doc: Any) -> tuple[str, float]:
    if not isinstance(doc, dict) or not isinstance(doc.get("request_id"), str):
        raise bad_request(
            "'request_id' must be the text that X-Tailrace-Request-Id told.", param="request_id"
        )
    score, correct = doc.get("score"), doc.get("correct")
    if (score is None) == (correct is None):
        raise bad_request("Give either 'score' (0 to 1) or 'correct' (true or false).", param="score")
    if correct is not None:
        if not isinstance(correct, bool):
            raise bad_request("'correct' must be true or false.", param="correct")
        return doc["request_id"], float(correct)
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise bad_request("'score' must be a number from 0 to 1.", param="score")
    return doc["request_id"], float(score)
