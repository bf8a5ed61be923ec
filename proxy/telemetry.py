"""Metrics of one app: a registry of its own, cells looked up once, labels that a client cannot invent.

Label values come from the configuration: route, model alias and provider names, purposes, verdicts and statuses.
A model that matched a pattern is counted under the pattern. `Families` names every metric.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest

from policies.cards import ModelCard
from policies.chat import Usage
from policies.ladder import Attempt
from policies.limits import BudgetMeter, BudgetRule, period_bounds
from policies.saved import LEVERS, Saved
from proxy.clock import monotonic
from proxy.families import NANO, Families
from proxy.series import Buckets, Cell
from proxy.shared_series import Share
from schemas.values import dataclass

OPERATIONS: Final[Mapping[str, str]] = {"chat/completions": "chat", "completions": "text_completion"}
"""Endpoint -> `gen_ai.operation.name`, where that is another word."""
BreakerState = Literal["closed", "half_open", "open"]
NO_ROUTE: Final = "none"
"""The route of what ended before one was found, and of health and metrics."""


@dataclass(slots=True)
class _Tokens:
    """Where the tokens of one model's calls are counted: our family's cell and the convention's."""

    input: tuple[Cell, Cell]
    output: tuple[Cell, Cell]
    cached: tuple[Cell, Cell]
    cache_write: tuple[Cell, Cell]
    reasoning: tuple[Cell, Cell]
    input_each: Buckets
    output_each: Buckets

    def count(self, usage: Usage) -> None:
        _add(self.input, usage.input_tokens)
        _add(self.output, usage.output_tokens)
        if usage.cached_tokens:
            _add(self.cached, usage.cached_tokens)
        if usage.cache_write_tokens:
            _add(self.cache_write, usage.cache_write_tokens)
        if usage.reasoning_tokens:
            _add(self.reasoning, usage.reasoning_tokens)
        self.input_each.observe(usage.input_tokens)
        self.output_each.observe(usage.output_tokens)


def _add(cells: tuple[Cell, Cell], count: int) -> None:
    cells[0].value += count
    cells[1].value += count


@dataclass(slots=True)
class _Attempts:
    """Where attempts of one route, model, endpoint, purpose, result and verdict are counted."""

    ended: Cell
    cost: Cell
    unpriced: Cell
    verdict: Cell | None
    deployment: Cell | None
    seconds: Buckets
    first_byte: Buckets
    duration: Buckets
    tokens: _Tokens


@dataclass(slots=True)
class _Request:
    """A request in work: when it began, how long it has waited for upstreams, and its route once it is known."""

    began_s: float
    waited_s: float = 0.0
    route: str = NO_ROUTE


class Telemetry:
    """What an app counts. `render` is the text for `/metrics`, all workers together."""

    def __init__(self, share: Share | None = None) -> None:
        self.families = Families()
        self.share = share
        self._names: dict[str, str] = {}
        self._attempts: dict[tuple[str, ...], _Attempts] = {}
        self._tokens: dict[tuple[str, ...], _Tokens] = {}
        self._deployments: dict[str, dict[str, BreakerState]] = {}
        """The breakers of models that have several deployments, by alias and deployment."""
        self._requests: dict[tuple[str, int], tuple[Cell, Buckets, Buckets]] = {}
        self._in_work: dict[str, _Request] = {}
        """By our request id."""
        self._in_flight = self.families.in_flight.cell()
        if share is not None:
            share.resume(self.families)
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def know(self, models: Mapping[str, ModelCard]) -> None:
        """Show what a dashboard asks for before it first happens: a rate over what was never there is nothing."""
        self._attempts.clear()
        self._tokens.clear()
        for alias, card in models.items():
            self._names[alias] = card.name or alias
            if card.price is None:
                self.families.unpriced.cell(alias)
            if not any(self.families.breakers.cell(alias, s).value for s in get_args(BreakerState)):
                self.breaker(alias, "closed")
        known = {a: [d.card.deployment for d in c.deployments] for a, c in models.items() if c.deployments}
        before, self._deployments = self._deployments, {alias: {} for alias in known}
        for alias, deployments in known.items():
            for deployment in deployments:
                state = before.get(alias, {}).get(deployment, "closed")
                self.breaker(alias, state, deployment)

    def breaker(self, model: str, state: BreakerState, deployment: str = "") -> None:
        """The breaker of `model` (an alias of the configuration), or of one of its deployments, is in this state now.

        A model with several deployments is as well as the best of them.
        """
        names: tuple[BreakerState, ...] = get_args(BreakerState)
        if deployment:
            states = self._deployments.setdefault(model, {})
            states[deployment] = state
            for name in names:
                self.families.deployment_breakers.cell(model, deployment, name).value = int(name == state)
            state = min(states.values(), key=names.index)
        for name in names:
            self.families.breakers.cell(model, name).value = int(name == state)

    def request_began(self, request_id: str) -> None:
        """A client's request is in work."""
        self._in_work[request_id] = _Request(monotonic())
        self._in_flight.value += 1

    def request_ended(self, request_id: str, route: str | None, status: int) -> None:
        """One client request has been answered (499: its client left). `route` None: as far as its attempts tell.

        The status of a stream that ended in an error is that error's, whatever it began with.
        """
        self._in_flight.value -= 1
        request = self._in_work.pop(request_id)
        seconds = monotonic() - request.began_s
        route = route or request.route
        cells = self._requests.get((route, status))
        if cells is None:
            families = self.families
            cells = self._requests[route, status] = (
                families.requests.cell(route, str(status)),
                families.seconds.cell(route),
                families.overhead.cell(route),
            )
        cells[0].value += 1
        cells[1].observe(seconds)
        if request.waited_s:
            cells[2].observe(max(0.0, seconds - request.waited_s))

    def attempt_ended(
        self,
        request_id: str,
        route: str,
        card: ModelCard,
        endpoint: str,
        attempt: Attempt,
        waited_s: float = 0.0,
    ) -> None:
        """One upstream call has ended, and its cost is known if it can be. `waited_s` were the upstream's."""
        request = self._in_work.get(request_id)
        if request is not None:
            request.waited_s += waited_s
            request.route = route
        failure = attempt.failure
        result = failure.kind if failure else "ok"
        verdict = "" if failure else attempt.verdict.kind
        key = (route, card.alias, endpoint, attempt.purpose, result, verdict, card.deployment)
        cells = self._attempts.get(key)
        if cells is None:
            cells = self._attempts[key] = self._cells(route, card, endpoint, attempt.purpose, result, verdict)
        cells.ended.value += 1
        if attempt.usage is not None:
            cells.tokens.count(attempt.usage)
            if attempt.cost_nanousd is None:
                cells.unpriced.value += 1
            else:
                cells.cost.value += attempt.cost_nanousd
        if cells.deployment is not None:
            cells.deployment.value += 1
        if cells.verdict is not None:
            cells.verdict.value += 1
            for change in attempt.verdict.changes:
                self.families.repairs.cell(card.alias, change.operation).value += 1
        seconds = attempt.ended_s - attempt.started_s
        cells.seconds.observe(seconds)
        cells.duration.observe(seconds)
        if attempt.first_byte_s is not None:
            cells.first_byte.observe(attempt.first_byte_s - attempt.started_s)

    def exchange_ended(self, route: str, model: str, schema: str, saved: Saved | None) -> None:
        """An exchange is over: `schema` is the word of `x-tailrace-schema`, `model` the last that was asked."""
        self.families.answers.cell(route, model, schema).value += 1
        if saved is not None:
            self.saved(route, saved)

    def saved(self, route: str, saved: Saved) -> None:
        """Book what was saved or lost. A counter never falls, so that each sign has its own."""
        for place, nanousd in enumerate(saved.levers):
            if nanousd > 0:
                self.families.saved.cell(route, LEVERS[place]).value += nanousd
            elif nanousd < 0:
                self.families.lost.cell(route, LEVERS[place]).value -= nanousd

    def trimmed(self, route: str, tokens_in: int, tokens_out: int) -> None:
        """A conversation was looked at by the route's context rule."""
        self.families.context.cell(route, "in").value += tokens_in
        self.families.context.cell(route, "out").value += tokens_out

    def cache_hit(self, route: str, model: str, schema: str, saved: Saved | None) -> None:
        """A kept answer was given again."""
        self.families.cache_hits.cell(route).value += 1
        self.exchange_ended(route, model, schema, saved)

    def stream_ended(self, request_id: str, route: str, spoke_first_s: float | None) -> None:
        """A stream is over; its first event went out at `spoke_first_s` (monotonic), None where none did."""
        request = self._in_work.get(request_id)
        if request is not None and spoke_first_s is not None:
            self.families.first_token.cell(route).observe(spoke_first_s - request.began_s)

    def budgets(self, meters: Iterable[tuple[BudgetRule, BudgetMeter]], now_ns: int) -> None:
        """How far budgets are spent; those that are not named have gone with a change of the configuration."""
        families, named = self.families, set()
        for rule, meter in meters:
            labels = (rule.scope, rule.name, rule.per)
            named.add(labels)
            families.limits.cell(*labels).value = rule.nanousd / NANO
            families.spent.cell(*labels).value = meter.spent / NANO
            _, end_ns = period_bounds(rule.per, now_ns)
            if end_ns is not None:
                families.resets.cell(*labels).value = end_ns / NANO
        for family in (families.limits, families.spent, families.resets):
            for gone in family.cells.keys() - named:
                del family.cells[gone]

    def drifted(self, steps: Mapping[str, int]) -> None:
        """How many steps of each route with a calibration no longer look like it; other routes have none."""
        family = self.families.drifted
        for labels in family.cells.keys() - {(route,) for route in steps}:
            del family.cells[labels]
        for route, count in steps.items():
            family.cell(route).value = count

    def answers_by_route(self) -> dict[str, dict[str, float]]:
        """Exchanges of all workers by route and by what their schema came to. May run in a thread."""
        family = self.families.answers
        others = self.share.others() if self.share is not None else []
        found: dict[str, dict[str, float]] = {}
        for (route, _, schema), count in family.values_with(other.get(family.name, {}) for other in others):
            words = found.setdefault(route, {})
            words[schema] = words.get(schema, 0) + count
        return found

    def collect(self) -> Iterable[Metric]:
        """For prometheus_client: every family, all workers together."""
        others = self.share.others() if self.share is not None else []
        return [
            family.shown(family.told_with(other.get(family.name, {}) for other in others))
            for family in self.families
        ]

    def describe(self) -> Iterable[Metric]:
        """For prometheus_client, which asks for names when a collector is registered."""
        return [family.shown({}) for family in self.families]

    def render(self) -> bytes:
        """Prometheus' text format. May run in a thread: it takes some 10 us per line."""
        return generate_latest(self.registry)

    def _cells(
        self, route: str, card: ModelCard, endpoint: str, purpose: str, result: str, verdict: str
    ) -> _Attempts:
        families, alias = self.families, card.alias
        kind = self._operation(card, endpoint)
        return _Attempts(
            families.attempts.cell(route, alias, purpose, result),
            families.cost.cell(route, alias, purpose),
            families.unpriced.cell(alias),
            families.verdicts.cell(route, alias, verdict) if verdict else None,
            families.deployments.cell(alias, card.deployment, result) if card.deployment else None,
            families.attempt_seconds.cell(alias),
            families.first_byte.cell(alias),
            families.duration.cell(*kind, "" if result == "ok" else result),
            self._tokens_of(card, kind),
        )

    def _operation(self, card: ModelCard, endpoint: str) -> tuple[str, str, str]:
        """Operation, provider and model as the conventions name them; a name that a client chose is its pattern's."""
        known = card.name if card.deployment and card.name else self._names.get(card.alias, card.alias)
        return OPERATIONS.get(endpoint, endpoint), card.provider, known

    def _tokens_of(self, card: ModelCard, kind: tuple[str, str, str]) -> _Tokens:
        found = self._tokens.get((card.alias, *kind))
        if found is not None:
            return found
        families, tokens, alias = self.families, self.families.tokens, card.alias
        modal = (*kind, "unknown")
        found = self._tokens[alias, *kind] = _Tokens(
            (tokens.cell(alias, "input"), families.inference_input.cell(*modal)),
            (tokens.cell(alias, "output"), families.inference_output.cell(*modal)),
            (tokens.cell(alias, "cached_input"), families.inference_cache_read.cell(*modal)),
            (tokens.cell(alias, "cache_write"), families.inference_cache_write.cell(*modal)),
            (tokens.cell(alias, "reasoning"), families.inference_reasoning.cell(*modal)),
            families.token_usage.cell(*kind, "input"),
            families.token_usage.cell(*kind, "output"),
        )
        return found
