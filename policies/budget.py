"""The retry budget of one upstream: retries at most 20 % of its requests, and 10 more, in any 10 s.

Retries and hedges take from it, first tries fill it: an upstream that is down is not called more often
than one that works, by more than a fifth. Re-asks take from it too, but are never refused: they go to an
upstream that answers, and what they ask is new.
"""

from typing import Final

from policies.window import Window, add, totals
from schemas.values import dataclass


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """`share` of the requests of the last `span_s` seconds, and `extra` for quiet times."""

    share: float = 0.2
    extra: int = 10
    span_s: int = 10


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """Requests and, marked, the retries of the last seconds."""

    window: Window = ()


STANDARD: Final = BudgetRule()


def left(budget: RetryBudget, now_s: float, rule: BudgetRule = STANDARD) -> int:
    """How many retries may be made now."""
    requests, retries = totals(budget.window, now_s, rule.span_s)
    return max(0, int(rule.extra + rule.share * requests) - retries)


def note_request(budget: RetryBudget, now_s: float, rule: BudgetRule = STANDARD) -> RetryBudget:
    """Tell of a first try."""
    return RetryBudget(add(budget.window, now_s, rule.span_s, all=1))


def take_retry(budget: RetryBudget, now_s: float, rule: BudgetRule = STANDARD) -> tuple[RetryBudget, bool]:
    """Ask for one retry: (the budget afterwards, whether it was granted)."""
    if left(budget, now_s, rule) == 0:
        return budget, False
    return force_retry(budget, now_s, rule), True


def force_retry(budget: RetryBudget, now_s: float, rule: BudgetRule = STANDARD) -> RetryBudget:
    """Take one retry, whatever is left."""
    return RetryBudget(add(budget.window, now_s, rule.span_s, marked=1))
