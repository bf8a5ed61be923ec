"""Schemas registered while the proxy runs: `/v1/schemas` and `PUT /v1/routes/{route}/schema`.

A change is on the disk before it is answered, and a refused schema changes nothing.
"""

import asyncio
import time
from contextlib import suppress
from typing import Any

import orjson

from policies.contract import Contract
from policies.route import Repair
from proxy import registrations, serving
from proxy.edges import Visit, admin_only, read_body
from proxy.judging import apart
from proxy.services import Services
from proxy.stores.base import Binding, StoreError
from proxy.wire.body import NotJson, read_json
from proxy.wire.errors import JSON, NO_RETRY, ApiError, bad_request, method_not_allowed, not_found
from schemas.check import Mended
from schemas.compiled import Compiled
from schemas.errors import SchemaRefused
from schemas.mend import mend
from schemas.registry import BadName, check_name
from schemas.trial import Trial

MAX_SCHEMA_BYTES = 256 * 1024
MAX_TEST_BYTES = 1024 * 1024
MAX_FINDINGS = 50
INLINE_CHARS = 32_768
"""What is longer is read and mended in a thread, so that the event loop goes on meanwhile."""


def refused_schema(error: SchemaRefused, param: str | None = None) -> ApiError:
    """400 with every problem of the schema."""
    problems = [
        {"pointer": p.pointer, "keyword": p.keyword, "message": p.message} for p in error.problems[:20]
    ]
    extra = {"problems": problems}
    return ApiError(400, f"The {error}.", "invalid_schema", param=param, extra=extra, headers=NO_RETRY)


async def schemas(services: Services, visit: Visit) -> serving.Response:
    """Serve `/v1/schemas...`. Raises ApiError."""
    parts = [p for p in visit.path.split("/")[1:] if p]
    method = visit.request.method
    await _hear_of_others(services)
    if method == "POST" and len(parts) == 2 and parts[1] == "test":
        return await _test(services, visit, parts[0])
    if method == "GET" and len(parts) <= 2:
        return _get(services, parts)
    if method in ("PUT", "DELETE") and len(parts) == 1:
        admin_only(visit)
        return await (_put if method == "PUT" else _delete)(services, visit, parts[0])
    raise method_not_allowed(method, f"/v1/{visit.path}", "GET, PUT, DELETE, POST .../test")


async def _hear_of_others(services: Services) -> None:
    """Whoever registers with one worker and asks another at once is understood."""
    if services.ready.snapshot.server.workers > 1:
        with suppress(StoreError):
            await registrations.refresh(services)


def _get(services: Services, parts: list[str]) -> serving.Response:
    if not parts:
        configured = [
            {"name": n, "version": c.version, "source": "config"}
            for n, c in services.ready.configured.items()
        ]
        registered = [
            {"name": n, "version": services.registered.latest(n).version, "source": "registered"}
            for n in services.registered.names()
        ]
        return _json({"object": "list", "data": registered + configured})
    name, version = parts[0], parts[1] if len(parts) > 1 else None
    found = services.schema_named(name, version)
    if found is None:
        raise _unknown(name, version)
    versions = [c.version for c in services.registered.versions(name)] or [found.version]
    return _json({"name": name, "version": found.version, "versions": versions, "schema": found.schema})


async def _put(services: Services, visit: Visit, name: str) -> serving.Response:
    """Register a schema: nothing of it is done in the event loop, and what takes long not even in this process."""
    body = await read_body(visit.request, MAX_SCHEMA_BYTES, 30)
    try:
        check_name(name)
        await asyncio.to_thread(read_json, body)
        trial = await services.sandbox.trial(body)
        compiled = await asyncio.to_thread(registrations.ready, body, trial.dialect, trial.slow)
    except NotJson as error:
        raise _not_json(error) from None
    except SchemaRefused as error:
        raise refused_schema(error) from None
    except BadName as error:
        raise bad_request(str(error), param="name") from None
    if trial.slow:
        services.sandbox.kept.add(compiled.version)
    await services.store.put_note(registrations.note_of(compiled.version), [trial.dialect, trial.slow])
    new = await services.store.put_schema(name, compiled.version, compiled.examined.text, time.time_ns())
    services.registered = services.registered.with_schema(name, compiled)
    answer = {"name": name, "version": compiled.version, "created": new, **_told(trial)}
    return _json(answer, 201 if new else 200)


def _told(trial: Trial) -> dict[str, Any]:
    """What was found out about a schema, for whoever registers it."""
    return {
        "judged": "apart" if trial.slow else "here",
        "why": f"{trial.slow}: its answers are judged in a separate process, streams are held"
        if trial.slow
        else None,
        "compile_ms": round(trial.compile_s * 1000, 2),
        "worst_probe": {"what": trial.worst, "ms": round(trial.worst_s * 1000, 2)} if trial.worst else None,
        "findings": [
            {
                "severity": f.severity,
                "pointer": f.problem.pointer,
                "keyword": f.problem.keyword,
                "message": f.problem.message,
            }
            for f in trial.findings[:MAX_FINDINGS]
        ],
    }


async def _delete(services: Services, _visit: Visit, name: str) -> serving.Response:
    if services.registered.get(name) is None:
        raise _unknown(name, None)
    await services.store.delete_schema(name)
    services.registered = services.registered.without(name)
    services.bindings = {r: b for r, b in services.bindings.items() if b[0] != name}
    return _json({"name": name, "deleted": True})


async def bind(services: Services, visit: Visit) -> serving.Response:
    """Serve `PUT` and `DELETE /v1/routes/{route}/schema`. Raises ApiError."""
    parts = visit.path.split("/")
    method = visit.request.method
    if len(parts) != 3 or parts[2] != "schema":
        raise not_found(f"There is nothing at /v1/{visit.path[:200]}.", code="unknown_url")
    if method not in ("PUT", "DELETE"):
        raise method_not_allowed(method, f"/v1/{visit.path}", "PUT, DELETE")
    admin_only(visit)
    await _hear_of_others(services)
    route = parts[1]
    if route not in services.ready.routes:
        raise not_found(f"There is no route '{route[:200]}'.", code="route_not_found", param="route")
    if method == "DELETE":
        await services.store.unbind(route)
        services.bindings = {r: b for r, b in services.bindings.items() if r != route}
        return _json({"route": route, "schema": services.ready.routes[route].schema})
    wanted = await _json_body(visit, MAX_SCHEMA_BYTES)
    name = wanted.get("schema") if isinstance(wanted, dict) else None
    version = wanted.get("version") if isinstance(wanted, dict) else None
    if not isinstance(name, str) or not (version is None or isinstance(version, str)):
        raise bad_request('The body must be {"schema": NAME, "version": VERSION or null}.', param="schema")
    if services.schema_named(name, version) is None:
        raise _unknown(name, version)
    await services.store.bind(Binding(route, name, version))
    services.bindings = services.bindings | {route: (name, version)}
    return _json({"route": route, "schema": name, "version": version})


async def _test(services: Services, visit: Visit, name: str) -> serving.Response:
    """What the repair would do to a text, step by step."""
    wanted = await _json_body(visit, MAX_TEST_BYTES)
    text = wanted.get("text") if isinstance(wanted, dict) else None
    if not isinstance(text, str):
        raise bad_request('The body must be {"text": "..."}.', param="text")
    compiled = services.schema_named(name)
    if compiled is None:
        raise _unknown(name, None)
    mended = await _mended(services, text, compiled)
    return _json(
        {
            "verdict": mended.verdict,
            "value": mended.value if mended.verdict != "invalid" else None,
            "text": mended.text,
            "changes": [
                {
                    "operation": c.operation,
                    "class": c.kind,
                    "span": list(c.span),
                    "pointer": c.pointer,
                    "before": c.before,
                    "after": c.after,
                }
                for c in mended.changes
            ],
            "problems": [
                {"pointer": p.pointer, "keyword": p.keyword, "message": p.message} for p in mended.problems
            ],
        }
    )


async def _mended(services: Services, text: str, compiled: Compiled) -> Mended:
    accept = Repair().accept
    if apart(services.sandbox, Contract(compiled)):
        return await services.sandbox.mend(text, compiled, accept)
    if len(text) > INLINE_CHARS:
        return await asyncio.to_thread(mend, text, compiled, accept)
    return mend(text, compiled, accept)


async def _json_body(visit: Visit, limit: int) -> Any:
    try:
        body = await read_body(visit.request, limit, 30)
        return read_json(body) if len(body) <= INLINE_CHARS else await asyncio.to_thread(read_json, body)
    except NotJson as error:
        raise _not_json(error) from None


def _not_json(error: NotJson) -> ApiError:
    return bad_request(f"The body is not valid JSON: {error}.")


def _unknown(name: str, version: str | None) -> ApiError:
    what = f"'{name[:200]}'" + (f" of version '{version[:80]}'" if version else "")
    return not_found(f"There is no schema {what}.", code="schema_not_found", param="schema")


def _json(value: Any, status: int = 200) -> serving.Response:
    return serving.Response(status=status, body=orjson.dumps(value), headers={"content-type": JSON})
