"""The ports of production: one `Live` per exchange, over the services of its app."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from policies.allowance import Allowance, spent_up
from policies.breakpoints import FIELD, breakpoints_in, with_breakpoint
from policies.cards import ModelCard
from policies.chat import Failure, Reply, Usage
from policies.contract import NO_CONTRACT, NO_VERDICT, Contract, Verdict
from policies.hedging import hedged_after_s
from policies.ladder import Again, Attempt
from policies.money import cost_nanousd
from policies.recall import Recalled
from policies.route import ContextRule, Hedge
from policies.saved import Saved, Spent, saved, shows_the_prompt
from policies.structure import AS_ASKED
from policies.trimming import Trimmed
from proxy.admission import Admission
from proxy.budgets import Rules, asked_output, with_bound
from proxy.cache import Answer
from proxy.clock import monotonic, time_ns
from proxy.estimates import Estimate
from proxy.exchange import Outcome
from proxy.hedging import Hedged, Hooks
from proxy.holds import Holds
from proxy.judging import judged, judged_at_once
from proxy.listener import Listener
from proxy.ports import Call, Order
from proxy.prompts import Prompt
from proxy.recalling import Recalling
from proxy.selection import Selected, Target
from proxy.services import Services
from proxy.shaping import Shapes
from proxy.snapshot import Provider
from proxy.stores import base as stores
from proxy.upstreams.openai import ChatCall
from proxy.wire.ask import Ask
from proxy.wire.body import LARGE_BYTES, edit
from proxy.wire.facts import schema_word
from proxy.wire.responses import conversation

_NOTHING: Final = Usage(reported=False)
_ENDED_BY_US: Final = ("cancelled", "hedge_loser")


class Live:
    """Calls upstreams, tells the listener, books attempts. Keeps what only this exchange knows."""

    def __init__(
        self,
        services: Services,
        ask: Ask,
        selected: Selected,
        *,
        exchange_id: str,
        key: str | None,
        passed: Sequence[tuple[str, str]],
        listener: Listener | None,
        contract: Contract,
        rules: Rules,
        compared: bool = False,
        besides: bool = False,
        prompt: Prompt,
        check: Callable[[Reply], Verdict] | None = None,
        hedged_within: Allowance | None = None,
    ) -> None:
        """`compared`: texts of answers are kept, whether something is promised of them or not.

        `besides`: nobody asked for the calls that are made, and all they cost is lost. `check` judges what is
        written for the proxy itself: summaries. `hedged_within`: what second calls for late ones may spend together
        with all others, where the route hedges; None: none is made.
        """
        self._services = services
        self._ready = services.ready
        self._ask = ask
        self._selected = selected
        self._id = exchange_id
        self._key = key
        self._passed = passed
        self._listener = listener
        self._contract = contract
        self._compared = compared
        self._besides = besides
        self._check = check
        self._hedge = None if hedged_within is None else selected.route.hedge
        self._hedged_within = hedged_within
        responses = ask.endpoint == "responses"
        self._admission = Admission(services.health, selected, stored=responses)
        self._messages_in = "input" if responses else "messages"
        self.messages: Sequence[Mapping[str, Any]] = conversation(ask.doc) if responses else ask.messages
        """The conversation as the client wrote it."""
        self._holds = Holds(services, ask, rules)
        self.prompt = prompt
        self._recalling = Recalling(services, selected.route.context, ask, prompt) if prompt.recalls else None
        self._kept: Trimmed | None = None
        self.spent: dict[int, Spent] = {}
        """What each booked attempt used, at which price, by number."""
        self.saved: Saved | None = None
        """What this exchange saved against one untrimmed call to the last model; None where unknown."""
        self._shapes = Shapes(services, ask, selected.route.structured)
        self.progress: dict[str, Any] | None = None
        """Where the exchange stands, for clients that wait."""
        self.first_call: ChatCall | None = None
        self.last_call: ChatCall | None = None
        self._calls: dict[int, ChatCall] = {}

    def now(self) -> float:
        return monotonic()

    async def wait(self, seconds: float, jitter_s: float) -> None:
        if seconds > 0:
            await asyncio.sleep(seconds + random.random() * jitter_s)  # noqa: S311  nothing secret hangs on it

    def open(self, order: Order) -> Coroutine[Any, Any, Call | Failure]:
        """The call for `order`; its intent is in the ledger before a byte goes out."""
        return self._admitted(order) if self._hedge is None else self._hedged(order, self._hedge)

    async def _hedged(self, order: Order, rule: Hedge) -> Call | Failure:
        call = await self._admitted(order)
        if isinstance(call, Failure):
            return call
        alias, stream = self._selected.target(order.model).card.alias, self._ask.stream
        beginnings = self._services.beginnings
        hooks = Hooks(
            again=self._again,
            lose=self.account,
            began=partial(beginnings.note, alias, stream=stream),
            chosen=self._chosen,
            spawn=partial(self._services.tasks.spawn, name=f"{self._id} hedged"),
        )
        return Hedged(order, call, hedged_after_s(rule, beginnings.of(alias, stream=stream)), hooks)

    async def _again(self, order: Order) -> tuple[Order, ChatCall] | None:
        """A second call for `order`; None where nothing is left for one."""
        assert self._hedged_within is not None
        cost = sum(cost_nanousd(spent.usage, spent.price) or 0 for spent in self.spent.values())
        kept_back = 1 if order.offers_recall else 0  # what is looked up needs an attempt for its answer
        used_up = spent_up(self._hedged_within, order.number + kept_back, cost, self.now())
        if used_up or not self._admission.may_hedge(order.model):
            return None
        second = replace(order, number=order.number + 1)
        try:
            call = await self._admitted(second, beside=order.number)
        except stores.StoreRefused:
            return None  # the first call is on its way
        return None if isinstance(call, Failure) else (second, call)

    def _chosen(self, number: int, others: Sequence[int]) -> None:
        """Of the calls for one order this one is read on."""
        self.last_call = self._calls[number]
        if self.first_call in [self._calls[other] for other in others]:
            self.first_call = self.last_call

    async def _admitted(self, order: Order, beside: int | None = None) -> ChatCall | Failure:
        admitted = self._admission.admit(order.number, order.model, beside)
        if isinstance(admitted, Failure):
            return admitted
        try:
            call = await self._open(order, *admitted)
        except BaseException:
            self._admission.cancel(order.number)
            raise
        if isinstance(call, Failure):
            self._admission.cancel(order.number)
        else:
            self._admission.begins(order.number, call)
        return call

    def grant(self, step: Again, last: Attempt) -> bool:
        """Further calls to an upstream take from its retry budget, and repetitions only while something is left."""
        return self._admission.grant(step, last)

    async def _open(self, order: Order, card: ModelCard, upstream_name: str) -> ChatCall | Failure:
        upstream = self._ready.upstreams[card.provider]
        fits = self.prompt.fits(order, card)
        fitting = order if fits else await self.prompt.within(order, card)
        if isinstance(fitting, Failure):
            return fitting
        order = fitting
        self._keep(self.prompt.context_of(order.number))
        plain = self._contract.schema is None and order.patch is None
        shaped = (
            AS_ASKED if plain else await self._shapes.of(order, self._contract.schema, card, upstream.family)
        )
        offer = None if self._recalling is None else self._recalling.offer(order, card, shaped)
        messages = shaped.messages if shaped.messages is not None else order.messages
        added = dict(shaped.changes) if offer is None else {**shaped.changes, **offer.changes}
        changes = self._changes(order.number, upstream.provider, upstream_name, messages, added)
        prompt = self._ask.messages if messages is None else messages
        tools = self._tools if offer is None else offer.tools
        longest = asked_output(self._ask.doc, card, self._ask.endpoint)
        most = (
            await self._holds.hold(order.number, card, prompt, tools, longest) if self._holds.rules else None
        )
        if isinstance(most, Failure):
            return most
        try:
            if most is not None and most < longest:
                newer = upstream.family == "openai-strict"
                changes |= with_bound(self._ask.doc, self._ask.endpoint, most, newer=newer)
            small = len(self._ask.body) <= LARGE_BYTES
            body = edit(self._ask.body, self._ask.doc, changes) if small else await edited(self._ask, changes)
            reserved = self._holds.reserved(order.number, card, len(body), prompt, longest)
            self._begin(order, card, upstream_name, reserved)
        except BaseException:  # no call is made, and what was held for it is free again
            self._holds.release(order.number, 0, 0)
            raise
        self.progress = {"attempt": order.number, "model": order.model, "purpose": order.purpose}
        call = ChatCall(
            upstream,
            self._ask.endpoint,
            body,
            self._passed,
            stream=self._ask.stream,
            keep_text=self._contract.binds or self._compared,
            ask_usage=self._ask.include_usage,
            model=order.model,
            number=order.number,
            as_tool=shaped.as_tool,
            added=tuple(added),
            ceiling=most,
            recalls=None if offer is None else offer.reads,
            going_on=None if offer is None else offer.going_on,
            estimate=Estimate(
                self._services.counter,
                self._services.paces,
                card.alias,
                len(body),
                prompt if self._chat else self.messages,
                tools,
                most=longest,
            ),
        )
        self.first_call = self.first_call or call
        self.last_call = self._calls[order.number] = call
        return call

    def _changes(
        self,
        number: int,
        provider: Provider,
        upstream_name: str,
        messages: Sequence[Mapping[str, Any]] | None,
        added: Mapping[str, Any],
    ) -> dict[str, Any]:
        """What this call's body has that the client's has not. `added` is there for the shape and for looking up."""
        changes = dict(self._ask.own)
        changes |= added
        if self._ask.model != upstream_name:
            changes["model"] = upstream_name
        if messages is not None:
            changes[self._messages_in] = list(messages)
        if provider.cache_control and (marked := self._marked(number, messages)) is not None:
            changes[self._messages_in] = marked
        if self._ask.stream and provider.stream_usage and not self._ask.include_usage:
            changes["stream_options"] = (self._ask.doc.get("stream_options") or {}) | {"include_usage": True}
        return changes

    def _marked(
        self, number: int, messages: Sequence[Mapping[str, Any]] | None
    ) -> list[Mapping[str, Any]] | None:
        """The messages with a cache breakpoint at the end of their frozen prefix; None where none is to be set."""
        context, sent = self.prompt.context_of(number), self._ask.messages if messages is None else messages
        end = 0 if context is None else context.frozen
        if context is None or not end or len(sent) < end or sent[end - 1] != context.messages[end - 1]:
            return None
        doc = self._ask.doc
        return with_breakpoint(sent, end, breakpoints_in([doc.get("tools"), {FIELD: doc.get(FIELD)}]))

    async def recall(self, order: Order, asked: Attempt) -> Recalled:
        assert self._recalling is not None, "only what is offered is called"
        card, call = self._selected.target(order.model).card, self._calls.get(asked.number)
        return await self._recalling.found(order, asked, card, None if call is None else call.head)

    def _keep(self, context: Trimmed | None) -> None:
        """What trimming left out is in the store under our request id, where the route keeps such things."""
        route = self._selected.route
        if context is None or not context.changed or not route.context.keep_s:
            return
        if self._kept is not None and self._kept.messages is context.messages:
            return
        now = time_ns()
        record = stores.ContextRecord(
            self._id,
            route.name,
            self._key,
            now,
            now + int(route.context.keep_s * 10**9),
            context.told(context.tokens_in),
            context.told(context.tokens_out),
            None if context.net_tokens is None else context.net_tokens * context.factor,
            context.note,
            context.dropped,
        )
        if self._services.store.keep_context(record, self._ask.messages, len(self._ask.body)):
            self._kept = context

    @property
    def record(self) -> str | None:
        """The name under which what was left out can be had back; None where nothing is kept."""
        return None if self._kept is None else self._id

    async def both(self, one: Coroutine[Any, Any, None], other: Coroutine[Any, Any, None]) -> None:
        spawn = self._services.tasks.spawn
        tasks = [spawn(coro, name=f"{self._id} {place}") for place, coro in enumerate((one, other))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def besides(
        self,
        planned: Trimmed | None,
        own: tuple[Ask, Target] | None = None,
        check: Callable[[Reply], Verdict] | None = None,
    ) -> "Live":
        """Ports for a call besides the exchange, that nobody listens to: the client's, or one of the proxy's `own`."""
        ask, selected, rule = self._ask, self._selected, self._selected.route.context
        if own is not None:
            ask, rule = own[0], ContextRule()
            selected = replace(selected, targets=own[1:], flagship=own[1].card, pinned=None)
        return Live(
            self._services,
            ask,
            selected,
            exchange_id=self._id,
            key=self._key,
            passed=self._passed,
            listener=None,
            contract=self._contract if own is None else NO_CONTRACT,
            rules=self._holds.rules,
            compared=True,
            besides=True,
            prompt=Prompt(self._services.counter, rule, ask, planned),
            check=check,
        )

    def delivers(self, attempt: Attempt) -> None:
        """`attempt` is the one that counts: its call is the last one for whoever writes the answer."""
        self.last_call = self._calls.get(attempt.number, self.last_call)

    @property
    def _chat(self) -> bool:
        return self._ask.endpoint == "chat/completions"

    @property
    def _tools(self) -> Sequence[Any]:
        tools = self._ask.doc.get("tools")
        return tools if isinstance(tools, list) else ()

    def _begin(self, order: Order, card: ModelCard, upstream_name: str, reserved: int | None) -> None:
        controls = self._ask.controls
        self._services.store.begin(
            stores.Attempt(
                f"{self._id}.{order.number}",
                self._id,
                time_ns(),
                self._selected.route.name,
                card.alias,
                upstream_name,
                card.provider,
                self._key,
                controls.run,
                controls.step,
                order.number,
                order.purpose,
                self._ask.stream,
                reserved,
                order.propensity,
                order.reason,
            )
        )

    async def judge(self, reply: Reply, contract: Contract, order: Order) -> Verdict:
        if self._check is not None:
            return await asyncio.to_thread(self._check, reply)
        if not contract.binds:
            return NO_VERDICT
        patch = order.patch
        subset = self._shapes.subset(order.number)
        if subset is not None and subset.null_means_missing and patch is None:
            contract = replace(contract, asked=subset)
        verdict = judged_at_once(self._services.sandbox, reply, contract, patch)
        return verdict or await judged(self._services.sandbox, reply, contract, patch)

    async def tell(self, piece: bytes) -> None:
        assert self._listener is not None, "only streams have pieces"
        await self._listener.tell(piece)

    def tell_at_once(self, piece: bytes) -> bool:
        assert self._listener is not None, "only streams have pieces"
        return self._listener.tell_at_once(piece)

    def account(self, attempt: Attempt) -> Attempt:
        card = self._admission.ended(attempt)
        attempt = self._booked(attempt, card)
        self._learn(attempt, card)
        waited_s, route = self._waited_s(attempt), self._selected.route.name
        self._services.telemetry.attempt_ended(self._id, route, card, self._ask.endpoint, attempt, waited_s)
        return attempt

    def _booked(self, attempt: Attempt, card: ModelCard) -> Attempt:
        """The attempt with what it cost and saved, which the ledger is told."""
        failure, usage = attempt.failure, attempt.usage or _NOTHING
        cost = 0 if attempt.usage is None else cost_nanousd(usage, card.price)
        delivered = failure is None and attempt.verdict.acceptable and attempt.set_aside is None
        if attempt.reply is not None and attempt.reply.only_recalls:
            delivered = False  # its answer is still to come
        self.spent[attempt.number] = Spent(attempt.purpose, usage, card.price)
        if delivered:
            self.saved = self.saved_by(attempt.number)
        elif self._besides and cost is not None:
            self.saved = Saved(shadow=-cost) if self._check is None else Saved(trimming=-cost)
            self._services.telemetry.saved(self._selected.route.name, self.saved)
        saved_nanousd = self.saved.total if delivered and self.saved is not None else None
        elsewhere = failure is not None and self._admission.elsewhere(attempt)
        attempt = attempt.priced(cost, saved_nanousd, card.deployment, elsewhere=elsewhere)
        first_s, began_s = attempt.first_byte_s, attempt.started_s
        self._services.store.settle(
            f"{self._id}.{attempt.number}",
            stores.Outcome(
                "ok" if failure is None else "cancelled" if failure.kind == "gone" else "failed",
                usage,
                cost,
                attempt.purpose if attempt.purpose in _ENDED_BY_US else None,
                self.saved if delivered or self._besides else None,
                verdict=attempt.verdict.kind,
                repairs=tuple([c.operation for c in attempt.verdict.changes]),
                failure=failure.kind if failure else None,
                latency_ms=(attempt.ended_s - began_s) * 1000,
                ttft_ms=None if first_s is None else (first_s - began_s) * 1000,
                expected_trimming=self.prompt.expected_nanousd(attempt.number, card),
            ),
        )
        self._services.outbox.soon()
        self._holds.release(attempt.number, cost, usage.input_tokens + usage.output_tokens)
        return attempt

    def _learn(self, attempt: Attempt, card: ModelCard) -> None:
        """What the call tells about the model."""
        failure, usage = attempt.failure, attempt.usage or _NOTHING
        if failure is None and usage.reported:
            self._services.paces.learn(card.alias, usage.output_tokens, attempt.ended_s - attempt.started_s)
        bound = self._contract.binds or attempt.purpose == "reask" or attempt.purpose in _ENDED_BY_US
        if failure is None and not bound:
            self.prompt.learn(attempt.number, card, usage)
        if self._recalling is None or not self._recalling.was_refused(card.alias, attempt):
            self._shapes.observe(card.alias, attempt)

    def kept(self, outcome: Outcome, body: bytes) -> Answer:
        """What is kept of this exchange, to be given again to the same request."""
        card = self._selected.target(outcome.last.model).card
        usage = outcome.last.usage or _NOTHING
        return Answer(body, self._ask.stream, outcome.last.model, card, schema_word(outcome), usage)

    def _waited_s(self, attempt: Attempt) -> float:
        call = self._calls.get(attempt.number)
        return 0.0 if call is None or attempt.purpose == "hedge_loser" else call.waited_s

    def saved_by(self, number: int | None) -> Saved | None:
        """What the exchange saved with the answer of this attempt; None: all it spent was in vain."""
        spent, flagship = list(self.spent.values()), self._selected.flagship.price
        if len(spent) == 1 and number is not None and self.prompt.context_of(number) is None:  # nearly always
            return saved(spent, 0, flagship)
        if number is None:
            return saved(spent, None, flagship)
        asked = next((n for n, used in self.spent.items() if shows_the_prompt(used)), number)
        context = self.prompt.context_of(asked)
        cached = 0 if context is None else context.told(context.cached_tokens_in)
        answer = len(spent) - 1 if number == next(reversed(self.spent)) else list(self.spent).index(number)
        return saved(spent, answer, flagship, self.prompt.dropped_tokens(asked), cached)


async def edited(ask: Ask, changes: Mapping[str, Any]) -> bytes:
    """The body of `ask` with `changes` (see `proxy.wire.body.edit`); large ones are written in a thread."""
    if len(ask.body) <= LARGE_BYTES:
        return edit(ask.body, ask.doc, changes)
    return await asyncio.to_thread(edit, ask.body, ask.doc, changes)
