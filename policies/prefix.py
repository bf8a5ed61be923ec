"""Trimming a conversation that goes on, without burning the provider's prompt cache.

Providers sell the part of a prompt that is byte for byte the begin of an earlier one for a fraction of its
price. Trimming each turn anew changes that begin each turn and costs more than no trimming at all. So what
was sent stays as it was (the frozen prefix), new messages follow it, and what the question needs from the
rest stands in one message just before the question (the recall block), the only thing that changes:

    lead | frozen prefix | new messages | recall | question | what came after it

When that has grown to the budget, the prefix is chosen anew, small enough that the next turns have room.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from policies.continuation import (
    FROZEN_SHARE,
    RECALL_MOST,
    RECALL_PART,
    SUMMARY_SOURCE,
    Continuation,
    Continued,
    Sent,
)
from policies.economy import OPENAI, Caching, Outlook, Sending, saved_tokens
from policies.index import Index
from policies.masking import trim_by_masks
from policies.relevant import choose, leavings
from policies.summary import LARGEST_SHARE, Summary, summary_message
from policies.trimming import REPLY_OPENING, Trimmed, recent, untouched
from policies.units import RESULT_ROLES, Message, last_user, leading

HARDLY_CHEAPER = 0.9
"""A cached token that costs more than this is worth no frozen prefix: each turn gets the best it can."""
MOST_NEW_TURNS = 2
"""User messages that may have come since the last request: one, or two sent in a row."""


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
    mask_after: int | None = None,
    summary: Summary | None = None,
    tool_tokens: int = 0,
) -> Continued:
    """As `trim`, and what `sent` has in common with it stays byte for byte. Never raises.

    Without `sent`, or where the conversation is another one, it is `trim`. Without an `outlook` the budget is
    a limit. With one it is a means to save: where trimming does not pay over the turns expected, all is sent
    as it came, and the note says so. With `mask_after` tool results older than that many are masked where a
    prefix is chosen anew, and where that is enough nothing else is left out. Where it is not, the new prefix
    begins with the `summary`, if that stands for messages of this conversation.
    """
    known = index.follow(messages)
    total = index.tokens + overhead_tokens
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
        mask_after=mask_after,
        summary=summary,
        tool_tokens=tool_tokens,
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
    tool_tokens: int,
    total: int,
    mask_after: int | None,
    summary: Summary | None,
) -> Continued:
    added_tokens = overhead_tokens + tool_tokens
    if sent is not None:
        continued = Continuation(index, sent, budget_tokens, caching, added_tokens).trimmed(pins, total)
        if continued is not None:
            return _with_tool(continued, tool_tokens)
    budgets = (budget_tokens,) if sent is None else (int(budget_tokens * FROZEN_SHARE), budget_tokens)
    if mask_after is not None:
        masked = trim_by_masks(
            index,
            mask_after,
            budgets[0],
            total,
            caching=caching,
            pins=pins,
            overhead_tokens=added_tokens,
        )
        if masked is not None:
            return _with_tool(masked, tool_tokens)
    return _anew(index, budgets, pins, overhead_tokens, tool_tokens, summary)


def _with_tool(continued: Continued, tool_tokens: int) -> Continued:
    return replace(continued, trimmed=replace(continued.trimmed, tool_tokens=tool_tokens))


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
    index: Index,
    budgets: Sequence[int],
    pins: Collection[int],
    overhead_tokens: int,
    tool_tokens: int,
    summary: Summary | None,
) -> Continued:
    """A new prefix, in the first of `budgets` that what must stay fits into, a summary of what is not there in it."""
    if summary is not None and (
        summary.tokens > budgets[0] * LARGEST_SHARE or not summary.stands_for(index.messages)
    ):
        summary = None
    for budget in budgets:
        taken = overhead_tokens + tool_tokens + (0 if summary is None else summary.tokens)
        chosen = choose(index, budget, pins=pins, overhead_tokens=taken)
        if chosen is None:
            continue
        has = chosen.selection.has
        pieces = tuple(tuple(p for p in index.of_message(at) if has(p)) for at in chosen.kept)
        trimmed = Trimmed(
            messages=tuple(chosen.messages),
            kept=tuple(chosen.kept),
            dropped=leavings(index, has, chosen.scores),
            tokens_in=index.tokens + overhead_tokens,
            tokens_out=chosen.selection.used,
            tool_tokens=tool_tokens,
            note=f"{len(chosen.kept)} of {len(index.messages)} messages kept for what the question asks",
        )
        sent = replace(_sent(index, trimmed, pieces), first=budget == budgets[-1])
        continued = Continued(trimmed, sent, left=_left(index, sent))
        return continued if summary is None else _summed_up(continued, summary, leading(index.messages))
    if tool_tokens:
        return _anew(index, budgets, pins, overhead_tokens, 0, summary)
    trimmed = recent(index.messages, index.counts, budgets[-1], pins=pins, overhead_tokens=overhead_tokens)
    return Continued(
        trimmed, _sent(index, trimmed, tuple(tuple(index.of_message(at)) for at in trimmed.kept))
    )


def _left(index: Index, sent: Sent) -> tuple[int, ...]:
    """The messages before the question that were sent in part or not at all."""
    whole = {
        at
        for at, pieces in zip(sent.sources, sent.pieces, strict=True)
        if len(pieces) == len(index.of_message(at))
    }
    end = len(index.messages) if sent.question is None else sent.question
    return tuple(at for at in range(leading(index.messages), end) if at not in whole)


def _summed_up(continued: Continued, summary: Summary, lead: int) -> Continued:
    """The same with the summary behind what leads."""
    trimmed, sent = continued.trimmed, continued.sent
    message = summary_message(summary.text, len(summary.covers))
    messages = (*sent.messages[:lead], message, *sent.messages[lead:])
    note = f"{trimmed.note}; {len(summary.covers)} earlier ones summarised"
    return replace(
        continued,
        trimmed=replace(trimmed, messages=messages, note=note),
        sent=replace(
            sent,
            messages=messages,
            sources=(*sent.sources[:lead], SUMMARY_SOURCE, *sent.sources[lead:]),
            pieces=(*sent.pieces[:lead], (), *sent.pieces[lead:]),
            tokens=(*sent.tokens[:lead], summary.tokens, *sent.tokens[lead:]),
        ),
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
