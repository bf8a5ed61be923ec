"""The configuration as pydantic sees it: every field with its type, bounds, default and meaning.

Defaults are those of the frozen values that the models become (`proxy/snapshot.py`); the routes are in
`proxy/config/routes.py`. `docs/configuration.md` is made from both.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from proxy.config.routes import BudgetModel, RouteModel
from proxy.config.types import (
    Ability,
    Count,
    Seconds,
    StrictModel,
    Tag,
    Text,
    Truth,
    UsdPerMillion,
    Whole,
    Words,
    checked_admin,
    checked_base_url,
    checked_network,
    checked_store,
    typed,
)
from proxy.secret import Secret
from proxy.snapshot import Provider, Server, Timeouts

_SERVER, _TIMES, _PROVIDER = Server(), Timeouts(), Provider("", "")


class ServerModel(StrictModel):
    """How the proxy listens and what it bounds."""

    host: Text = Field(
        default=_SERVER.host, description="Address to listen on. Without `keys` only a loopback address."
    )
    port: Annotated[Whole, Field(ge=0, le=65535)] = Field(
        default=_SERVER.port, description="Port; 0 takes a free one."
    )
    admin_listen: Annotated[str, BeforeValidator(checked_admin), Words("HOST:PORT or unix:PATH")] | None = Field(
        default=None,
        description="A second address, for `/admin/*`, `/metrics`, `/ui` and changes of schemas and routes, which are then served there only: `127.0.0.1:9090`, or `unix:PATH`, which only the proxy's own user may use. Absent: all at one address.",
    )  # fmt: skip
    workers: Annotated[Whole, Field(ge=1, le=64)] = Field(
        default=_SERVER.workers, description="Processes that serve."
    )
    max_body_mb: Annotated[float, BeforeValidator(typed), Field(gt=0, le=1024)] = Field(
        default=_SERVER.max_body_mb, description="Largest request body, in MB; above it 413."
    )
    header_timeout_s: Seconds = Field(
        default=_SERVER.header_timeout_s, description="A connection must have sent a whole head by then."
    )
    body_timeout_s: Seconds = Field(
        default=_SERVER.body_timeout_s, description="A request must have sent its body by then."
    )
    drain_s: Seconds = Field(
        default=_SERVER.drain_s, description="How long running answers may go on after SIGTERM."
    )
    hold_status_s: Seconds = Field(
        default=_SERVER.hold_status_s,
        description="How long the status of a stream is held back, so that an error keeps its own.",
    )
    keepalive_s: Seconds = Field(
        default=_SERVER.keepalive_s, description="A stream that was silent this long gets a comment."
    )
    max_connections: Count = Field(
        default=_SERVER.max_connections, description="Open client connections at once."
    )
    max_connections_per_client: Count = Field(
        default=_SERVER.max_connections_per_client,
        description="Open connections of one client's address (IPv6: of its /64) at once; loopback and `trusted_proxies` are not counted.",
    )
    trusted_proxies: list[Annotated[str, BeforeValidator(checked_network), Words("an address or a network such as 10.0.0.0/8")]] = Field(
        default=[], description="Reverse proxies in front of this one: a connection of theirs may be any client's."
    )  # fmt: skip
    max_held_mb: Annotated[float, BeforeValidator(typed), Field(gt=0, le=1_048_576)] = Field(
        default=_SERVER.max_held_mb,
        description="Request bodies in memory at once, all together, in MB; one more gets 503 with Retry-After. Never less than `max_body_mb`.",
    )
    max_requests: Count = Field(
        default=_SERVER.max_requests,
        description="Requests in work at once; one more gets 503 with Retry-After.",
    )
    open_metrics: Truth = Field(
        default=_SERVER.open_metrics,
        description="Give `/metrics` to everybody. `false`: with `keys`, it asks for a key that is bound to no routes, or has `admin`.",
    )
    cors_origins: list[Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$"), Words("an origin such as https://app.example, or '*'")]] = Field(
        default=[], description="Origins that browsers may call from. None: CORS is off."
    )  # fmt: skip


class TimeoutsModel(StrictModel):
    """Seconds that a call to a provider may take."""

    connect_s: Seconds = Field(
        default=_TIMES.connect_s, description="Until the connection stands, TLS included."
    )
    first_byte_s: Seconds = Field(
        default=_TIMES.first_byte_s, description="Until the first byte of the answer."
    )
    idle_s: Seconds = Field(default=_TIMES.idle_s, description="Silence between two pieces of an answer.")
    total_s: Seconds = Field(default=_TIMES.total_s, description="The whole call.")


class ProviderModel(StrictModel):
    """Where models live and how to talk to them. Any name."""

    dialect: Literal["openai", "anthropic"] = Field(
        default=_PROVIDER.dialect,
        description="What the provider speaks: `openai` for every OpenAI-compatible endpoint, `anthropic` for Anthropic's own.",
    )
    base_url: Annotated[str, BeforeValidator(checked_base_url), Words("a URL such as https://api.openai.com/v1, without a password or query")] = Field(
        description="Address up to and with the version; paths such as `/chat/completions` are put after it."
    )  # fmt: skip
    api_key: Annotated[Secret, Words("a text: $NAME, file:PATH or the key itself, in quotes")] | None = Field(
        default=None, description="The provider's key. Absent: no key is sent (local servers)."
    )
    api_key_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$"), Words("a header's name")] = Field(
        default=_PROVIDER.api_key_header,
        description="Header that carries the key: `authorization` sends `Bearer KEY`, any other the bare key (Azure: `api-key`).",
    )
    headers: dict[str, Annotated[Secret, Words("a text, in quotes where it looks like a number")]] = Field(
        default={}, description="More headers for each call. Values are treated as secrets."
    )
    query: dict[str, Annotated[str, Words("a text, in quotes where it looks like a number")]] = Field(
        default={}, description="Query parameters for each call (Azure: `api-version`)."
    )
    timeouts: TimeoutsModel = Field(default_factory=TimeoutsModel, description="How long a call may take.")
    retries: Annotated[Whole, Field(ge=0, le=10)] = Field(
        default=_PROVIDER.retries,
        description="How often a call that failed before its first byte is made again.",
    )
    stream_usage: Truth = Field(
        default=_PROVIDER.stream_usage,
        description="Ask for the usage of streams; a client that did not ask for it does not see it. `false` for a server that refuses `stream_options`.",
    )
    cache_control: Truth = Field(
        default=_PROVIDER.cache_control,
        description="The provider takes `cache_control` on parts of a message (Anthropic, OpenRouter): with `context.policy: relevant` the end of a conversation's frozen prefix is marked.",
    )
    trust_env: Truth = Field(
        default=_PROVIDER.trust_env,
        description="Use HTTP_PROXY, HTTPS_PROXY and NO_PROXY of the environment for this provider.",
    )


class PriceModel(StrictModel):
    """USD per million tokens, as a number or a text such as "0.0375"."""

    input: UsdPerMillion = Field(description="Tokens of the prompt.")
    output: UsdPerMillion = Field(description="Generated tokens, reasoning included.")
    cached_input: UsdPerMillion | None = Field(
        default=None, description="Prompt tokens read from the provider's cache; absent: as `input`."
    )
    cache_write: UsdPerMillion | None = Field(
        default=None, description="Prompt tokens written to the provider's cache; absent: as `input`."
    )


class DeploymentModel(StrictModel):
    """One of several places where a model is served."""

    provider: Annotated[Text, Words("a provider's name")] = Field(
        description="Where it is: a name under `providers`."
    )
    name: Text | None = Field(
        default=None, description="The model's name there. Absent: the model's `name`, else its alias."
    )
    weight: Annotated[float, BeforeValidator(typed), Field(gt=0, le=1000, allow_inf_nan=False)] = Field(
        default=1, description="How many times the calls of a deployment of weight 1 it bears."
    )


class ModelModel(StrictModel):
    """A model under an alias of your choice. What is absent here comes from the built-in price book.

    An alias that ends in `*` stands for every name it matches and passes that name to the provider.
    """

    provider: Annotated[Text, Words("a provider's name")] | None = Field(
        default=None, description="Where it lives: a name under `providers`. Absent: at its `deployments`."
    )
    deployments: Annotated[list[DeploymentModel], Field(min_length=1, max_length=50)] | None = Field(
        default=None,
        description="The places where the same model is served, in place of `provider`: each call goes to the less loaded of two of them, and to another one where it fails. Prices and abilities are one. What is stored (Responses, files) lives at the first.",
    )
    name: Text | None = Field(default=None, description="Its name at the provider. Absent: the alias.")
    window_tokens: Count | None = Field(
        default=None, description="Context window: prompt and answer together."
    )
    max_output_tokens: Count | None = Field(default=None, description="Longest answer.")
    price: PriceModel | None = Field(
        default=None,
        description="A model whose price nobody knows is reported as unpriced, never as free.",
    )
    can: list[Ability] | None = Field(
        default=None, description="Abilities. Absent: what the price book knows, else nothing is assumed."
    )
    breaker: Truth | None = Field(
        default=None,
        description="Leave the model alone for a while after it failed in a row. Absent: true, but false for a pattern, whose names the client chooses.",
    )
    tags: list[Tag] = Field(default=[], description="What routes may `require` of it: a region, say.")


class KeyModel(StrictModel):
    """A client's key. It is kept as a hash; it never goes upstream."""

    name: Text = Field(description="Its name in the ledger, in metrics and in logs.")
    key: Annotated[Secret, Words("a text: $NAME, file:PATH or the key itself, in quotes")] = Field(
        description="What the client sends as `Authorization: Bearer KEY`."
    )
    routes: Annotated[list[Annotated[Text, Words("a route's name")]], Field(min_length=1)] | None = Field(
        default=None,
        description="Routes that it may use; `default` stands for requests that select none. Absent: all.",
    )
    admin: Truth = Field(False, description="May use `/admin/*` and change schemas and routes.")
    budget: BudgetModel | None = Field(default=None, description="Money in each period. Absent: no limit.")
    rpm: Count | None = Field(default=None, description="Requests in a minute. Absent: no limit.")
    tpm: Count | None = Field(default=None, description="Tokens in a minute. Absent: no limit.")


SchemaSource = Annotated[Any, Words("the path of a JSON Schema file, or the schema itself")]


class ConfigModel(StrictModel):
    """The whole file."""

    server: ServerModel = Field(
        default_factory=ServerModel, description="How the proxy listens and what it bounds."
    )
    store: Annotated[
        str, BeforeValidator(checked_store), Words("sqlite:///PATH, postgresql://... or memory:")
    ] = Field(
        default="sqlite:///tailrace.db",
        description="Where the ledger and what is registered live; PATH is seen from the folder that the proxy was started in.",
    )
    providers: Annotated[dict[str, ProviderModel], Field(min_length=1)] = Field(
        description="Where models live, by name."
    )
    models: Annotated[dict[str, ModelModel], Field(min_length=1)] = Field(description="Models, by alias.")
    schemas: Annotated[dict[str, SchemaSource], Words("a mapping from names to files or schemas")] = Field(
        default={},
        description="JSON Schemas, by name: the path of a file, seen from this file's folder, or the schema itself.",
    )
    routes: dict[str, RouteModel] = Field(default={}, description="Bundles of policies, by name.")
    keys: Annotated[list[KeyModel], Field(min_length=1)] | None = Field(
        default=None,
        description="Who may use the proxy. Absent: everyone who reaches it, and only on a loopback address.",
    )
