"""Trimming a conversation that goes on, without burning the provider's prompt cache.

Providers sell the part of a prompt that is byte for byte the begin of an earlier one for a fraction of its
price. Trimming each turn anew changes that begin each turn and costs more than no trimming at all. So what
was sent stays as it was (the frozen prefix), new messages follow it, and what the question needs from the
rest stands in one message just before the question (the recall block), the only thing that changes:

    lead | frozen prefix | new messages | recall | question | what came after it

When that has grown to the budget, the prefix is chosen anew, small enough that the next turns have room.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from policies.economy import OPENAI, Caching, Outlook, Sending, saved_tokens
from policies.index import Index
from policies.questions import question_of
from policies.relevance import Scores, relevance
from policies.relevant import asking_pieces, choose, leavings, ranked
from policies.selection import Selection, excerpt
from policies.sessions import fill_session, is_session
from policies.terms import has_speaker
from policies.trimming import REPLY_OPENING, Trimmed, recent, untouched
from policies.units import RESULT_ROLES, Message, last_user, leading, text_of

RECALLED = "From earlier in this conversation:"
RECALL_SOURCE = -1
"""Stands for "no message of the request" among the sources of what was sent."""
FROZEN_SHARE = 0.5
"""Share of the budget that a new prefix takes; the rest is for the recall block and for turns to come."""
RECALL_MOST = 16_000
"""Tokens of a recall block at most: beyond, it is neither read with care nor made in a few milliseconds."""
MANY_LINES = 300
"""Lines of a recall block from which counting it exactly would take milliseconds."""
HARDLY_CHEAPER = 0.9
"""A cached token that costs more than this is worth no frozen prefix: each turn gets the best it can."""
MOST_NEW_TURNS = 2
"""User messages that may have come since the last request: one, or two sent in a row."""
LEAST_RECALL = 0.12
"""Share of the budget that the recall block may shrink to while the prefix grows, before that is renewed."""
RECALL_PART = 0.4
"""Of what reading the left-out part from the cache would cost, the part that the recall block may cost."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What went upstream at a conversation's last turn: the prefix that the next turn can be cheap with.

    `sources` says which message of the request each one came from, `pieces` which of the index' pieces it
    holds. `length` is how many messages the request had, `question` where its last user message stood. `first`
    says that it filled the whole budget with what one question needed: the next turn takes a part of it.
    """

    messages: tuple[Message, ...]
    sources: tuple[int, ...]
    pieces: tuple[tuple[int, ...], ...]
    tokens: tuple[int, ...]
    length: int
    question: int | None
    first: bool = False

    def tokens_before(self, at: int) -> int:
        """Tokens of the messages before the one at `at`."""
        return sum(self.tokens[:at])

    @property
    def unshortened(self) -> bool:
        """Whether the request was sent as it was."""
        return len(self.messages) == self.length and RECALL_SOURCE not in self.sources


@dataclass(frozen=True, slots=True)
class Continued:
    """A trim of a conversation that goes on.

    `cached_tokens` is what the provider should find in its cache; `saved_tokens` is what trimming is thought
    to save over the turns expected, in input tokens at full price (0 where nothing was weighed).
    """

    trimmed: Trimmed
    sent: Sent
    cached_tokens: int = 0
    saved_tokens: float = 0.0


def trim_on(
    messages: Sequence[Message],
    budget_tokens: int,
    *,
    index: Index,
    sent: Sent | None = None,
    caching: Caching = OPENAI,
    outlook: Outlook | None = None,
    pins: Collection[int] = (),
    overhead_tokens: int = REPLY_OPENING,
) -> Continued:
    """As `trim`, and what `sent` has in common with it stays byte for byte. Never raises.

    Without `sent`, or where the conversation is another one, it is `trim`. Without an `outlook` the budget is
    a limit. With one it is a means to save: where trimming does not pay over the turns expected, all is sent
    as it came, and the note says so.
    """
    known = index.follow(messages)
    total = sum(index.counts) + overhead_tokens
    if sent is not None and (caching.read > HARDLY_CHEAPER or not _is_next_turn(messages, sent, known)):
        sent = None
    if total <= budget_tokens and (sent is None or sent.unshortened):
        return _all_of_it(index, total, _cached_whole(index, sent, caching, outlook))
    decided = _trimmed_on(
        index,
        budget_tokens,
        sent,
        caching=caching,
        pins=pins,
        overhead_tokens=overhead_tokens,
        total=total,
    )
    if outlook is None or not decided.trimmed.fits:
        return decided
    cached = _cached_whole(index, sent, caching, outlook)
    saved = saved_tokens(
        Sending(total, cached),
        Sending(decided.trimmed.tokens_out, decided.cached_tokens, _fresh_later(decided, total, caching)),
        outlook,
        caching,
    )
    if saved > 0:
        return replace(decided, saved_tokens=saved)
    note = f"trimming would cost {-saved:.0f} tokens more than it saves: cached input is cheaper"
    return replace(_all_of_it(index, total, cached, note), saved_tokens=saved)


def _trimmed_on(
    index: Index,
    budget_tokens: int,
    sent: Sent | None,
    *,
    caching: Caching,
    pins: Collection[int],
    overhead_tokens: int,
    total: int,
) -> Continued:
    if sent is None:
        return _anew(index, (budget_tokens,), total, pins, overhead_tokens)
    continuation = _Continuation(index, sent, budget_tokens, caching, overhead_tokens)
    continued = continuation.trimmed(pins, total)
    if continued is not None:
        return continued
    return _anew(index, (int(budget_tokens * FROZEN_SHARE), budget_tokens), total, pins, overhead_tokens)


def _cached_whole(index: Index, sent: Sent | None, caching: Caching, outlook: Outlook | None) -> int:
    """What the provider has cached of the conversation as the client sends it."""
    if sent is None:
        return outlook.cached_tokens if outlook else 0
    if sent.unshortened:
        return caching.cached(sum(sent.tokens))
    return caching.cached(sum(index.counts[: leading(index.messages)]))


def _fresh_later(decided: Continued, total: int, caching: Caching) -> float:
    """What later turns pay anew besides their growth: the recall block, and a part of each renewed prefix."""
    out = decided.trimmed.tokens_out
    return min(out * (1 - FROZEN_SHARE), RECALL_MOST, RECALL_PART * caching.read * (total - out))


def _is_next_turn(messages: Sequence[Message], sent: Sent, known: int) -> bool:
    """Whether the request goes on where the last one ended, by one turn: later ones find no cache any more."""
    new = messages[sent.length :]
    if new and new[0].get("role") in RESULT_ROLES:
        return False  # the last request ended between a call and its result: no prefix may end there
    turns = sum(1 for message in new if message.get("role") == "user")
    return known >= sent.length and bool(new) and turns <= MOST_NEW_TURNS


def _all_of_it(index: Index, total: int, cached: int, note: str = "all of it fits") -> Continued:
    sent = Sent(
        messages=tuple(index.messages),
        sources=tuple(range(len(index.messages))),
        pieces=tuple(tuple(index.of_message(at)) for at in range(len(index.messages))),
        tokens=tuple(index.counts),
        length=len(index.messages),
        question=last_user(index.messages),
    )
    return Continued(untouched(index.messages, total, note), sent, cached)


def _anew(
    index: Index, budgets: Sequence[int], total: int, pins: Collection[int], overhead_tokens: int
) -> Continued:
    """A new prefix, in the first of `budgets` that what must stay fits into."""
    for budget in budgets:
        chosen = choose(index, budget, pins=pins, overhead_tokens=overhead_tokens)
        if chosen is None:
            continue
        has = chosen.selection.has
        pieces = tuple(tuple(p for p in index.of_message(at) if has(p)) for at in chosen.kept)
        trimmed = Trimmed(
            messages=tuple(chosen.messages),
            kept=tuple(chosen.kept),
            dropped=leavings(index, has, chosen.scores),
            tokens_in=total,
            tokens_out=chosen.selection.used,
            note=f"{len(chosen.kept)} of {len(index.messages)} messages kept for what the question asks",
        )
        sent = _sent(index, trimmed, pieces)
        return Continued(trimmed, replace(sent, first=budget == budgets[-1]))
    trimmed = recent(index.messages, index.counts, budgets[-1], pins=pins, overhead_tokens=overhead_tokens)
    return Continued(
        trimmed, _sent(index, trimmed, tuple(tuple(index.of_message(at)) for at in trimmed.kept))
    )


def _sent(index: Index, trimmed: Trimmed, pieces: tuple[tuple[int, ...], ...]) -> Sent:
    tokens = tuple(
        index.counts[at] if message is index.messages[at] else index.counting.count_message(message)
        for at, message in zip(trimmed.kept, trimmed.messages, strict=True)
    )
    return Sent(
        messages=trimmed.messages,
        sources=trimmed.kept,
        pieces=pieces,
        tokens=tokens,
        length=len(index.messages),
        question=last_user(index.messages),
    )


class _Continuation(Selection):
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
        return max(4, it.tokens - 1 if it.whole else it.tokens + 2)

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
        """How many of the sent messages can stay in the prefix: all of them, or those before the recall block.

        A recall block for an earlier question goes, and what followed it is sent anew; where that is more
        than the block itself (an agent's calls and results), the block stays as well.
        """
        sent = self.sent
        if RECALL_SOURCE not in sent.sources or sent.question == last_user(self.index.messages):
            return len(sent.sources)
        block = len(sent.sources) - 1 - sent.sources[::-1].index(RECALL_SOURCE)
        if block + 1 == len(sent.sources) or sum(sent.tokens[block + 1 :]) > sent.tokens[block]:
            return len(sent.sources)
        return block

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
        recall = [self._recall_block()] if self._recalled else []
        messages = (*sent.messages[: self._prefix], *new[:at], *recall, *new[at:])
        sources = (*sent.sources[: self._prefix], *kept[:at], *(RECALL_SOURCE for _ in recall), *kept[at:])
        fresh = messages[self._prefix :]
        now = Sent(
            messages=messages,
            sources=sources,
            pieces=(
                *sent.pieces[: self._prefix],
                *(self._pieces_of(source) for source in sources[self._prefix :]),
            ),
            tokens=(*sent.tokens[: self._prefix], *map(self._count, fresh)),
            length=len(index.messages),
            question=question,
        )
        held = {piece for pieces in now.pieces for piece in pieces}
        trimmed = Trimmed(
            messages=messages,
            kept=tuple(sorted(source for source in set(sources) if source >= 0)),
            dropped=leavings(index, held.__contains__, scores),
            tokens_in=total,
            tokens_out=sum(now.tokens) + self.overhead,
            note=f"{self._prefix} messages as sent before, {len(kept)} new, {len(self._recalled)} pieces recalled",
        )
        return Continued(trimmed, now, self._caching.cached(sum(now.tokens[: self._prefix])))

    def _count(self, message: Message) -> int:
        """Tokens of a message; of a huge recall block with room to spare, the sum of its lines instead."""
        roomy = len(self._recalled) > MANY_LINES and self.used < self._budget * 0.97
        if roomy and text_of(message).startswith(RECALLED):
            return len(RECALLED) + sum(map(self.cost_of, self._recalled))
        return self.index.counting.count_message(message)

    def _pieces_of(self, source: int) -> tuple[int, ...]:
        if source == RECALL_SOURCE:
            return tuple(self._recalled)
        return tuple(piece for piece in self.index.of_message(source) if self.has(piece))

    def _recall_block(self) -> Message:
        """What the question needs from the part that is not there, oldest first, said by whom it was said."""
        index = self.index
        by_message: dict[int, list[int]] = {}
        for piece in sorted(self._recalled):
            by_message.setdefault(index.pieces[piece].message, []).append(piece)
        return recall_message([_line(index, pieces) for pieces in by_message.values()])


def recall_message(lines: Sequence[str]) -> Message:
    """The recall block as a message."""
    return {"role": "user", "content": "\n".join((RECALLED, *lines))}


def _line(index: Index, pieces: Sequence[int]) -> str:
    it = index.pieces[pieces[0]]
    text = index.text(pieces[0]).strip() if it.whole else excerpt(index, pieces)
    return text if has_speaker(text) else f"{index.messages[it.message].get('role')}: {text}"
