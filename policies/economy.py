"""Whether trimming pays, when the provider sells what it has cached for a part of the price.

All amounts are input tokens at full price: times `Price.input` they are nano-USD. A trim changes the begin of
the prompt, so that the first trimmed turn is paid in full; the turns after it pay it back.
"""

from dataclasses import dataclass

GROWTH_TOKENS = 200
"""What a turn adds where nothing better is known: a question and an answer in a chat."""


@dataclass(frozen=True, slots=True)
class Caching:
    """How a provider prices cached input, as factors of its input price, and what it caches.

    The defaults are OpenAI's rule (docs, "Prompt caching", read 2026-11): at least 1,024 tokens, in
    steps of 128, no charge for writing. A model without a price for cached input has `read` 1.
    """

    read: float = 0.1
    write: float = 1.0
    least_tokens: int = 1_024
    step_tokens: int = 128

    def cached(self, tokens: int) -> int:
        """Of a prefix that was sent before, the tokens that are read from the cache."""
        return tokens // self.step_tokens * self.step_tokens if tokens >= self.least_tokens else 0

    def cost(self, tokens: int, cached: int) -> float:
        """What a prompt costs of which `cached` tokens are read from the cache."""
        cached = min(tokens, cached)
        written = tokens - cached if tokens >= self.least_tokens else 0
        return cached * self.read + (tokens - cached) + written * (self.write - 1)


OPENAI = Caching()


@dataclass(frozen=True, slots=True)
class Outlook:
    """How a conversation is thought to go on: `turns` more requests, this one included, each `growth_tokens` longer.

    `cached_tokens` is what the last reply's `usage` says the provider had cached of the prompt as the client
    sends it; 0 where it is not known.
    """

    turns: float = 1.0
    growth_tokens: int = GROWTH_TOKENS
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Sending:
    """One way to send a conversation: this turn's prompt and its cached part, and what later turns pay anew."""

    tokens: int
    cached_tokens: int
    fresh_tokens: float = 0.0


def saved_tokens(whole: Sending, trimmed: Sending, outlook: Outlook, caching: Caching) -> float:
    """What trimming saves over the turns expected; negative where it costs more than it saves."""
    return _over_turns(whole, outlook, caching) - _over_turns(trimmed, outlook, caching)


def _over_turns(sending: Sending, outlook: Outlook, caching: Caching) -> float:
    now = caching.cost(sending.tokens, sending.cached_tokens)
    later_tokens = sending.tokens + outlook.growth_tokens
    fresh = min(later_tokens, sending.fresh_tokens + outlook.growth_tokens)
    later = caching.cost(later_tokens, caching.cached(int(later_tokens - fresh)))
    return now + max(0.0, outlook.turns - 1) * later
