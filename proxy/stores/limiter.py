"""Who keeps the meters of budgets and rates.

`policies.limits` decides; a limiter sees to it that nothing comes between the look and the write. MemoryLimiter
is for one process: between them it does not wait. SqliteLimiter (in its own file) is for several workers of one machine.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from policies.limits import (
    BudgetMeter,
    BudgetRule,
    Claim,
    Granted,
    Meters,
    RateRule,
    Refused,
    period_bounds,
    reserve,
    settle,
)
from proxy.stores.base import Ledger

FOREVER_NS = 2**62


class Limiter(Protocol):
    """Budgets and rates; what was spent before a start comes from the ledger."""

    async def reserve(
        self, rules: Sequence[BudgetRule | RateRule], claim: Claim, now_ns: int
    ) -> Granted | Refused:
        """Whether a call may start; what it may need is held from here on. Raises StoreFailed."""

    def settle(self, granted: Granted, nanousd: int | None, tokens: int) -> None:
        """The call ended: it cost `nanousd` (None: not known) and used `tokens`, prompt and answer together.

        To be called once for each grant, also for calls that failed, and after the ledger's `settle`.
        """

    async def meter(self, rule: BudgetRule, now_ns: int) -> BudgetMeter:
        """How far the budget is spent in the period of `now_ns`. Raises StoreFailed."""

    async def close(self) -> None:
        """Everything is written and released. Twice is fine."""


class MemoryLimiter:
    """A `Limiter` for one process; at most about `max_meters` names are remembered."""

    def __init__(self, ledger: Ledger, max_meters: int = 20_000) -> None:
        self._ledger = ledger
        self._max_meters = max_meters
        self._budgets: dict[str, BudgetMeter] = {}
        self._rates: dict[str, int] = {}
        self._loading = asyncio.Lock()

    async def reserve(
        self, rules: Sequence[BudgetRule | RateRule], claim: Claim, now_ns: int
    ) -> Granted | Refused:
        budgets = [rule for rule in rules if isinstance(rule, BudgetRule)]
        if any(rule.meter not in self._budgets for rule in budgets):
            await self._load(budgets, now_ns)
        # from here to the return nothing waits, so that no other call can come between
        found = reserve(rules, claim, Meters(self._budgets, self._rates), now_ns)
        if isinstance(found, Refused):
            return found
        granted, changed = found
        self._keep(changed)
        return granted

    def settle(self, granted: Granted, nanousd: int | None, tokens: int) -> None:
        self._keep(settle(granted, nanousd, tokens, Meters(self._budgets, self._rates)))

    async def meter(self, rule: BudgetRule, now_ns: int) -> BudgetMeter:
        if rule.meter not in self._budgets:
            await self._load([rule], now_ns)
        return current_meter(self._budgets[rule.meter], rule, now_ns)

    async def close(self) -> None:
        """Nothing is to be released."""

    def _keep(self, changed: Meters) -> None:
        self._budgets.update(changed.budgets)
        self._rates.update(changed.rates)

    async def _load(self, rules: Sequence[BudgetRule], now_ns: int) -> None:
        async with self._loading:
            self._forget(now_ns)
            for rule in rules:
                if rule.meter not in self._budgets:
                    spent = await spent_before(self._ledger, rule, now_ns)
                    self._budgets[rule.meter] = spent

    def _forget(self, now_ns: int) -> None:
        """Names that clients made up (runs) do not pile up: a budget nobody holds is found in the ledger again."""
        if len(self._budgets) > self._max_meters:
            self._budgets = {name: meter for name, meter in self._budgets.items() if meter.held}
        if len(self._rates) > self._max_meters:
            self._rates = {name: empty_ns for name, empty_ns in self._rates.items() if empty_ns > now_ns}


async def spent_before(ledger: Ledger, rule: BudgetRule, now_ns: int) -> BudgetMeter:
    """A budget's meter as the ledger knows it."""
    start_ns, end_ns = period_bounds(rule.per, now_ns)
    spent = await ledger.spent(rule.scope, rule.name, start_ns, end_ns or FOREVER_NS)
    return BudgetMeter(start_ns, spent)


def current_meter(meter: BudgetMeter, rule: BudgetRule, now_ns: int) -> BudgetMeter:
    """The meter, or an empty one where its period is over."""
    start_ns, _ = period_bounds(rule.per, now_ns)
    return meter if meter.start_ns >= start_ns else BudgetMeter(start_ns)
