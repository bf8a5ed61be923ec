"""How the upstreams of one app are: a breaker per (provider, model) and a retry budget per provider.

The decisions are `policies.breaker` and `policies.budget`; here their states are kept. The first call of an
exchange to a provider fills its budget, every further one takes from it. A repeated call after a failure is
refused when the budget is used up; a re-ask after an answer that was not valid is a new question to an upstream
that works: it counts, and so leaves less for repetitions, but is not refused (`limits.attempts` bounds it).
"""

from collections.abc import Callable
from typing import Literal

from cachetools import LRUCache

from policies import breaker, budget
from policies.breaker import CLOSED, Breaker
from policies.budget import RetryBudget
from policies.cards import ModelCard
from policies.chat import Failure
from schemas.values import dataclass

State = Literal["closed", "open", "half_open"]
MAX_BREAKERS = 4096
"""Models that patterns match have names of the client's choice: beyond this the longest unused is forgotten."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to make one call; comes back to `Health.ended`."""

    provider: str
    name: str
    alias: str
    probe: bool = False
    watched: bool = True


class Health:
    """`changed` is told of each change of a breaker's state: alias, state."""

    def __init__(self, changed: Callable[[str, State], None]) -> None:
        self._changed = changed
        self._breakers: LRUCache[tuple[str, str], Breaker] = LRUCache(MAX_BREAKERS)
        self._ill: dict[tuple[str, str], str] = {}
        """Breakers that are not closed, and the alias of their model."""
        self._budgets: dict[str, RetryBudget] = {}

    def admit(self, card: ModelCard, name: str, now_s: float) -> Ticket | Failure:
        """The right to call `name`, as `card` is called upstream; a failure of kind `breaker` while it is open."""
        if not card.breaker:
            return Ticket(card.provider, name, card.alias, watched=False)
        key = (card.provider, name)
        admission = breaker.admit(self._breakers.get(key, CLOSED), now_s)
        if not admission.allowed:
            text = "The model failed too often just now and is left alone for a moment."
            return Failure("breaker", text, retryable=True, retry_after_s=admission.retry_after_s)
        if admission.probe:
            self._keep(key, card.alias, admission.breaker)
        return Ticket(card.provider, name, card.alias, admission.probe)

    def ended(self, ticket: Ticket, failure: Failure | None, now_s: float) -> None:
        """The call is over. `failure` None: it went well; kind `gone`: it tells nothing."""
        if not ticket.watched:
            return
        key = (ticket.provider, ticket.name)
        before = self._breakers.get(key, CLOSED)
        if failure is not None and failure.kind == "gone":
            after = breaker.release(before, now_s=now_s, probe=ticket.probe)
        else:
            ok = failure is None or not breaker.counts(failure)
            after = breaker.record(before, ok=ok, now_s=now_s, probe=ticket.probe)
        self._keep(key, ticket.alias, after)

    def _keep(self, key: tuple[str, str], alias: str, state: Breaker) -> None:
        before = self._breakers.get(key, CLOSED).state
        self._breakers[key] = state
        if state.state != "closed":
            self._ill[key] = alias
        elif before != "closed":
            self._ill.pop(key, None)
        if state.state != before:
            self._changed(alias, state.state)

    def waits(self, now_s: float) -> dict[tuple[str, str], float]:
        """What may not be called now, by provider and name there: seconds until it may be tried."""
        states = ((key, self._breakers.get(key, CLOSED)) for key in self._ill)
        return {key: state.until_s - now_s for key, state in states if breaker.is_open(state, now_s)}

    def called(self, provider: str, now_s: float) -> None:
        """An exchange calls `provider` for the first time."""
        self._budgets[provider] = budget.note_request(self._budget(provider), now_s)

    def may_repeat(self, provider: str, now_s: float) -> bool:
        """Take one repeated call from the provider's budget; False when it is used up."""
        self._budgets[provider], granted = budget.take_retry(self._budget(provider), now_s)
        return granted

    def asked_anew(self, provider: str, now_s: float) -> None:
        """An exchange puts a further question to a provider that answered: it counts, whatever is left."""
        self._budgets[provider] = budget.force_retry(self._budget(provider), now_s)

    def _budget(self, provider: str) -> RetryBudget:
        return self._budgets.get(provider) or RetryBudget()
