"""The composition root: makes the parts of an app, starts and stops them in order, and hands out requests."""

import asyncio
import logging
import os
import re
import socket
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

from proxy import edges, registrations, serving
from proxy.conversations import Conversations
from proxy.counters import Counter
from proxy.doors import check_door
from proxy.drift import Drifts
from proxy.edges import Visit
from proxy.handlers import operations, ui
from proxy.handlers.admin import admin
from proxy.handlers.completions import complete
from proxy.handlers.context import context, keep_forgetting
from proxy.handlers.drift import drift
from proxy.handlers.feedback import feedback
from proxy.handlers.keys import keep_fresh, keys, refresh, with_stored
from proxy.handlers.models import models
from proxy.handlers.passthrough import passthrough
from proxy.handlers.schemas import bind, refused_schema, schemas
from proxy.handlers.usage import usage
from proxy.health import Health
from proxy.learning import SAVE_S, Learning
from proxy.outcomes import OutcomeLog
from proxy.sandbox import Busy, Sandbox
from proxy.services import Services, make_ready
from proxy.serving.connection import ALL
from proxy.serving.server import Bounds, Server
from proxy.shared_series import Share
from proxy.snapshot import Snapshot
from proxy.stores import open_limiter, open_store
from proxy.stores.base import Store, StoreError, StoreRefused
from proxy.tasks import Tasks
from proxy.telemetry import Telemetry
from proxy.upstreams.pool import Pool
from proxy.upstreams.transport import Transport
from proxy.wire.errors import (
    JSON,
    ApiError,
    internal,
    method_not_allowed,
    not_found,
    overloaded,
)
from schemas.errors import SchemaRefused
from schemas.registry import SchemaRegistry

log = logging.getLogger("tailrace")

Handler = Callable[[Services, Visit], Awaitable[serving.Answer]]

_EXCHANGES = frozenset({"chat/completions", "completions", "embeddings", "moderations"})
"""Endpoints that an exchange serves: one JSON object in, one model call out."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""TRACE above all is not passed on: a provider that answers it would show the client what we sent, our key too."""
_OPERATIONS = frozenset({"/healthz", "/readyz", "/metrics", "/ui", "/ui/data"})
_ROUTE_PATH = re.compile(r"/r/([^/]{1,200})/v1/(.*)", re.DOTALL)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_BOUND = ("host", "port", "admin_listen", "workers")
"""Settings of `server` that hold from the start to the end of a process."""
CLIENT_LEFT = 499
"""nginx's status for a request whose client left before its answer; only metrics see it."""
SHUT_DOWN = 503
"""That of a request whose answer was cut by the end of the process."""


class App:
    """One proxy. Several may live in one process; they share nothing."""

    def __init__(
        self,
        snapshot: Snapshot,
        environ: Mapping[str, str] = os.environ,
        store: Store | None = None,
        read: Callable[[], Snapshot] | None = None,
        share: Share | None = None,
    ) -> None:
        """`read` reads the configuration file again; None where there is none. `share`: one of several workers."""
        self._share = share
        self._overview = ui.Overview()
        self._request_id = edges.RequestIds()
        self._environ = environ
        self._read = read
        self._reloading = asyncio.Lock()
        self._store = store
        self._snapshot = snapshot
        self._server: Server | None = None
        self._two_doors = snapshot.server.admin_listen is not None
        self.services: Services

    async def start(self) -> None:
        """Everything but the listening socket is ready."""
        transports: dict[bool, Transport] = {False: Pool()}
        self._add_transport(transports, self._snapshot)
        store = self._store or open_store(self._snapshot.store)
        counter, sandbox = Counter(), Sandbox()
        telemetry = Telemetry(self._share)
        self.services = Services(
            make_ready(self._snapshot, transports),
            transports,
            store,
            open_limiter(store, self._snapshot.server.workers),
            telemetry,
            Tasks(),
            Health(telemetry.breaker),
            counter,
            Conversations(counter),
            await registrations.registered(store, SchemaRegistry(), sandbox),
            await registrations.bound(store),
            sandbox=sandbox,
        )
        telemetry.know(self._snapshot.models)
        self.services.outcomes = OutcomeLog(self._snapshot.store if self._store is None else "memory:")
        place = 0 if self._share is None else self._share.place
        worker = f"{self._snapshot.server.port}.{place}"
        self.services.learning = Learning(Drifts(telemetry.drifted), worker)
        self.services.learning.drifts.begin(self._snapshot.routes)
        await self.services.learning.load(store)
        self.services.tasks.spawn(self._keep_learned(), name="save what was learned")
        await refresh(self.services)
        self.services.tasks.spawn(keep_forgetting(self.services), name="contexts whose time has come")
        if self._share is not None:
            self.services.tasks.spawn(keep_fresh(self.services), name="keys of other workers")
            fresh = registrations.keep_fresh(self.services)
            self.services.tasks.spawn(fresh, name="schemas of other workers")
            self.services.tasks.spawn(self._share.keep_writing(telemetry.families), name="share metrics")
        self._server = Server(self.handle, _bounds(self._snapshot))

    def _add_transport(self, transports: dict[bool, Transport], snapshot: Snapshot) -> None:
        """The transport through proxies of the environment, where a provider asks for it: aiohttp is heavy."""
        if True not in transports and any(p.trust_env for p in snapshot.providers.values()):
            from proxy.upstreams.client_session import ClientSessionTransport  # noqa: PLC0415  see above

            transports[True] = ClientSessionTransport(self._environ)

    def warm(self) -> None:
        """Where any route trims, the vocabulary is loaded in a thread: its first request need not wait for that."""
        if any(route.context.policy != "off" for route in self._snapshot.routes.values()):
            threading.Thread(target=self.services.counter.warm, name="vocabulary", daemon=True).start()

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Accept connections; the address that was bound (port 0 picks one)."""
        assert self._server is not None
        return await self._server.listen(host, port)

    async def listen_on(self, bound: socket.socket, *, admin: bool = False) -> None:
        """Accept connections of a socket that is bound already; `admin`: it is that of `server.admin_listen`."""
        assert self._server is not None
        self._two_doors |= admin
        await self._server.listen_on(bound, "admin" if admin else ALL)

    @property
    def reloadable(self) -> bool:
        """Whether there is a configuration file to read again."""
        return self._read is not None

    async def reread(self) -> tuple[str, ...]:
        """Use the configuration file as it is now; gives the settings that wait for a restart.

        Raises ConfigRefused when the file has a mistake: then nothing has changed.
        """
        assert self._read is not None
        async with self._reloading:  # two at once must not end with the older one
            return self.reload(await asyncio.to_thread(self._read))

    def reload(self, snapshot: Snapshot) -> tuple[str, ...]:
        """New requests use `snapshot`; those in work keep theirs. Gives the settings that wait for a restart."""
        self._add_transport(self.services.transports, snapshot)
        ready = make_ready(snapshot, self.services.transports)
        self.services.ready = with_stored(ready, self.services.stored_keys)
        self.services.listings.clear()
        if self._server is not None:
            self._server.bound(_bounds(snapshot))
        self.services.telemetry.know(snapshot.models)
        self.services.learning.drifts.begin(snapshot.routes)
        begun, wanted = self._snapshot, snapshot
        changed = [f"server.{n}" for n in _BOUND if getattr(begun.server, n) != getattr(wanted.server, n)]
        return (*changed, "store") if begun.store != wanted.store else tuple(changed)

    async def drain(self) -> None:
        """Take no new connections and wait for what is in work, at most `drain_s`; then end it with an error."""
        services = self.services
        services.draining = True
        assert self._server is not None
        self._server.drain()
        deadline = time.monotonic() + services.ready.snapshot.server.drain_s
        while services.in_work or not self._server.quiet:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.02)
        stopped = ApiError(503, "The proxy is shutting down.", "shutting_down", type="server_error")
        for listener in list(services.listeners):
            await listener.cut(stopped)

    async def _keep_learned(self) -> None:
        while True:
            await asyncio.sleep(SAVE_S)
            await self.services.learning.save(self.services.store)
            if self._share is not None:
                with suppress(StoreError):  # what is known holds until the store can be read again
                    await self.services.learning.refresh(self.services.store)
            await self.services.outcomes.save()

    async def close(self) -> None:
        """Everything is stopped and the ledger is on the disk."""
        if self._server is not None:
            await self._server.close()
        services = self.services
        await services.tasks.close()
        await services.learning.save(services.store)
        await services.outcomes.save()
        await services.sandbox.close()
        for transport in services.transports.values():
            await transport.close()
        if self._share is not None:
            await asyncio.to_thread(self._share.retire, services.telemetry.families)
        await services.limiter.close()
        await services.store.close()

    async def handle(self, request: serving.Request) -> serving.Answer:
        """Answer one request, whatever happens."""
        services = self.services
        visit_id = self._request_id()
        services.in_work += 1
        services.telemetry.request_began(visit_id)
        response: serving.Answer | None = None
        try:
            response = await self._answer(request, visit_id)
        finally:
            services.in_work -= 1
            if response is None:
                left = request.connection.lost or not services.draining
                services.telemetry.request_ended(visit_id, None, CLIENT_LEFT if left else SHUT_DOWN)
            else:
                route = response.header("x-tailrace-route")
                services.telemetry.request_ended(visit_id, route, response.came_to)
        return response

    async def _answer(self, request: serving.Request, visit_id: str) -> serving.Answer:
        try:
            return await self._dispatch(request, visit_id)
        except ApiError as error:
            return self._refusal(request, visit_id, error)
        except SchemaRefused as error:
            return self._refusal(request, visit_id, refused_schema(error, "response_format"))
        except StoreRefused:
            log.error("the ledger takes nothing: %s", self.services.store.failed)  # noqa: TRY400  the stack tells nothing
            return self._refusal(
                request, visit_id, overloaded("The ledger cannot be written; see the log.", 5)
            )
        except Busy:
            refusal = overloaded("Too many schemas and answers wait to be checked.")
            return self._refusal(request, visit_id, refusal)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001  the last line of defence: a client never sees our stack
            # Not log.exception: an exception's text may quote a prompt.
            log.error("request %s failed: %s at %s", visit_id, type(error).__name__, _place(error))  # noqa: TRY400
            return self._refusal(request, visit_id, internal())

    async def _dispatch(self, request: serving.Request, visit_id: str) -> serving.Answer:
        services = self.services
        path = request.path
        headers = request.headers
        if request.method not in _METHODS:
            raise method_not_allowed(request.method, path[:200], ", ".join(sorted(_METHODS)))
        if self._two_doors:
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
            return await admin(self.reread if self.reloadable else None, visit)
        if not path.startswith(("/v1/", "/r/")):
            return await self._operation(request, path, visit_id, headers)
        route = None
        if (match := _ROUTE_PATH.fullmatch(path)) is not None:
            route, path = match.group(1), "/v1/" + match.group(2)
        key = edges.authenticate(services.ready, headers)
        if services.in_work > services.ready.snapshot.server.max_requests:
            raise overloaded("Too many requests are in work (server.max_requests).")
        visit = Visit(request, visit_id, path.removeprefix("/v1/").rstrip("/"), route, key, headers)
        response = await self._handler_of(visit)(services, visit)
        if not response.prepared:
            named = {name for name, _ in response.headers}
            ours = [(n, visit_id) for n in ("x-tailrace-request-id", "x-request-id") if n not in named]
            response.headers += ours + edges.cors(services.ready, headers)
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
        self, request: serving.Request, path: str, visit_id: str, headers: Mapping[str, str]
    ) -> serving.Response:
        if request.method not in ("GET", "HEAD"):
            if path in _OPERATIONS:
                raise method_not_allowed(request.method, path, "GET, HEAD")
            raise not_found(f"There is nothing to {request.method} at this path.", code="unknown_url")
        if path == "/healthz":
            return operations.healthz()
        if path == "/readyz":
            return operations.readyz(self.services)
        if path == "/metrics":
            edges.may_read_metrics(self.services.ready, headers)
            return await operations.metrics(self.services)
        if path == "/ui":
            return ui.page()
        if path == "/ui/data":
            key = edges.authenticate(self.services.ready, headers)
            return await ui.data(
                self._overview, self.services, Visit(request, visit_id, path, None, key, headers)
            )
        raise not_found("There is nothing at this path; the API is below /v1/.", code="unknown_url")

    def _refusal(self, request: serving.Request, visit_id: str, error: ApiError) -> serving.Response:
        named = {n for n, _ in error.headers}
        headers = [("content-type", JSON), *error.headers, ("x-tailrace-request-id", visit_id)]
        if "x-request-id" not in named:
            asked = request.headers.get("x-request-id", "")
            headers.append(("x-request-id", asked if _REQUEST_ID.fullmatch(asked) else visit_id))
        headers += edges.cors(
            self.services.ready, {"origin": o} if (o := request.headers.get("origin")) else {}
        )
        return serving.Response(status=error.status, body=error.body(), headers=headers)


def _bounds(snapshot: Snapshot) -> Bounds:
    server = snapshot.server
    return Bounds(
        server.max_connections,
        server.header_timeout_s,
        server.max_connections_per_client,
        tuple(ip_network(text, strict=False) for text in server.trusted_proxies),
        int(max(server.max_held_mb, server.max_body_mb) * 1024 * 1024),
    )


def _place(error: BaseException) -> str:
    """Where it happened. The exception's own text may quote a prompt, and is not logged."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
