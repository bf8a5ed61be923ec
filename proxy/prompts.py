"""What each attempt of an exchange sends: the conversation, or as much of it as the attempt's model holds.

The plan trims for the model that is asked first. A model further up or a substitute may have a smaller window,
and a correction makes the prompt longer: both are seen here, right before the call.
"""

import asyncio
import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from policies.cards import ModelCard
from policies.chat import Failure, Usage
from policies.relevant import trim
from policies.room import most_prompt_tokens, required_parts, room
from policies.route import ContextRule
from policies.trimming import Trimmed, recent
from proxy.conversations import in_our_tokens, recall_tokens, told_for
from proxy.counters import HEAVY, Counter
from proxy.facts import bound_of
from proxy.ports import Order
from proxy.wire.ask import Ask

Messages = Sequence[Mapping[str, Any]]


class Prompt:
    """The prompt of one exchange, for whichever model is asked."""

    def __init__(
        self,
        counter: Counter,
        rule: ContextRule,
        ask: Ask,
        planned: Trimmed | None,
        *,
        recalls: bool = False,
    ) -> None:
        """`planned` is what the plan trimmed for the model that is asked first. `recalls`: what is left out may be looked up."""
        self._counter = counter
        self._rule = rule
        self._ask = ask
        self._planned = planned
        self.recalls = recalls
        self._chat = ask.endpoint == "chat/completions"
        tools = ask.doc.get("tools")
        self._tools = tools if isinstance(tools, list) else ()
        self.context = planned
        """What trimming came to for the model that was asked last."""
        self._by_call: dict[int, Trimmed | None] = {}
        self._with_tail: set[int] = set()
        """Attempts that sent more than the conversation."""

    def context_of(self, number: int) -> Trimmed | None:
        """What trimming came to for the attempt of this number."""
        return self._by_call.get(number, self._planned)

    def dropped_tokens(self, number: int) -> int:
        """By how much trimming shortened the prompt of this attempt, in its model's tokens."""
        context = self.context_of(number)
        return 0 if context is None else context.told(context.tokens_in - context.tokens_out)

    def expected_nanousd(self, number: int, card: ModelCard) -> int | None:
        """What trimming was thought to save this attempt's conversation; None where nothing was weighed, or unpriced."""
        context = self.context_of(number)
        if context is None or context.net_tokens is None or card.price is None:
            return None
        return round(context.net_tokens * context.factor * card.price.input / 1_000)

    def fits(self, order: Order, card: ModelCard) -> bool:
        """Whether `order` may go as it is; it is the one that is sent next. False: see `within`."""
        self.context = self._by_call[order.number] = told_for(self._counter, card, self._planned)
        if self.tail_of(order):
            self._with_tail.add(order.number)
        most = self._most(card)
        return most is None or self._fits_uncounted(order.messages, most)

    async def within(self, order: Order, card: ModelCard) -> Order | Failure:
        """`order`, which may not fit, with as many of its messages as the model holds.

        A Failure of the kind `window` where what must stay does not fit, or the route drops nothing.
        """
        most = self._most(card)
        if most is None:
            return order
        planned = self._planned
        changed = planned is not None and planned.changed
        if planned is not None and changed and order.messages is planned.messages:
            if planned.tokens_out <= most:
                return order
            tail: Messages = ()
        else:
            sent = self._ask.messages if order.messages is None else order.messages
            tool_tokens = planned.tool_tokens if planned is not None else 0
            if (await self._counter.measure(sent, self._tools)).total + tool_tokens <= most:
                return order
            tail = self.tail_of(order)
        again = await self._trimmed(tail, card)
        if isinstance(again, Failure):
            return again
        self.context = self._by_call[order.number] = told_for(self._counter, card, again)
        return replace(order, messages=(*again.messages, *tail))

    def _most(self, card: ModelCard) -> int | None:
        """The most that the model takes, in our tokens; None where nobody knows."""
        most = most_prompt_tokens(card, bound_of(self._ask.doc)) if self._chat else None
        return None if most is None else in_our_tokens(self._counter, card, most)

    def tail_of(self, order: Order) -> Messages:
        """What stands behind the conversation, and stays whole: a correction, what was looked up."""
        planned = self._planned
        if order.messages is None:
            return ()
        trimmed = planned is not None and planned.changed
        return order.messages[len(planned.messages if planned and trimmed else self._ask.messages) :]

    def learn(self, number: int, card: ModelCard, usage: Usage) -> None:
        """What was reported of a prompt of plain text tells how the model's tokens compare with ours."""
        context = self._by_call.get(number)
        if self._rule.policy == "off" or not self._chat or not usage.reported or number in self._with_tail:
            return
        trimmed = context if context is not None and context.changed else None
        messages = self._ask.messages if trimmed is None else trimmed.messages
        if all(isinstance(m.get("content"), str) for m in messages):
            counted = trimmed.tokens_out if trimmed else self._counter.at_once(messages, self._tools)
            self._counter.observe(card.alias, counted or 0, usage.input_tokens)

    def _fits_uncounted(self, messages: Messages | None, most: int) -> bool:
        size = len(self._ask.body)
        return messages is None and size <= most and self._counter.at_most(size, self._ask.messages) <= most

    async def _trimmed(self, tail: Messages, card: ModelCard) -> Trimmed | Failure:
        """The client's conversation within the route's budget, else within what the window leaves beside `tail`."""
        counted = await self._counter.measure([*self._ask.messages, *tail], self._tools)
        counts = counted.messages[: len(self._ask.messages)]
        overhead = counted.tools + counted.overhead + sum(counted.messages[len(counts) :])
        space = room(card, bound_of(self._ask.doc))
        if self._rule.policy == "off" or space is None:
            return self._too_long(counts, overhead, card)
        least = min(space.tokens, self._rule.budget_tokens or space.tokens)
        budgets = [in_our_tokens(self._counter, card, tokens) for tokens in (least, space.tokens)]
        heavy = sum(len(str(m.get("content", ""))) for m in self._ask.messages) > HEAVY
        work = (counts, overhead, budgets, recall_tokens(self._counter, card) if self.recalls else 0)
        again = await asyncio.to_thread(self._trim, *work) if heavy else self._trim(*work)
        return again if again.fits else self._too_long(counts, overhead, card)

    def _trim(
        self, counts: Sequence[int], overhead: int, budgets: Sequence[int], tool_tokens: int
    ) -> Trimmed:
        messages = self._ask.messages
        for budget in budgets:
            if self._rule.policy == "recent":
                trimmed = recent(messages, counts, budget, overhead_tokens=overhead, tool_tokens=tool_tokens)
            else:
                trimmed = trim(
                    messages, self._counter, budget, overhead_tokens=overhead, tool_tokens=tool_tokens
                )
            if trimmed.fits:
                break
        cached = 0 if self._planned is None else self._planned.cached_tokens_in
        return replace(trimmed, cached_tokens_in=cached)

    def _too_long(self, counts: Sequence[int], overhead: int, card: ModelCard) -> Failure:
        most = most_prompt_tokens(card, bound_of(self._ask.doc))
        parts = required_parts(self._ask.messages, counts, (), overhead)
        theirs = functools.partial(self._counter.at_most_theirs, card.alias)
        named = ", ".join(f"{name} {theirs(tokens)}" for name, tokens in parts.items())
        message = (
            f"The prompt takes {theirs(sum(counts) + overhead)} tokens, {card.alias} takes {most} at most, and what must "
            f"stay is more than that: {named or 'all of it'}."
        )
        return Failure("window", message, retryable=True)
