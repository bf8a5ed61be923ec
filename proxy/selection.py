"""Which route a request selects, and whether it pins a model. First hit wins (docs/headers.md)."""

from collections.abc import Mapping
from typing import Final

from policies.cards import ModelCard
from policies.route import Route
from proxy.services import DEFAULT
from proxy.snapshot import Key, Snapshot
from proxy.wire.ask import Ask
from proxy.wire.errors import NO_RETRY, ApiError, not_found
from schemas.values import dataclass

MAX_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Target:
    """A model that may be asked: `asked` is the name it goes by in this exchange, `card` what it is."""

    asked: str
    card: ModelCard


@dataclass(frozen=True, slots=True)
class Selected:
    """The route of a request and every model that it may come to ask; never empty."""

    route: Route
    targets: tuple[Target, ...]
    flagship: ModelCard
    """What savings are measured against: the last model of the ladder. A model that the client chose itself
    saves nothing by being cheap."""
    pinned: str | None = None
    """The model that the client asked for by name."""

    def target(self, asked: str) -> Target:
        """The model that goes by this name here."""
        for target in self.targets:
            if target.asked == asked:
                return target
        raise KeyError(asked)


def select(snapshot: Snapshot, routes: Mapping[str, Route], ask: Ask, key: Key | None) -> Selected:
    """The route and models for `ask`. Raises ApiError: 404 for unknown names, 403 for a forbidden route."""
    route, model = _route_of(routes, ask.controls.route, ask.model)
    if key is not None and key.routes is not None and route.name not in key.routes:
        message = f"The key '{key.name}' may not use the route '{route.name}'."
        raise ApiError(403, message, "route_forbidden", type="permission_error", headers=NO_RETRY)
    if model is not None:
        pinned = _card(snapshot, model)
        return Selected(route, (Target(model, pinned),), pinned, model)
    if not route.ladder:
        message = "No model was named, and the default route has no ladder."
        raise not_found(message, code="model_not_found", param="model")
    named = dict.fromkeys(
        [*route.ladder, *(alias for rule in route.match for alias in rule.ladder), *route.agree]
    )
    targets = tuple(Target(alias, _card(snapshot, alias)) for alias in named)
    return Selected(route, targets, targets[len(dict.fromkeys(route.ladder)) - 1].card)


def _route_of(routes: Mapping[str, Route], named: str | None, model: str | None) -> tuple[Route, str | None]:
    """The route, and the model that the client pinned to it."""
    if named is not None:
        route = routes.get(named)
        if route is None:
            raise not_found(f"There is no route '{named[:MAX_NAME]}'.", code="route_not_found", param="route")
        return route, None if model in (None, "", named) else model
    if model is not None and model in routes:
        return routes[model], None
    return routes[DEFAULT], model or None


def _card(snapshot: Snapshot, asked: str) -> ModelCard:
    card = snapshot.card_for(asked)
    if card is None:
        message = f"There is no model or route '{asked[:MAX_NAME]}'. GET /v1/models lists what there is."
        raise not_found(message, code="model_not_found", param="model")
    return card
