"""`/admin/*`: what an operator does to the running proxy."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson

from proxy import serving
from proxy.config.problems import ConfigRefused, Problem
from proxy.edges import Visit, admin_only
from proxy.wire.errors import JSON, NO_RETRY, ApiError, method_not_allowed, not_found

Reread = Callable[[], Awaitable[Sequence[str]]]
"""Reads the configuration again and uses it; gives the settings that wait for a restart. Raises ConfigRefused."""

MAX_PROBLEMS = 50


async def admin(reread: Reread | None, visit: Visit) -> serving.Response:
    """Serve one `/admin/*` request. Raises ApiError: 401 and 403 before anything is looked at."""
    admin_only(visit)
    path, method = visit.request.path, visit.request.method
    if path.rstrip("/") != "/admin/reload":
        raise not_found("There is nothing at this path; POST /admin/reload is.", code="unknown_url")
    if method != "POST":
        raise method_not_allowed(method, "/admin/reload", "POST")
    return await _reload(reread)


async def _reload(reread: Reread | None) -> serving.Response:
    """Read the configuration file again. A broken one changes nothing and is told in full: 400."""
    if reread is None:
        message = (
            "This proxy runs without a configuration file (the built-in demo): nothing can be read again."
        )
        raise ApiError(409, message, "nothing_to_reload", headers=NO_RETRY)
    try:
        waiting = await reread()
    except ConfigRefused as refused:
        raise _refused(refused) from None
    return _json({"status": "reloaded", "needs_restart": list(waiting)})


def _refused(refused: ConfigRefused) -> ApiError:
    problems = [_problem(p) for p in refused.problems[:MAX_PROBLEMS]]
    count = f"{len(refused.problems)} problem{'' if len(refused.problems) == 1 else 's'}"
    message = f"Not reloaded, the configuration before stays. {count}; the first: {refused.problems[0]}"
    return ApiError(400, message, "invalid_config", extra={"problems": problems}, headers=NO_RETRY)


def _problem(problem: Problem) -> dict[str, Any]:
    """`message` is the line that `check` prints; no problem holds a secret (`config.problems.scrubbed`)."""
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "field": problem.field,
        "message": str(problem),
    }


def _json(value: Any) -> serving.Response:
    return serving.Response(body=orjson.dumps(value), headers={"content-type": JSON})
