"""Conversations under way: what was sent of each, so that its next turn keeps the prefix that a provider has cached.

One object per app. A conversation is known by its route, its key's owner and how it begins; what is remembered
is bounded in tokens, the longest unused forgotten first. Nothing of it is written down.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cachetools import LRUCache

from policies import recall
from policies.cards import ModelCard
from policies.continuation import Continued, Sent
from policies.economy import Caching, Outlook
from policies.index import Index
from policies.prefix import HARDLY_CHEAPER, trim_on
from policies.relevant import least
from policies.room import room
from policies.route import Route, SummaryRule
from policies.summary import Summary, digest_of, span_of, summary_message, worth_it
from policies.trimming import Trimmed
from proxy.counters import Counter
from proxy.homes import conversation_name, turns_left

REMEMBERED_TOKENS = 4_000_000
REMEMBERED_NOTES = 8_000_000
"""Characters of summaries that are kept in memory."""
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
    left: tuple[int, ...] = ()
    """The messages that the last prefix which was chosen anew does not hold, until they are summarised."""

    def follow(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """The index is that of `messages`; what was sent before a message was changed is no prefix any more."""
        known = self.index.follow(messages)
        if known < len(messages):
            self.common = known
        if self.sent is not None and known < self.sent.length:
            self.sent = None
        if self.left and known <= self.left[-1]:
            self.left = ()


@dataclass(frozen=True, slots=True)
class Span:
    """What is to be summarised: `text` of the messages of a conversation that, with those before, make up `covers`.

    `before` are the notes so far. `digest` names what is covered, `name` the span itself and who asked for it.
    """

    text: str
    before: str | None
    covers: tuple[int, ...]
    digest: str
    name: bytes


class Conversations:
    """Trims requests by relevance, each in the light of its conversation's last turn."""

    def __init__(self, counter: Counter, remembered_tokens: int = REMEMBERED_TOKENS) -> None:
        self._counter = counter
        self._known: LRUCache[bytes, Conversation] = LRUCache(
            remembered_tokens, getsizeof=lambda c: 1 + c.index.tokens
        )
        self._summaries: LRUCache[bytes, Summary] = LRUCache(
            REMEMBERED_NOTES, getsizeof=lambda s: 500 + len(s.text) + 8 * len(s.covers)
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
        tool_tokens: int = 0,
    ) -> Continued | None:
        """What goes upstream of `messages`; None where the route's rule and the model's window leave nothing to do.

        `tool_tokens` are added where something is left out (see `policies.trimming.Trimmed`).

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
        turns = turns_left(messages)
        cached = int(conversation.cached_tokens / self._counter.factor(card.alias))
        work = (
            conversation,
            messages,
            min(limits),
            overhead_tokens,
            caching_of(card),
            Outlook(turns=turns, cached_tokens=cached) if turns > 1 and not must else None,
            route.context.mask_results_after,
            self._summaries.get(name) if route.context.summary is not None else None,
            tool_tokens,
        )
        continued = await asyncio.to_thread(_trim, *work) if _heavy(messages) else _trim(*work)
        conversation.sent = continued.sent
        conversation.left = continued.left or conversation.left
        trimmed = replace(
            continued.trimmed,
            net_tokens=continued.saved_tokens or None,
            cached_tokens_in=caching_of(card).cached(sum(conversation.index.counts[: conversation.common])),
            frozen=_frozen(continued, messages, caching_of(card)),
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

    async def owed(
        self,
        route: Route,
        owner: str | None,
        messages: Sequence[Mapping[str, Any]],
        rule: SummaryRule,
        most_chars: int,
    ) -> Span | None:
        """What has left the prompt of this conversation and is worth a summary; told once. None where there is nothing."""
        name = conversation_name(route.name, owner, messages)
        conversation, before = self._known.get(name), self._summaries.get(name)
        if conversation is None or not conversation.left or conversation.left[-1] >= len(messages):
            return None
        left, counts = conversation.left, conversation.index.counts
        covered = frozenset() if before is None else frozenset(before.covers)
        if not worth_it(sum(counts[at] for at in left if at not in covered), rule):
            return None
        conversation.left = ()
        return await asyncio.to_thread(_span, messages, left, before, rule, name, most_chars)

    async def adopt(
        self, route: Route, owner: str | None, messages: Sequence[Mapping[str, Any]], span: Span, text: str
    ) -> None:
        """The prefix that is next chosen anew begins with these notes of `span`."""
        message = summary_message(text, len(span.covers))
        tokens = (await self._counter.measure([message])).messages[0]
        summary = Summary(text, span.covers, span.digest, tokens)
        self._summaries[conversation_name(route.name, owner, messages)] = summary

    def learn(
        self, route: Route, owner: str | None, messages: Sequence[Mapping[str, Any]], cached_tokens: int
    ) -> None:
        """Remember what the provider said it had cached of the last prompt."""
        conversation = self._known.get(conversation_name(route.name, owner, messages))
        if conversation is not None:
            conversation.cached_tokens = cached_tokens


def _frozen(continued: Continued, messages: Sequence[Mapping[str, Any]], caching: Caching) -> int:
    """How many messages are worth writing into a provider's cache: those that the next turn begins with.

    Nothing of a first request, which may stay the only one: writing costs more than sending. Nothing of a prompt
    that filled the budget for one question: of such a one the next turn takes a part.
    """
    if (
        caching.read > HARDLY_CHEAPER
        or continued.sent.first
        or not any(m.get("role") == "assistant" for m in messages)
    ):
        return 0
    lasting = continued.sent.lasting
    return lasting if continued.sent.tokens_before(lasting) >= caching.least_tokens else 0


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
    outlook: Outlook | None,
    mask_after: int | None,
    summary: Summary | None,
    tool_tokens: int,
) -> Continued:
    conversation.follow(messages)
    return trim_on(
        messages,
        budget_tokens,
        index=conversation.index,
        sent=conversation.sent,
        caching=caching,
        outlook=outlook,
        overhead_tokens=overhead_tokens,
        mask_after=mask_after,
        summary=summary,
        tool_tokens=tool_tokens,
    )


def _span(
    messages: Sequence[Mapping[str, Any]],
    left: Sequence[int],
    before: Summary | None,
    rule: SummaryRule,
    name: bytes,
    most_chars: int,
) -> Span | None:
    if before is not None and not before.stands_for(messages):
        before = None
    covered = () if before is None else before.covers
    known = frozenset(covered)
    taken, text = span_of(messages, [at for at in left if at not in known], most_chars)
    if not taken:
        return None
    covers = tuple(sorted((*covered, *taken)))
    notes = None if before is None else before.text
    of = hashlib.sha256(name)
    for part in (rule.model, str(rule.max_tokens), notes or "", text):
        of.update(b"\0" + part.encode("utf-8", "surrogatepass"))
    return Span(text, notes, covers, digest_of(messages, covers), of.digest())


def in_our_tokens(counter: Counter, card: ModelCard, tokens: int) -> int:
    """So many of our tokens surely fit into `tokens` of the model's, as far as its usage has taught us.

    Where the model seems to need fewer than we count, nothing is added: a wrong usage must not break a budget.
    """
    return int(tokens / max(1.0, counter.factor(card.alias)))


def recall_tokens(counter: Counter, card: ModelCard) -> int:
    """What offering the model a tool to look things up adds to its prompt; 0 where it takes none."""
    return counter.count_tools([recall.tool()]) if recall.able(card) else 0


def told_for(counter: Counter, card: ModelCard, trimmed: Trimmed | None) -> Trimmed | None:
    """The trim as it is told of when this model is asked: in its own tokens."""
    if trimmed is None or trimmed.factor == (factor := counter.factor(card.alias)):
        return trimmed
    return replace(trimmed, factor=factor)


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
