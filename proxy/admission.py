"""Where the upstream calls of one exchange go, and whether they may be made: breakers, deployments, retry budgets."""

from functools import partial
from typing import Final

from policies.balance import at_fault
from policies.cards import ModelCard
from policies.chat import Failure
from policies.ladder import Again, Attempt
from proxy.clock import monotonic
from proxy.health import Health, Key, Ticket, key_of
from proxy.selection import Selected
from proxy.upstreams.openai import ChatCall

_GONE: Final = Failure("gone", "the call was not made")


class Admission:
    """Of one exchange. `stored`: providers keep what it makes (Responses), so it is asked of first deployments alone."""

    __slots__ = ("_called", "_failed", "_health", "_placed", "_selected", "_stored", "_tickets")

    def __init__(self, health: Health, selected: Selected, *, stored: bool) -> None:
        self._health = health
        self._selected = selected
        self._stored = stored
        self._tickets: dict[int, Ticket] = {}
        self._placed: dict[int, ModelCard] = {}
        """The deployment of each call to a model that has several, by number."""
        self._failed: set[Key] = set()
        """Deployments that have failed this exchange."""
        self._called: set[str] = set()
        """Upstreams that this exchange has called, see `_upstream`."""

    def admit(self, number: int, model: str, beside: int | None = None) -> tuple[ModelCard, str] | Failure:
        """The right to make a call: the card of the place that it goes to, and the model's name there.

        It goes elsewhere than the call `beside` where it can.
        """
        target, now = self._selected.target(model), monotonic()
        card = target.card
        if card.deployments:
            placed = self._place(card, now, beside)
            if isinstance(placed, Failure):
                return placed
            card = self._placed[number] = placed
        name = card.name or target.asked
        ticket = self._health.admit(card, name, now)
        if isinstance(ticket, Failure):
            return ticket
        self._tickets[number] = ticket
        return card, name

    def begins(self, number: int, call: ChatCall | None = None) -> None:
        """The admitted call is made; `call` tells of its first byte."""
        ticket = self._tickets[number]
        upstream = ticket.provider
        if ticket.deployment:
            upstream = _together(ticket.alias)
            if call is not None:
                call.on_answer = partial(self._health.answered, ticket)
        if upstream not in self._called:
            self._called.add(upstream)
            self._health.called(upstream, monotonic())

    def cancel(self, number: int) -> None:
        """The admitted call is not made."""
        self._health.ended(self._tickets.pop(number), _GONE, monotonic())

    def grant(self, step: Again, last: Attempt) -> bool:
        """Further calls to an upstream take from its retry budget, and repetitions only while something is left.

        To leave a deployment that is passed by from now on is no repetition: nobody else will be sent there.
        """
        upstream, now = _upstream(self._selected.target(step.model).card), monotonic()
        if upstream not in self._called:
            return True
        if last.failure is None:
            self._health.asked_anew(upstream, now)
            return True
        left = last.elsewhere and self._health.set_aside(self._placed[last.number], now)
        return left or self._health.may_repeat(upstream, now)

    def may_hedge(self, model: str) -> bool:
        """Take a second call for the same order from its upstream's retry budget."""
        return self._health.may_repeat(_upstream(self._selected.target(model).card), monotonic())

    def ended(self, attempt: Attempt) -> ModelCard:
        """The call is over; gives the card of the place that it went to."""
        if (ticket := self._tickets.pop(attempt.number, None)) is not None:
            lost = attempt.purpose == "hedge_loser"
            self._health.ended(ticket, attempt.failure, monotonic(), lost=lost)
        return self._placed.get(attempt.number) or self._selected.target(attempt.model).card

    def elsewhere(self, attempt: Attempt) -> bool:
        """Whether `attempt`, which is over, failed by its deployment's fault and another one may be called instead."""
        placed, failure = self._placed.get(attempt.number), attempt.failure
        if placed is None or failure is None or not at_fault(failure):
            return False
        self._failed.add(key_of(placed))
        card = self._selected.target(attempt.model).card
        return not self._stored and self._health.elsewhere(card, self._failed, monotonic())

    def _place(self, card: ModelCard, now_s: float, beside: int | None) -> ModelCard | Failure:
        if self._stored:
            return card.deployments[0].card
        taken = set() if beside is None else {key_of(self._placed[beside])}
        return self._health.place(card, self._failed | taken, now_s)


def _upstream(card: ModelCard) -> str:
    """Whose retry budget a call to `card` belongs to: its provider's; of several deployments, theirs together."""
    return _together(card.alias) if card.deployments or card.deployment else card.provider


def _together(alias: str) -> str:
    """The deployments of a model as one upstream; no provider has a name like it."""
    return f"models/{alias}"
