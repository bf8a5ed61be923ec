"""An index of one conversation: where each word stands, and what each piece costs.

It follows a conversation from request to request: what was indexed is recognised and not read again, so
that one added message costs one message. The object belongs to its caller; nothing is kept here.
"""

import math
from array import array
from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from policies.passages import LONG, LONG_RESULT, Form, cut, title_of
from policies.terms import Lexicon, identifiers
from policies.units import LEADING_ROLES, RESULT_ROLES, Message, call_text, has_calls, long_text, text_of

# A term's places are kept in one machine word each: passage number, then how often it stands there.
_FREQUENCY_BITS = 6
_MOST_FREQUENT = (1 << _FREQUENCY_BITS) - 1
# BM25's usual constants (Robertson & Zaragoza 2009: k1 1.2-2, b 0.75); chats and contracts were flat around them.
SATURATION = 1.2
LENGTH_WEIGHT = 0.75


ALONE, TURN, PROSE = 0, 1, 2


class Counting(Protocol):
    """Who counts tokens: `proxy.counters.Counter`, or anything that counts alike."""

    def count_text(self, text: str) -> int:
        """Tokens of a text."""

    def count_message(self, message: Mapping[str, Any]) -> int:
        """Tokens of a message with its frame."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A passage of message `message`: the characters `start` to `end` of its text, or all of it where `whole`.

    `tokens` is exact for a whole message with its frame, an estimate for a passage.
    """

    message: int
    start: int
    end: int
    whole: bool
    form: Form
    tokens: int


class Index:
    """The pieces of `messages` and the places of their words."""

    __slots__ = (
        "_identifiers",
        "_lengths",
        "_places",
        "_terms",
        "calling",
        "counting",
        "counts",
        "first_piece",
        "kinds",
        "lexicon",
        "messages",
        "pieces",
        "read_tokens",
        "titles",
        "tokens",
        "unit_of",
        "units",
        "words",
    )

    def __init__(self, counting: Counting) -> None:
        self.counting = counting
        self.lexicon = Lexicon()
        self.messages: list[Message] = []
        self.counts: list[int] = []
        """Tokens of each message."""
        self.tokens = 0
        """Tokens of all messages."""
        self.pieces: list[Piece] = []
        self.first_piece: list[int] = []
        """The number of each message's first piece."""
        self.units: list[int] = []
        """The first message of each unit: a message alone, or a call with its results."""
        self.unit_of: list[int] = []
        """The number of each message's unit."""
        self.titles: dict[int, str] = {}
        """Of pieces that are records: their titles, in lower case."""
        self.kinds = bytearray()
        """Of each piece: TURN, PROSE or ALONE, which says what its neighbours are to it."""
        self.calling = 0
        """How many messages call tools."""
        self.read_tokens = 0
        """Tokens of long texts that tools returned: pages, files, search results, but not JSON."""
        self.words = 0
        self._lengths = array("L")
        self._terms: list[tuple[str, ...]] = []
        self._identifiers: dict[int, frozenset[str]] = {}
        self._places: dict[str, array[int]] = {}

    def follow(self, messages: Sequence[Message]) -> int:
        """The index is that of `messages` afterwards; the answer is how many of them it knew already."""
        known = self._in_common(messages)
        while len(self.messages) > known:
            self._forget_last()
        for message in messages[known:]:
            self._add(message)
        return known

    def text(self, piece: int) -> str:
        """The text of a piece, a message's calls included where it is whole."""
        it = self.pieces[piece]
        message = self.messages[it.message]
        if it.whole:
            return f"{text_of(message)}\n{call_text(message)}" if has_calls(message) else text_of(message)
        return long_text(message)[it.start : it.end]

    def long_text(self, piece: int) -> str:
        """The text that a passage was cut from."""
        return long_text(self.messages[self.pieces[piece].message])

    def of_message(self, message: int) -> range:
        """The numbers of a message's pieces."""
        following = message + 1
        end = self.first_piece[following] if following < len(self.first_piece) else len(self.pieces)
        return range(self.first_piece[message], end)

    def pieces_in(self, tokens: int) -> int:
        """About how many pieces `tokens` are."""
        return max(0, tokens) * len(self.pieces) // max(1, self.tokens)

    def rarity(self, term: str) -> float:
        """BM25's inverse document frequency of a term; 0 where it does not occur."""
        places = self._places.get(term)
        if not places:
            return 0.0
        return math.log(1 + (len(self.pieces) - len(places) + 0.5) / (len(places) + 0.5))

    def places(self, term: str) -> Iterator[tuple[int, int]]:
        """The pieces that hold a term, and how often."""
        for place in self._places.get(term, ()):
            yield place >> _FREQUENCY_BITS, place & _MOST_FREQUENT

    def spread(self, term: str) -> int:
        """In how many pieces a term stands."""
        return len(self._places.get(term, ()))

    def add_scores(self, term: str, weight: float, scores: dict[int, float]) -> None:
        """What a term of the question is worth (BM25) is added to the score of each piece that holds it."""
        places = self._places.get(term)
        if not places:
            return
        gain = weight * self.rarity(term) * (SATURATION + 1)
        base = SATURATION * (1 - LENGTH_WEIGHT)
        slope = SATURATION * LENGTH_WEIGHT * len(self.pieces) / max(1, self.words)
        lengths = self._lengths
        for place in places:
            piece = place >> _FREQUENCY_BITS
            frequency = place & _MOST_FREQUENT
            scores[piece] = scores.get(piece, 0.0) + gain * frequency / (
                frequency + base + slope * lengths[piece]
            )

    def terms_of(self, piece: int) -> tuple[str, ...]:
        """The different terms of a piece, marks included."""
        return self._terms[piece]

    def identifiers(self, piece: int) -> frozenset[str]:
        """Ids, dates and other words of one meaning in a piece. Found when first asked for: only sessions do."""
        known = self._identifiers.get(piece)
        if known is None:
            known = self._identifiers[piece] = frozenset(identifiers(self.text(piece)))
        return known

    def _in_common(self, messages: Sequence[Message]) -> int:
        most = min(len(self.messages), len(messages))
        if self.messages[:most] == list(messages[:most]):
            return most
        low = 0
        for low in range(most):
            if self.messages[low] != messages[low]:
                break
        return low

    def _add(self, message: Message) -> None:
        at = len(self.messages)
        self.messages.append(message)
        self.counts.append(self.counting.count_message(message))
        self.tokens += self.counts[-1]
        self.first_piece.append(len(self.pieces))
        self.calling += has_calls(message)
        places = self._places
        # As `units_of` has it: a result belongs to what stands before it.
        if at == 0 or message.get("role") not in RESULT_ROLES:
            self.units.append(at)
        self.unit_of.append(len(self.units) - 1)
        for piece in self._cut(at, message):
            number = len(self.pieces)
            self.pieces.append(piece)
            self.kinds.append(self._kind(piece, message))
            self.read_tokens += _read_tokens(piece, message)
            if piece.form == "records" and (title := title_of(self.text(number))):
                self.titles[number] = title.lower()
            found = self.lexicon.described(self.text(number))
            frequencies = Tally(found)
            self._terms.append(tuple(frequencies))
            self._lengths.append(len(found))
            self.words += len(found)
            base = number << _FREQUENCY_BITS
            for term, often in frequencies.items():
                place = base | min(often, _MOST_FREQUENT)
                known = places.get(term)
                if known is None:
                    places[term] = array("Q", (place,))
                else:
                    known.append(place)

    def _kind(self, piece: Piece, message: Message) -> int:
        if piece.whole:
            return TURN if message.get("role") in ("user", "assistant") and not has_calls(message) else ALONE
        return PROSE if piece.form == "prose" else ALONE

    def _cut(self, at: int, message: Message) -> list[Piece]:
        text = long_text(message)
        parts = cut(text, LONG_RESULT if message.get("role") in RESULT_ROLES else LONG)
        if len(parts.passages) < 2 or message.get("role") in LEADING_ROLES:
            return [Piece(at, 0, 0, True, "prose", self.counts[at])]
        # Counting each passage would cost as much as all else here; what is sent in the end is counted.
        share = self.counts[at] / len(text)
        return [
            Piece(at, p.start, p.end, False, parts.form, 1 + int(share * (p.end - p.start)))
            for p in parts.passages
        ]

    def _forget_last(self) -> None:
        for number in reversed(self.of_message(len(self.messages) - 1)):
            for term in self._terms.pop():
                places = self._places[term]
                places.pop()
                if not places:
                    del self._places[term]
            self.words -= self._lengths.pop()
            self.read_tokens -= _read_tokens(self.pieces.pop(), self.messages[-1])
            self.kinds.pop()
            self._identifiers.pop(number, None)
            self.titles.pop(number, None)
        self.calling -= has_calls(self.messages.pop())
        self.tokens -= self.counts.pop()
        self.unit_of.pop()
        if self.units[-1] == len(self.messages):
            self.units.pop()
        self.first_piece.pop()


def _read_tokens(piece: Piece, message: Message) -> int:
    reads = not piece.whole and piece.form != "json" and message.get("role") in RESULT_ROLES
    return piece.tokens if reads else 0
