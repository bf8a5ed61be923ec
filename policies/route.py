"""A route: the bundle of policies that a client selects by one name."""

from dataclasses import dataclass, field
from typing import Literal

GiveUp = Literal["error", "raw"]
StreamMode = Literal["hold", "checked", "pass"]
ContextPolicy = Literal["relevant", "recent", "off"]


@dataclass(frozen=True, slots=True)
class Repair:
    """How far a route goes for a valid answer: which changes it accepts, how often it asks again."""

    accept: frozenset[str] = frozenset({"lossless", "choice", "coercion"})
    reask: int = 1
    escalate: bool = True
    give_up: GiveUp = "error"


@dataclass(frozen=True, slots=True)
class ContextRule:
    """How much of a conversation goes upstream. `budget_tokens` None: only the model's window bounds it."""

    policy: ContextPolicy = "off"
    budget_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What one exchange may spend, all attempts together."""

    attempts: int = 4
    cost_nanousd: int | None = None
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A named policy bundle. `ladder` holds model aliases, cheapest first, at least one."""

    name: str
    ladder: tuple[str, ...]
    schema: str | None = None
    repair: Repair = field(default_factory=Repair)
    stream: StreamMode = "hold"
    context: ContextRule = field(default_factory=ContextRule)
    limits: Limits = field(default_factory=Limits)
    passthrough: bool = True
