"""A route: the bundle of policies that a client selects by one name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from policies.facts import Plan
from policies.scorer import Scorer
from policies.suspicion import Doubter

GiveUp = Literal["error", "raw"]
StreamMode = Literal["hold", "checked", "pass"]
Structured = Literal["auto", "as_asked", "native", "object", "tool", "prompt"]
ContextPolicy = Literal["relevant", "recent", "off"]
ChooseRule = Literal["ladder", "cheapest_able", "learned"]


@dataclass(frozen=True, slots=True)
class Repair:
    """How far a route goes for a valid answer: which changes it accepts, how often it asks again."""

    accept: frozenset[str] = frozenset({"lossless", "choice", "coercion"})
    reask: int = 1
    patch: bool = True
    """Ask again only for the failing parts where the rest can stay."""
    escalate: bool = True
    give_up: GiveUp = "error"


@dataclass(frozen=True, slots=True)
class SummaryRule:
    """What left a prompt is summarised by `model`, a summary of at most `max_tokens`."""

    model: str
    max_tokens: int = 400


@dataclass(frozen=True, slots=True)
class ContextRule:
    """How much of a conversation goes upstream. `budget_tokens` None: only the model's window bounds it.

    What is left out is kept for `keep_s` seconds, 0: not at all. Tool results older than the last
    `mask_results_after` are masked before anything else is left out; None: masking is off. `summary` None:
    nothing is summarised.
    """

    policy: ContextPolicy = "off"
    budget_tokens: int | None = None
    keep_s: float = 86_400
    mask_results_after: int | None = None
    summary: SummaryRule | None = None
    recall_tool: bool = False
    """Whether models are offered a tool to look up what was left out."""


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `nanousd` in each `per`."""

    nanousd: int
    per: Literal["hour", "day", "week", "month", "total"] = "day"


@dataclass(frozen=True, slots=True)
class Cache:
    """Answers are kept for `ttl_s` seconds, at most `max_mb` of them, and given again to the same request."""

    ttl_s: float = 300
    max_mb: float = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """What one exchange may spend, all attempts together."""

    attempts: int = 4
    cost_nanousd: int | None = None
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Hedge:
    """A call that has not begun to answer after `after_s` is made a second time; None: after the model's own p95."""

    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Floor:
    """Quality to keep while saving: at least `keep` of what the model `of` reaches, wrong with probability `risk` at most.

    `plans` are what a reviewed calibration allows, by step; `scorer` and `doubter` the weights that plans by score
    and by suspicion go by. `calibration` is the SHA-256 of what they were read from.
    """

    of: str
    keep: float = 0.98
    risk: float = 0.05
    plans: Mapping[str, Plan] = field(default_factory=dict, hash=False)
    scorer: Scorer | None = field(default=None, repr=False)
    doubter: Doubter | None = field(default=None, repr=False)
    calibration: str | None = None


@dataclass(frozen=True, slots=True)
class When:
    """What a request must look like; every field that is given must hold.

    `step`, `state`, `tool` and `schema` are names where `*` stands for anything; `tool` holds when one of
    the request's tools bears the name. `system` is a text that the system prompt contains. `fingerprint` is
    the hash of system prompt, tools and response format that `python -m proxy explain` prints.
    """

    step: str | None = None
    state: str | None = None
    tool: str | None = None
    schema: str | None = None
    system: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """One rule of `match`: requests that look like `when` are of `step`, and climb `ladder` where it names one."""

    when: When
    step: str | None = None
    ladder: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """A named policy bundle. `ladder` holds model aliases, cheapest first, at least one.

    `choose` says where on the ladder an exchange begins: at its foot (`ladder`), with the cheapest able
    model at this request's size (`cheapest_able`), or where the reviewed calibration allows it (`learned`),
    which never goes below `floor`. `require` names tags that a model must bear (a region, say). `agree` are
    two models that are asked together and believed where they agree. `sticky` keeps a conversation on its
    model while leaving the provider's prompt cache costs more than it saves. `shadow` and `holdout` are the
    shares of exchanges that are asked of a second model for comparison, and sent to the strong model whatever
    the rule says.
    """

    name: str
    ladder: tuple[str, ...]
    schema: str | None = None
    repair: Repair = field(default_factory=Repair)
    structured: Structured = "auto"
    tools: Literal["check", "pass"] = "check"
    """Whether arguments of tool calls are validated against the tools of the request."""
    stream: StreamMode = "hold"
    context: ContextRule = field(default_factory=ContextRule)
    limits: Limits = field(default_factory=Limits)
    hedge: Hedge | None = None
    budget: Budget | None = None
    """Of all requests of the route together."""
    run_budget: Budget | None = None
    """Of each run of the route."""
    cache: Cache | None = None
    passthrough: bool = True
    choose: ChooseRule = "ladder"
    match: tuple[Match, ...] = ()
    require: frozenset[str] = frozenset()
    floor: Floor | None = None
    agree: tuple[str, ...] = ()
    sticky: bool = False
    shadow: float = 0.0
    holdout: float = 0.0
    log_prompts: bool = False
    """Whether the log of outcomes may hold prompts."""
