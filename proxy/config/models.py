"""The configuration as pydantic sees it: every field with its type, bounds, default and meaning.

Types are strict and unknown fields are errors. Defaults are those of the frozen values that the models
become (`proxy/snapshot.py`, `policies/route.py`). `docs/configuration.md` is made from this file.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from policies.route import (
    ChooseRule,
    ContextPolicy,
    ContextRule,
    Floor,
    GiveUp,
    Limits,
    Repair,
    Route,
    StreamMode,
    Structured,
)
from proxy.config.environ import FromEnvironment
from proxy.config.tree import resolved
from proxy.snapshot import Provider, Secret, Server, Timeouts
from schemas.check import ChangeKind

NANO = 10**9
PICO = 10**12
MILLION = 10**6
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,15})?\Z")

Ability = Literal["json_object", "json_schema", "tools", "vision", "audio", "pdf", "reasoning", "embeddings"]


@dataclass(frozen=True, slots=True)
class Words:
    """How a type is called in messages and in the reference."""

    text: str


def _typed(value: Any) -> Any:
    """A number or truth value that came from the environment as a text."""
    return resolved(value) if isinstance(value, FromEnvironment) else value


def _amount(value: Any) -> Decimal:
    """An amount of USD without the loss of a float: its shortest text is what was written."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        text: Any = format(Decimal(repr(value)), "f")  # without an exponent
    else:
        text = value
    if not isinstance(text, str) or not _AMOUNT.match(text):
        raise ValueError("not an amount of USD")
    return Decimal(text)


def _pico_per_token(value: Any) -> int:
    """USD per million tokens as pico-USD per token."""
    exact = _amount(_typed(value)) * (PICO // MILLION)
    if exact != int(exact):
        raise ValueError("finer than a millionth of a dollar per million tokens")
    return int(exact)


def _nanousd(value: Any) -> int:
    """USD as nano-USD."""
    exact = _amount(_typed(value)) * NANO
    if exact != int(exact):
        raise ValueError("finer than a nano-dollar")
    return int(exact)


def _base_url(value: Any) -> Any:
    """The URL without a slash at its end. No message repeats it: it may hold a password."""
    if not isinstance(value, str):
        return value
    try:
        parts = urlsplit(value)
        valid = (
            parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        valid = False
    if not valid or re.search(r"[^\x21-\x7e]", value):
        raise ValueError("not an http or https URL")
    if "@" in parts.netloc:
        raise ValueError("holds a user name or a password; use api_key or headers")
    if parts.query or parts.fragment:
        raise ValueError("has a query or a fragment; put the query under `query`")
    return value.rstrip("/")


def _store(value: Any) -> Any:
    if isinstance(value, str) and not re.match(r"(memory:|sqlite:///.+|postgres(ql)?://.+)\Z", value):
        raise ValueError("not a store that Tailrace knows")
    return value


Usd = Annotated[int, BeforeValidator(_nanousd), Field(gt=0), Words("an amount of USD above 0, such as 0.05")]
UsdPerMillion = Annotated[
    int, BeforeValidator(_pico_per_token), Words("USD per million tokens, such as 0.15")
]
Truth = Annotated[bool, BeforeValidator(_typed)]
Whole = Annotated[int, BeforeValidator(_typed)]
Count = Annotated[Whole, Field(ge=1, le=1_000_000_000)]
Seconds = Annotated[float, BeforeValidator(_typed), Field(gt=0, le=86_400, allow_inf_nan=False)]
KeptSeconds = Annotated[float, BeforeValidator(_typed), Field(ge=0, le=31_536_000, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]
Model = Annotated[Text, Words("a model's alias")]
_SERVER, _TIMES, _REPAIR, _LIMITS, _CONTEXT = Server(), Timeouts(), Repair(), Limits(), ContextRule()
_PROVIDER = Provider("", "")
_ROUTE, _FLOOR = Route("", ()), Floor("")
Share = Annotated[float, BeforeValidator(_typed), Field(ge=0, le=1, allow_inf_nan=False)]
Tag = Annotated[Text, Words("a tag's name")]


class _Strict(BaseModel):
    model_config = ConfigDict(
        defer_build=True, extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True
    )


class ServerModel(_Strict):
    """How the proxy listens and what it bounds."""

    host: Text = Field(
        default=_SERVER.host, description="Address to listen on. Without `keys` only a loopback address."
    )
    port: Annotated[Whole, Field(ge=0, le=65535)] = Field(
        default=_SERVER.port, description="Port; 0 takes a free one."
    )
    workers: Annotated[Whole, Field(ge=1, le=64)] = Field(
        default=_SERVER.workers, description="Processes that serve."
    )
    max_body_mb: Annotated[float, BeforeValidator(_typed), Field(gt=0, le=1024)] = Field(
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


class TimeoutsModel(_Strict):
    """Seconds that a call to a provider may take."""

    connect_s: Seconds = Field(
        default=_TIMES.connect_s, description="Until the connection stands, TLS included."
    )
    first_byte_s: Seconds = Field(
        default=_TIMES.first_byte_s, description="Until the first byte of the answer."
    )
    idle_s: Seconds = Field(default=_TIMES.idle_s, description="Silence between two pieces of an answer.")
    total_s: Seconds = Field(default=_TIMES.total_s, description="The whole call.")


class ProviderModel(_Strict):
    """Where models live and how to talk to them. Any name."""

    dialect: Literal["openai", "anthropic"] = Field(
        default=_PROVIDER.dialect,
        description="What the provider speaks: `openai` for every OpenAI-compatible endpoint, `anthropic` for Anthropic's own.",
    )
    base_url: Annotated[str, BeforeValidator(_base_url), Words("a URL such as https://api.openai.com/v1, without a password or query")] = Field(
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
    trust_env: Truth = Field(
        default=_PROVIDER.trust_env,
        description="Use HTTP_PROXY, HTTPS_PROXY and NO_PROXY of the environment for this provider.",
    )


class PriceModel(_Strict):
    """USD per million tokens, as a number or a text such as "0.0375"."""

    input: UsdPerMillion = Field(description="Tokens of the prompt.")
    output: UsdPerMillion = Field(description="Generated tokens, reasoning included.")
    cached_input: UsdPerMillion | None = Field(
        default=None, description="Prompt tokens read from the provider's cache; absent: as `input`."
    )
    cache_write: UsdPerMillion | None = Field(
        default=None, description="Prompt tokens written to the provider's cache; absent: as `input`."
    )


class ModelModel(_Strict):
    """A model under an alias of your choice. What is absent here comes from the built-in price book.

    An alias that ends in `*` stands for every name it matches and passes that name to the provider.
    """

    provider: Annotated[Text, Words("a provider's name")] = Field(
        description="Where it lives: a name under `providers`."
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


class RepairModel(_Strict):
    """How far a route goes for an answer that satisfies its schema."""

    accept: list[ChangeKind] = Field(
        default=["lossless", "choice", "coercion"],
        description="Changes to a reply that are accepted. `lossy` drops or invents something: only where you can live with that.",
    )
    reask: Annotated[Whole, Field(ge=0, le=10)] = Field(
        default=_REPAIR.reask, description="How often the same model is asked again and told what was wrong."
    )
    patch: Truth = Field(
        default=_REPAIR.patch,
        description="Ask again only for the parts that were wrong, where the rest of the answer can stay.",
    )
    escalate: Truth = Field(default=_REPAIR.escalate, description="Go on with the next model of the ladder.")
    give_up: GiveUp = Field(
        default=_REPAIR.give_up,
        description="When nothing helped: `error` answers 422, `raw` delivers the last reply as it came.",
    )


class ContextModel(_Strict):
    """How much of a conversation goes upstream."""

    policy: ContextPolicy = Field(
        default=_CONTEXT.policy,
        description="`recent` keeps the last messages, `relevant` those that matter to the question, `off` all.",
    )
    budget_tokens: Count | None = Field(
        default=None, description="Largest prompt, in tokens. Absent: only the model's window bounds it."
    )
    keep_s: KeptSeconds = Field(
        default=_CONTEXT.keep_s,
        description="How long what was left out is kept in the store, to be had back from `GET /v1/context/{record}`; 0: not at all.",
    )


class LimitsModel(_Strict):
    """What one request may spend, all attempts together."""

    attempts: Annotated[Whole, Field(ge=1, le=100)] = Field(
        default=_LIMITS.attempts, description="Calls to models."
    )
    cost_usd: Usd | None = Field(default=None, description="Money. Absent: no limit.")
    deadline_s: Seconds | None = Field(
        default=None, description="Time. Absent: the providers' time-outs alone."
    )


class BudgetModel(_Strict):
    """Money that may be spent in each period."""

    usd: Usd = Field(description="Limit.")
    per: Literal["hour", "day", "week", "month", "total"] = Field(
        default="day", description="Period; `total` never starts again."
    )


class CacheModel(_Strict):
    """Answers that are given again to the same request of the same key, without asking a model."""

    ttl_s: Seconds = Field(default=300, description="How long an answer is kept, in seconds.")
    max_mb: Annotated[float, BeforeValidator(_typed), Field(gt=0, le=65_536, allow_inf_nan=False)] = Field(
        default=64, description="Memory for the answers of this route, in MiB."
    )


class FloorModel(_Strict):
    """Quality that is kept while saving, certified on the route's own log, or nothing is saved."""

    of: Model = Field(description="The model whose quality counts; one of the ladder.")
    keep: Annotated[Share, Field(gt=0)] = Field(
        default=_FLOOR.keep, description="How much of its quality is kept."
    )
    risk: Annotated[Share, Field(gt=0, le=0.5)] = Field(
        default=_FLOOR.risk, description="Probability that the certificate is wrong, at most."
    )
    calibration: Annotated[Text, Words("a file's path")] | None = Field(
        default=None,
        description="The reviewed YAML of `python -m proxy calibrate`, seen from this file's folder: which steps may begin cheap. Absent: none, everything goes to `of`.",
    )


class WhenModel(_Strict):
    """What a request looks like; every field that is given must hold. In names `*` stands for anything."""

    step: Text | None = Field(
        default=None, description="The step that the client declared (`X-Tailrace-Step`)."
    )
    tool: Text | None = Field(default=None, description="The name of one of its tools.")
    schema_: Text | None = Field(
        default=None, alias="schema", description="The name of its response format's schema."
    )
    system: Text | None = Field(default=None, description="A text that its system prompt contains.")
    fingerprint: Text | None = Field(
        default=None, description="Hash of system prompt, tools and response format, as `explain` prints it."
    )


class MatchModel(_Strict):
    """One rule: requests that look like `when` are of `step`, and climb `ladder`."""

    when: WhenModel = Field(description="What the request must look like.")
    step: Text | None = Field(default=None, description="The step's name, where the client declared none.")
    ladder: Annotated[list[Model], Field(min_length=1, max_length=20)] | None = Field(
        default=None, description="The models for it, cheapest first. Absent: the route's."
    )


class RouteModel(_Strict):
    """A bundle of policies that a client selects by name. `default` serves what selects no other."""

    ladder: Annotated[list[Model], Field(min_length=1, max_length=20), Words("a list of model aliases, cheapest first, at least one")] = Field(
        description="Models, cheapest first; a request climbs it when an answer is not good enough."
    )  # fmt: skip
    choose: ChooseRule = Field(
        default=_ROUTE.choose,
        description="Where on the ladder a request begins: at its foot (`ladder`), with the `cheapest_able` model at its size, or where the reviewed calibration allows it (`learned`).",
    )
    match: Annotated[list[MatchModel], Field(max_length=100)] = Field(
        default=[], description="Rules that name a request's step by its looks, the first that fits."
    )
    require: list[Tag] = Field(default=[], description="Tags that a model must bear to be asked.")
    floor: FloorModel | None = Field(
        default=None, description="Quality to keep with `choose: learned`. Absent: a valid answer is enough."
    )
    agree: Annotated[list[Model], Field(min_length=2, max_length=2), Words("two model aliases")] | None = (
        Field(
            default=None,
            description="Two models that are asked together and believed where they agree. Absent: off.",
        )
    )
    sticky: Truth = Field(
        default=_ROUTE.sticky,
        description="Keep a conversation on its model while leaving the provider's prompt cache costs more than it saves.",
    )
    shadow: Share = Field(
        default=_ROUTE.shadow,
        description="Share of requests that another model answers too, for the log alone.",
    )
    holdout: Share = Field(
        default=_ROUTE.holdout,
        description="Share of requests that the strong model answers, to measure savings against.",
    )
    log_prompts: Truth = Field(
        default=_ROUTE.log_prompts,
        description="Write an outcome of every request, its prompt included, beside the ledger: what `calibrate` fits a scorer on. Without it outcomes of `shadow` and `holdout` are written, without prompts.",
    )
    schema_: Annotated[Text, Words("a schema's name")] | None = Field(
        default=None,
        alias="schema",
        description="A name under `schemas`: replies are validated against it. A response_format in the request wins over it.",
    )
    repair: RepairModel = Field(
        default_factory=RepairModel, description="How far it goes for a valid answer."
    )
    structured: Structured = Field(
        default=_ROUTE.structured,
        description="How a model is asked for the schema: `native` response_format, `object` json_object and words, `tool` a forced tool call, `prompt` words alone, `as_asked` nothing added; `auto` the strongest that the model `can`.",
    )
    tools: Literal["check", "pass"] = Field(
        default=_ROUTE.tools,
        description="Arguments of tool calls are validated against the request's tools (`check`), or not looked at (`pass`).",
    )
    stream: StreamMode = Field(
        default=_ROUTE.stream,
        description="When text of an answer with a schema reaches the client: `hold` when it is whole and valid, `checked` while it can become valid, `pass` at once.",
    )
    context: ContextModel = Field(
        default_factory=ContextModel, description="How much of a conversation goes upstream."
    )
    limits: LimitsModel = Field(default_factory=LimitsModel, description="What one request may spend.")
    cache: CacheModel | None = Field(
        default=None,
        description="Keep answers and give them again to the very same request; identical requests that come together are asked once. Absent: off.",
    )
    budget: BudgetModel | None = Field(
        default=None, description="What all requests of the route may cost together. Absent: no limit."
    )
    run_budget: BudgetModel | None = Field(
        default=None, description="What each run (`X-Tailrace-Run`) of the route may cost. Absent: no limit."
    )
    passthrough: Truth = Field(
        default=_ROUTE.passthrough,
        description="Serve the other endpoints too (embeddings, images, audio, files, ...): they go to the first model's provider unchanged.",
    )


class KeyModel(_Strict):
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


class ConfigModel(_Strict):
    """The whole file."""

    server: ServerModel = Field(
        default_factory=ServerModel, description="How the proxy listens and what it bounds."
    )
    store: Annotated[str, BeforeValidator(_store), Words("sqlite:///PATH, postgresql://... or memory:")] = (
        Field(
            default="sqlite:///tailrace.db",
            description="Where the ledger and what is registered live; PATH is seen from the folder that the proxy was started in.",
        )
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
