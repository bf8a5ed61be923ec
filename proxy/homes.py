"""Where conversations are at home: the model that answered last, and how much of the prompt its provider had cached.

One object per app, for routes that are `sticky`. Nothing of a conversation is kept but a hash of how it begins.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachetools import TTLCache

from policies.cards import Price
from policies.chat import Usage
from proxy.wire.body import dump

MOST = 65_536
FORGOTTEN_S = 3600.0
"""Providers keep a prefix for minutes, at most about an hour: after that leaving a model loses nothing."""
MOST_TURNS = 50
LEAST_CACHED = 1024
"""Providers cache no shorter prompt (OpenAI and Anthropic docs, "Prompt caching", read 2026-11)."""


@dataclass(frozen=True, slots=True)
class Home:
    """`model` answered last; `cached_tokens` of the conversation lie in its provider's cache."""

    model: str
    cached_tokens: int

    @classmethod
    def after(cls, model: str, usage: Usage, price: Price | None) -> "Home":
        """`model` has just answered: all of a prompt that is long enough is cached where cached tokens cost less."""
        caches = price is not None and price.cached_input is not None and price.cached_input < price.input
        return cls(
            model,
            usage.input_tokens if caches and usage.input_tokens >= LEAST_CACHED else usage.cached_tokens,
        )


class Homes:
    """Remembers conversations by route, owner and beginning, the longest unused forgotten first."""

    def __init__(self) -> None:
        self._known: TTLCache[bytes, Home] = TTLCache(MOST, FORGOTTEN_S)

    def of(self, route: str, owner: str | None, messages: Sequence[Mapping[str, Any]]) -> Home | None:
        """Where this conversation is at home; None for one that is not known."""
        return self._known.get(conversation_name(route, owner, messages))

    def moved(self, route: str, owner: str | None, messages: Sequence[Mapping[str, Any]], home: Home) -> None:
        """The conversation is at home there now."""
        self._known[conversation_name(route, owner, messages)] = home


def turns_left(messages: Sequence[Mapping[str, Any]]) -> float:
    """A conversation lasts about as long again as it has lasted: nothing better is known of it."""
    return float(max(1, min(MOST_TURNS, sum(m.get("role") == "user" for m in messages))))


def conversation_name(route: str, owner: str | None, messages: Sequence[Mapping[str, Any]]) -> bytes:
    """A conversation is known by what it begins with, up to its first question."""
    first = next((n for n, m in enumerate(messages, 1) if m.get("role") == "user"), len(messages))
    return hashlib.sha256(dump([route, owner, list(messages[:first])])).digest()
