"""Answers to requests that were asked before, word for word: per route that wants it, per key, never across tenants.

Identical requests that come together are asked upstream once: the first leads, the others wait for its answer.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Callable

from cachetools import TTLCache

from policies.cards import ModelCard
from policies.chat import Usage
from policies.route import Cache
from schemas.values import dataclass

_OVERHEAD = 512
"""Bytes that an entry takes beside its body, roughly."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was delivered: a whole body, or all events of a stream without its end. `usage` is what it took."""

    body: bytes
    stream: bool
    model: str
    card: ModelCard
    schema: str
    usage: Usage


class Responses:
    """The answers of one route. `ask` leads or waits; bounded in bytes and in time."""

    def __init__(self, rule: Cache, clock: Callable[[], float] = time.monotonic) -> None:
        self.rule = rule
        self._kept: TTLCache[bytes, Answer] = TTLCache(
            rule.max_mb * 1024 * 1024, rule.ttl_s, clock, getsizeof=lambda a: len(a.body) + _OVERHEAD
        )
        self._leading: dict[bytes, asyncio.Future[Answer | None]] = {}

    @contextlib.asynccontextmanager
    async def ask(self, key: bytes) -> AsyncIterator["Turn"]:
        """Our turn at `key`: with the answer, or as the one who gets it (`Turn.keep`).

        When a leader fails or its client leaves, the next in line leads.
        """
        while True:
            found = self._kept.get(key)
            if found is None and (leader := self._leading.get(key)) is not None:
                found = await asyncio.shield(leader)
                if found is None:
                    continue
            if found is not None:
                yield Turn(found)
                return
            break
        turn = Turn()
        done = self._leading[key] = asyncio.get_running_loop().create_future()
        try:
            yield turn
        finally:
            del self._leading[key]
            if turn.kept is not None:
                with contextlib.suppress(ValueError):  # larger than the whole cache
                    self._kept[key] = turn.kept
            done.set_result(turn.kept)


@dataclass(slots=True)
class Turn:
    """One request's turn: `found` is the answer, None for the one who leads and then keeps what it got."""

    found: Answer | None = None
    kept: Answer | None = None

    def keep(self, answer: Answer) -> None:
        """Give this answer to all who wait, and to who comes later."""
        self.kept = answer


def key_of(tenant: str | None, *parts: str | bytes) -> bytes:
    """What makes two requests the same: the tenant, the endpoint and every byte of what is asked."""
    digest = hashlib.sha256(b"open" if tenant is None else b"key")
    for text in (tenant or "", *parts):
        part = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()
