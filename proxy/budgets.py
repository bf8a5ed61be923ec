"""Budgets and rates around the calls of one exchange: what they may cost is held before, what they did cost booked after."""

from collections.abc import Sequence
from typing import Any, Final

from policies.cards import ModelCard
from policies.chat import Failure
from policies.limits import BudgetRule, Claim, Granted, RateRule, Refused
from policies.money import usd_text, worst_cost_nanousd
from policies.route import Route
from proxy.clock import time_ns
from proxy.snapshot import Key
from proxy.stores.limiter import Limiter

UNKNOWN_MAX_OUTPUT: Final = 16_384
"""Tokens of an answer whose model and request name no limit; more is cut where a budget applies."""
LEAST_OUTPUT: Final = 16
"""A call that may not even write this much is not worth its prompt."""
_BOUNDS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_WRITE_NOTHING: Final = frozenset({"embeddings", "moderations"})

Rules = tuple[BudgetRule | RateRule, ...]


def rules_of(key: Key | None, route: Route, run: str | None) -> tuple[Rules, Rules]:
    """What bounds requests of this key, route and run: (once per request, once per upstream call)."""
    once: list[BudgetRule | RateRule] = []
    each: list[BudgetRule | RateRule] = []
    if key is not None:
        if key.rpm is not None:
            once.append(RateRule("key", key.name, "requests", key.rpm))
        if key.tpm is not None:
            each.append(RateRule("key", key.name, "tokens", key.tpm))
        if key.budget is not None:
            each.append(BudgetRule("key", key.name, key.budget.nanousd, key.budget.per))
    if route.budget is not None:
        each.append(BudgetRule("route", route.name, route.budget.nanousd, route.budget.per))
    if route.run_budget is not None and run is not None:
        each.append(BudgetRule("run", run, route.run_budget.nanousd, route.run_budget.per))
    return tuple(once), tuple(each)


def asked_output(doc: dict[str, Any], card: ModelCard, endpoint: str = "chat/completions") -> int:
    """The most tokens that an answer to this request can have, all its choices together."""
    if endpoint in _WRITE_NOTHING:
        return 0
    most = card.max_output_tokens or UNKNOWN_MAX_OUTPUT
    for name in _BOUNDS:
        if name in doc and (asked := _count(doc[name])) > 0:
            most = asked
            break
    return most * choices_of(doc) if "n" in doc or "best_of" in doc else most


def choices_of(doc: dict[str, Any]) -> int:
    """How many answers are written, the ones that are only compared (`best_of`) included."""
    return min(128, max(1, _count(doc.get("n")), _count(doc.get("best_of"))))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def with_bound(doc: dict[str, Any], endpoint: str, tokens: int, *, newer: bool) -> dict[str, int]:
    """The change to a request that keeps its answer within `tokens`, all choices together.

    `newer`: the provider knows `max_completion_tokens`.
    """
    each = max(1, tokens // choices_of(doc))
    if endpoint == "responses":
        return {"max_output_tokens": each}
    return {"max_completion_tokens" if newer or "max_completion_tokens" in doc else "max_tokens": each}


async def admit(limiter: Limiter, rules: Rules) -> Failure | None:
    """Count one request; why it may not start, where it may not."""
    if not rules:
        return None
    found = await limiter.reserve(rules, Claim(None), time_ns())
    return refusal_of(found) if isinstance(found, Refused) else None


async def hold(
    limiter: Limiter,
    rules: Sequence[BudgetRule | RateRule],
    card: ModelCard,
    input_tokens: int,
    output_tokens: int,
    choices: int = 1,
    *,
    boundable: bool = True,
) -> Granted | Failure:
    """Hold what one call may cost at most. It may be granted less, and then has to stop there, if it is boundable."""
    worst = worst_cost_nanousd(input_tokens, output_tokens, card.price)
    least = worst_cost_nanousd(input_tokens, min(LEAST_OUTPUT * choices, output_tokens), card.price)
    claim = Claim(worst, input_tokens + output_tokens, least if boundable else None)
    found = await limiter.reserve(rules, claim, time_ns())
    return refusal_of(found) if isinstance(found, Refused) else found


def ceiling(granted: Granted, card: ModelCard, input_tokens: int, output_tokens: int) -> int | None:
    """The tokens that the answer may have within the grant; None where no budget or price asks.

    Where the grant pays for less than `output_tokens`, one token is kept back: a stream is cut at the first
    token beyond its ceiling, which is billed all the same.
    """
    if granted.nanousd is None or card.price is None or card.price.output == 0:
        return None
    prompt = worst_cost_nanousd(input_tokens, 0, card.price) or 0
    paid = (granted.nanousd - prompt) * 1_000 // card.price.output
    return output_tokens if paid >= output_tokens else max(1, paid - 1)


def refusal_of(refused: Refused) -> Failure:
    """A refusal in words that name the limit and whose it is."""
    rule, after = refused.rule, refused.retry_after_s
    if isinstance(rule, RateRule):
        message = f"The {rule.scope} '{rule.name}' is limited to {rule.limit} {rule.unit} per minute."
        return Failure("rate", message, 429, retry_after_s=after)
    limit = f"The budget of the {rule.scope} '{rule.name}' ({usd_text(rule.nanousd)} USD per {rule.per})"
    why = {
        "spent": "is spent",
        "held": "is held by calls under way",
        "unpriced": "cannot count this model, whose price is unknown",
    }[refused.reason]
    return Failure(
        "budget", f"{limit} {why}.", 429, retry_after_s=after if refused.reason == "held" else None
    )
