"""`POST /v1/chat/completions` and its kin: a request becomes an exchange, its outcome an answer."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from policies.chat import Reply
from policies.ladder import Accept, GiveUp
from proxy import serving
from proxy.aftermath import compares, credited, learns, remember, summarise
from proxy.budgets import Rules, admit, rules_of
from proxy.cache import Turn, key_of
from proxy.edges import Visit, body_at_hand, read_body
from proxy.exchange import Outcome, converse
from proxy.handlers.again import again
from proxy.listener import Listener
from proxy.live import Live
from proxy.planning import RESPONSES, plan_of
from proxy.prompts import Prompt
from proxy.selection import Selected, select
from proxy.services import Services
from proxy.wire import facts as wire_facts
from proxy.wire import headers as wire_headers
from proxy.wire.ask import Ask, read_ask
from proxy.wire.body import LARGE_BYTES, edit
from proxy.wire.chat import Whole, event_of, loads, saying, with_mended, with_mended_streamed
from proxy.wire.errors import JSON, ApiError, from_failure
from proxy.wire.responses import with_mended_response
from proxy.wire.sse import comment, frame
from schemas.continuation import continue_from

RETRY_COUNT: Final = "x-stainless-retry-count"
"""Official clients count their own retries here: theirs and ours must not multiply."""


async def complete(services: Services, visit: Visit) -> serving.Answer:
    """Serve one request. Raises ApiError for everything that ends before an answer has begun."""
    server = services.ready.snapshot.server
    limit = int(server.max_body_mb * 1024 * 1024)
    body = body_at_hand(visit.request, limit)
    if body is None:
        body = await read_body(visit.request, limit, server.body_timeout_s)
    if len(body) > LARGE_BYTES:
        return await serve(services, visit, await read(visit, body))
    return await serve(services, visit, read_ask(visit.path, body, visit.headers, visit.route_in_path))


async def read(visit: Visit, body: bytes) -> Ask:
    """What `body` asks for. Raises ApiError (400)."""
    if len(body) <= LARGE_BYTES:
        return read_ask(visit.path, body, visit.headers, visit.route_in_path)
    return await asyncio.to_thread(read_ask, visit.path, body, visit.headers, visit.route_in_path)


async def serve(services: Services, visit: Visit, ask: Ask) -> serving.Answer:
    """Serve a request that was read: within its limits, from a kept answer, or by an exchange."""
    selected = select(services.ready.snapshot, services.ready.routes, ask, visit.key)
    once, each = rules_of(visit.key, selected.route, ask.controls.run)
    refused = await admit(services.limiter, once) if once else None
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
) -> serving.Answer:
    """Ask upstream; what comes of it is kept in `turn` where the route keeps answers."""
    server = services.ready.snapshot.server
    key = visit.key.name if visit.key else None
    own_retries = visit.headers.get(RETRY_COUNT, "0") == "0"
    plan = await plan_of(services, ask, selected, key, own_retries=own_retries)
    if plan.context is not None:
        told = plan.context.told
        services.telemetry.trimmed(plan.route, told(plan.context.tokens_in), told(plan.context.tokens_out))
    passed = wire_headers.to_upstream(visit.headers)
    live: Live | None = None

    listener: Listener | None = None
    if ask.stream:

        def first_headers() -> Sequence[tuple[str, str]]:
            call = live.last_call if live is not None else None
            upstream = call.reply_headers if call is not None else ()
            model = call.model if call is not None else ""
            sent = plan if live is None else replace(plan, context=live.prompt.context, record=live.record)
            return _headers(visit, upstream, wire_facts.at_start(sent, model))

        def waiting() -> bytes:
            stands = None if live is None else live.progress
            return wire_facts.waiting(ask.controls.progress, visit.id, stands)

        listener = Listener(visit.request, first_headers, server.hold_status_s, server.keepalive_s, waiting)

    live = Live(
        services,
        ask,
        selected,
        exchange_id=visit.id,
        key=key,
        passed=passed,
        listener=listener,
        contract=plan.contract,
        rules=rules,
        compared=plan.companion is not None or plan.doubts is not None or compares(selected.route),
        prompt=Prompt(services.counter, selected.route.context, ask, plan.context, recalls=plan.lookups > 0),
        hedged_within=plan.allowance if plan.companion is None else None,
    )
    if listener is not None:
        services.listeners.add(listener)
        listener.told = [] if turn is not None else None
    try:
        outcome = await converse(plan, live.messages, live)
        outcome = _concluded(services, visit, ask, selected, live, outcome)
        if listener is not None:
            return await _answer_streamed(visit, ask, outcome, live, listener, turn)
        return _answer_whole(visit, ask, outcome, live, turn)
    finally:
        if listener is not None:
            listener.stop()
            services.listeners.discard(listener)
            services.telemetry.stream_ended(visit.id, plan.route, listener.spoke_first_s)


def _concluded(
    services: Services, visit: Visit, ask: Ask, selected: Selected, live: Live, outcome: Outcome
) -> Outcome:
    """What others learn of an exchange that has ended; and its outcome, with the context that was sent at last."""
    key = visit.key.name if visit.key else None
    plan, last = outcome.plan, outcome.last
    live.delivers(last)
    if (
        ask.stream
        and outcome.released
        and isinstance(outcome.end, Accept)
        and _events_left(outcome, live) is None
    ):
        outcome = replace(outcome, end=GiveUp("contradiction"))
    outcome = credited(services, visit.id, outcome, live)
    # What the provider had cached of a prompt that a look-up made longer is the prompt of the call before.
    asked = next((a for a in reversed(outcome.history) if a.purpose != "recall"), last)
    if plan.context is not None and asked.usage is not None:
        services.conversations.learn(selected.route, key, live.messages, asked.usage.cached_tokens)
    sent = live.prompt.context_of(last.number)  # a smaller model gets less than the first one
    if sent is not plan.context or live.record is not None:
        outcome = replace(outcome, plan=replace(plan, context=sent, record=live.record))
    if selected.route.sticky or learns(selected.route) or compares(selected.route):
        remember(services, visit.id, key, selected, ask, outcome, live)
    if selected.route.context.summary is not None and ask.messages:
        summarise(services, key, selected, ask, outcome, live)
    alias, word = selected.target(last.model).card.alias, wire_facts.schema_word(outcome)
    services.telemetry.exchange_ended(plan.route, alias, word, live.saved)
    return outcome


def _answer_whole(
    visit: Visit, ask: Ask, outcome: Outcome, live: Live, turn: Turn | None
) -> serving.Response:
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
    return serving.Response(body=body, headers=[("content-type", JSON), *_headers(visit, upstream, facts)])


async def _answer_streamed(
    visit: Visit, ask: Ask, outcome: Outcome, live: Live, listener: Listener, turn: Turn | None
) -> serving.Answer:
    error = _error_of(visit, outcome)
    if error is not None:
        if listener.started:
            return await listener.fail(error)
        error.headers = (*error.headers, *wire_facts.at_end(outcome))
        raise error
    call = live.last_call
    assert call is not None
    events = _events_left(outcome, live)
    assert events is not None, "else the outcome says so"
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
