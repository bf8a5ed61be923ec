"""`/admin/keys`: clients' keys that are made and revoked while the proxy runs.

A key's text is told once, in the reply that makes it; only its digest is kept. Keys of the configuration are listed
here too, but are changed there.
"""

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, get_args

import orjson

from policies.limits import Period
from policies.money import usd_text
from policies.route import Budget
from proxy import serving
from proxy.edges import Visit, admin_only, read_body
from proxy.services import Ready, Services
from proxy.snapshot import Key
from proxy.stores.base import StoredKey, StoreError
from proxy.wire.body import NotJson, read_json
from proxy.wire.errors import JSON, NO_RETRY, ApiError, bad_request, method_not_allowed, not_found

MAX_BODY_BYTES = 65_536
BODY_TIMEOUT_S = 30
REFRESH_S = 2.0
"""How long a worker may not know what another has made or revoked."""
PREFIX = "tr-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST = 1_000_000_000
_FIELDS = ("name", "routes", "admin", "budget", "rpm", "tpm")


async def keys(services: Services, visit: Visit) -> serving.Response:
    """Serve one request. Raises ApiError: 401 and 403 before anything is looked at."""
    admin_only(visit)
    name = visit.path.removeprefix("/admin/keys").strip("/")
    method = visit.request.method
    if not name:
        if method == "GET":
            return _json({"object": "list", "data": [*_configured(services), *_made(services)]})
        if method == "POST":
            return await _make(services, visit)
        raise method_not_allowed(method, "/admin/keys", "GET, POST")
    if method == "GET":
        return _json(_named(services, name))
    if method == "DELETE":
        return await _revoke(services, name)
    raise method_not_allowed(method, "/admin/keys/NAME", "GET, DELETE")


def with_stored(ready: Ready, stored: tuple[StoredKey, ...]) -> Ready:
    """`ready` with the keys that were made at run time. An open proxy stays open: its configuration says so."""
    if ready.snapshot.keys is None:
        return ready
    made = {key.digest: _usable(key) for key in stored if key.revoked_ns is None}
    return replace(ready, keys=made | {key.digest: key for key in ready.snapshot.keys})


async def refresh(services: Services) -> None:
    """What any worker has made or revoked holds here."""
    stored = await services.store.stored_keys()
    if stored != services.stored_keys:
        services.stored_keys = stored
        services.ready = with_stored(services.ready, stored)


async def keep_fresh(services: Services) -> None:
    """Look again every other second, until cancelled; while the store cannot be read, what is known holds."""
    while True:
        await asyncio.sleep(REFRESH_S)
        try:
            await refresh(services)
        except StoreError:
            continue


async def _make(services: Services, visit: Visit) -> serving.Response:
    if services.ready.snapshot.keys is None:
        raise _conflict(
            "This proxy is open, so a key would change nothing: configure `keys` with an admin first."
        )
    try:
        given = read_json(await read_body(visit.request, MAX_BODY_BYTES, BODY_TIMEOUT_S))
    except NotJson as error:
        raise bad_request(f"The body is not valid JSON: {error}.") from None
    text = PREFIX + secrets.token_urlsafe(32)
    key = _read(given, services.ready, hashlib.sha256(text.encode()).digest())
    if any(key.name == other.name for other in services.ready.snapshot.keys):
        raise _conflict(f"The configuration has a key '{key.name}'.")
    if not await services.store.put_key(key):
        raise _conflict(
            f"There is or was a key '{key.name}'; the ledger knows it, so its name is not given again."
        )
    await refresh(services)
    return _json({"key": text, **_told(key)}, 201)


async def _revoke(services: Services, name: str) -> serving.Response:
    if any(name == key.name for key in services.ready.snapshot.keys or ()):
        raise _conflict(f"The key '{name}' is in the configuration: take it out there and reload.")
    if not await services.store.revoke_key(name, time.time_ns()):
        _named(services, name)
    await refresh(services)
    return _json(_named(services, name))


def _named(services: Services, name: str) -> Mapping[str, Any]:
    """The key of this name. Raises ApiError (404)."""
    for told in (*_configured(services), *_made(services)):
        if told["name"] == name:
            return told
    raise not_found(f"There is no key '{name[:100]}'.", code="key_not_found", param="name")


def _configured(services: Services) -> list[Mapping[str, Any]]:
    return [_shown(key, "configuration", None, None) for key in services.ready.snapshot.keys or ()]


def _made(services: Services) -> list[Mapping[str, Any]]:
    return [_told(key) for key in services.stored_keys]


def _told(key: StoredKey) -> dict[str, Any]:
    return _shown(_usable(key), "run time", key.created_ns, key.revoked_ns)


def _shown(key: Key, source: str, created_ns: int | None, revoked_ns: int | None) -> dict[str, Any]:
    """What may be told of a key: everything but its digest."""
    budget = key.budget
    return {
        "name": key.name,
        "source": source,
        "routes": None if key.routes is None else sorted(key.routes),
        "admin": key.admin,
        "budget": None if budget is None else {"usd": usd_text(budget.nanousd), "per": budget.per},
        "rpm": key.rpm,
        "tpm": key.tpm,
        "created": _when(created_ns),
        "revoked": _when(revoked_ns),
    }


def _usable(key: StoredKey) -> Key:
    budget = None
    if key.budget_nanousd is not None:
        per: Any = key.budget_per or "day"
        budget = Budget(key.budget_nanousd, per)
    return Key(key.name, key.digest, key.routes, key.admin, budget, key.rpm, key.tpm)


def _read(given: Any, ready: Ready, digest: bytes) -> StoredKey:
    """The key that a body asks for. Raises ApiError (400) that names the field."""
    if not isinstance(given, dict):
        raise bad_request('The body must be an object such as {"name": "team-b"}.')
    if unknown := [field for field in given if field not in _FIELDS]:
        message = f"'{unknown[0][:40]}' is not a setting of a key; known: {', '.join(_FIELDS)}."
        raise bad_request(message, param=unknown[0][:40])
    name = given.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise bad_request(
            "'name' must be 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first.", param="name"
        )
    admin = given.get("admin", False)
    if not isinstance(admin, bool):
        raise bad_request("'admin' must be true or false.", param="admin")
    nanousd, per = _budget(given.get("budget"))
    routes = _routes(given.get("routes"), ready)
    rpm, tpm = _rate(given, "rpm"), _rate(given, "tpm")
    return StoredKey(name, digest, time.time_ns(), routes, admin, nanousd, per, rpm, tpm)


def _routes(given: Any, ready: Ready) -> frozenset[str] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not given or not all(isinstance(r, str) for r in given):
        raise bad_request(
            "'routes' must be a list of routes' names; without it the key may use all.", param="routes"
        )
    if unknown := [route for route in given if route not in ready.routes]:
        message = (
            f"There is no route '{unknown[0][:100]}'; there are: {', '.join(sorted(ready.routes))[:500]}."
        )
        raise bad_request(message, param="routes")
    return frozenset(given)


def _budget(given: Any) -> tuple[int | None, str | None]:
    """Nano-USD and the period."""
    if given is None:
        return None, None
    periods = get_args(Period)
    per = given.get("per", "day") if isinstance(given, dict) else None
    amount = (
        _nanousd(given.get("usd")) if isinstance(given, dict) and given.keys() <= {"usd", "per"} else None
    )
    if amount is None or per not in periods:
        message = (
            f'\'budget\' must be like {{"usd": 5, "per": "day"}}: USD above 0, per {", ".join(periods)}.'
        )
        raise bad_request(message, param="budget")
    return amount, per


def _nanousd(given: Any) -> int | None:
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return None
    try:
        exact = Decimal(str(given)) * 10**9
    except (ArithmeticError, ValueError):
        return None
    return int(exact) if exact.is_finite() and 0 < exact < 2**62 and exact == int(exact) else None


def _rate(given: Mapping[str, Any], field: str) -> int | None:
    value = given.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
        raise bad_request(f"'{field}' must be a whole number from 1 to {_MOST}.", param=field)
    return value


def _conflict(message: str) -> ApiError:
    return ApiError(409, message, "key_conflict", param="name", headers=NO_RETRY)


def _when(ns: int | None) -> str | None:
    return None if ns is None else datetime.fromtimestamp(ns // 10**9, UTC).isoformat().replace("+00:00", "Z")


def _json(value: Any, status: int = 200) -> serving.Response:
    headers = {"content-type": JSON, "cache-control": "no-store"}
    return serving.Response(status=status, body=orjson.dumps(value), headers=headers)
