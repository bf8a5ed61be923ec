"""What a model's window leaves for a prompt, and what is said when even the least does not fit."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from policies.cards import ModelCard
from policies.constraints import RESERVED_OUTPUT_TOKENS
from policies.index import Index
from policies.relevant import least
from policies.trimming import REPLY_OPENING, BudgetTooSmall
from policies.units import Message, last_user, leading

RESERVED_FOR_OUTPUT: Final = 1_024
"""Tokens kept free for the answer where neither the client nor the model's card bounds it."""


@dataclass(frozen=True, slots=True)
class Room:
    """Prompt tokens that an attempt may send: tool definitions and the reply's opening included."""

    tokens: int
    window_tokens: int
    output_tokens: int


def room(card: ModelCard, max_output_tokens: int | None = None) -> Room | None:
    """What the model's window leaves for the prompt; None where its window is not known.

    The answer's own bound is kept free; where there is none, an eighth of the window, at most 1,024 tokens.
    """
    if card.window_tokens is None:
        return None
    output = max_output_tokens or min(RESERVED_FOR_OUTPUT, card.window_tokens // 8)
    if card.max_output_tokens is not None:
        output = min(output, card.max_output_tokens)
    return Room(card.window_tokens - output, card.window_tokens, output)


def most_prompt_tokens(card: ModelCard, max_output_tokens: int | None = None) -> int | None:
    """The longest prompt that the model takes at all, as routing sees it; None where its window is not known.

    Trimming aims at `room`, which leaves more for the answer; a prompt between the two goes as it is.
    """
    if card.window_tokens is None:
        return None
    return card.window_tokens - (max_output_tokens or min(RESERVED_OUTPUT_TOKENS, card.window_tokens // 8))


def required_parts(
    messages: Sequence[Message],
    counts: Sequence[int],
    pins: Collection[int] = (),
    overhead_tokens: int = REPLY_OPENING,
) -> Mapping[str, int]:
    """What no trimming may drop, by name, in tokens: tool definitions, instructions, question, pins."""
    question = last_user(messages)
    parts = {
        "tools": max(0, overhead_tokens - REPLY_OPENING),
        "instructions": sum(counts[: leading(messages)]),
        "question": counts[question] if question is not None else 0,
        "pins": sum(counts[at] for at in set(pins) if 0 <= at < len(messages) and at != question),
    }
    return {name: tokens for name, tokens in parts.items() if tokens}


def ensure_it_fits(
    index: Index,
    room_tokens: int,
    *,
    pins: Collection[int] = (),
    overhead_tokens: int = REPLY_OPENING,
) -> int:
    """The least that this conversation can be trimmed to.

    Raises BudgetTooSmall, which names the parts, when that is more than `room_tokens`.
    """
    tokens = least(index, pins=pins, overhead_tokens=overhead_tokens)
    if tokens > room_tokens:
        raise BudgetTooSmall(
            tokens, room_tokens, required_parts(index.messages, index.counts, pins, overhead_tokens)
        )
    return tokens
