"""`POST /v1/chat/completions` and its kin: a request becomes an exchange, its outcome an answer."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from aiohttp import web

from policies.allowance import Allowance
from policies.chat import Reply
from policies.contract import Contract
from policies.ladder import Accept, Rung
from policies.plan import Counts, Plan, needs_counts, trim_context
from policies.routing import choose
from proxy.budgets import Rules, admit, rules_of
from proxy.cache import Turn, key_of
from proxy.edges import Visit, read_body
from proxy.exchange import Outcome, converse
from proxy.facts import counts_wanted, gather
from proxy.handlers.again import again
from proxy.handlers.schemas import refused_schema
from proxy.listener import Listener
from proxy.live import Live
from proxy.selection import Selected, select
from proxy.services import Services
from proxy.wire import facts as wire_facts
from proxy.wire import headers as wire_headers
from proxy.wire.ask import Ask, read_ask
from proxy.wire.body import edit
from proxy.wire.chat import Whole, event_of, loads, saying, with_mended, with_mended_streamed
from proxy.wire.errors import JSON, ApiError, from_failure, nobody
from proxy.wire.responses import schema_of, with_mended_response
from proxy.wire.sse import comment, frame
from schemas.compiled import Compiled
from schemas.continuation import continue_from
from schemas.errors import SchemaRefused

RESPONSES = "responses"
RETRY_COUNT = "x-stainless-retry-count"
"""Official clients count their own retries here: theirs and ours must not multiply."""


async def complete(services: Services, visit: Visit) -> web.StreamResponse:
    """Serve one request. Raises ApiError for everything that ends before an answer has begun."""
    server = services.ready.snapshot.server
    body = await read_body(visit.request, int(server.max_body_mb * 1024 * 1024), server.body_timeout_s)
    return await serve(services, visit, read_ask(visit.path, body, visit.headers, visit.route_in_path))


async def serve(services: Services, visit: Visit, ask: Ask) -> web.StreamResponse:
    """Serve a request that was read: within its limits, from a kept answer, or by an exchange."""
    selected = select(services.ready.snapshot, services.ready.routes, ask, visit.key)
    once, each = rules_of(visit.key, selected.route, ask.controls.run)
    refused = await admit(services.limiter, once)
    if refused is not None:
        raise from_failure(refused, retried=False)
    responses = services.cache_of(selected.route)
    if responses is None:
        return await _exchange(services, visit, ask, selected, each, None)
    tenant = visit.key.name if visit.key else None
    same = key_of(tenant, ask.endpoint, ask.model or "", edit(ask.body, ask.doc, ask.own))
    async with responses.ask(same) as turn:
        if turn.found is not None:
            return await again(services, visit, ask, selected, turn.found)
        return await _exchange(services, visit, ask, selected, each, turn)


async def _exchange(
    services: Services, visit: Visit, ask: Ask, selected: Selected, rules: Rules, turn: Turn | None
) -> web.StreamResponse:
    """Ask upstream; what comes of it is kept in `turn` where the route keeps answers."""
    server = services.ready.snapshot.server
    plan = await _plan(services, ask, selected, visit)
    if plan.context is not None:
        services.telemetry.trimmed(plan.route, plan.context.tokens_in, plan.context.tokens_out)
    passed = wire_headers.to_upstream(visit.headers.items())
    live: Live | None = None

    def first_headers() -> Sequence[tuple[str, str]]:
        call = live.last_call if live is not None else None
        upstream = call.reply_headers if call is not None else ()
        model = call.model if call is not None else ""
        return _headers(visit, upstream, wire_facts.at_start(plan, model))

    listener = (
        Listener(visit.request, first_headers, server.hold_status_s, server.keepalive_s)
        if ask.stream
        else None
    )
    live = Live(
        services,
        ask,
        selected,
        exchange_id=visit.id,
        key=visit.key.name if visit.key else None,
        passed=passed,
        listener=listener,
        contract=plan.contract,
        rules=rules,
        dropped_tokens=0 if plan.context is None else plan.context.tokens_in - plan.context.tokens_out,
    )
    if listener is not None:
        services.listeners.add(listener)
        listener.told = [] if turn is not None else None
    try:
        outcome = await converse(plan, live.messages, live)
        alias, word = selected.target(outcome.last.model).card.alias, wire_facts.schema_word(outcome)
        services.telemetry.exchange_ended(plan.route, alias, word, live.saved)
        if listener is not None:
            return await _answer_streamed(visit, ask, outcome, live, listener, turn)
        return _answer_whole(visit, ask, outcome, live, turn)
    finally:
        if listener is not None:
            listener.stop()
            services.listeners.discard(listener)
            services.telemetry.stream_ended(visit.id, plan.route, listener.spoke_first_s)


async def _plan(services: Services, ask: Ask, selected: Selected, visit: Visit) -> Plan:
    """Gather what the decisions need to know, and decide. Raises ApiError where no model may be asked."""
    route = selected.route
    counts = None
    chat = ask.endpoint == "chat/completions"
    if chat and (needs_counts(route.context, len(ask.body)) or counts_wanted(route, selected, len(ask.body))):
        tools = ask.doc.get("tools")
        counted = await services.counter.measure(ask.messages, tools if isinstance(tools, list) else ())
        counts = Counts(counted.messages, counted.tools + counted.overhead)
    context = trim_context(route.context, ask.messages, counts)
    choice = choose(route, gather(route, ask, selected, counts, {}))
    if choice.model is None:
        raise nobody(choice)
    own_retries = visit.headers.get(RETRY_COUNT, "0") == "0"
    providers = services.ready.snapshot.providers
    rungs = tuple(
        Rung(asked, providers[selected.target(asked).card.provider].retries if own_retries else 0)
        for asked in (choice.model, *choice.ladder)
    )
    limits = route.limits
    deadline = None if limits.deadline_s is None else time.monotonic() + limits.deadline_s
    return Plan(
        route.name,
        rungs,
        contract_of(services, ask, selected),
        route.repair if chat else replace(route.repair, patch=False),
        Allowance(limits.attempts, _ceiling(limits.cost_nanousd, ask.controls.max_cost_usd), deadline),
        route.stream,
        context,
        choice,
    )


def _ceiling(limit: int | None, asked_usd: str | None) -> int | None:
    """The lower of the route's cost limit and the client's own, in nano-USD."""
    if asked_usd is None:
        return limit
    asked = int(Decimal(asked_usd) * 10**9)
    return asked if limit is None else min(limit, asked)


def contract_of(services: Services, ask: Ask, selected: Selected) -> Contract:
    """What the reply must satisfy: an inline response_format wins over the route's schema.

    Raises ApiError (400) for a schema that is refused.
    """
    if ask.endpoint not in ("chat/completions", RESPONSES):
        return Contract()
    route = selected.route
    inline = schema_of(ask.doc) if ask.endpoint == RESPONSES else inline_schema(ask.doc)
    try:
        promised = services.contract_of(route) if inline is None else None
        schema = services.inline_schema(inline) if promised is None else promised.schema
    except SchemaRefused as error:
        raise refused_schema(error, "response_format") from None
    tools = _tools(services, ask.doc) if route.tools == "check" and ask.endpoint != RESPONSES else None
    limited = any(
        ask.doc.get(name) is not None for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")
    )
    return Contract(schema, route.repair.accept, tools, client_limit=limited)


def _tools(services: Services, doc: Mapping[str, Any]) -> dict[str, Compiled | None] | None:
    """The functions on offer and the schemas of their parameters; None where there are none."""
    offered = doc.get("tools")
    found: dict[str, Compiled | None] = {}
    for n, tool in enumerate(offered if isinstance(offered, list) else ()):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return None  # a kind of tool whose calls we do not know
        parameters = function.get("parameters")
        try:
            found[function["name"]] = None if parameters is None else services.inline_schema(parameters)
        except SchemaRefused as error:
            raise refused_schema(error, f"tools[{n}].function.parameters") from None
    return found or None


def inline_schema(doc: Mapping[str, Any]) -> Any:
    """The JSON Schema in `response_format`, or None."""
    wanted = doc.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return None
    named = wanted.get("json_schema")
    return named.get("schema") if isinstance(named, dict) else None


def _answer_whole(visit: Visit, ask: Ask, outcome: Outcome, live: Live, turn: Turn | None) -> web.Response:
    facts = wire_facts.at_end(outcome)
    upstream = live.last_call.reply_headers if live.last_call is not None else ()
    error = _error_of(visit, outcome)
    if error is not None:
        error.headers = (*error.headers, *facts)
        raise error
    reply = outcome.last.reply
    assert isinstance(reply, Reply)
    assert isinstance(reply.original, Whole)
    extra = {"tailrace": wire_facts.explained(outcome)} if ask.controls.explain else {}
    write = with_mended_response if ask.endpoint == RESPONSES else with_mended
    body = write(reply.original, outcome.last.verdict, extra)
    if turn is not None:
        turn.keep(live.kept(outcome, body))
    return web.Response(body=body, headers=[("content-type", JSON), *_headers(visit, upstream, facts)])


async def _answer_streamed(
    visit: Visit, ask: Ask, outcome: Outcome, live: Live, listener: Listener, turn: Turn | None
) -> web.StreamResponse:
    error = _error_of(visit, outcome)
    if error is not None:
        if listener.started:
            return await listener.fail(error)
        error.headers = (*error.headers, *wire_facts.at_end(outcome))
        raise error
    call = live.last_call
    assert call is not None
    events = _events_left(outcome, live)
    if events is None:
        message = (
            "The answer turned out not to be valid, and the corrected one contradicts what was delivered."
        )
        return await listener.fail(ApiError(422, message, "schema_unsatisfied", type="schema_error"))
    frames = [frame(event) for event in events]
    if turn is not None and listener.told is not None:
        usage = [] if call.usage_event is None or not ask.include_usage else [frame(call.usage_event)]
        turn.keep(live.kept(outcome, b"".join([*listener.told, *frames, *usage])))
    if ask.include_usage and call.usage_event is not None:
        facts = wire_facts.explained(outcome) if ask.controls.explain else wire_facts.in_short(outcome)
        frames.append(frame(wire_facts.with_facts(call.usage_event, facts)))
    else:
        # Before the last event and not before [DONE]: naive readers drop an event that a comment opens,
        # and can spare this one, not that.
        frames.insert(max(0, len(frames) - 1), comment("tailrace " + wire_facts.as_line(outcome)))
    return await listener.end(b"".join(frames))


def _events_left(outcome: Outcome, live: Live) -> list[bytes] | None:
    """What the client is still to be told; None where part of the answer is out and cannot be gone on with."""
    call, first = live.last_call, live.first_call
    assert call is not None
    assert first is not None
    last = [] if call.last_event is None else [call.last_event]
    verdict = outcome.last.verdict
    if not outcome.released:
        events = [event_of(piece) for piece in outcome.held] + last
        return list(with_mended_streamed(events, verdict)) if verdict.texts or verdict.arguments else events
    reply = outcome.last.reply
    assert reply is not None
    text = verdict.texts.get(0) or reply.choices[0].text or ""
    rest = continue_from(outcome.released, loads(text.encode()))
    if rest is None or not last:
        return None
    return [saying(last[0], rest, first.head)]


def _error_of(visit: Visit, outcome: Outcome) -> ApiError | None:
    """What the client hears when no answer came of it; None when one did."""
    if isinstance(outcome.end, Accept):
        return None
    retried = RETRY_COUNT not in visit.headers and len(outcome.history) > 1
    return wire_facts.error_of(outcome, retried=retried)


def _headers(
    visit: Visit, upstream: Sequence[tuple[str, str]], facts: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    named = any(n == "x-request-id" for n, _ in upstream)
    ours = [] if named else [("x-request-id", visit.id)]
    return [*upstream, *ours, ("x-tailrace-request-id", visit.id), *facts]
