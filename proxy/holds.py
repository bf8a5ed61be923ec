"""What the calls of one exchange may cost is held while they run, and given back as what they did cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from policies.cards import ModelCard
from policies.chat import Failure
from policies.limits import Granted
from policies.money import worst_cost_nanousd
from proxy.budgets import Rules, ceiling, choices_of, hold
from proxy.services import Services
from proxy.wire.ask import Ask


class Holds:
    """Of one exchange; by the numbers of its calls."""

    __slots__ = ("_ask", "_chat", "_granted", "_services", "rules")

    def __init__(self, services: Services, ask: Ask, rules: Rules) -> None:
        self._services = services
        self._ask = ask
        self._chat = ask.endpoint == "chat/completions"
        self._granted: dict[int, Granted] = {}
        self.rules = rules

    async def hold(
        self,
        number: int,
        card: ModelCard,
        prompt: Sequence[Mapping[str, Any]],
        tools: Sequence[Any],
        output_tokens: int,
    ) -> int | Failure | None:
        """Hold the call's worst case; the tokens its answer has to stop at, where it was granted less."""
        if self._chat:
            counted = (await self._services.counter.measure(prompt, tools)).total
            input_tokens = self._services.counter.at_most_theirs(card.alias, counted)
        else:
            input_tokens = len(self._ask.body)  # a token is never shorter than a byte
        choices = choices_of(self._ask.doc)
        granted = await hold(self._services.limiter, self.rules, card, input_tokens, output_tokens, choices)
        if isinstance(granted, Failure):
            return granted
        self._granted[number] = granted
        return ceiling(granted, card, input_tokens, output_tokens)

    def release(self, number: int, cost_nanousd: int | None, tokens: int) -> None:
        """What was held for a call is given back, and what it did cost is charged."""
        granted = self._granted.pop(number, None)
        if granted is not None:
            self._services.limiter.settle(granted, cost_nanousd, tokens)

    def reserved(
        self,
        number: int,
        card: ModelCard,
        body_bytes: int,
        prompt: Sequence[Mapping[str, Any]],
        output_tokens: int,
    ) -> int | None:
        """The most that the call can cost, in nano-USD: what is booked of it should this process die."""
        granted = self._granted.get(number)
        if granted is not None and granted.nanousd is not None:
            return granted.nanousd
        if card.price is None:
            return None
        bound = self._services.counter.at_most(body_bytes, prompt if self._chat else ())
        return worst_cost_nanousd(min(bound, card.window_tokens or bound), output_tokens, card.price)
