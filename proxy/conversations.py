"""Conversations under way: what was sent of each, so that its next turn keeps the prefix that a provider has cached.

One object per app. A conversation is known by its route, its key's owner and how it begins; what is remembered
is bounded in tokens, the longest unused forgotten first. Nothing of it is written down.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cachetools import LRUCache

from policies.cards import ModelCard
from policies.continuation import Continued, Sent
from policies.economy import Caching, Outlook
from policies.index import Index
from policies.prefix import trim_on
from policies.relevant import least
from policies.room import room
from policies.route import Route
from proxy.counters import Counter
from proxy.homes import conversation_name, turns_left

REMEMBERED_TOKENS = 4_000_000
HEAVY_BYTES = 64 * 1024
"""A request longer than this is read in a thread: reading it takes more than a few milliseconds."""


@dataclass(slots=True)
class Conversation:
    """One conversation: its index, what went upstream last, what its provider had cached of it."""

    index: Index
    sent: Sent | None = None
    cached_tokens: int = 0
    common: int = 0
    """How many messages the last request had in common with the one before: a provider may have them cached."""

    def follow(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """The index is that of `messages`; what was sent before a message was changed is no prefix any more."""
        known = self.index.follow(messages)
        if known < len(messages):
            self.common = known
        if self.sent is not None and known < self.sent.length:
            self.sent = None


class Conversations:
    """Trims requests by relevance, each in the light of its conversation's last turn."""

    def __init__(self, counter: Counter, remembered_tokens: int = REMEMBERED_TOKENS) -> None:
        self._counter = counter
        self._known: LRUCache[bytes, Conversation] = LRUCache(
            remembered_tokens, getsizeof=lambda c: 1 + c.index.tokens
        )

    async def trim(
        self,
        route: Route,
        owner: str | None,
        messages: Sequence[Mapping[str, Any]],
        overhead_tokens: int,
        card: ModelCard,
        max_output_tokens: int | None,
        total_tokens: int,
    ) -> Continued | None:
        """What goes upstream of `messages`; None where the route's rule and the model's window leave nothing to do.

        A conversation that two requests go on with at once is taken by the first; the second begins afresh.
        """
        window = _window(card, max_output_tokens)
        limits = [in_our_tokens(self._counter, card, n) for n in (route.context.budget_tokens, window) if n]
        if not limits:
            return None
        name = conversation_name(route.name, owner, messages)
        conversation = self._known.pop(name, None) or Conversation(Index(self._counter))
        must = window is not None and total_tokens > in_our_tokens(
            self._counter, card, window
        )  # then it does not matter whether trimming pays
        work = (
            conversation,
            messages,
            min(limits),
            overhead_tokens,
            caching_of(card),
            must,
            route.context.mask_results_after,
        )
        continued = await asyncio.to_thread(_trim, *work) if _heavy(messages) else _trim(*work)
        conversation.sent = continued.sent
        trimmed = replace(
            continued.trimmed,
            net_tokens=continued.saved_tokens or None,
            cached_tokens_in=caching_of(card).cached(sum(conversation.index.counts[: conversation.common])),
        )
        continued = replace(continued, trimmed=trimmed)
        if conversation.index.tokens < self._known.maxsize:
            self._known[name] = conversation
        return continued

    async def least(
        self, route: Route, owner: str | None, messages: Sequence[Mapping[str, Any]], overhead_tokens: int
    ) -> int:
        """How many tokens are left when trimming by relevance has taken all it may."""
        name = conversation_name(route.name, owner, messages)
        conversation = self._known.pop(name, None) or Conversation(Index(self._counter))
        work = (conversation, messages, overhead_tokens)
        tokens = await asyncio.to_thread(_least, *work) if _heavy(messages) else _least(*work)
        if conversation.index.tokens < self._known.maxsize:
            self._known[name] = conversation
        return tokens

    def learn(
        self, route: Route, owner: str | None, messages: Sequence[Mapping[str, Any]], cached_tokens: int
    ) -> None:
        """Remember what the provider said it had cached of the last prompt."""
        conversation = self._known.get(conversation_name(route.name, owner, messages))
        if conversation is not None:
            conversation.cached_tokens = cached_tokens


def _heavy(messages: Sequence[Mapping[str, Any]]) -> bool:
    return sum(len(str(m.get("content", ""))) for m in messages) > HEAVY_BYTES


def _least(conversation: Conversation, messages: Sequence[Mapping[str, Any]], overhead_tokens: int) -> int:
    conversation.follow(messages)
    return least(conversation.index, overhead_tokens=overhead_tokens)


def _trim(
    conversation: Conversation,
    messages: Sequence[Mapping[str, Any]],
    budget_tokens: int,
    overhead_tokens: int,
    caching: Caching,
    must: bool,
    mask_after: int | None,
) -> Continued:
    conversation.follow(messages)
    turns = turns_left(messages)
    outlook = Outlook(turns=turns, cached_tokens=conversation.cached_tokens)
    return trim_on(
        messages,
        budget_tokens,
        index=conversation.index,
        sent=conversation.sent,
        caching=caching,
        outlook=outlook if turns > 1 and not must else None,
        overhead_tokens=overhead_tokens,
        mask_after=mask_after,
    )


def in_our_tokens(counter: Counter, card: ModelCard, tokens: int) -> int:
    """So many of our tokens surely fit into `tokens` of the model's, as far as its usage has taught us.

    Where the model seems to need fewer than we count, nothing is added: a wrong usage must not break a budget.
    """
    return int(tokens / max(1.0, counter.factor(card.alias)))


def caching_of(card: ModelCard) -> Caching:
    """How the model's provider prices what it has cached; no discount where none is known."""
    price = card.price
    if price is None or price.cached_input is None or not price.input:
        return Caching(read=1.0)
    write = 1.0 if price.cache_write is None else price.cache_write / price.input
    return Caching(read=price.cached_input / price.input, write=write)


def _window(card: ModelCard, max_output_tokens: int | None) -> int | None:
    found = room(card, max_output_tokens)
    return None if found is None else found.tokens
