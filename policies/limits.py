"""Budgets and rates: what a call may reserve before it starts, and what it is charged after.

A budget is an amount of money in a period of the calendar (UTC). A call reserves the most it can cost, so that
parallel calls together stay within the budget, and settles for what it did cost. A rate is requests or tokens
per minute, kept as one number, the time at which all that was taken will have leaked away (the generic cell rate
algorithm of ATM Forum TM 4.0, annex; a full minute's worth may come at once).

Everything here is a value: who keeps the meters makes the look and the write one step that nothing can come
between, by a lock or a transaction, or by not waiting in between.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal, TypeVar

from schemas.values import dataclass

Period = Literal["hour", "day", "week", "month", "total"]
Scope = Literal["key", "route", "run"]
Unit = Literal["requests", "tokens"]

_NS: Final = 1_000_000_000
_MINUTE_NS: Final = 60 * _NS
_DAY_NS: Final = 86_400 * _NS
_LENGTHS: Final = MappingProxyType(
    {
        "hour": (3_600 * _NS, 0),
        "day": (_DAY_NS, 0),
        "week": (7 * _DAY_NS, 4 * _DAY_NS),  # the first Monday of the epoch was its fifth day
    }
)


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """At most `nanousd` in each `per`, for one key, route or run."""

    scope: Scope
    name: str
    nanousd: int
    per: Period = "day"
    meter: str = field(init=False, compare=False, repr=False)
    """The name of its meter; the limit is no part of it, so that a changed limit keeps what was spent."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "meter", f"{self.scope} {self.per} {self.name}")


@dataclass(frozen=True, slots=True)
class RateRule:
    """At most `limit` requests or tokens per minute, for one key, route or run."""

    scope: Scope
    name: str
    unit: Unit
    limit: int
    meter: str = field(init=False, compare=False, repr=False)
    """The name of its meter."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "meter", f"{self.scope} {self.unit} {self.name}")


@dataclass(frozen=True, slots=True)
class BudgetMeter:
    """Nano-USD spent and held by calls under way, in the period that began at `start_ns`."""

    start_ns: int
    spent: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Meters:
    """What is known of the meters that some rules need: budgets by name, rates as the time they are empty again."""

    budgets: Mapping[str, BudgetMeter]
    rates: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a call may need: at most `nanousd` (None: unpriced) and `tokens`, prompt and answer together.

    `least_nanousd` is what it needs at least to make sense; where that is less than `nanousd` and a budget
    has less left than asked, the call is granted what there is and has to stop there. None: all or nothing.
    """

    nanousd: int | None
    tokens: int = 0
    least_nanousd: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A part of a budget that a call holds; it is the budget of the period that began at `start_ns`."""

    meter: str
    start_ns: int
    nanousd: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What a call took from a rate of tokens."""

    meter: str
    limit: int
    amount: int


@dataclass(frozen=True, slots=True)
class Granted:
    """The call may start. It must not cost more than `nanousd` (None: no budget asks).

    `held` and `taken` are given back by `settle`.
    """

    nanousd: int | None = None
    held: tuple[Held, ...] = ()
    taken: tuple[Taken, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The call may not start.

    `spent`: the budget is used up; `held`: what is left of it is held by calls under way, some of which may be
    given back soon; `unpriced`: a budget asks for a cost that nobody knows. `retry_after_s` None: never by itself.
    """

    reason: Literal["spent", "held", "unpriced", "requests", "tokens"]
    rule: BudgetRule | RateRule
    retry_after_s: float | None


R = TypeVar("R", BudgetRule, RateRule)


def period_bounds(per: Period, now_ns: int) -> tuple[int, int | None]:
    """Where the period of `now_ns` begins and ends, in UTC; weeks begin on Monday, `total` never ends."""
    if per == "total":
        return 0, None
    if per == "month":
        now = datetime.fromtimestamp(now_ns // _NS, UTC)
        start = now.replace(day=1, hour=0, minute=0, second=0)
        end = (start + timedelta(days=32)).replace(day=1)
        return int(start.timestamp()) * _NS, int(end.timestamp()) * _NS
    length_ns, offset_ns = _LENGTHS[per]
    start_ns = now_ns - (now_ns - offset_ns) % length_ns
    return start_ns, start_ns + length_ns


def reserve(
    rules: Sequence[BudgetRule | RateRule], claim: Claim, meters: Meters, now_ns: int
) -> tuple[Granted, Meters] | Refused:
    """Whether all rules let the call start; if so, what it holds and only the meters that changed.

    A meter that is missing counts as untouched. Refused calls take nothing from any rule.
    """
    budgets = _strictest([rule for rule in rules if isinstance(rule, BudgetRule)], lambda rule: rule.nanousd)
    rates = _strictest([rule for rule in rules if isinstance(rule, RateRule)], lambda rule: rule.limit)
    granted = _grant(budgets, claim, meters, now_ns)
    if isinstance(granted, Refused):
        return granted
    changed_rates: dict[str, int] = {}
    taken: list[Taken] = []
    for rule in rates:
        # more than a minute's worth would never pass; it takes the whole minute and the rest when it settles
        amount = 1 if rule.unit == "requests" else min(max(claim.tokens, 0), rule.limit)
        empty_ns = max(meters.rates.get(rule.meter, 0), now_ns) + _leak_ns(amount, rule.limit)
        over_ns = empty_ns - now_ns - _MINUTE_NS
        if rule.limit <= 0:
            return Refused(rule.unit, rule, None)
        if over_ns > 0:
            return Refused(rule.unit, rule, over_ns / _NS)
        changed_rates[rule.meter] = empty_ns
        if rule.unit == "tokens":
            taken.append(Taken(rule.meter, rule.limit, amount))
    changed_budgets = {}
    for part in granted.held:
        meter = _current(meters.budgets.get(part.meter), part.start_ns)
        changed_budgets[part.meter] = BudgetMeter(meter.start_ns, meter.spent, meter.held + part.nanousd)
    return Granted(granted.nanousd, granted.held, tuple(taken)), Meters(changed_budgets, changed_rates)


def settle(granted: Granted, nanousd: int | None, tokens: int, meters: Meters) -> Meters:
    """Only the meters that change when a call ends that cost `nanousd` and used `tokens` in all.

    `nanousd` None (its cost is not known after all): what it held is spent. A budget whose period is over is
    left alone: nobody asks for it any more, and the cost belongs to the period the call began in.
    """
    budgets = {}
    for part in granted.held:
        meter = meters.budgets.get(part.meter)
        if meter is not None and meter.start_ns == part.start_ns:
            cost = part.nanousd if nanousd is None else nanousd
            held = max(0, meter.held - part.nanousd)
            budgets[part.meter] = BudgetMeter(meter.start_ns, meter.spent + cost, held)
    rates = {
        part.meter: meters.rates[part.meter] + _leak_ns(tokens - part.amount, part.limit)
        for part in granted.taken
        if part.meter in meters.rates
    }
    return Meters(budgets, rates)


def _grant(budgets: Sequence[BudgetRule], claim: Claim, meters: Meters, now_ns: int) -> Granted | Refused:
    if not budgets:
        return Granted()
    if claim.nanousd is None:
        return Refused("unpriced", budgets[0], None)
    least = claim.nanousd if claim.least_nanousd is None else min(claim.least_nanousd, claim.nanousd)
    amount = claim.nanousd
    starts = []
    for rule in budgets:
        start_ns, end_ns = period_bounds(rule.per, now_ns)
        meter = _current(meters.budgets.get(rule.meter), start_ns)
        starts.append(meter.start_ns)
        left = max(0, rule.nanousd - meter.spent - meter.held)  # what costs nothing may always start
        if left < least:
            if meter.held and rule.nanousd - meter.spent >= least:
                return Refused("held", rule, 1.0)
            return Refused("spent", rule, None if end_ns is None else (end_ns - now_ns) / _NS)
        amount = min(amount, left)
    held = tuple(Held(rule.meter, start_ns, amount) for rule, start_ns in zip(budgets, starts, strict=True))
    return Granted(amount, held)


def _strictest(rules: Sequence[R], limit: Callable[[R], int]) -> list[R]:
    """One rule per meter."""
    if len({rule.meter for rule in rules}) == len(rules):
        return list(rules)
    return list({rule.meter: rule for rule in sorted(rules, key=limit, reverse=True)}.values())


def _current(meter: BudgetMeter | None, start_ns: int) -> BudgetMeter:
    """The meter of the period that began at `start_ns`; a clock that was set back goes on with the newer one."""
    if meter is None or meter.start_ns < start_ns:
        return BudgetMeter(start_ns)
    return meter


def _leak_ns(amount: int, limit: int) -> int:
    return amount * _MINUTE_NS // max(limit, 1)
