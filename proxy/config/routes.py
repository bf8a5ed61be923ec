"""A route as the configuration writes it, and its parts.

Defaults are those of the frozen values that the models become (`policies/route.py`).
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

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
    SummaryRule,
)
from proxy.config.types import (
    Count,
    KeptSeconds,
    Model,
    Seconds,
    Share,
    StrictModel,
    Tag,
    Text,
    Truth,
    Usd,
    Whole,
    Words,
    typed,
)
from schemas.check import ChangeKind

_REPAIR, _LIMITS, _CONTEXT = Repair(), Limits(), ContextRule()
_ROUTE, _FLOOR, _SUMMARY = Route("", ()), Floor(""), SummaryRule("")


class RepairModel(StrictModel):
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


class SummaryModel(StrictModel):
    """Notes of what is left out, written by a cheap model besides the requests and paid for by their key and route."""

    model: Model = Field(description="The model that writes them.")
    max_tokens: Annotated[Whole, Field(ge=50, le=8000)] = Field(
        default=_SUMMARY.max_tokens, description="Longest summary, in tokens."
    )


class ContextModel(StrictModel):
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
    mask_results_after: Count | None = Field(
        default=None,
        description="With `relevant`: where the prompt has to be shortened, tool results older than the last so many are the first to go, each replaced by a line that says what is left out. Absent: off.",
    )
    summary: SummaryModel | None = Field(
        default=None,
        description="With `relevant`: what is left out is summarised in the background, for the next time the prompt is shortened. Absent: off.",
    )
    recall_tool: bool = Field(
        default=_CONTEXT.recall_tool,
        description="Models that can use tools are offered one more, `recall_context`, where something was left out: what they look up with it is answered by the proxy, and the client never sees it. Each look-up is a further call to the model.",
    )


class LimitsModel(StrictModel):
    """What one request may spend, all attempts together."""

    attempts: Annotated[Whole, Field(ge=1, le=100)] = Field(
        default=_LIMITS.attempts, description="Calls to models."
    )
    cost_usd: Usd | None = Field(default=None, description="Money. Absent: no limit.")
    deadline_s: Seconds | None = Field(
        default=None, description="Time. Absent: the providers' time-outs alone."
    )


class HedgeModel(StrictModel):
    """A second call for requests that wait long, made elsewhere where the model has several deployments."""

    after_ms: (
        Annotated[float, BeforeValidator(typed), Field(gt=0, le=600_000, allow_inf_nan=False)] | None
    ) = Field(
        default=None,
        description="Made when the answer has not begun by then, in milliseconds. Absent: when it is later than 95 of 100 of the model's last calls.",
    )


class BudgetModel(StrictModel):
    """Money that may be spent in each period."""

    usd: Usd = Field(description="Limit.")
    per: Literal["hour", "day", "week", "month", "total"] = Field(
        default="day", description="Period; `total` never starts again."
    )


class CacheModel(StrictModel):
    """Answers that are given again to the same request of the same key, without asking a model."""

    ttl_s: Seconds = Field(default=300, description="How long an answer is kept, in seconds.")
    max_mb: Annotated[float, BeforeValidator(typed), Field(gt=0, le=65_536, allow_inf_nan=False)] = Field(
        default=64, description="Memory for the answers of this route, in MiB."
    )


class FloorModel(StrictModel):
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
        description="The reviewed YAML of `python -m proxy calibrate`, seen from this file's folder: what may begin cheap, by step, by what the request looks like or by what the answer does. Absent: nothing, everything goes to `of`.",
    )


class WhenModel(StrictModel):
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


class MatchModel(StrictModel):
    """One rule: requests that look like `when` are of `step`, and climb `ladder`."""

    when: WhenModel = Field(description="What the request must look like.")
    step: Text | None = Field(default=None, description="The step's name, where the client declared none.")
    ladder: Annotated[list[Model], Field(min_length=1, max_length=20)] | None = Field(
        default=None, description="The models for it, cheapest first. Absent: the route's."
    )


class RouteModel(StrictModel):
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
    hedge: HedgeModel | None = Field(
        default=None,
        description="Ask a second time where an answer does not begin: the first to answer wins, the other call is ended and booked. `{}` is enough. Absent: off.",
    )
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
