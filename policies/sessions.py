"""What an agent at work needs: the ids it has in its hands, and what happened last.

The next tool call takes its arguments from what was said and returned before: order numbers, dates, user
ids. They matter more the later and the more often they were named, and one copy of each is enough.
"""

import heapq
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Protocol

from policies.index import Index
from policies.relevance import Scores
from policies.selection import Selection
from policies.units import RESULT_ROLES, has_calls

CALLING_UNITS, CALLING_PART = 3, 8
"""Messages with tool calls from which a conversation is an agent's: three, and one of eight messages."""
LAST_STEPS = 4
"""Steps that an agent which reads must remember to have made, or it makes them again."""
FADING = 0.96
"""An identifier's weight, and recency itself, by each message that came later (0.95-0.97 are the same, 0.99 is worse)."""
WINDOW = 200
"""Messages back from the end in which identifiers count: 0.96 to the 200th is nothing."""
SAID: Mapping[str, float] = MappingProxyType({"user": 2.0, "assistant": 1.0})
"""Weight of an identifier each time somebody names it."""
LISTED, MOST_LISTED = 1.0, 2.0
"""Weight of one each time it stands in a result, and the most that comes to: lists repeat themselves."""
CALLED = 2.0
"""Added where it is an argument of a call."""
RECENCY = 1.0
RELEVANCE = 0.3
SIZE = 0.6
"""Exponent of the cost: between "the best piece whatever it takes" (0) and "the most per token" (1)."""


class Taker(Protocol):
    """Whoever takes pieces until a limit is reached: a Selection, or a recall block."""

    index: Index
    limit: int
    used: int

    def cost_of(self, piece: int) -> int:
        """What taking a piece would add."""

    def offer(self, piece: int) -> bool:
        """A piece is taken if it fits."""


def is_agent(index: Index) -> bool:
    """Whether the conversation is an agent's work: calls are a good part of it, not a few in a long talk."""
    return index.calling >= CALLING_UNITS and index.calling * CALLING_PART >= len(index.messages)


def is_session(index: Index) -> bool:
    """Whether an agent works with ids and records, rather than talk or reading.

    An agent that reads (pages, files, search results) needs what its question asks for, as with documents.
    """
    return is_agent(index) and index.read_tokens * 2 < index.tokens


def is_reading(index: Index) -> bool:
    """Whether an agent is at work that mostly reads."""
    return is_agent(index) and not is_session(index)


def weights_of_identifiers(index: Index) -> dict[str, float]:
    """How much each identifier named lately is worth."""
    named: dict[str, float] = {}
    listed: dict[str, float] = {}
    last = len(index.messages) - 1
    for at in range(last, max(-1, last - WINDOW), -1):
        message = index.messages[at]
        role = str(message.get("role"))
        fading = FADING ** (last - at)
        worth = fading * (SAID.get(role, 0.0) + (CALLED if has_calls(message) else 0.0))
        for piece in index.of_message(at):
            for name in index.identifiers(piece):
                if role in RESULT_ROLES:
                    listed[name] = min(MOST_LISTED, listed.get(name, 0.0) + LISTED * fading)
                else:
                    named[name] = named.get(name, 0.0) + worth
    return {name: named.get(name, 0.0) + listed.get(name, 0.0) for name in {*named, *listed}}


def fill_session(selection: Taker, scores: Scores, required: Collection[int]) -> list[int]:
    """The selection holds what the session needs; the answer is what was taken, the most needed first.

    Greedy cover: a piece is worth the identifiers that nothing taken so far holds, how late it stands and
    how relevant it is, by its cost. Worth only falls while pieces are taken, so that a heap with lazy
    updates finds the best one.
    """
    index = selection.index
    weights = weights_of_identifiers(index)
    covered = {name for piece in required for name in index.identifiers(piece)}
    highest = max(scores.values(), default=0.0) or 1.0
    last = len(index.messages) - 1

    def worth(piece: int) -> float:
        value = sum(weights.get(name, 0.0) for name in index.identifiers(piece) if name not in covered)
        value += RECENCY * FADING ** (last - index.pieces[piece].message)
        value += RELEVANCE * scores.get(piece, 0.0) / highest
        return float(value / selection.cost_of(piece) ** SIZE)

    start = index.first_piece[max(0, last - WINDOW)]
    candidates = {*range(start, len(index.pieces)), *scores} - set(required)
    heap = [(-worth(piece), piece) for piece in candidates]
    heapq.heapify(heap)
    taken = []
    while heap and selection.limit - selection.used >= 8:
        _, piece = heapq.heappop(heap)
        now = worth(piece)
        if heap and now < -heap[0][0]:
            heapq.heappush(heap, (-now, piece))
        elif selection.offer(piece):
            covered.update(index.identifiers(piece))
            taken.append(piece)
    return taken


def require_last_steps(selection: Selection) -> None:
    """The last calls are in the selection where they fit easily; what they returned is kept as far as it matters."""
    units = selection.index.units
    for unit in range(len(units) - 1, max(-1, len(units) - 1 - LAST_STEPS), -1):
        if selection.base_of(unit) * 10 <= selection.limit:
            selection.offer_unit(unit)
