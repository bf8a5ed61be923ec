"""What each attempt of an exchange sends: the conversation, or as much of it as the attempt's model holds.

The plan trims for the model that is asked first. A model further up or a substitute may have a smaller window,
and a correction makes the prompt longer: both are seen here, right before the call.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from policies.cards import ModelCard
from policies.chat import Failure
from policies.relevant import trim
from policies.room import most_prompt_tokens, required_parts, room
from policies.route import ContextRule
from policies.trimming import Trimmed, recent
from policies.units import last_user
from proxy.counters import HEAVY, Counted, Counter
from proxy.exchange import Order
from proxy.facts import bound_of
from proxy.wire.ask import Ask

Messages = Sequence[Mapping[str, Any]]


class Prompt:
    """The prompt of one exchange, for whichever model is asked."""

    def __init__(self, counter: Counter, rule: ContextRule, ask: Ask, planned: Trimmed | None) -> None:
        """`planned` is what the plan trimmed for the model that is asked first."""
        self._counter = counter
        self._rule = rule
        self._ask = ask
        self._planned = planned
        self._chat = ask.endpoint == "chat/completions"
        tools = ask.doc.get("tools")
        self._tools = tools if isinstance(tools, list) else ()
        self.context = planned
        """What trimming came to for the model that was asked last."""
        self._by_call: dict[int, Trimmed | None] = {}

    def context_of(self, number: int) -> Trimmed | None:
        """What trimming came to for the attempt of this number."""
        return self._by_call.get(number, self._planned)

    def dropped_tokens(self, number: int) -> int:
        """By how much trimming shortened the prompt of this attempt."""
        context = self.context_of(number)
        return 0 if context is None else context.tokens_in - context.tokens_out

    async def within(self, order: Order, card: ModelCard) -> Order | Failure:
        """`order` with as many of its messages as the model holds.

        A Failure of the kind `window` where what must stay does not fit, or the route drops nothing.
        """
        self.context = self._by_call[order.number] = self._planned
        most = most_prompt_tokens(card, bound_of(self._ask.doc)) if self._chat else None
        if most is None or self._fits_uncounted(order.messages, most):
            return order
        planned = self._planned
        if planned is None or not planned.changed or order.messages is not planned.messages:
            source = self._ask.messages if order.messages is None else order.messages
            counted = await self._counter.measure(source, self._tools)
            if counted.total <= most:
                return order
        elif planned.tokens_out <= most:
            return order
        else:  # the first model took more: this one gets its own choice of the whole conversation
            source = self._ask.messages
            counted = await self._counter.measure(source, self._tools)
        again = await self._trimmed(source, counted, card)
        if again is None or not again.fits:
            return _too_long(source, counted, card, most)
        self.context = self._by_call[order.number] = again
        return replace(order, messages=again.messages)

    def _fits_uncounted(self, messages: Messages | None, most: int) -> bool:
        size = len(self._ask.body)
        return messages is None and size <= most and self._counter.at_most(size, self._ask.messages) <= most

    async def _trimmed(self, source: Messages, counted: Counted, card: ModelCard) -> Trimmed | None:
        """`source` trimmed to the route's budget, else to what the window leaves; None where the route drops nothing."""
        space = room(card, bound_of(self._ask.doc))
        if self._rule.policy == "off" or space is None:
            return None
        budgets = [min(space.tokens, self._rule.budget_tokens or space.tokens), space.tokens]
        work = (source, counted, budgets, self._pins(source))
        heavy = sum(len(str(m.get("content", ""))) for m in source) > HEAVY
        return await asyncio.to_thread(self._trim, *work) if heavy else self._trim(*work)

    def _trim(
        self, source: Messages, counted: Counted, budgets: Sequence[int], pins: Sequence[int]
    ) -> Trimmed | None:
        overhead, trimmed = counted.tools + counted.overhead, None
        for budget in dict.fromkeys(budgets):
            if self._rule.policy == "recent":
                trimmed = recent(source, counted.messages, budget, pins=pins, overhead_tokens=overhead)
            else:
                trimmed = trim(source, self._counter, budget, pins=pins, overhead_tokens=overhead)
            if trimmed.fits:
                break
        return trimmed

    def _pins(self, source: Messages) -> Sequence[int]:
        """Of a conversation with a correction at its end: the client's question, the answer and what was wrong."""
        if source is self._ask.messages:
            return ()
        planned = self._planned is not None and self._planned.changed
        asked = self._planned.messages if planned and self._planned is not None else self._ask.messages
        question = last_user(asked)
        return [*([] if question is None else [question]), *range(len(asked), len(source))]


def _too_long(source: Messages, counted: Counted, card: ModelCard, most: int) -> Failure:
    parts = required_parts(source, counted.messages, (), counted.tools + counted.overhead)
    named = ", ".join(f"{name} {tokens}" for name, tokens in parts.items())
    message = (
        f"The prompt takes {counted.total} tokens, {card.alias} takes {most} at most, and what must stay is more "
        f"than that: {named or 'all of it'}."
    )
    return Failure("window", message, retryable=True)
