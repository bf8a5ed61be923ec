"""Which part of a conversation goes upstream when all of it is too much.

PolicyError
└── BudgetTooSmall    what must stay is more than a model's window holds
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import overload

from policies.units import Message, Unit, content_hash, last_user, leading, units_of
from schemas.values import dataclass


class PolicyError(Exception):
    """Root of this package's errors about a conversation; knows nothing of HTTP."""


class BudgetTooSmall(PolicyError):
    """What must stay needs `needed_tokens` and only `room_tokens` are there; `parts` says what needs how many."""

    def __init__(self, needed_tokens: int, room_tokens: int, parts: Mapping[str, int]) -> None:
        self.needed_tokens = needed_tokens
        self.room_tokens = room_tokens
        self.parts = dict(parts)
        named = ", ".join(f"{name} {tokens}" for name, tokens in self.parts.items())
        super().__init__(f"what must stay takes {needed_tokens} tokens of {room_tokens}: {named}")


REPLY_OPENING = 3
"""Tokens that a prompt takes beyond its messages (OpenAI Cookbook, "How to count tokens")."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Something that was left out: message `index` of the request, or the characters `span` of its text."""

    hash: str
    index: int
    tokens: int
    score: float
    reason: str
    span: tuple[int, int] | None = None


class Leavings(Sequence[Dropped]):
    """What was dropped. The records are made when they are first read: hashing a million tokens takes 50 ms."""

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], Iterable[Dropped]]) -> None:
        self._make = make
        self._made: tuple[Dropped, ...] | None = None

    def __len__(self) -> int:
        return len(self._records())

    @overload
    def __getitem__(self, at: int) -> Dropped: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Dropped, ...]: ...
    def __getitem__(self, at: int | slice) -> Dropped | tuple[Dropped, ...]:
        return self._records()[at]

    def __repr__(self) -> str:
        return "<Leavings not read>" if self._made is None else f"<Leavings {len(self._made)}>"

    def _records(self) -> tuple[Dropped, ...]:
        if self._made is None:
            self._made = tuple(self._make())
        return self._made


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What goes upstream.

    `kept` are the indices, in the request, of the messages that are still there, whole or shortened.
    `tokens_in` and `tokens_out` count the whole prompt before and after. `note` says in a sentence what
    was done and why; `fits` is False where the budget was not reached, and then nothing was changed. All tokens
    are counted with our vocabulary; `told` has them in the model's own.
    """

    messages: tuple[Message, ...]
    kept: tuple[int, ...]
    dropped: Sequence[Dropped]
    tokens_in: int
    tokens_out: int
    note: str
    fits: bool = True
    net_tokens: float | None = None
    """What trimming is thought to save over the coming turns, in input tokens at full price; negative where it
    would cost more and all was sent, None where nothing was weighed."""
    cached_tokens_in: int = 0
    """Of the prompt as it came, what its provider would have had cached."""
    frozen: int = 0
    """How many of `messages` the next turn is to begin with; 0 where nothing is frozen."""
    tool_tokens: int = 0
    """Of `tokens_out`, what the tool takes by which the model may look up what was left out; 0: there is none."""
    factor: float = 1.0
    """Tokens that the model's tokenizer makes of what is one token here, as far as its usage has taught us."""

    def told(self, tokens: float) -> int:
        """So many of our tokens in the model's own: for whoever compares them with its usage."""
        return round(tokens * self.factor)

    @property
    def changed(self) -> bool:
        """Whether other messages go upstream than came. Unlike asking `dropped`, this makes no records."""
        return self.tokens_out != self.tokens_in


def recent(
    messages: Sequence[Message],
    counts: Sequence[int],
    budget_tokens: int,
    *,
    pins: Collection[int] = (),
    overhead_tokens: int = REPLY_OPENING,
    tool_tokens: int = 0,
) -> Trimmed:
    """The last units that fit into `budget_tokens`, and what must stay; order is kept. Never raises.

    `counts` has the tokens of each message; `overhead_tokens` is what the prompt takes besides
    (tool definitions, the reply's opening), `tool_tokens` what is added where something is left out (see
    `Trimmed`), and is not where nothing else would fit with it. Leading system and developer messages, the last user
    message, the last unit and the messages whose indices are in `pins` stay; tool calls stay together
    with their results. Where these alone do not fit, the messages are left as they were and `fits` is False.
    """
    total = sum(counts) + overhead_tokens
    if total <= budget_tokens:
        return untouched(messages, total, "all of it fits")
    units = units_of(messages)
    keep = must_stay(messages, units, pins)
    left = budget_tokens - overhead_tokens - tool_tokens - sum(_tokens(units[n], counts) for n in keep)
    if left < 0 and tool_tokens:
        return recent(messages, counts, budget_tokens, pins=pins, overhead_tokens=overhead_tokens)
    if left < 0:
        return untouched(
            messages, total, "what must stay does not fit the budget: nothing was dropped", fits=False
        )
    for n in range(len(units) - 1, -1, -1):
        if n in keep:
            continue
        left -= _tokens(units[n], counts)
        if left < 0:
            break  # no holes: an older message without the newer ones misleads
        keep.add(n)
    kept = tuple(at for n, unit in enumerate(units) if n in keep for at in range(unit.start, unit.end))
    gone = [at for n, unit in enumerate(units) if n not in keep for at in range(unit.start, unit.end)]
    return Trimmed(
        messages=tuple(messages[at] for at in kept),
        kept=kept,
        dropped=Leavings(
            lambda: [Dropped(content_hash(messages[at]), at, counts[at], 0.0, "older") for at in gone]
        ),
        tokens_in=total,
        tokens_out=sum(counts[at] for at in kept) + overhead_tokens + tool_tokens,
        tool_tokens=tool_tokens,
        note=f"the last {len(kept)} of {len(messages)} messages fit",
    )


def least_recent(
    messages: Sequence[Message], counts: Sequence[int], overhead_tokens: int = REPLY_OPENING
) -> int:
    """How many tokens are left when `recent` has dropped all it may."""
    units = units_of(messages)
    return overhead_tokens + sum(_tokens(units[n], counts) for n in must_stay(messages, units))


def must_stay(messages: Sequence[Message], units: Sequence[Unit], pins: Collection[int] = ()) -> set[int]:
    """The units, by number, that no trimming may drop: what leads, the question, what it waits for, pins."""
    lead, question = leading(messages), last_user(messages)
    return {
        n
        for n, unit in enumerate(units)
        if unit.start < lead
        or n == len(units) - 1
        or (question is not None and unit.start <= question < unit.end)
        or any(unit.start <= pin < unit.end for pin in pins)
    }


def untouched(messages: Sequence[Message], total: int, note: str, *, fits: bool = True) -> Trimmed:
    """All of the messages, as they came."""
    return Trimmed(tuple(messages), tuple(range(len(messages))), (), total, total, note, fits)


def _tokens(unit: Unit, counts: Sequence[int]) -> int:
    return sum(counts[unit.start : unit.end])
