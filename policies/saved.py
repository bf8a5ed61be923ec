"""What the proxy saved one exchange, and by which lever.

Measured against what a client without the proxy would have paid: one call to the last model of the ladder with
the untrimmed context, for an answer of the same length. Every attempt of ours is taken off, also those that
failed, so that an exchange that climbed to the last model has lost money and says so.

The counterfactual gets at least the cached prompt tokens that we had: the provider's prompt cache is no merit of
ours. Where an untrimmed conversation would have had more of its prompt in that cache, it is priced so: dropping
what would have been cheap saves little, and may lose.
"""

from collections.abc import Sequence
from typing import Final

from policies.cards import Price
from policies.chat import Purpose, Usage
from policies.money import cost_nanousd
from schemas.values import dataclass

_OF_TRIMMING: Final[frozenset[Purpose]] = frozenset({"summary"})
_NO_PROMPT_OF_THE_CLIENT: Final[frozenset[Purpose]] = frozenset(
    {"summary", "route", "patch", "reask", "recall"}
)


@dataclass(frozen=True, slots=True)
class Saved:
    """Nano-USD by lever, negative where money was lost; the levers add up to the total.

    `routing` is what the cheaper models saved, less all attempts that were in vain. `trimming` is what the
    dropped tokens would have cost on the model that answered, less summaries and what it took to look some of them
    up again. `caching` is what answers from
    our own cache saved. `patch` is what asking for a correction saved against asking for the whole again.
    `shadow` is what calls cost that were made besides exchanges, to learn from: it is never above zero.
    """

    routing: int = 0
    trimming: int = 0
    caching: int = 0
    patch: int = 0
    shadow: int = 0

    @property
    def levers(self) -> tuple[int, ...]:
        """By lever, in the order of `LEVERS`."""
        return self.routing, self.trimming, self.caching, self.patch, self.shadow

    @property
    def total(self) -> int:
        """All levers together."""
        return self.routing + self.trimming + self.caching + self.patch + self.shadow


LEVERS: Final = ("routing", "trimming", "caching", "patch", "shadow")
"""The fields of `Saved`."""
_NOTHING: Final = Saved()


@dataclass(frozen=True, slots=True)
class Spent:
    """One attempt: what it used, at which price."""

    purpose: Purpose
    usage: Usage
    price: Price | None


def saved(
    attempts: Sequence[Spent],
    answer: int | None,
    flagship: Price | None,
    dropped_tokens: int = 0,
    cached_untrimmed: int = 0,
) -> Saved | None:
    """What an exchange of these attempts saved; None where a price is unknown that this depends on.

    `answer` is the index of the attempt that wrote the delivered text (where patches were laid over it, the one
    they were laid over), None where nothing was delivered: then all that was spent is lost. `flagship` is the
    price of the last model of the ladder. `dropped_tokens` is by how much trimming shortened the prompt of the
    first attempt that shows it, `cached_untrimmed`
    how much of the whole prompt its provider would have had cached.
    """
    if len(attempts) == 1 and answer == 0 and not dropped_tokens and _same(attempts[0].price, flagship):
        return None if flagship is None else _NOTHING  # what a client without us would have paid
    costs = [cost_nanousd(attempt.usage, attempt.price) for attempt in attempts]
    known = [cost for cost in costs if cost is not None]
    if len(known) < len(costs):
        return None
    spent = sum(known)
    if answer is None:
        return Saved(routing=-spent)
    written = attempts[answer]
    asked = _whole_call(attempts, written, dropped_tokens, cached_untrimmed)
    alone = cost_nanousd(asked, flagship)
    untrimmed = cost_nanousd(asked, written.price)
    trimmed = cost_nanousd(_whole_call(attempts, written, 0, 0), written.price)
    if alone is None or untrimmed is None or trimmed is None:
        return None
    trimming = (
        untrimmed
        - trimmed
        - sum(cost for attempt, cost in zip(attempts, known, strict=True) if attempt.purpose in _OF_TRIMMING)
        - _looking_up(attempts, known, answer, trimmed)
    )
    patch = sum(
        (cost_nanousd(_rewritten(attempt.usage, written.usage), attempt.price) or 0) - cost
        for attempt, cost in zip(attempts, known, strict=True)
        if attempt.purpose == "patch"
    )
    return Saved(routing=alone - spent - trimming - patch, trimming=trimming, patch=patch)


def _same(price: Price | None, other: Price | None) -> bool:
    return price is other or price == other  # nearly always the former, which takes no time


def saved_by_cache(usage: Usage, flagship: Price | None) -> Saved | None:
    """What an answer from our own cache saved: the whole call. `usage` is that of the call that filled it."""
    cost = cost_nanousd(usage, flagship)
    return None if cost is None else Saved(caching=cost)


def shows_the_prompt(attempt: Spent) -> bool:
    """Whether the client's own prompt, as far as it was sent, is what this attempt used; the first such one counts."""
    return attempt.usage.input_tokens > 0 and attempt.purpose not in _NO_PROMPT_OF_THE_CLIENT


def _looking_up(attempts: Sequence[Spent], costs: Sequence[int], answer: int, alone: int) -> int:
    """What looking things up added to the one call `alone`: the calls that asked for it, and the longer prompt of the answer."""
    asked = 0
    before = 0
    for attempt, cost in zip(attempts, costs, strict=True):
        if attempt.purpose == "recall":
            asked += before
        if attempt.purpose != "hedge_loser":
            before = cost
    return asked + (costs[answer] - alone if attempts[answer].purpose == "recall" else 0)


def _whole_call(
    attempts: Sequence[Spent], written: Spent, dropped_tokens: int, cached_untrimmed: int
) -> Usage:
    """The one call of a client without us: its own prompt, uncut, and an answer as long as the delivered one."""
    prompts = [a.usage for a in attempts if shows_the_prompt(a)]
    prompt = prompts[0] if prompts else written.usage
    whole_tokens = prompt.input_tokens + max(0, dropped_tokens)
    cached = prompt.cached_tokens
    if dropped_tokens > 0:
        cached = max(cached, min(cached_untrimmed, whole_tokens))
    return Usage(
        input_tokens=whole_tokens,
        output_tokens=written.usage.output_tokens,
        cached_tokens=cached,
        cache_write_tokens=min(prompt.cache_write_tokens, max(0, whole_tokens - cached)),
    )


def _rewritten(patch: Usage, written: Usage) -> Usage:
    """A re-ask with the patch's prompt that writes the whole answer again."""
    return Usage(
        input_tokens=patch.input_tokens,
        output_tokens=max(patch.output_tokens, written.output_tokens),
        cached_tokens=patch.cached_tokens,
        cache_write_tokens=patch.cache_write_tokens,
    )
