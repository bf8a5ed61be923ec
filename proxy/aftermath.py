"""What an exchange leaves behind: what it saved or lost, where its conversation is at home, what it taught."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from policies.chat import Reply
from policies.contract import NO_CONTRACT, Verdict
from policies.ladder import Accept
from policies.room import room
from policies.route import Route, SummaryRule
from policies.summary import MOST_CHARS, judge_summary, summary_prompt, written
from proxy.attempts import observe
from proxy.budgets import with_bound
from proxy.conversations import Span
from proxy.exchange import Outcome
from proxy.homes import Home, conversation_name
from proxy.learning import Taught
from proxy.live import Live
from proxy.outcomes import row_of
from proxy.ports import Order
from proxy.selection import Selected, Target
from proxy.services import Services
from proxy.stores.base import StoreRefused
from proxy.wire.ask import Ask
from proxy.wire.body import dump

SUMMARY_S = 60.0
"""Seconds that a summary may take."""
MOST_SHADOWS: Final = 32
"""Shadow calls at the same time; beyond that none is made."""


def credited(services: Services, exchange_id: str, outcome: Outcome, live: Live) -> Outcome:
    """What the exchange saved or lost is in the ledger, also where no attempt could tell while it was booked.

    An exchange that gave up has lost all it spent. An answer that counts though it is not valid, or though it was
    set aside, saved what any answer does.
    """
    last, kept = outcome.last, isinstance(outcome.end, Accept)
    if not live.spent or (kept and last.saved_nanousd is not None):
        return outcome
    found = live.saved_by(last.number if kept else None)
    if found is None or (not kept and not found.total and live.saved is None):
        return outcome  # unpriced, or nothing was spent
    live.saved = found
    services.store.credit(f"{exchange_id}.{last.number if kept else next(reversed(live.spent))}", found)
    services.outbox.soon()
    return replace(outcome, history=(*outcome.history[:-1], last.priced(last.cost_nanousd, found.total)))


def learns(route: Route) -> bool:
    """Whether the route's decisions use what its exchanges teach."""
    return route.choose != "ladder"


def compares(route: Route) -> bool:
    """Whether the route's outcomes are logged, to be calibrated from."""
    return bool(route.shadow or route.holdout or route.log_prompts)


def remember(
    services: Services,
    exchange_id: str,
    key: str | None,
    selected: Selected,
    ask: Ask,
    outcome: Outcome,
    live: Live,
) -> None:
    """Keep what later decisions of this route want to know of `outcome`. What takes time goes on in the background."""
    messages = ask.messages
    route, last, choice = selected.route, outcome.last, outcome.plan.choice
    kept = isinstance(outcome.end, Accept) and not outcome.end.raw
    if route.sticky and kept and messages and last.usage is not None:
        home = Home.after(last.model, last.usage, selected.target(last.model).card.price)
        services.homes.moved(route.name, key, messages, home)
    if (learns(route) or compares(route)) and choice is not None and selected.pinned is None:
        alias = selected.target(last.model).card.alias if kept else ""
        named = [(selected.target(a.model).card.alias, a) for a in outcome.history]
        _watch_validity(services, route, outcome)
        services.learning.ended(exchange_id, Taught(key, route.name, choice.step, alias), named)
    if compares(route) and choice is not None and selected.pinned is None:
        prompt = {n: ask.doc.get(n) for n in ("messages", "tools")} if route.log_prompts else None
        besides = kept and choice.shadow is not None and services.shadows < MOST_SHADOWS
        if not besides or choice.shadow is None:
            services.outcomes.note(row_of(exchange_id, outcome, None, prompt))
            return
        observed = _observed(services, route, exchange_id, outcome, live, choice.shadow, prompt)
        services.shadows += 1
        services.tasks.spawn(observed, name="shadow").add_done_callback(lambda _: _one_less(services))


def _watch_validity(services: Services, route: Route, outcome: Outcome) -> None:
    """Whether the model that the exchange began with came to a valid answer, where one was promised."""
    choice, first = outcome.plan.choice, outcome.plan.rungs[0].model
    if choice is None or route.floor is None or not outcome.plan.contract.binds:
        return
    replied = [a for a in outcome.history if a.model == first and a.reply is not None]
    if replied:
        good = float(replied[-1].verdict.acceptable)
        services.learning.drifts.saw(route, choice.step, first, "valid", good)


async def _observed(
    services: Services,
    route: Route,
    exchange_id: str,
    outcome: Outcome,
    live: Live,
    model: str,
    prompt: Mapping[str, Any] | None,
) -> None:
    """Ask `model` the same, for the log alone."""
    plan = outcome.plan
    trimmed = plan.context.messages if plan.context is not None and plan.context.changed else None
    number = plan.allowance.attempts + 1  # no attempt of the exchange has it
    order = Order(number, model, "route", trimmed)
    try:
        shadow = await observe(order, plan.contract, live.besides(plan.context))
    except StoreRefused:
        return
    row = row_of(exchange_id, outcome, shadow, prompt)
    services.outcomes.note(row)
    first, choice = plan.rungs[0].model, plan.choice
    if row["compared"] and row["kept"] == first and choice is not None:
        good = row["answers"][first]["quality"]
        services.learning.drifts.saw(route, choice.step, first, "comparison", good)


def summarise(
    services: Services, key: str | None, selected: Selected, ask: Ask, outcome: Outcome, live: Live
) -> None:
    """What left the prompt of this conversation is summarised in the background, for when its prefix is chosen anew."""
    if services.draining or not isinstance(outcome.end, Accept):
        return
    name = conversation_name(selected.route.name, key, ask.messages)
    if services.summaries.begin(name):
        number = outcome.plan.allowance.attempts + 2  # as above; the one before is the shadow's
        notes = _summarised(services, key, selected.route, ask, live, number)
        ended = services.tasks.spawn(notes, name="summary")
        ended.add_done_callback(lambda _: services.summaries.end(name))


async def _summarised(
    services: Services, key: str | None, route: Route, ask: Ask, live: Live, number: int
) -> None:
    rule = route.context.summary
    card = None if rule is None else services.ready.snapshot.card_for(rule.model)
    if rule is None or card is None or not route.require <= card.tags:  # the configuration may have changed
        return
    space = room(card, rule.max_tokens)
    most = MOST_CHARS if space is None else min(MOST_CHARS, 2 * space.tokens)
    span = await services.conversations.owed(route, key, ask.messages, rule, most)
    if span is None:
        return
    text = services.summaries.of(span.name)
    if text is None:
        text = await _written(services, ask, live, rule, Target(rule.model, card), span, number)
        services.summaries.keep(span.name, text)
    if text:
        await services.conversations.adopt(route, key, ask.messages, span, text)


async def _written(
    services: Services, ask: Ask, live: Live, rule: SummaryRule, model: Target, span: Span, number: int
) -> str:
    """The notes of `span`, booked; "" where none came or they say what their source does not."""

    def check(reply: Reply) -> Verdict:
        return judge_summary(reply, rule, span.before, span.text)

    ports = live.besides(None, (_asking(services, ask, rule, model, span), model), check)
    try:
        async with asyncio.timeout(SUMMARY_S):
            attempt = await observe(Order(number, model.asked, "summary"), NO_CONTRACT, ports)
    except (StoreRefused, TimeoutError):
        return ""
    good = attempt.reply is not None and attempt.verdict.kind == "valid"
    return (written(attempt.reply, rule) or "") if good and attempt.reply is not None else ""


def _asking(services: Services, ask: Ask, rule: SummaryRule, model: Target, span: Span) -> Ask:
    """The request for the notes of `span`, of the same run and step as `ask`."""
    newer = services.ready.upstreams[model.card.provider].family == "openai-strict"
    doc: dict[str, Any] = {
        "model": model.asked,
        "messages": summary_prompt(rule, span.before, span.text),
        **with_bound({}, ask.endpoint, rule.max_tokens, newer=newer),
    }
    return Ask(ask.endpoint, dump(doc), doc, ask.controls, {}, model.asked, False, False)


def _one_less(services: Services) -> None:
    services.shadows -= 1
