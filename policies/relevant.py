"""The part of a conversation that the question needs, within a budget."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from policies.index import Counting, Index
from policies.questions import question_of, question_spans
from policies.relevance import Scores, relevance
from policies.selection import Selection
from policies.sessions import fill_session, is_reading, is_session, require_last_steps
from policies.trimming import REPLY_OPENING, Dropped, Leavings, Trimmed, recent, untouched
from policies.units import Message, content_hash, last_user, leading, long_text

# Search results differ in length and stand for themselves: two short ones are better than a long one.
SHORT_RECORDS = 0.3
USUAL_RECORD = 100
"""Tokens of a record that is neither short nor long."""
WORTH_ANOTHER_LOOK = 16
"""Tokens left over after the first filling for which a second is made."""


def trim(
    messages: Sequence[Message],
    counting: Counting,
    budget_tokens: int,
    *,
    index: Index | None = None,
    pins: Collection[int] = (),
    overhead_tokens: int = REPLY_OPENING,
    tool_tokens: int = 0,
) -> Trimmed:
    """The pieces that tell most about the question, in their order, within `budget_tokens`. Never raises.

    What must stay, stays (see `recent`, also for `tool_tokens`), long messages among it shortened to the passages
    that matter and the question in them. With the `index` of the conversation's last trim only new messages are read. Where this
    way finds nothing that fits, the recent units are tried, then all is left as it was and the note says so.
    """
    index = Index(counting) if index is None else index
    index.follow(messages)
    total = index.tokens + overhead_tokens
    if total <= budget_tokens:
        return untouched(messages, total, "all of it fits")
    chosen = choose(index, budget_tokens, pins=pins, overhead_tokens=overhead_tokens + tool_tokens)
    if chosen is None and tool_tokens:
        return trim(
            messages, counting, budget_tokens, index=index, pins=pins, overhead_tokens=overhead_tokens
        )
    if chosen is None:
        return recent(index.messages, index.counts, budget_tokens, pins=pins, overhead_tokens=overhead_tokens)
    return Trimmed(
        messages=tuple(chosen.messages),
        kept=tuple(chosen.kept),
        dropped=leavings(index, chosen.selection.has, chosen.scores),
        tokens_in=total,
        tokens_out=chosen.selection.used,
        tool_tokens=tool_tokens,
        note=f"{len(chosen.kept)} of {len(messages)} messages kept for what the question asks",
    )


@dataclass(frozen=True, slots=True)
class Chosen:
    """A selection that fits, the messages it makes, and why."""

    selection: Selection
    messages: list[Message]
    kept: list[int]
    scores: Scores


def choose(
    index: Index, budget_tokens: int, *, pins: Collection[int] = (), overhead_tokens: int = REPLY_OPENING
) -> Chosen | None:
    """The pieces that `trim` keeps; None where what must stay does not fit."""
    selection = Selection(index, budget_tokens, overhead_tokens)
    required = _require(selection, pins)
    if selection.used > budget_tokens:
        return None
    if is_reading(index):
        require_last_steps(selection)
    scores = relevance(index, question_of(index.messages), required, index.pieces_in(budget_tokens))
    order = ranked(index, scores)
    taken = fill_session(selection, scores, required) if is_session(index) else selection.fill(order)
    order += range(len(index.pieces) - 1, -1, -1)
    taken += selection.fill(order)
    messages, kept = selection.assembled()
    if selection.limit - selection.used >= WORTH_ANOTHER_LOOK:
        taken += selection.fill(order)  # the cost of gaps was guessed; now it is known
        messages, kept = selection.assembled()
    while selection.used > budget_tokens and taken:
        selection.drop(taken.pop())
        messages, kept = selection.assembled()
    fits = selection.used <= budget_tokens and bool(messages)
    return Chosen(selection, messages, kept, scores) if fits else None


def least(index: Index, *, pins: Collection[int] = (), overhead_tokens: int = REPLY_OPENING) -> int:
    """About how many tokens are left when trimming has taken all it may."""
    selection = Selection(index, 0, overhead_tokens)
    _require(selection, pins)
    return selection.used


def ranked(index: Index, scores: Scores) -> list[int]:
    """Pieces, best first."""
    if not index.titles:
        return sorted(scores, key=scores.__getitem__, reverse=True)

    def worth(piece: int) -> float:
        it = index.pieces[piece]
        if it.form != "records":
            return scores[piece]
        return float(scores[piece] * (USUAL_RECORD / max(1, it.tokens)) ** SHORT_RECORDS)

    return sorted(scores, key=worth, reverse=True)


def _require(selection: Selection, pins: Collection[int]) -> set[int]:
    """What must stay is in the selection; the answer is its pieces."""
    index = selection.index
    question = last_user(index.messages)
    must = {*range(leading(index.messages)), *(pin for pin in pins if 0 <= pin < len(index.messages))}
    if question is not None:
        must.add(question)
    required: set[int] = set()
    for at in sorted(must):
        pieces = asking_pieces(index, at) if at == question else list(index.of_message(at))
        selection.require_unit(index.unit_of[at], pieces)
        required.update(pieces)
    latest = len(index.messages) - 1
    # What the model has to react to; an agent that does not see a result asks for it again.
    if latest >= 0 and latest not in must and selection.offer_unit(index.unit_of[latest]):
        required.update(p for p in index.of_message(latest) if index.pieces[p].whole)
    return required


def asking_pieces(index: Index, at: int) -> list[int]:
    """The pieces of the question's message that hold the question itself."""
    pieces = index.of_message(at)
    if index.pieces[pieces.start].whole:
        return list(pieces)
    spans = question_spans(index.long_text(pieces.start))
    return [
        p
        for p in pieces
        if any(index.pieces[p].start < end and start < index.pieces[p].end for start, end in spans)
    ]


def leavings(
    index: Index, kept: Callable[[int], bool], scores: Scores, masked: Collection[int] = ()
) -> Leavings:
    """The record of each piece that is not kept; of `masked` messages their long text alone is gone."""
    messages, pieces = index.messages[:], index.pieces[:]

    def records() -> Iterator[Dropped]:
        digests: dict[int, str] = {}  # a long message has thousands of pieces, and is hashed once
        for n, it in enumerate(pieces):
            if kept(n):
                continue
            score = scores.get(n, 0.0)
            span = None if it.whole else (it.start, it.end)
            reason = "less relevant" if score else "irrelevant"
            if it.message in masked:
                span, reason = span or (0, len(long_text(messages[it.message]))), "masked"
            if it.message not in digests:
                digests[it.message] = content_hash(messages[it.message])
            yield Dropped(digests[it.message], it.message, it.tokens, round(score, 3), reason, span)

    return Leavings(records)
