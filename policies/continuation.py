"""The next turn of a conversation that was trimmed before: what stays, what is new, what is recalled."""

from collections.abc import Collection
from dataclasses import dataclass

from policies.economy import Caching
from policies.index import Index
from policies.questions import question_of
from policies.quotation import OF_TOOLS, added_by_quoting, recall_block, recall_message
from policies.relevance import Scores, relevance
from policies.relevant import asking_pieces, leavings, ranked
from policies.selection import Selection
from policies.sessions import fill_session, is_session
from policies.trimming import Trimmed
from policies.units import RESULT_ROLES, Message, last_user, leading

RECALL_SOURCE, SUMMARY_SOURCE = -1, -2
"""Stand for "no message of the request" among the sources of what was sent."""
FROZEN_SHARE = 0.5
"""Share of the budget that a new prefix takes; the rest is for the recall block and for turns to come."""
RECALL_MOST = 12_000
"""Tokens of a recall block at most: beyond, it is neither read with care nor made in a few milliseconds."""
MANY_LINES = 300
"""Lines of a recall block from which counting it exactly would take milliseconds."""
LEAST_RECALL = 0.12
"""Share of the budget that the recall block may shrink to while the prefix grows, before that is renewed."""
RECALL_PART = 0.385
"""Of what reading the left-out part from the cache would cost, the part that the recall block may cost."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What went upstream at a conversation's last turn: the prefix that the next turn can be cheap with.

    `sources` says which message of the request each one came from, `pieces` which of the index' pieces it
    holds. `length` is how many messages the request had, `question` where its last user message stood. `first`
    says that it filled the whole budget with what one question needed: the next turn takes a part of it. `masked`
    are the messages of the request whose long text is left out and named (see `policies.masking`).
    """

    messages: tuple[Message, ...]
    sources: tuple[int, ...]
    pieces: tuple[tuple[int, ...], ...]
    tokens: tuple[int, ...]
    length: int
    question: int | None
    first: bool = False
    masked: frozenset[int] = frozenset()

    def tokens_before(self, at: int) -> int:
        """Tokens of the messages before the one at `at`."""
        return sum(self.tokens[:at])

    @property
    def lasting(self) -> int:
        """How many of the messages stay in the prefix when the next question comes: all, or those before the recall block.

        A recall block for an earlier question goes, and what followed it is sent anew; where that is more
        than the block itself (an agent's calls and results), the block stays as well.
        """
        if RECALL_SOURCE not in self.sources:
            return len(self.sources)
        block = len(self.sources) - 1 - self.sources[::-1].index(RECALL_SOURCE)
        if block + 1 == len(self.sources) or sum(self.tokens[block + 1 :]) > self.tokens[block]:
            return len(self.sources)
        return block

    @property
    def unshortened(self) -> bool:
        """Whether the request was sent as it was."""
        return len(self.messages) == self.length and min(self.sources, default=0) >= 0 and not self.masked


@dataclass(frozen=True, slots=True)
class Continued:
    """A trim of a conversation that goes on.

    `cached_tokens` is what the provider should find in its cache; `saved_tokens` is what trimming is thought
    to save over the turns expected, in input tokens at full price (0 where nothing was weighed). `left` are the
    messages that a newly chosen prefix does not hold, or not whole.
    """

    trimmed: Trimmed
    sent: Sent
    cached_tokens: int = 0
    saved_tokens: float = 0.0
    left: tuple[int, ...] = ()


class Continuation(Selection):
    """The next turn of a conversation whose last turn went upstream as `sent`.

    New messages are taken as in any selection; what is older and not in the prefix goes into the recall block.
    """

    __slots__ = ("_budget", "_caching", "_new_from", "_prefix", "_recalled", "sent")

    def __init__(self, index: Index, sent: Sent, budget: int, caching: Caching, overhead: int) -> None:
        super().__init__(index, budget, overhead)
        self.sent = sent
        self._budget = budget
        self._caching = caching
        self._new_from = sent.length
        self._prefix = 0
        self._recalled: set[int] = set()

    def trimmed(self, pins: Collection[int], total: int) -> Continued | None:
        """The prefix, what is new and what the question needs; None where a new prefix is due."""
        index, sent = self.index, self.sent
        question = last_user(index.messages)
        self._prefix = self._lasting()
        if self._prefix < len(sent.sources):
            self._new_from = sent.sources[self._prefix + 1]
        required = self._require_new(question)
        fresh_tokens = self._fresh_tokens(total)
        recalling = question is None or question >= self._new_from
        least_recall = self._budget * LEAST_RECALL if recalling else 0
        if sent.tokens_before(self._prefix) + self.used + least_recall > self._budget:
            if not sent.first:
                return None
            self._prefix = self._prefix_within(self._budget - max(fresh_tokens, self.used))
        prefix_tokens = sent.tokens_before(self._prefix)
        held = set(sent.sources[: self._prefix])
        if (
            not held.issuperset(range(leading(index.messages)))
            or any(pin not in held and pin < self._new_from for pin in pins)
            or (question is not None and question < self._new_from and question not in held)
            or prefix_tokens < self._caching.least_tokens
            or prefix_tokens + self.used > self._budget
        ):
            return None
        required.update(piece for pieces in sent.pieces[: self._prefix] for piece in pieces)
        self.used += prefix_tokens
        self.limit = min(self._budget, prefix_tokens + max(fresh_tokens, self.used - prefix_tokens))
        scores, taken = self._fill(required, recalling=recalling)
        while True:
            continued = self._assembled(question, total, scores)
            if continued.trimmed.tokens_out <= self._budget or not taken:
                break
            self.drop(taken.pop())
        return continued if continued.trimmed.tokens_out <= self._budget else None

    def has(self, piece: int) -> bool:
        """Whether a piece is new and taken, or recalled."""
        return piece in self._recalled or (self._is_new(piece) and super().has(piece))

    def cost_of(self, piece: int) -> int:
        """Tokens that a piece adds: as a message of its own where it is new, else as a line of the recall block."""
        if self._is_new(piece):
            return super().cost_of(piece)
        it = self.index.pieces[piece]
        if not it.whole:
            return it.tokens + 2 + added_by_quoting(self.index, piece)
        terms = self.index.terms_of(piece)
        # A line has a new-line for a message's frame of four, and says who speaks where the text does not.
        named = 3 if terms and terms[-1].startswith("@") else 1
        return max(4, it.tokens - named + added_by_quoting(self.index, piece))

    def offer(self, piece: int) -> bool:
        """A piece is taken or recalled if that fits."""
        if self._is_new(piece):
            return super().offer(piece)
        if piece in self._recalled or self.used + self.cost_of(piece) > self.limit:
            return False
        self._recalled.add(piece)
        self.used += self.cost_of(piece)
        return True

    def drop(self, piece: int) -> None:
        """A piece is left out after all."""
        if self._is_new(piece):
            super().drop(piece)
        else:
            self._recalled.discard(piece)

    def _is_new(self, piece: int) -> bool:
        return self.index.pieces[piece].message >= self._new_from

    def _require_new(self, question: int | None) -> set[int]:
        """What is new and must stay: the question with what it answers, and the latest."""
        index, new = self.index, self._new_from
        latest = len(index.messages) - 1
        must = {at for at in (question, latest) if at is not None and at >= new}
        if question is not None and question - 1 >= new:
            must.add(question - 1)
        required: set[int] = set()
        for at in must:
            pieces = index.of_message(at) if at != question else asking_pieces(index, at)
            self.require_unit(index.unit_of[at], pieces if at == question else ())
            required.update(p for p in pieces if at == question or index.pieces[p].whole)
        return required

    def _fresh_tokens(self, total: int) -> int:
        """How much may be new to the cache in this turn: new messages and the recall block together.

        The dearer cached tokens are, the less a frozen prefix is worth and the more is chosen anew. The recall
        block never costs more than a part of what reading all that is left out from the cache would: else no
        trimming were cheaper. (The other part pays for renewing the prefix from time to time.)
        """
        share = 1 - FROZEN_SHARE * (1 - self._caching.read**2)
        new_tokens = sum(self.index.counts[self._new_from :]) + self.overhead
        left_out = max(0.0, total - new_tokens - self._budget * FROZEN_SHARE)
        recall = min(RECALL_MOST, RECALL_PART * self._caching.read * left_out)
        return int(min(self._budget * share, new_tokens + recall))

    def _lasting(self) -> int:
        """How many of the sent messages can stay in the prefix."""
        same_question = self.sent.question == last_user(self.index.messages)
        return len(self.sent.sources) if same_question else self.sent.lasting

    def _prefix_within(self, tokens: int) -> int:
        """How many of the sent messages fit, ending where a unit ends."""
        sent = self.sent
        taken = fits = 0
        for at, cost in enumerate(sent.tokens):
            taken += cost
            if taken > tokens:
                break
            following = sent.messages[at + 1] if at + 1 < len(sent.messages) else None
            if following is None or following.get("role") not in RESULT_ROLES:
                fits = at + 1
        return fits

    def _fill(self, required: Collection[int], *, recalling: bool) -> tuple[Scores, list[int]]:
        """New units and the recall block are filled; the answer is the scores, and what was taken in its order."""
        index = self.index
        held = set(required)
        if not recalling:  # the recall block before this question is a part of the prefix already
            held.update(range(index.first_piece[self._new_from]))
        scores = relevance(index, question_of(index.messages), held, index.pieces_in(self.limit - self.used))
        if recalling:
            self.used += index.counting.count_message(recall_message([]))
        if is_session(index):
            return scores, fill_session(self, scores, held)
        new = range(len(index.pieces) - 1, index.first_piece[self._new_from] - 1, -1)
        return scores, self.fill(piece for piece in (*new, *ranked(index, scores)) if piece not in held)

    def _assembled(self, question: int | None, total: int, scores: Scores) -> Continued:
        index, sent = self.index, self.sent
        new, kept = self.assembled()
        at = kept.index(question) if question in kept else len(kept)
        if question is not None and question < self._new_from:
            at = 0
        prefix = self._prefix
        recall = [recall_block(index, list(self._recalled))] if self._recalled else []
        costs = [index.counting.count_message(message) for message in new]
        other_tokens = sent.tokens_before(prefix) + sum(costs) + self.overhead
        now = Sent(
            messages=(*sent.messages[:prefix], *new[:at], *recall, *new[at:]),
            sources=(*sent.sources[:prefix], *kept[:at], *(RECALL_SOURCE for _ in recall), *kept[at:]),
            pieces=(
                *sent.pieces[:prefix],
                *map(self._pieces_of, kept[:at]),
                *(tuple(self._recalled) for _ in recall),
                *map(self._pieces_of, kept[at:]),
            ),
            tokens=(
                *sent.tokens[:prefix],
                *costs[:at],
                *(self._recall_tokens(block, other_tokens) for block in recall),
                *costs[at:],
            ),
            length=len(index.messages),
            question=question,
            masked=sent.masked.intersection(sent.sources[:prefix]),
        )
        held = {piece for pieces in now.pieces for piece in pieces}
        trimmed = Trimmed(
            messages=now.messages,
            kept=tuple(sorted(source for source in set(now.sources) if source >= 0)),
            dropped=leavings(index, held.__contains__, scores, now.masked),
            tokens_in=total,
            tokens_out=sum(now.tokens) + self.overhead,
            note=f"{prefix} messages as sent before, {len(kept)} new, {len(self._recalled)} pieces recalled",
        )
        return Continued(trimmed, now, self._caching.cached(now.tokens_before(prefix)))

    def _recall_tokens(self, block: Message, other_tokens: int) -> int:
        """Tokens of the recall block; of a huge one with room to spare, the sum of its lines."""
        about = len(OF_TOOLS) + sum(map(self.cost_of, self._recalled))
        if len(self._recalled) > MANY_LINES and other_tokens + about < self._budget * 0.97:
            return about
        return self.index.counting.count_message(block)

    def _pieces_of(self, source: int) -> tuple[int, ...]:
        return tuple(piece for piece in self.index.of_message(source) if self.has(piece))
