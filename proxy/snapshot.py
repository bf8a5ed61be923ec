"""What the configuration comes to: frozen values that an exchange keeps from its first line to its last.

`proxy/config` makes a Snapshot from YAML; nothing else does. A reload makes a new one and swaps one
reference, so that a running exchange never sees half of a change.
"""

import re
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any, Literal

from policies import book
from policies.cards import ModelCard
from policies.route import Budget, Route
from proxy.secret import Secret
from schemas.values import dataclass

_LONGEST_SOCKET_PATH = 100
"""Linux takes 107 bytes, others a little less."""


@dataclass(frozen=True, slots=True)
class Server:
    """How the proxy listens and what it bounds. `hold_status_s`: how long a stream's status line is held back."""

    host: str = "127.0.0.1"
    port: int = 8080
    admin_listen: str | None = None
    """Where administration, metrics and the page are served, and nowhere else; None: beside the models."""
    workers: int = 1
    max_body_mb: float = 20
    header_timeout_s: float = 10
    body_timeout_s: float = 30
    drain_s: float = 30
    hold_status_s: float = 5
    keepalive_s: float = 10
    """A comment is sent on a stream that was silent this long."""
    max_connections: int = 4096
    max_connections_per_client: int = 1024
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose connections are those of many clients."""
    max_held_mb: float = 512
    max_requests: int = 2048
    """Requests in work at once; one more gets 503 with Retry-After."""
    open_metrics: bool = False
    """Whether `/metrics` is given to everybody though there are keys."""
    cors_origins: tuple[str, ...] = ()
    """Origins that a browser may call from; empty: CORS is off."""


def admin_address(value: str) -> str | tuple[str, int]:
    """The path of a socket in the file system, or host and port. Raises ValueError."""
    if value.startswith("unix:"):
        if not 5 < len(value) <= 5 + _LONGEST_SOCKET_PATH:
            raise ValueError("not a path that a socket may have")
        return value.removeprefix("unix:")
    host, colon, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if (
        not colon
        or not re.fullmatch(r"[0-9A-Za-z.:%_-]{1,253}", host)
        or not re.fullmatch(r"[0-9]{1,5}", port)
    ):
        raise ValueError("neither HOST:PORT nor unix:PATH")
    if int(port) > 65535:
        raise ValueError("not a port")
    return host, int(port)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `idle_s` bounds the silence between two pieces of an answer, `total_s` the whole call."""

    connect_s: float = 5
    first_byte_s: float = 120
    idle_s: float = 60
    total_s: float = 600


@dataclass(frozen=True, slots=True)
class Provider:
    """Where models live and how to talk to them. `headers` and `query` are added to each call."""

    name: str
    base_url: str
    dialect: Literal["openai", "anthropic"] = "openai"
    api_key: Secret | None = None
    api_key_header: str = "authorization"
    """`authorization` sends `Bearer KEY`, any other name sends the bare key (Azure: `api-key`)."""
    headers: Mapping[str, Secret] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    timeouts: Timeouts = field(default_factory=Timeouts)
    retries: int = 1
    stream_usage: bool = True
    """Ask for usage on streams (`stream_options`), hidden from clients that did not; false for servers that refuse it."""
    cache_control: bool = False
    """Mark the end of a frozen prefix with `cache_control`, for providers that cache on demand."""
    trust_env: bool = False
    """Use HTTP(S)_PROXY of the environment for this provider."""


@dataclass(frozen=True, slots=True)
class Key:
    """A client's key, kept as the SHA-256 of its text. `routes` None: every route."""

    name: str
    digest: bytes
    routes: frozenset[str] | None = None
    admin: bool = False
    budget: Budget | None = None
    rpm: int | None = None
    tpm: int | None = None


MAX_REMEMBERED = 1024
LONGEST_REMEMBERED = 256
"""Names outside the configuration whose cards are kept ready, and how long one may be: clients choose them."""


def completed(card: ModelCard, provider: Provider) -> ModelCard:
    """`card` with what the price book knows and the configuration does not say."""
    known = book.card(provider.base_url, card.name) if card.name is not None else None
    if known is None:
        return card
    return replace(
        card,
        price=card.price or known.price,
        window_tokens=card.window_tokens or known.window_tokens,
        max_output_tokens=card.max_output_tokens or known.max_output_tokens,
        can=known.can if card.can is None else card.can,
    )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole configuration. `keys` None: the proxy is open. `schemas` are parsed JSON Schemas by name."""

    server: Server
    store: str
    providers: Mapping[str, Provider]
    models: Mapping[str, ModelCard]
    """By alias; an alias that ends in `*` is a pattern, see `card_for`."""
    schemas: Mapping[str, Any]
    routes: Mapping[str, Route]
    keys: tuple[Key, ...] | None = None

    _remembered: dict[str, ModelCard] = field(default_factory=dict, repr=False, compare=False)
    """What `card_for` made of names that patterns and providers matched: the same each time, so kept."""

    def card_for(self, asked: str) -> ModelCard | None:
        """The model that `asked` names: an alias, else the longest pattern that fits, else `provider/name`.

        That last one is a single deployment where the model has several. The card's `name` is what goes
        upstream. Its `alias` is always a word of the configuration, so that it may be a metric's label: the
        pattern that fitted, or `provider/*` for a name that no alias has.
        """
        card = self.models.get(asked) or self._remembered.get(asked)
        if card is not None and card.name is not None:
            return card
        card = self._matched(asked)
        if card is not None and len(self._remembered) < MAX_REMEMBERED and len(asked) <= LONGEST_REMEMBERED:
            self._remembered[asked] = card
        return card

    def _matched(self, asked: str) -> ModelCard | None:
        fits = [a for a in self.models if a.endswith("*") and asked.startswith(a[:-1])]
        if fits:
            pattern = self.models[max(fits, key=len)]
            return completed(replace(pattern, name=asked), self.providers[pattern.provider])
        provider, found, name = asked.partition("/")
        if not (found and name and provider in self.providers):
            return None
        for card in self.models.values():
            for place in (*(deployment.card for deployment in card.deployments), card):
                if (place.provider, place.name) == (provider, name):
                    return place
        return completed(ModelCard(f"{provider}/*", provider, name), self.providers[provider])
