"""What is written down, and what every store can do with it.

StoreError
├── StoreRefused      the store takes nothing new now
│   ├── StoreFull     more is waiting to be written than may wait
│   └── StoreFailed   the disk refused: `Store.failed` says why, and whether it comes back by itself
└── UnknownStore      a store URL that names no store of ours

The ledger holds one row per upstream attempt. `begin` writes the intent before the call (what the call may
cost at most), `settle` its outcome after. Both only queue and return at once; `sync` puts what is queued where no
end of the process reaches it, and `flush` waits until it is on the disk. An intent that never got its outcome,
because the process died, is found at the next start and kept as `unsettled`, with the cost that was reserved for it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

from policies.chat import Purpose, Usage
from policies.saved import Saved
from policies.trimming import Dropped

Status = Literal["open", "ok", "failed", "cancelled", "unsettled"]
"""`open`: the call is under way. `unsettled`: the process died during the call."""

Group = Literal["route", "model", "key", "purpose", "day"]
GROUPS: Final[tuple[Group, ...]] = ("route", "model", "key", "purpose", "day")

Scope = Literal["route", "key", "run"]
"""What a budget may be set on."""


class StoreError(Exception):
    """Root of this package's errors."""


class StoreRefused(StoreError):
    """The store takes nothing new now."""


class StoreFull(StoreRefused):
    """More is waiting to be written than may wait."""


class StoreFailed(StoreRefused):
    """The disk refused."""


class UnknownStore(StoreError):
    """The URL names no store of ours."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The intent: one upstream call that is about to be made.

    `exchange` is our request id; `id` begins with it and a dot (`req_1.2`) and is unique for ever: a second `begin`
    with it changes nothing. Ids that grow with time keep the index small and the disk quiet.
    `model` is the name that goes upstream, `alias` ours. `reserved_nanousd` is the most the call can
    cost, None where unpriced. `propensity` is the probability that the exchange began at its model, `reason` why it
    did or why this call was made; None where nothing decided but the ladder.
    """

    id: str
    exchange: str
    ts_ns: int
    route: str
    alias: str
    model: str
    provider: str
    key: str | None = None
    run: str | None = None
    step: str | None = None
    number: int = 1
    purpose: Purpose = "answer"
    stream: bool = False
    reserved_nanousd: int | None = None
    propensity: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt.

    `cost_nanousd` None: unpriced. `purpose` None keeps that of the intent; a call that we ended ourselves
    becomes `cancelled` or `hedge_loser`. `saved` belongs on the attempt whose answer was delivered, and on
    calls besides an exchange; None on all others and where unpriced; see `Ledger.credit`. `failure` is a `policies.chat.Failure.kind`.
    `expected_trimming` is what trimming was thought to save over the coming turns, in nano-USD, before the call.
    """

    status: Literal["ok", "failed", "cancelled"]
    usage: Usage
    cost_nanousd: int | None
    purpose: Purpose | None = None
    saved: Saved | None = None
    verdict: str | None = None
    repairs: tuple[str, ...] = ()
    failure: str | None = None
    latency_ms: float | None = None
    ttft_ms: float | None = None
    expected_trimming: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One attempt as the ledger holds it. Figures are 0 and `reported` is False until it is settled."""

    id: str
    exchange: str
    ts_ns: int
    route: str
    alias: str
    model: str
    provider: str
    key: str | None
    run: str | None
    step: str | None
    number: int
    purpose: str
    stream: bool
    reserved_nanousd: int | None
    propensity: float | None
    reason: str | None
    status: Status
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    reported: bool
    cost_nanousd: int | None
    saved_routing: int | None
    saved_trimming: int | None
    saved_caching: int | None
    saved_patch: int | None
    saved_shadow: int | None
    verdict: str | None
    repairs: str
    failure: str | None
    latency_ms: float | None
    ttft_ms: float | None
    expected_trimming: int | None


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over attempts that are no longer under way.

    `requests` counts exchanges. `unpriced` attempts have no known cost and are not part of `cost_nanousd`;
    neither are `unsettled` ones, whose reserved worst case stands in `unsettled_nanousd`.
    """

    requests: int = 0
    attempts: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_nanousd: int = 0
    saved_nanousd: int = 0
    unpriced: int = 0
    unsettled: int = 0
    unsettled_nanousd: int = 0


@dataclass(frozen=True, slots=True)
class UsageReport:
    """`rows` are (what they are of, figures), in order of `by`; `total` counts each exchange once."""

    by: tuple[Group, ...]
    rows: tuple[tuple[Mapping[Group, str | None], Figures], ...]
    total: Figures


@dataclass(frozen=True, slots=True)
class Exchange:
    """One client request and its attempts in the order they were made."""

    id: str
    attempts: tuple[Row, ...]


class ContextRecord(NamedTuple):
    """What trimming left out of one request: `id` is our request id, `key` the name of the key that made it.

    `dropped` says of each piece which message of the request it was, and is read by the store when it writes, not
    before. `net_tokens` is what trimming was thought to save over the coming turns; None where nothing was weighed.
    """

    id: str
    route: str
    key: str | None
    ts_ns: int
    until_ns: int
    tokens_in: int
    tokens_out: int
    net_tokens: float | None
    note: str
    dropped: Sequence[Dropped]


class KeptContext(NamedTuple):
    """A record, and the messages it is about by their hash, each as the client sent it."""

    record: ContextRecord
    messages: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """A registered schema: `text` is its JSON as registered, `version` the hash of its content."""

    name: str
    version: str
    text: str
    created_ns: int


@dataclass(frozen=True, slots=True)
class Binding:
    """The schema a route was given at run time; `version` None follows the newest."""

    route: str
    schema: str
    version: str | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A client's key made at run time: only the digest of its text is kept."""

    name: str
    digest: bytes
    created_ns: int
    routes: frozenset[str] | None = None
    admin: bool = False
    budget_nanousd: int | None = None
    budget_per: str | None = None
    rpm: int | None = None
    tpm: int | None = None
    revoked_ns: int | None = None


class Ledger(Protocol):
    """One row per upstream attempt."""

    @property
    def failed(self) -> str | None:
        """Why nothing can be written now; None while all is well."""

    @property
    def stopped(self) -> bool:
        """Nothing will be written any more until a restart: closed, or the disk failed for good."""

    @property
    def waiting(self) -> int:
        """What is queued and not on the disk yet."""

    @property
    def lost(self) -> int:
        """Outcomes that came after the store had stopped."""

    @property
    def unsettled_at_start(self) -> int:
        """Attempts that dead processes had left open when this store was opened."""

    def begin(self, attempt: Attempt) -> None:
        """Queue the intent. Raises StoreFull or, where the disk failed for good, StoreFailed."""

    def settle(self, attempt_id: str, outcome: Outcome) -> None:
        """Queue the outcome. The first one counts; never raises, because the money is spent."""

    def credit(self, attempt_id: str, saved: Saved) -> None:
        """Queue what an exchange saved or lost, where that was known only after all its attempts were settled.

        It takes the place of what the attempt's outcome said of it. Never raises.
        """

    def sync(self) -> bool:
        """No end of the process takes what was queued before; called before what depends on that leaves.

        False where it could not be done: `failed` says why. Never raises.
        """

    async def flush(self) -> None:
        """All that was queued before is on the disk. Raises StoreFailed where it is not."""

    async def usage(self, from_ns: int, to_ns: int, by: Sequence[Group] = ()) -> UsageReport:
        """Sums over attempts begun in [from_ns, to_ns)."""

    async def spent(self, scope: Scope, name: str, from_ns: int, to_ns: int) -> int:
        """Nano-USD of attempts begun in [from_ns, to_ns); unsettled ones count as reserved."""

    async def recent(self, limit: int = 50) -> tuple[Exchange, ...]:
        """The newest exchanges with all their attempts, newest first."""

    async def exchange(self, exchange_id: str) -> Exchange | None:
        """One exchange by our request id."""

    def rows(self, from_ns: int, to_ns: int) -> AsyncIterator[Row]:
        """Every attempt begun in [from_ns, to_ns), in order of writing; for exports."""


class Registry(Protocol):
    """Schemas registered at run time, and which route uses which."""

    async def put_schema(self, name: str, version: str, text: str, created_ns: int) -> bool:
        """Keep this version and make it the newest; False where it is the newest already."""

    async def schemas(self) -> tuple[SchemaVersion, ...]:
        """Every version of every schema that is not deleted, by name, oldest first."""

    async def delete_schema(self, name: str) -> bool:
        """The schema, its versions and its bindings are gone; False where there was none."""

    async def bind(self, binding: Binding) -> None:
        """The route uses this schema from now on."""

    async def unbind(self, route: str) -> bool:
        """The route has no schema of its own any more; False where it had none."""

    async def bindings(self) -> tuple[Binding, ...]:
        """Every route's binding, by route."""


class Keys(Protocol):
    """Client keys made at run time."""

    async def put_key(self, key: StoredKey) -> bool:
        """Keep a new key; False where the name was ever used, because the ledger knows it."""

    async def revoke_key(self, name: str, at_ns: int) -> bool:
        """The key is revoked; False where there is no such key, or it was revoked before."""

    async def stored_keys(self) -> tuple[StoredKey, ...]:
        """Every key, the revoked ones too, by name."""


class Contexts(Protocol):
    """What trimming left out of requests, for a while."""

    def keep_context(self, record: ContextRecord, messages: Sequence[Mapping[str, Any]], size: int) -> bool:
        """Queue a record of about `size` bytes; False where too much is waiting already. Never waits, never raises.

        `messages` are all of the request; a later record with the same id takes the place of the earlier.
        """

    async def context(self, record_id: str, now_ns: int) -> KeptContext | None:
        """A record by its id, with the texts; None where there is none, or its time has come."""

    async def forget_contexts(self, now_ns: int) -> int:
        """Some of what has had its time is gone; how much. Call it again until nothing is left."""


class Notes(Protocol):
    """Small values by name, for what survives a restart and needs no table of its own."""

    async def put_note(self, name: str, value: Any) -> None:
        """Keep `value` (JSON) under `name`; None takes it away."""

    async def add_note(self, name: str, value: Any) -> bool:
        """Keep `value` under `name`; False where there is one already, which stays, whoever of several processes made it."""

    async def note(self, name: str) -> Any:
        """The value kept under `name`, or None."""

    async def notes(self, prefix: str, limit: int = 1000) -> Mapping[str, Any]:
        """The values whose names begin with `prefix`, by name, at most `limit`."""


class Store(Ledger, Registry, Keys, Contexts, Notes, Protocol):
    """Everything that outlives a request."""

    async def close(self) -> None:
        """All is written and released. Raises StoreFailed where it could not be written. Twice is fine."""
