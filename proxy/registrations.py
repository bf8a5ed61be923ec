"""What was registered at run time: schemas and their bindings to routes, as the store has them."""

import asyncio
import logging
from contextlib import suppress

import orjson

from proxy.services import Services
from proxy.stores.base import Store, StoreError
from schemas.compiled import compile_schema
from schemas.errors import SchemaRefused
from schemas.registry import SchemaRegistry

log = logging.getLogger("tailrace")

REFRESH_S = 2.0
"""How long a worker may not know what another has registered or bound."""

Bindings = dict[str, tuple[str, str | None]]


async def registered(store: Store, known: SchemaRegistry) -> SchemaRegistry:
    """All schemas that were registered; those of `known` are not compiled again.

    One that is refused today stays in the store, unused.
    """
    registry = SchemaRegistry()
    for row in await store.schemas():
        compiled = known.get(row.name, row.version)
        try:
            if compiled is None:
                compiled = await asyncio.to_thread(lambda text: compile_schema(orjson.loads(text)), row.text)
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
    found = await registered(services.store, services.registered), await bound(services.store)
    if before == (services.registered, services.bindings):  # else it was changed here meanwhile
        services.registered, services.bindings = found


async def keep_fresh(services: Services) -> None:
    """Look again every other second, until cancelled; while the store cannot be read, what is known holds."""
    while True:
        await asyncio.sleep(REFRESH_S)
        with suppress(StoreError):
            await refresh(services)
