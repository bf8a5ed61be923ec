"""Filling a budget: which pieces of a conversation are taken, best first, and what they make together."""

from collections.abc import Iterable, Sequence
from typing import Any

from policies.index import Index
from policies.units import Message, with_long_text

GAP = "…"
"""Stands where passages of a message were left out."""
_GAP_TOKENS = 2
_MISSES = 200
"""Candidates in a row that do not fit, after which nothing else is tried."""


class Selection:
    """What is kept so far, and what it costs. Built for one trim and then thrown away."""

    __slots__ = ("_base", "index", "kept_pieces", "kept_units", "limit", "overhead", "used")

    def __init__(self, index: Index, limit: int, overhead: int) -> None:
        self.index = index
        self.limit = limit
        self.overhead = overhead
        self.used = overhead
        self.kept_units: set[int] = set()
        self.kept_pieces: set[int] = set()
        self._base: dict[int, int] = {}

    def require_unit(self, unit: int, pieces: Iterable[int] = ()) -> None:
        """A unit is kept, and these passages of its long messages, whatever they cost."""
        if unit not in self.kept_units:
            self.kept_units.add(unit)
            self.used += self.base_of(unit)
        for piece in pieces:
            if piece not in self.kept_pieces and not self.index.pieces[piece].whole:
                self.kept_pieces.add(piece)
                self.used += self._cost(piece)

    def has(self, piece: int) -> bool:
        """Whether a piece is kept."""
        it = self.index.pieces[piece]
        return piece in self.kept_pieces or (it.whole and self.index.unit_of[it.message] in self.kept_units)

    def offer_unit(self, unit: int) -> bool:
        """A unit is kept, its long messages emptied, if that fits."""
        if self.used + self.base_of(unit) <= self.limit:
            self.require_unit(unit)
        return unit in self.kept_units

    def offer(self, piece: int) -> bool:
        """A piece is kept if it, and what it cannot stand without, fits."""
        it = self.index.pieces[piece]
        unit = self.index.unit_of[it.message]
        if self.has(piece):
            return False
        cost = 0 if unit in self.kept_units else self.base_of(unit)
        if not it.whole:
            cost += self._cost(piece)
        if self.used + cost > self.limit:
            return False
        self.used += cost
        self.kept_units.add(unit)
        if not it.whole:
            self.kept_pieces.add(piece)
        return True

    def cost_of(self, piece: int) -> int:
        """What keeping a piece would add, at least 4: its frame alone takes that."""
        it = self.index.pieces[piece]
        unit = self.index.unit_of[it.message]
        base = 0 if unit in self.kept_units else self.base_of(unit)
        return max(4, base if it.whole else base + self._cost(piece))

    def fill(self, ranked: Iterable[int]) -> list[int]:
        """The pieces of `ranked`, best first, that fit are kept; the answer is those that were taken."""
        taken = []
        misses = 0
        for piece in ranked:
            if self.offer(piece):
                taken.append(piece)
                misses = 0
            elif not self.has(piece):
                misses += 1
                if misses > _MISSES or self.limit - self.used < 8:
                    break
        return taken

    def drop(self, piece: int) -> None:
        """A piece is left out after all; its unit goes with its last piece."""
        it = self.index.pieces[piece]
        unit = self.index.unit_of[it.message]
        if not it.whole:
            self.kept_pieces.discard(piece)
            self.used -= self._cost(piece)
            return
        if unit in self.kept_units:
            self.kept_units.discard(unit)
            self.used -= self.base_of(unit)
            for message in self._messages(unit):
                for other in self.index.of_message(message):
                    if other in self.kept_pieces:
                        self.drop(other)

    def assembled(self) -> tuple[list[Message], list[int]]:
        """The messages that are kept, and their indices; `used` is exact afterwards."""
        messages: list[Message] = []
        kept: list[int] = []
        self.used = self.overhead
        index = self.index
        for unit in sorted(self.kept_units):
            for at in self._messages(unit):
                message, cost = index.messages[at], index.counts[at]
                pieces = index.of_message(at)
                if not index.pieces[pieces.start].whole:
                    chosen = [p for p in pieces if p in self.kept_pieces]
                    if len(chosen) < len(pieces):
                        message = self._shortened(message, chosen)
                        cost = index.counting.count_message(message)
                messages.append(message)
                kept.append(at)
                self.used += cost
        return messages, kept

    def _shortened(self, message: Message, chosen: Sequence[int]) -> dict[str, Any]:
        return with_long_text(message, excerpt(self.index, chosen))

    def _messages(self, unit: int) -> range:
        units = self.index.units
        end = units[unit + 1] if unit + 1 < len(units) else len(self.index.messages)
        return range(units[unit], end)

    def base_of(self, unit: int) -> int:
        """Tokens of a unit with its long messages emptied."""
        known = self._base.get(unit)
        if known is None:
            known = sum(self._frame(at) for at in self._messages(unit))
            self._base[unit] = known
        return known

    def _frame(self, at: int) -> int:
        index = self.index
        if index.pieces[index.first_piece[at]].whole:
            return index.counts[at]
        return index.counting.count_message(with_long_text(index.messages[at], GAP))

    def _cost(self, piece: int) -> int:
        return self.index.pieces[piece].tokens + _GAP_TOKENS


def excerpt(index: Index, chosen: Sequence[int]) -> str:
    """Passages of one message in their order, as they stood where they are neighbours, with a mark for each gap."""
    if not chosen:
        return GAP
    text = index.long_text(chosen[0])
    stretches: list[tuple[int, int]] = []
    before = -2
    for piece in chosen:
        it = index.pieces[piece]
        if piece == before + 1:
            stretches[-1] = (stretches[-1][0], it.end)
        else:
            stretches.append((it.start, it.end))
        before = piece
    return f"\n{GAP}\n".join(text[start:end] for start, end in stretches)
