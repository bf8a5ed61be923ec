"""How the upstreams of one app are: a breaker and a rest per (provider, model), and retry budgets.

The decisions are `policies.breaker`, `policies.rest`, `policies.budget` and `policies.balance`; here their states
are kept. The first call of an exchange to an upstream (a provider, or a model with several deployments) fills its
budget, every further one takes from it. A repeated call after a failure is refused when the budget is used up; a
re-ask after an answer that was not valid is a new question to an upstream that works: it counts, and so leaves
less for repetitions, but is not refused (`limits.attempts` bounds it).
"""

import random
from collections.abc import Callable, Collection
from typing import Final, Literal

from cachetools import LRUCache

from policies import balance, breaker, budget
from policies.balance import Load, Standing
from policies.breaker import CLOSED, Breaker, BreakerRule
from policies.budget import RetryBudget
from policies.cards import Deployment, ModelCard
from policies.chat import Failure
from policies.rest import Rest, asks_for_rest, rested
from schemas.values import dataclass

State = Literal["closed", "open", "half_open"]
Key = tuple[str, str]
"""A provider, and the name of a model there."""
MAX_BREAKERS: Final = 4096
"""Models that patterns match have names of the client's choice: beyond this the longest unused is forgotten."""


@dataclass(slots=True)
class Ticket:
    """The right to make one call; comes back to `Health.ended`. `deployment` as in its card."""

    provider: str
    name: str
    alias: str
    probe: bool = False
    watched: bool = True
    deployment: str = ""
    since_s: float = 0.0
    answered: bool = False


class Health:
    """`changed` is told of each change of a breaker's state: alias, state, which deployment.

    `chance` gives numbers from [0, 1): which deployments are compared hangs on them. `rule` is when breakers open.
    """

    def __init__(
        self,
        changed: Callable[[str, State, str], None],
        chance: Callable[[], float] = random.random,
        rule: BreakerRule = breaker.STANDARD,
    ) -> None:
        self._changed = changed
        self._chance = chance
        self._rule = rule
        self._breakers: dict[Key, Breaker] = {}
        self._ill: dict[Key, tuple[str, str]] = {}
        """Breakers that are not closed, with the alias and deployment of their model."""
        self._rests: LRUCache[Key, Rest] = LRUCache(MAX_BREAKERS)
        self._budgets: dict[str, RetryBudget] = {}
        self._loads: dict[Key, Load] = {}
        """Of models with several deployments."""

    def admit(self, card: ModelCard, name: str, now_s: float) -> Ticket | Failure:
        """The right to call `name`, as `card` is called upstream; a failure of kind `breaker` while it is open."""
        key = (card.provider, name)
        probe = False
        if card.breaker:
            admission = breaker.admit(self._breakers.get(key, CLOSED), now_s, self._rule)
            if not admission.allowed:
                return _left_alone(admission.retry_after_s)
            probe = admission.probe
            if probe:
                self._keep(key, card.alias, card.deployment, admission.breaker)
        if card.deployment:
            self._loads[key] = balance.started(self._loads.get(key, Load()), now_s)
        return Ticket(card.provider, name, card.alias, probe, card.breaker, card.deployment, now_s)

    def answered(self, ticket: Ticket, now_s: float) -> None:
        """The first byte of an answer has come."""
        if ticket.deployment and not ticket.answered:
            ticket.answered = True
            key, latency_s = (ticket.provider, ticket.name), now_s - ticket.since_s
            self._loads[key] = balance.answered(self._loads[key], latency_s=latency_s, now_s=now_s)

    def ended(self, ticket: Ticket, failure: Failure | None, now_s: float, *, lost: bool = False) -> None:
        """The call is over. `failure` None: it went well; kind `gone`: it tells nothing. `lost`: another was faster."""
        key = (ticket.provider, ticket.name)
        if ticket.deployment:
            self._unload(key, ticket, failure, now_s, lost=lost)
        if not ticket.watched:
            return
        before = self._breakers.get(key, CLOSED)
        if failure is not None and failure.kind == "gone":
            after = breaker.release(before, now_s=now_s, probe=ticket.probe)
        else:
            ok = failure is None or not breaker.counts(failure)
            after = breaker.record(before, ok=ok, now_s=now_s, probe=ticket.probe, rule=self._rule)
            if failure is not None and asks_for_rest(failure):
                self._rests[key] = rested(self._rests.get(key), failure, now_s)
            elif failure is None and self._rests:
                self._rests.pop(key, None)
        self._keep(key, ticket.alias, ticket.deployment, after)

    def _unload(self, key: Key, ticket: Ticket, failure: Failure | None, now_s: float, *, lost: bool) -> None:
        took_s = now_s - ticket.since_s
        load = balance.ended(self._loads[key], waited=not ticket.answered)
        if failure is None and ticket.probe:
            load = balance.recovered(load, latency_s=took_s, now_s=now_s)
        elif failure is None:
            if not ticket.answered:  # nobody told when it began
                load = balance.slowed(load, latency_s=took_s, now_s=now_s)
        elif balance.at_fault(failure):
            load = balance.slowed(load, latency_s=max(took_s, balance.FAILURE_S), now_s=now_s)
        elif lost and not ticket.answered:
            load = balance.slowed(load, latency_s=took_s, now_s=now_s)
        self._loads[key] = load

    def _keep(self, key: Key, alias: str, deployment: str, state: Breaker) -> None:
        before = self._breakers.get(key, CLOSED).state
        if len(self._breakers) > MAX_BREAKERS // 2:  # from here on the order is that of use
            self._breakers.pop(key, None)
            if len(self._breakers) >= MAX_BREAKERS:
                del self._breakers[next(iter(self._breakers))]
        self._breakers[key] = state
        if state.state != "closed":
            self._ill[key] = alias, deployment
        elif before != "closed":
            self._ill.pop(key, None)
        if state.state != before:
            self._changed(alias, state.state, deployment)

    def place(self, card: ModelCard, tried: Collection[Key], now_s: float) -> ModelCard | Failure:
        """The deployment of `card` that takes the next call; a failure where every breaker is open.

        `tried` have failed this exchange: they come last.
        """
        standings = self._standings(card, tried, now_s)
        chosen = balance.elect(standings, self._chance(), self._chance(), now_s)
        if chosen is None:
            return _left_alone(self.waits_for(card, card.provider, now_s))
        return card.deployments[chosen].card

    def elsewhere(self, card: ModelCard, tried: Collection[Key], now_s: float) -> bool:
        """Whether nothing speaks against calling one of the deployments of `card` that are not in `tried`."""
        return any(standing.fresh for standing in self._standings(card, tried, now_s))

    def _standings(self, card: ModelCard, tried: Collection[Key], now_s: float) -> list[Standing]:
        return [self._standing(deployment, tried, now_s) for deployment in card.deployments]

    def _standing(self, deployment: Deployment, tried: Collection[Key], now_s: float) -> Standing:
        key = key_of(deployment.card)
        state = self._breakers.get(key, CLOSED)
        refused = breaker.is_open(state, now_s)
        due = state.state != "closed" and not refused
        return Standing(
            self._loads.get(key, Load()),
            deployment.weight,
            refused,
            due,
            self._rests_for(key, now_s),
            key in tried,
        )

    @property
    def troubled(self) -> bool:
        """Whether there may be something that is left alone now."""
        return bool(self._ill or self._rests)

    def waits_for(self, card: ModelCard, name: str, now_s: float) -> float:
        """Seconds until `card`, called `name` upstream, may be tried; 0 where it may now, at one place at least."""
        if not self._ill:
            return 0.0
        keys = [key_of(d.card) for d in card.deployments] or [(card.provider, name)]
        return min(self._open_for(key, now_s) for key in keys)

    def rests_for(self, card: ModelCard, name: str, now_s: float) -> float:
        """For how long `card` asked to be left alone; 0 where there is a place that did not."""
        if not self._rests:
            return 0.0
        keys = [key_of(d.card) for d in card.deployments] or [(card.provider, name)]
        return min(max(self._rests_for(key, now_s), self._open_for(key, now_s)) for key in keys)

    def set_aside(self, card: ModelCard, now_s: float) -> bool:
        """Whether calls pass this place by for now: its breaker is open, or it rests."""
        key = key_of(card)
        return self._open_for(key, now_s) > 0 or self._rests_for(key, now_s) > 0

    def _open_for(self, key: Key, now_s: float) -> float:
        if key not in self._ill:
            return 0.0
        state = self._breakers.get(key, CLOSED)
        return state.until_s - now_s if breaker.is_open(state, now_s) else 0.0

    def _rests_for(self, key: Key, now_s: float) -> float:
        rest = self._rests.get(key) if self._rests else None
        return 0.0 if rest is None else max(0.0, rest.until_s - now_s)

    def called(self, upstream: str, now_s: float) -> None:
        """An exchange calls `upstream` for the first time."""
        self._budgets[upstream] = budget.note_request(self._budget(upstream), now_s)

    def may_repeat(self, upstream: str, now_s: float) -> bool:
        """Take one repeated call from the upstream's budget; False when it is used up."""
        self._budgets[upstream], granted = budget.take_retry(self._budget(upstream), now_s)
        return granted

    def asked_anew(self, upstream: str, now_s: float) -> None:
        """An exchange puts a further question to an upstream that answered: it counts, whatever is left."""
        self._budgets[upstream] = budget.force_retry(self._budget(upstream), now_s)

    def _budget(self, upstream: str) -> RetryBudget:
        return self._budgets.get(upstream) or RetryBudget()


def key_of(card: ModelCard) -> Key:
    """What the breaker of a model with a name of its own is known by."""
    return card.provider, card.name or card.alias


def _left_alone(retry_after_s: float | None) -> Failure:
    text = "The model failed too often just now and is left alone for a moment."
    return Failure("breaker", text, retryable=True, retry_after_s=retry_after_s)
