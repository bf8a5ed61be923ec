"""Where requests come in: which handler serves each, and what its client is told where that fails."""

import logging
import re
import traceback
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path
from typing import Final

from proxy import edges, serving
from proxy.doors import check_door
from proxy.edges import Visit
from proxy.handlers import operations, ui
from proxy.handlers.admin import Reread, admin
from proxy.handlers.completions import complete
from proxy.handlers.context import context
from proxy.handlers.drift import drift
from proxy.handlers.feedback import feedback
from proxy.handlers.keys import keys
from proxy.handlers.models import models
from proxy.handlers.passthrough import passthrough
from proxy.handlers.schemas import bind, refused_schema, schemas
from proxy.handlers.usage import usage
from proxy.sandbox import Busy
from proxy.services import Services
from proxy.stores.base import StoreRefused
from proxy.wire.errors import (
    JSON,
    ApiError,
    internal,
    method_not_allowed,
    not_found,
    overloaded,
)
from schemas.errors import SchemaRefused

log: Final = logging.getLogger("tailrace")

Handler = Callable[[Services, Visit], Awaitable[serving.Answer]]

_EXCHANGES: Final = frozenset({"chat/completions", "completions", "embeddings", "moderations"})
"""Endpoints that an exchange serves: one JSON object in, one model call out."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""TRACE above all is not passed on: a provider that answers it would show the client what we sent, our key too."""
_OPERATIONS: Final = frozenset({"/healthz", "/readyz", "/metrics", "/ui", "/ui/data"})
_ROUTE_PATH: Final = re.compile(r"/r/([^/]{1,200})/v1/(.*)", re.DOTALL)
_SHORT: Final = 128
"""Paths whose parts are kept: there are few, and they come again and again."""
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
CLIENT_LEFT: Final = 499
"""nginx's status for a request whose client left before its answer; only metrics see it."""
SHUT_DOWN: Final = 503
"""That of a request whose answer was cut by the end of the process."""


class Dispatch:
    """Answers the requests of one app."""

    def __init__(self, services: Services, reread: Reread | None, *, two_doors: bool) -> None:
        """`reread` has the configuration file read again; None where there is none. `two_doors`: see `proxy.doors`."""
        self._services = services
        self._reread = reread
        self.two_doors = two_doors
        self._request_id = edges.RequestIds()
        self._overview = ui.Overview()

    async def handle(self, request: serving.Request) -> serving.Answer:
        """Answer one request, whatever happens."""
        services = self._services
        visit_id = self._request_id()
        services.in_work += 1
        services.telemetry.request_began(visit_id)
        try:
            try:
                response = await self._dispatch(request, visit_id)
            except ConnectionError:
                raise
            except Exception as error:  # noqa: BLE001  the last line of defence: a client never sees our stack
                response = self._failed(request, visit_id, error)
        except BaseException:
            left = request.connection.lost or not services.draining
            services.telemetry.request_ended(visit_id, None, CLIENT_LEFT if left else SHUT_DOWN)
            raise
        finally:
            services.in_work -= 1
        services.telemetry.request_ended(visit_id, response.header("x-tailrace-route"), response.came_to)
        return response

    def _failed(self, request: serving.Request, visit_id: str, error: Exception) -> serving.Answer:
        """What the client is told instead of an answer."""
        if isinstance(error, ApiError):
            return self._refusal(request, visit_id, error)
        if isinstance(error, SchemaRefused):
            return self._refusal(request, visit_id, refused_schema(error, "response_format"))
        if isinstance(error, StoreRefused):
            log.error("the ledger takes nothing: %s", self._services.store.failed)
            return self._refusal(
                request, visit_id, overloaded("The ledger cannot be written; see the log.", 5)
            )
        if isinstance(error, Busy):
            return self._refusal(
                request, visit_id, overloaded("Too many schemas and answers wait to be checked.")
            )
        # Not log.exception: an exception's text may quote a prompt.
        log.error("request %s failed: %s at %s", visit_id, type(error).__name__, _place(error))
        return self._refusal(request, visit_id, internal())

    async def _dispatch(self, request: serving.Request, visit_id: str) -> serving.Answer:
        services = self._services
        path = request.path
        headers = request.headers
        if request.method not in _METHODS:
            raise method_not_allowed(request.method, path[:200], ", ".join(sorted(_METHODS)))
        if self.two_doors:
            check_door(request, path)
        if request.method == "OPTIONS":
            return edges.preflight(services.ready, headers)
        if path.startswith("/admin/"):
            key = edges.authenticate(services.ready, headers)
            visit = Visit(request, visit_id, path, None, key, headers)
            if path == "/admin/keys" or path.startswith("/admin/keys/"):
                return await keys(services, visit)
            if path == "/admin/drift":
                return await drift(services.learning.drifts, visit)
            return await admin(self._reread, visit)
        if not path.startswith(("/v1/", "/r/")):
            return await self._operation(request, path, visit_id, headers)
        route, path = _known_parts(path) if len(path) < _SHORT else _parts_of(path)
        key = edges.authenticate(services.ready, headers)
        if services.in_work > services.ready.snapshot.server.max_requests:
            raise overloaded("Too many requests are in work (server.max_requests).")
        visit = Visit(request, visit_id, path, route, key, headers)
        response = await self._handler_of(visit)(services, visit)
        if not response.prepared:
            for name in ("x-tailrace-request-id", "x-request-id"):
                if response.header(name) is None:
                    response.headers.append((name, visit_id))
            response.headers += edges.cors(services.ready, headers)
        return response

    def _handler_of(self, visit: Visit) -> Handler:
        path, method = visit.path, visit.request.method
        if path in _EXCHANGES:
            if method != "POST":
                raise method_not_allowed(method, f"/v1/{path}", "POST")
            return complete
        first = path.split("/", 1)[0]
        if first == "models" and method == "GET":
            return models
        if path == "feedback":
            if method != "POST":
                raise method_not_allowed(method, "/v1/feedback", "POST")
            return feedback
        if path == "usage":
            if method != "GET":
                raise method_not_allowed(method, "/v1/usage", "GET")
            return usage
        if first == "context":
            return context
        if first == "schemas":
            return schemas
        if first == "routes":
            return bind
        if not path or ".." in path or "//" in path:
            raise not_found("There is nothing at this path.", code="unknown_url")
        return passthrough

    async def _operation(
        self, request: serving.Request, path: str, visit_id: str, headers: dict[str, str]
    ) -> serving.Response:
        if request.method not in ("GET", "HEAD"):
            if path in _OPERATIONS:
                raise method_not_allowed(request.method, path, "GET, HEAD")
            raise not_found(f"There is nothing to {request.method} at this path.", code="unknown_url")
        if path == "/healthz":
            return operations.healthz()
        if path == "/readyz":
            return operations.readyz(self._services)
        if path == "/metrics":
            edges.may_read_metrics(self._services.ready, headers)
            return await operations.metrics(self._services)
        if path == "/ui":
            return ui.page()
        if path == "/ui/data":
            key = edges.authenticate(self._services.ready, headers)
            return await ui.data(
                self._overview, self._services, Visit(request, visit_id, path, None, key, headers)
            )
        raise not_found("There is nothing at this path; the API is below /v1/.", code="unknown_url")

    def _refusal(self, request: serving.Request, visit_id: str, error: ApiError) -> serving.Response:
        named = {n for n, _ in error.headers}
        headers = [("content-type", JSON), *error.headers, ("x-tailrace-request-id", visit_id)]
        if "x-request-id" not in named:
            asked = request.headers.get("x-request-id", "")
            headers.append(("x-request-id", asked if _REQUEST_ID.fullmatch(asked) else visit_id))
        headers += edges.cors(
            self._services.ready, {"origin": o} if (o := request.headers.get("origin")) else {}
        )
        return serving.Response(status=error.status, body=error.body(), headers=headers)


def _parts_of(path: str) -> tuple[str | None, str]:
    """The route that a path names, and what follows `/v1`."""
    match = _ROUTE_PATH.fullmatch(path)
    route, rest = (None, path.removeprefix("/v1/")) if match is None else match.groups()
    return route, rest.rstrip("/")


_known_parts: Final = lru_cache(maxsize=256)(_parts_of)


def _place(error: BaseException) -> str:
    """Where it happened. The exception's own text may quote a prompt, and is not logged."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
