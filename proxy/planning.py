"""Steps 2 and 3 of an exchange: gathers what the decisions need to know, and has them made."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from policies import recall
from policies.allowance import Allowance
from policies.cards import ModelCard
from policies.contract import Contract
from policies.doubts import Doubts
from policies.facts import demands
from policies.features import features
from policies.ladder import Rung
from policies.plan import Counts, Plan, needs_counts, trim_context
from policies.room import most_prompt_tokens, required_parts
from policies.route import ContextRule, Route
from policies.routing import Choice, choose, needs
from policies.trimming import Trimmed, least_recent
from proxy.clock import monotonic
from proxy.conversations import in_our_tokens, recall_tokens, told_for
from proxy.facts import bound_of, counts_wanted, gather
from proxy.handlers.schemas import refused_schema
from proxy.homes import Home
from proxy.judging import apart
from proxy.selection import Selected
from proxy.services import Services
from proxy.snapshot import Provider
from proxy.wire.ask import Ask
from proxy.wire.errors import nobody
from proxy.wire.responses import schema_of
from schemas.compiled import Compiled
from schemas.errors import SchemaRefused

RESPONSES: Final = "responses"
_MOST_CHOICES: Final = 1024
"""That are kept of one configuration."""


async def plan_of(
    services: Services, ask: Ask, selected: Selected, owner: str | None, *, own_retries: bool
) -> Plan:
    """Gather what the decisions need to know, and decide. Raises ApiError where no model may be asked."""
    route = selected.route
    counts = None
    chat = ask.endpoint == "chat/completions"
    if chat and (needs_counts(route.context, len(ask.body)) or counts_wanted(route, selected, len(ask.body))):
        tools = ask.doc.get("tools")
        counted = await services.counter.measure(ask.messages, tools if isinstance(tools, list) else ())
        counts = Counts(counted.messages, counted.tools + counted.overhead)
    least = None if counts is None else await _least(services, ask, selected, owner, counts)
    if not chat and (route.agree or route.shadow):
        route = replace(route, agree=(), shadow=0.0)  # only conversations are compared
    home = services.homes.of(route.name, owner, ask.messages) if route.sticky and chat else None
    ill = _ill(services, selected)
    choice = _choice(services, route, ask, selected, counts, ill, least, home)
    if choice.model is None:
        raise nobody(choice, _parts(ask, counts))
    limits = route.limits
    deadline = None if limits.deadline_s is None else monotonic() + limits.deadline_s
    allowance = Allowance(limits.attempts, _ceiling(limits.cost_nanousd, ask.controls.max_cost_usd), deadline)
    lookups = recall.ROUNDS if _may_look_up(route.context, ask, choice, allowance) else 0
    context = (
        None
        if route.context.policy == "off"
        else await _context(services, ask, selected, choice.model, owner, counts, lookups=lookups)
    )
    providers = services.ready.snapshot.providers
    foot, companion = choice.together or (choice.model, None)
    rungs = tuple(
        Rung(asked, _retries(providers, selected.target(asked).card) if own_retries else 0)
        for asked in (foot, *choice.ladder)
    )
    contract = await contract_of(services, ask, selected)
    return Plan(
        route.name,
        rungs,
        contract,
        route.repair if chat else replace(route.repair, patch=False),
        allowance,
        "hold" if apart(services.sandbox, contract) else route.stream,
        context,
        choice,
        companion,
        None if choice.climb_above is None else _doubts(route, ask, choice, choice.climb_above),
        lookups,
    )


def _choice(
    services: Services,
    route: Route,
    ask: Ask,
    selected: Selected,
    counts: Counts | None,
    ill: Mapping[str, tuple[float, float]],
    least: int | None,
    home: Home | None,
) -> Choice:
    """Where the exchange begins. What hangs on nothing but the route and on what is asked of it is decided once."""
    factor = services.counter.factor
    if counts is not None or home is not None or ill or needs(route) or selected.pinned is not None:
        facts = gather(route, ask, selected, counts, ill, least, home, services.learning, factor)
        return choose(route, facts)
    asked = route.name, ask.endpoint, ask.controls.step, bound_of(ask.doc), demands(ask.doc)
    known = services.ready.choices.get(asked)
    if known is not None:
        return known
    choice = choose(route, gather(route, ask, selected, None, ill, learning=services.learning, factor=factor))
    if choice.model is not None and len(services.ready.choices) < _MOST_CHOICES:
        services.ready.choices[asked] = choice
    return choice


def _may_look_up(rule: ContextRule, ask: Ask, choice: Choice, allowance: Allowance) -> bool:
    """Whether the models of this exchange may be offered the tool to look up what is left out."""
    return (
        rule.recall_tool
        and ask.endpoint == "chat/completions"
        and choice.together is None  # what two models say is compared, call by call
        and recall.offers(recall.ROUNDS, allowance, ("answer",))
        and recall.may_offer(ask.doc)
    )


def _doubts(route: Route, ask: Ask, choice: Choice, above: float) -> Doubts | None:
    """How the first answer is doubted. The prompt is looked at before the call, while nobody waits for an answer."""
    doubter = route.floor.doubter if route.floor is not None else None
    if doubter is None or choice.model is None:
        return None
    return Doubts(choice.model, doubter, features(ask.messages, ask.doc.get("tools")), above)


def _retries(providers: Mapping[str, Provider], card: ModelCard) -> int:
    """How often a call may be made again at the place where it failed."""
    if not card.deployments:
        return providers[card.provider].retries
    return max(providers[deployment.card.provider].retries for deployment in card.deployments)


def _ill(services: Services, selected: Selected) -> dict[str, tuple[float, float]]:
    """The models that are left alone now, by the name they are asked by.

    Seconds until they may be tried: because they failed, and because they asked for it.
    """
    health = services.health
    if not health.troubled:
        return {}
    now = monotonic()
    named = ((t.asked, t.card, t.card.name or t.asked) for t in selected.targets)
    waits = {
        asked: (health.waits_for(card, name, now), health.rests_for(card, name, now))
        for asked, card, name in named
    }
    return {asked: wait for asked, wait in waits.items() if any(wait)}


async def _least(
    services: Services, ask: Ask, selected: Selected, owner: str | None, counts: Counts
) -> int | None:
    """To how many tokens the prompt can be trimmed; None where nothing is trimmed, or any window holds all of it."""
    route = selected.route
    if route.context.policy == "off":
        return None
    most = [(t.card, most_prompt_tokens(t.card, bound_of(ask.doc))) for t in selected.targets]
    total, counter = sum(counts.messages) + counts.overhead, services.counter
    if all(tokens is None or total <= in_our_tokens(counter, card, tokens) for card, tokens in most):
        return None
    if route.context.policy == "recent":
        return least_recent(ask.messages, counts.messages, counts.overhead)
    return await services.conversations.least(route, owner, ask.messages, counts.overhead)


def _parts(ask: Ask, counts: Counts | None) -> Mapping[str, int]:
    """What of the prompt has to stay whatever is trimmed, in tokens."""
    if counts is None:
        return {}
    return required_parts(ask.messages, counts.messages, (), counts.overhead)


async def _context(
    services: Services,
    ask: Ask,
    selected: Selected,
    model: str,
    owner: str | None,
    counts: Counts | None,
    *,
    lookups: int,
) -> Trimmed | None:
    """The messages that go to `model`, by the route's rule; None where they go as they came."""
    rule = selected.route.context
    card, output = selected.target(model).card, bound_of(ask.doc)
    tool_tokens = recall_tokens(services.counter, card) if lookups and counts is not None else 0
    if rule.policy != "relevant" or counts is None:
        budget = rule.budget_tokens and in_our_tokens(services.counter, card, rule.budget_tokens)
        trimmed = trim_context(replace(rule, budget_tokens=budget), ask.messages, counts, tool_tokens)
        return told_for(services.counter, card, trimmed)
    total = sum(counts.messages) + counts.overhead
    continued = await services.conversations.trim(
        selected.route, owner, ask.messages, counts.overhead, card, output, total, tool_tokens
    )
    return None if continued is None else told_for(services.counter, card, continued.trimmed)


def _ceiling(limit: int | None, asked_usd: str | None) -> int | None:
    """The lower of the route's cost limit and the client's own, in nano-USD."""
    if asked_usd is None:
        return limit
    asked = int(Decimal(asked_usd) * 10**9)
    return asked if limit is None else min(limit, asked)


async def contract_of(services: Services, ask: Ask, selected: Selected) -> Contract:
    """What the reply must satisfy: an inline response_format wins over the route's schema.

    Raises ApiError (400) for a schema that is refused.
    """
    if ask.endpoint not in ("chat/completions", RESPONSES):
        return Contract()
    route = selected.route
    inline = schema_of(ask.doc) if ask.endpoint == RESPONSES else inline_schema(ask.doc)
    try:
        promised = services.contract_of(route) if inline is None else None
        schema = await services.inline_schema(inline) if promised is None else promised.schema
    except SchemaRefused as error:
        raise refused_schema(error, "response_format") from None
    checked = route.tools == "check" and ask.endpoint != RESPONSES and ask.doc.get("tools")
    tools = await _tools(services, ask.doc) if checked else None
    limited = any(
        ask.doc.get(name) is not None for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")
    )
    return Contract(schema, route.repair.accept, tools, client_limit=limited)


async def _tools(services: Services, doc: dict[str, Any]) -> dict[str, Compiled | None] | None:
    """The functions on offer and the schemas of their parameters; None where there are none."""
    offered = doc.get("tools")
    found: dict[str, Compiled | None] = {}
    for n, tool in enumerate(offered if isinstance(offered, list) else ()):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return None  # a kind of tool whose calls we do not know
        parameters = function.get("parameters")
        try:
            found[function["name"]] = None if parameters is None else await services.inline_schema(parameters)
        except SchemaRefused as error:
            raise refused_schema(error, f"tools[{n}].function.parameters") from None
    return found or None


def inline_schema(doc: dict[str, Any]) -> Any:
    """The JSON Schema in `response_format`, or None."""
    wanted = doc.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return None
    named = wanted.get("json_schema")
    return named.get("schema") if isinstance(named, dict) else None
