"""What an app owns and its exchanges use: the configuration made ready, stores, metrics, counters.

`Ready` is immutable and swapped as one on reload; `Services` lives as long as the app.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cachetools import LRUCache

from policies.contract import Contract
from policies.route import Route
from policies.routing import Choice
from policies.structure import Seen
from proxy.cache import Responses
from proxy.conversations import Conversations
from proxy.counters import Counter
from proxy.estimates import Paces
from proxy.health import Health
from proxy.hedging import Beginnings
from proxy.homes import Homes
from proxy.learning import Learning
from proxy.listener import Listener
from proxy.outbox import Outbox
from proxy.outcomes import OutcomeLog
from proxy.sandbox import Sandbox
from proxy.snapshot import Key, Snapshot
from proxy.stores.base import Store, StoredKey
from proxy.stores.limiter import Limiter
from proxy.summaries import Summaries
from proxy.tasks import Tasks
from proxy.telemetry import Telemetry
from proxy.upstreams.openai import OpenAIUpstream
from proxy.upstreams.transport import Transport
from proxy.wire.body import dump
from schemas.compiled import Compiled, admitted, compile_schema
from schemas.dialect import examine
from schemas.families import FamilyName
from schemas.registry import SchemaRegistry
from schemas.subset import Subset, compile_subset

DEFAULT: Final = "default"
INLINE_SCHEMAS: Final = 512
SMALL_SCHEMA_BYTES: Final = 8192
"""Compiled in about 5 ms; larger ones in a thread, so that the event loop goes on meanwhile."""
LARGE_SCHEMA_BYTES: Final = 32 * 1024
"""Larger ones are tried in the sandbox first: the last part of compiling cannot be interrupted by other threads."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A snapshot with everything compiled that its exchanges need."""

    snapshot: Snapshot
    upstreams: Mapping[str, OpenAIUpstream]
    routes: Mapping[str, Route]
    keys: Mapping[bytes, Key] | None
    configured: Mapping[str, Compiled]
    """Schemas of the configuration, by name."""
    choices: dict[tuple[Any, ...], Choice] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Where requests begin, by all that it hangs on, where it hangs on the request alone (`proxy.planning`)."""
    shown: dict[str, Key] = field(default_factory=dict, init=False, repr=False, compare=False)
    """`authorization` headers that showed one of `keys`. Not taken over where `keys` are replaced."""


@dataclass(slots=True)
class Services:
    """The parts of one running app. No module keeps any of this: two apps never meet."""

    ready: Ready
    transports: dict[bool, Transport]
    """By whether the provider is reached through a proxy of the environment."""
    store: Store
    limiter: Limiter
    telemetry: Telemetry
    tasks: Tasks
    outbox: Outbox
    """What leaves: what the ledger has to know by then is on record before."""
    health: Health
    counter: Counter
    conversations: Conversations
    registered: SchemaRegistry
    bindings: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """Route -> schema name and version, as set at run time."""
    listings: dict[str, tuple[float, list[dict[str, Any]]]] = field(default_factory=dict)
    """Providers' own lists of models, with the time until which they are believed."""
    inline: LRUCache[bytes, Compiled] = field(default_factory=lambda: LRUCache(INLINE_SCHEMAS))
    """Schemas that came with requests, by the hash of their text."""
    caches: dict[str, Responses] = field(default_factory=dict)
    """Kept answers by route."""
    seen: dict[str, Seen] = field(default_factory=dict)
    """How models treated the shapes they were asked for, by alias."""
    subsets: LRUCache[tuple[str, FamilyName], Subset] = field(
        default_factory=lambda: LRUCache(INLINE_SCHEMAS)
    )
    """Schemas in the words of a provider family, by version and family."""
    stored_keys: tuple[StoredKey, ...] = ()
    """Keys that were made at run time, the revoked ones too."""
    paces: Paces = field(default_factory=Paces)
    homes: Homes = field(default_factory=Homes)
    learning: Learning = field(default_factory=Learning)
    outcomes: OutcomeLog = field(default_factory=OutcomeLog)
    summaries: Summaries = field(default_factory=Summaries)
    beginnings: Beginnings = field(default_factory=Beginnings)
    shadows: int = 0
    """Shadow calls under way."""
    listeners: set[Listener] = field(default_factory=set)
    """Streams under way, so that a shutdown can end them with an error event."""
    sandbox: Sandbox = field(default_factory=Sandbox)
    """Where answers are judged by schemas that may take long."""
    draining: bool = False
    in_work: int = 0

    def schema_named(self, name: str, version: str | None = None) -> Compiled | None:
        """A registered schema, else a configured one."""
        found = self.registered.get(name, version)
        if found is not None:
            return found
        return self.ready.configured.get(name) if version is None else None

    async def inline_schema(self, schema: Any) -> Compiled:
        """A schema that came with a request, compiled once while it stays in use. Raises SchemaRefused."""
        text = dump(schema)
        key = hashlib.sha256(text).digest()
        found = self.inline.get(key)
        if found is None:
            found = (
                compile_schema(schema) if len(text) <= SMALL_SCHEMA_BYTES else await self._large(text, schema)
            )
            self.inline[key] = found
        return found

    async def _large(self, text: bytes, schema: Any) -> Compiled:
        """A schema that takes long to compile; what cannot be interrupted is done in another process."""
        if len(text) <= LARGE_SCHEMA_BYTES:
            return await asyncio.to_thread(compile_schema, schema)
        trial = await self.sandbox.trial(text, probed=False)
        compiled = await asyncio.to_thread(lambda: admitted(examine(schema, trial.dialect)))
        if trial.slow:
            return replace(compiled, tried_slow=True)
        await asyncio.to_thread(compiled.prepare)
        return compiled

    def cache_of(self, route: Route) -> Responses | None:
        """The kept answers of `route`; a changed rule begins afresh."""
        if route.cache is None:
            return None
        found = self.caches.get(route.name)
        if found is None or found.rule != route.cache:
            found = self.caches[route.name] = Responses(route.cache)
        return found

    async def subset(self, schema: Compiled, family: FamilyName) -> Subset:
        """The schema in the words of a provider family."""
        found = self.subsets.get((schema.version, family))
        if found is None:
            small = len(schema.examined.text) <= SMALL_SCHEMA_BYTES
            found = (
                compile_subset(schema, family)
                if small
                else await asyncio.to_thread(compile_subset, schema, family)
            )
            self.subsets[schema.version, family] = found
        return found

    def contract_of(self, route: Route) -> Contract:
        """What `route` promises of its replies; a binding made at run time wins over the configuration."""
        name, version = self.bindings.get(route.name, (route.schema, None))
        if name is None:
            return Contract(None, route.repair.accept)
        return Contract(self.schema_named(name, version), route.repair.accept)


def make_ready(snapshot: Snapshot, transports: Mapping[bool, Transport]) -> Ready:
    """Everything of `snapshot` that can be prepared once."""
    routes = dict(snapshot.routes)
    if DEFAULT not in routes:
        routes[DEFAULT] = Route(DEFAULT, ())
    return Ready(
        snapshot,
        {name: OpenAIUpstream(p, transports[p.trust_env]) for name, p in snapshot.providers.items()},
        routes,
        None if snapshot.keys is None else {key.digest: key for key in snapshot.keys},
        {name: compile_schema(schema) for name, schema in snapshot.schemas.items()},
    )
