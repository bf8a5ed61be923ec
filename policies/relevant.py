"""The part of a conversation that the question needs, within a budget."""

from collections.abc import Collection, Iterator, Sequence

from policies.index import Counting, Index
from policies.questions import question_of, question_spans
from policies.relevance import Scores, relevance
from policies.selection import Selection
from policies.sessions import fill_session, is_session
from policies.trimming import REPLY_OPENING, Dropped, Leavings, Trimmed, recent, untouched
from policies.units import Message, content_hash, last_user, leading

# Search results differ in length and stand for themselves: two short ones are better than a long one.
SHORT_RECORDS = 0.3


def trim(
    messages: Sequence[Message],
    counting: Counting,
    budget_tokens: int,
    *,
    index: Index | None = None,
    pins: Collection[int] = (),
    overhead_tokens: int = REPLY_OPENING,
) -> Trimmed:
    """The pieces that tell most about the question, in their order, within `budget_tokens`. Never raises.

    What must stay, stays (see `recent`), long messages among it shortened to the passages that matter and the
    question in them. With the `index` of the conversation's last trim only new messages are read. Where this
    way finds nothing that fits, the recent units are tried, then all is left as it was and the note says so.
    """
    index = Index(counting) if index is None else index
    index.follow(messages)
    total = sum(index.counts) + overhead_tokens
    if total <= budget_tokens:
        return untouched(messages, total, "all of it fits")
    selection = Selection(index, budget_tokens, overhead_tokens)
    required = _require(selection, pins)
    if selection.used > budget_tokens:
        return _fallback(index, budget_tokens, pins, overhead_tokens)
    scores = relevance(index, question_of(messages), required)
    if is_session(index):
        taken = fill_session(selection, scores, required)
    else:
        taken = selection.fill(ranked(index, scores))
    taken += selection.fill(range(len(index.pieces) - 1, -1, -1))
    while True:
        kept_messages, kept, tokens = selection.assembled()
        tokens += overhead_tokens
        if tokens <= budget_tokens:
            break
        if not taken:
            return _fallback(index, budget_tokens, pins, overhead_tokens)
        selection.drop(taken.pop())
    return Trimmed(
        messages=tuple(kept_messages),
        kept=tuple(kept),
        dropped=_leavings(index, selection, scores),
        tokens_in=total,
        tokens_out=tokens,
        note=f"{len(kept)} of {len(messages)} messages kept for what the question asks",
    )


def ranked(index: Index, scores: Scores) -> list[int]:
    """Pieces, best first."""

    def worth(piece: int) -> float:
        it = index.pieces[piece]
        return scores[piece] / it.tokens**SHORT_RECORDS * 4 if it.form == "records" else scores[piece]

    return sorted(scores, key=worth, reverse=True)


def _require(selection: Selection, pins: Collection[int]) -> set[int]:
    """What must stay is in the selection; the answer is its pieces."""
    index = selection.index
    messages = index.messages
    required: set[int] = set()
    question = last_user(messages)
    must = {*range(leading(messages)), *(pin for pin in pins if 0 <= pin < len(messages)), len(messages) - 1}
    if question is not None:
        must.add(question)
    for at in must:
        pieces = index.of_message(at)
        if at == question and not index.pieces[pieces.start].whole:
            spans = question_spans(index.long_text(pieces.start))
            wanted = [
                p
                for p in pieces
                if any(index.pieces[p].start < end and start < index.pieces[p].end for start, end in spans)
            ]
        else:
            wanted = list(pieces) if at in pins else []
        selection.require_unit(index.unit_of[at], wanted)
        required.update(wanted)
        if index.pieces[pieces.start].whole:
            required.update(pieces)
    return required


def _fallback(index: Index, budget_tokens: int, pins: Collection[int], overhead_tokens: int) -> Trimmed:
    return recent(index.messages, index.counts, budget_tokens, pins=pins, overhead_tokens=overhead_tokens)


def _leavings(index: Index, selection: Selection, scores: Scores) -> Leavings:
    gone = [
        n
        for n, it in enumerate(index.pieces)
        if index.unit_of[it.message] not in selection.kept_units
        or (not it.whole and n not in selection.kept_pieces)
    ]
    messages, pieces = list(index.messages), list(index.pieces)

    def records() -> Iterator[Dropped]:
        for n in gone:
            it = pieces[n]
            score = scores.get(n, 0.0)
            reason = "less relevant" if score else "irrelevant"
            span = None if it.whole else (it.start, it.end)
            yield Dropped(
                content_hash(messages[it.message]), it.message, it.tokens, round(score, 3), reason, span
            )

    return Leavings(len(gone), records)
