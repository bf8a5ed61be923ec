"""What an exchange leaves behind for the decisions of later ones: where its conversation is at home, what it taught."""

from collections.abc import Mapping, Sequence
from typing import Any

from policies.ladder import Accept
from policies.route import Route
from proxy.exchange import Outcome
from proxy.homes import Home
from proxy.learning import Taught
from proxy.selection import Selected
from proxy.services import Services


def learns(route: Route) -> bool:
    """Whether the route's decisions use what its exchanges teach."""
    return route.choose != "ladder"


def remember(
    services: Services,
    exchange_id: str,
    key: str | None,
    selected: Selected,
    messages: Sequence[Mapping[str, Any]],
    outcome: Outcome,
) -> None:
    """Keep what later decisions of this route want to know of `outcome`."""
    route, last, choice = selected.route, outcome.last, outcome.plan.choice
    kept = isinstance(outcome.end, Accept) and not outcome.end.raw
    if route.sticky and kept and messages and last.usage is not None:
        home = Home.after(last.model, last.usage, selected.target(last.model).card.price)
        services.homes.moved(route.name, key, messages, home)
    if learns(route) and choice is not None and selected.pinned is None:
        alias = selected.target(last.model).card.alias if kept else ""
        named = [(selected.target(a.model).card.alias, a) for a in outcome.history]
        services.learning.ended(exchange_id, Taught(key, route.name, choice.step, alias), named)
