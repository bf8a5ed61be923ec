"""What was registered at run time: schemas and their bindings to routes, as the store has them."""

import asyncio
import logging
from contextlib import suppress

from proxy.sandbox import Sandbox
from proxy.services import Services
from proxy.stores.base import Store, StoreError
from proxy.wire.body import read_json
from schemas.compiled import Compiled, admitted
from schemas.dialect import examine
from schemas.errors import SchemaRefused
from schemas.registry import SchemaRegistry

log = logging.getLogger("tailrace")

REFRESH_S = 2.0
"""How long a worker may not know what another has registered or bound."""

Bindings = dict[str, tuple[str, str | None]]


def note_of(version: str) -> str:
    """The name of the note that says of a schema what was found out when it was registered: [dialect, why slow]."""
    return f"schema {version}"


def ready(text: str | bytes, dialect: str, slow: str) -> Compiled:
    """A schema that was tried. A slow one gets no validator here. Blocks. Raises SchemaRefused."""
    compiled = admitted(examine(read_json(text if isinstance(text, bytes) else text.encode()), dialect))
    if not slow:
        compiled.prepare()
    return compiled


async def registered(store: Store, known: SchemaRegistry, sandbox: Sandbox) -> SchemaRegistry:
    """All schemas that were registered; those of `known` are not compiled again, slow ones not at all.

    One that is refused today stays in the store, unused.
    """
    registry = SchemaRegistry()
    for row in await store.schemas():
        compiled = known.get(row.name, row.version)
        try:
            if compiled is None:
                dialect, slow = await store.note(note_of(row.version)) or ("", "")
                compiled = await asyncio.to_thread(ready, row.text, dialect, slow)
                if slow:
                    sandbox.kept.add(row.version)
            registry = registry.with_schema(row.name, compiled)
        except SchemaRefused:
            log.warning("the registered schema %s version %s is refused now", row.name, row.version)
    return registry


async def bound(store: Store) -> Bindings:
    """Schema name and version of each route that was bound."""
    return {b.route: (b.schema, b.version) for b in await store.bindings()}


async def refresh(services: Services) -> None:
    """What any worker has registered or bound holds here. Raises StoreError."""
    before = services.registered, services.bindings
    found = (
        await registered(services.store, services.registered, services.sandbox),
        await bound(services.store),
    )
    if before == (services.registered, services.bindings):  # else it was changed here meanwhile
        services.registered, services.bindings = found


async def keep_fresh(services: Services) -> None:
    """Look again every other second, until cancelled; while the store cannot be read, what is known holds."""
    while True:
        await asyncio.sleep(REFRESH_S)
        with suppress(StoreError):
            await refresh(services)
