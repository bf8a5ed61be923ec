"""Old results of tools as one line each: the cheapest way to shorten an agent's work.

What was said and which tools were called stays; of a result that is older than the last few stays a line that says
what stood there. Done only where the prefix is chosen anew anyway, so that what a provider has cached stays good for
the turns between. A masked result is left out like a dropped one: recorded, and recalled where a question needs it.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from policies.continuation import Continuation, Continued, Sent
from policies.economy import Caching
from policies.index import Counting, Index
from policies.questions import question_of
from policies.relevance import relevance
from policies.relevant import leavings, ranked
from policies.sessions import fill_session, is_session
from policies.trimming import Trimmed
from policies.units import RESULT_ROLES, Message, last_user, long_text, with_long_text

LEAST_SAVED = 40
"""Tokens that a mask must save: a short result says as much as its mask."""
_NO_NAME = re.compile(r"[^\w.-]+")
_LONGEST_NAME = 64


def masks(
    messages: Sequence[Message], counts: Sequence[int], counting: Counting, spare: int
) -> dict[int, Message]:
    """The tool results, by index, that are older than the last `spare`, each with a mask for its long text.

    `counts` has the tokens of each message. What a result holds besides (images, further parts) stays; a result
    of which a mask would save little is not there. Masking what is masked changes nothing.
    """
    results = [at for at, message in enumerate(messages) if message.get("role") in RESULT_ROLES]
    old = results[: max(0, len(results) - spare)]
    names = _names(messages) if old else {}
    found: dict[int, Message] = {}
    for at in old:
        message = messages[at]
        text = long_text(message)
        if not text:
            continue
        masked = with_long_text(message, mask(_name_of(message, names), text, counting))
        if counting.count_message(masked) + LEAST_SAVED <= counts[at]:
            found[at] = masked
    return found


def mask(name: str, text: str, counting: Counting) -> str:
    """What stands in the place of a result: whose it was, and how much of it is not there."""
    return (
        f"[left out here: the result of {name}, {len(text)} characters, {counting.count_text(text)} tokens]"
    )


def trim_by_masks(
    index: Index,
    spare: int,
    budget_tokens: int,
    total: int,
    *,
    caching: Caching,
    pins: Collection[int],
    overhead_tokens: int,
) -> Continued | None:
    """Every message of the conversation, old results masked, and before a new question what it needs of them.

    Where no question is new, the old results that an agent needs most stay whole as far as there is room. None
    where all of that is more than `budget_tokens`, or nothing is to be masked.
    """
    found = masks(index.messages, index.counts, index.counting, spare)
    for pin in pins:
        found.pop(pin, None)
    if not found:
        return None
    question = last_user(index.messages)
    if question is not None and not any(m.get("role") in RESULT_ROLES for m in index.messages[question:]):
        before = _sent(index, {at: found[at] for at in found if at < question}, question)
        uncached = replace(
            caching, read=1.0
        )  # all of it is paid in full this time: the question gets its room
        asked = Continuation(index, before, budget_tokens, uncached, overhead_tokens).trimmed(pins, total)
        if asked is not None and len(asked.trimmed.kept) == len(index.messages):
            note = f"{len(found)} old tool results masked, what the question needs of them recalled"
            return replace(asked, trimmed=replace(asked.trimmed, note=note), cached_tokens=0)
    room = budget_tokens - overhead_tokens - sum(_sent(index, found, len(index.messages)).tokens)
    if room < 0:
        return None
    for at in _needed(index, found, room):
        del found[at]
    sent = _sent(index, found, len(index.messages))
    tokens_out = sum(sent.tokens) + overhead_tokens
    held = {piece for pieces in sent.pieces for piece in pieces}
    trimmed = Trimmed(
        messages=sent.messages,
        kept=sent.sources,
        dropped=leavings(index, held.__contains__, {}, sent.masked),
        tokens_in=total,
        tokens_out=tokens_out,
        note=f"{len(found)} old tool results masked",
    )
    return Continued(trimmed, sent)


class _Whole:
    """Takes masked results back, whole, while they fit; see `policies.sessions.Taker`."""

    def __init__(self, index: Index, costs: Mapping[int, int], limit: int) -> None:
        self.index = index
        self.limit = limit
        self.used = 0
        self.taken: set[int] = set()
        self._costs = costs

    def cost_of(self, piece: int) -> int:
        """What its result adds to its mask."""
        return self._costs[self.index.pieces[piece].message]

    def offer(self, piece: int) -> bool:
        """The result that a piece is of is taken if that fits."""
        at = self.index.pieces[piece].message
        if at in self.taken or self.used + self._costs[at] > self.limit:
            return False
        self.used += self._costs[at]
        self.taken.add(at)
        return True


def _needed(index: Index, found: Mapping[int, Message], room: int) -> set[int]:
    """Of the results in `found` those that are needed most, as far as there is `room` for them whole."""
    costs = {at: index.counts[at] - index.counting.count_message(masked) for at, masked in found.items()}
    whole = _Whole(index, costs, room)
    held = {p for p, piece in enumerate(index.pieces) if piece.message not in found}
    scores = relevance(index, question_of(index.messages), held, index.pieces_in(room))
    if is_session(index):
        fill_session(whole, scores, held)
    else:
        for piece in ranked(index, scores):
            whole.offer(piece)
    return whole.taken


def _sent(index: Index, found: Mapping[int, Message], end: int) -> Sent:
    """The messages before `end` as they go upstream."""
    return Sent(
        messages=tuple(found.get(at, message) for at, message in enumerate(index.messages[:end])),
        sources=tuple(range(end)),
        pieces=tuple(() if at in found else tuple(index.of_message(at)) for at in range(end)),
        tokens=tuple(
            index.counting.count_message(found[at]) if at in found else index.counts[at] for at in range(end)
        ),
        length=end,
        question=last_user(index.messages[:end]),
        masked=frozenset(found),
    )


def _names(messages: Sequence[Message]) -> dict[Any, Any]:
    """The functions that were called, by the id of the call."""
    named: dict[Any, Any] = {}
    for message in messages:
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, Mapping) else None
            if isinstance(function, Mapping) and isinstance(call.get("id"), str):
                named[call["id"]] = function.get("name")
    return named


def _name_of(message: Message, names: Mapping[Any, Any]) -> str:
    called = message.get("tool_call_id")
    name = names.get(called) if isinstance(called, str) else None
    name = name or message.get("name")
    return _NO_NAME.sub("_", name)[:_LONGEST_NAME] if isinstance(name, str) and name else "a tool"
