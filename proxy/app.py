"""The composition root: makes the parts of an app, starts and stops them in order."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import ip_network

from proxy import registrations
from proxy.conversations import Conversations
from proxy.counters import Counter
from proxy.dispatch import Dispatch
from proxy.drift import Drifts
from proxy.handlers.context import keep_forgetting
from proxy.handlers.keys import keep_fresh, refresh, with_stored
from proxy.health import Health
from proxy.learning import SAVE_S, Learning
from proxy.outbox import Outbox
from proxy.outcomes import OutcomeLog
from proxy.sandbox import Sandbox
from proxy.services import Services, make_ready
from proxy.serving.connection import ALL
from proxy.serving.server import Bounds, Server
from proxy.shared_series import Share
from proxy.snapshot import Snapshot
from proxy.stores import open_limiter, open_store
from proxy.stores.base import Store, StoreError
from proxy.tasks import Tasks
from proxy.telemetry import Telemetry
from proxy.upstreams.pool import Pool
from proxy.upstreams.transport import Transport
from proxy.wire.errors import ApiError
from schemas.registry import SchemaRegistry

_BOUND = ("host", "port", "admin_listen", "workers")
"""Settings of `server` that hold from the start to the end of a process."""


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
        self._environ = environ
        self._read = read
        self._reloading = asyncio.Lock()
        self._store = store
        self._snapshot = snapshot
        self._server: Server | None = None
        self.services: Services
        self._dispatch: Dispatch

    async def start(self) -> None:
        """Everything but the listening socket is ready."""
        store = self._store or open_store(self._snapshot.store)
        outbox = Outbox(store.sync)
        transports: dict[bool, Transport] = {False: Pool(outbox=outbox)}
        self._add_transport(transports, self._snapshot, outbox)
        counter, sandbox = Counter(), Sandbox()
        telemetry = Telemetry(self._share)
        self.services = Services(
            make_ready(self._snapshot, transports),
            transports,
            store,
            open_limiter(store, self._snapshot.server.workers),
            telemetry,
            Tasks(),
            outbox,
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
        two_doors = self._snapshot.server.admin_listen is not None
        self._dispatch = Dispatch(
            self.services, self.reread if self.reloadable else None, two_doors=two_doors
        )
        self._server = Server(self._dispatch.handle, _bounds(self._snapshot), outbox=outbox)

    def _add_transport(self, transports: dict[bool, Transport], snapshot: Snapshot, outbox: Outbox) -> None:
        """The transport through proxies of the environment, where a provider asks for it: aiohttp is heavy."""
        if True not in transports and any(p.trust_env for p in snapshot.providers.values()):
            from proxy.upstreams.client_session import ClientSessionTransport  # noqa: PLC0415  see above

            transports[True] = ClientSessionTransport(self._environ, outbox=outbox)

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
        self._dispatch.two_doors |= admin
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
        self._add_transport(self.services.transports, snapshot, self.services.outbox)
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


def _bounds(snapshot: Snapshot) -> Bounds:
    server = snapshot.server
    return Bounds(
        server.max_connections,
        server.header_timeout_s,
        server.max_connections_per_client,
        tuple(ip_network(text, strict=False) for text in server.trusted_proxies),
        int(max(server.max_held_mb, server.max_body_mb) * 1024 * 1024),
    )
