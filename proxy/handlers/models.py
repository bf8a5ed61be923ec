"""`GET /v1/models` and `/v1/models/{id}`: everything a client may name, routes and aliases, patterns resolved."""

import time
from typing import Any

import orjson

from proxy import serving
from proxy.edges import Visit
from proxy.services import Ready, Services
from proxy.upstreams.transport import TransportError
from proxy.wire.errors import JSON, not_found

MAX_LISTING_BYTES = 4 * 1024 * 1024
LISTING_S = 60.0
"""How long a provider's own list is believed."""


async def models(services: Services, visit: Visit) -> serving.Response:
    """All models, or the one that the path names. Raises ApiError (404)."""
    listed = await _listed(services, visit)
    name = visit.path.removeprefix("models").strip("/")
    if not name:
        return _json({"object": "list", "data": list(listed.values())})
    found = listed.get(name)
    if found is None:
        message = f"There is no model or route '{name[:200]}'."
        raise not_found(message, code="model_not_found", param="model")
    return _json(found)


async def _listed(services: Services, visit: Visit) -> dict[str, dict[str, Any]]:
    ready = services.ready
    allowed = visit.key.routes if visit.key is not None else None
    rows = {
        name: _model(name, "tailrace-route")
        for name, route in ready.routes.items()
        if route.ladder and (allowed is None or name in allowed)
    }
    for alias, card in ready.snapshot.models.items():
        if not alias.endswith("*"):
            rows.setdefault(alias, _model(alias, card.provider))
            continue
        for row in await _matching(services, ready, card.provider, alias[:-1]):
            rows.setdefault(row["id"], row)
    return rows


def _model(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}


async def _matching(services: Services, ready: Ready, provider: str, prefix: str) -> list[dict[str, Any]]:
    """The provider's own models whose names begin with `prefix`; none where it does not tell."""
    now = time.monotonic()
    known = services.listings.get(provider)
    if known is None or known[0] < now:
        known = services.listings[provider] = (now + LISTING_S, await _ask(ready, provider))
    return [row for row in known[1] if row["id"].startswith(prefix)]


async def _ask(ready: Ready, provider: str) -> list[dict[str, Any]]:
    upstream = ready.upstreams[provider]
    try:
        response = await upstream.send("GET", "/models", "", upstream.headers((), None), None)
        body = await response.read(MAX_LISTING_BYTES)
        rows = orjson.loads(body)["data"] if response.status == 200 else []
    except (TransportError, orjson.JSONDecodeError, KeyError, TypeError):
        return []
    named = (row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str))
    return [_model(row["id"], provider) | row for row in named]


def _json(value: Any) -> serving.Response:
    return serving.Response(body=orjson.dumps(value), headers={"content-type": JSON})
