"""Hard constraints: which models of a ladder may be asked at all, whatever they cost and however good they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from policies.facts import Candidate, Facts
from policies.money import usd_text, worst_cost_nanousd
from policies.route import Route

Why = Literal["unknown", "window", "output", "ability", "tag", "key", "price", "health", "rest"]

RESERVED_OUTPUT_TOKENS: Final = 256
"""Room for an answer whose length the client left open."""


@dataclass(frozen=True, slots=True)
class Excluded:
    """A model of the ladder that may not be asked, and why."""

    model: str
    why: Why
    says: str


def sift(ladder: Sequence[str], route: Route, facts: Facts) -> tuple[tuple[str, ...], tuple[Excluded, ...]]:
    """(the models of `ladder` that may be asked, in its order; the others, with the first thing in their way)."""
    able, excluded = [], []
    for alias in ladder:
        gone = _excluded(alias, route, facts)
        if gone is None:
            able.append(alias)
        else:
            excluded.append(gone)
    return _awake(able, excluded, facts)


def _awake(
    able: Sequence[str], excluded: Sequence[Excluded], facts: Facts
) -> tuple[tuple[str, ...], tuple[Excluded, ...]]:
    """Those below the last model that does not rest are left alone while they do; nobody is where all rest."""
    rests = {alias: facts.models[alias].rests_s for alias in able if facts.models[alias].rests_s > 0}
    if not rests:
        return tuple(able), tuple(excluded)
    last = max((n for n, alias in enumerate(able) if alias not in rests), default=-1)
    asleep = [alias for n, alias in enumerate(able) if n < last and alias in rests]
    told = [
        Excluded(alias, "rest", f"asked to be left alone for {rests[alias]:.1f} s more") for alias in asleep
    ]
    return tuple(alias for alias in able if alias not in asleep), (*excluded, *told)


def _excluded(alias: str, route: Route, facts: Facts) -> Excluded | None:
    """Why `alias` may not be asked at all; what lasts is told before what passes (health)."""
    candidate = facts.models.get(alias)
    if candidate is None:
        return Excluded(alias, "unknown", "not configured")
    card = candidate.card
    if not candidate.allowed:
        return Excluded(alias, "key", "the key may not use it")
    missing = (route.require | facts.require) - card.tags
    if missing:
        return Excluded(alias, "tag", f"lacks {', '.join(sorted(missing))}")
    if card.can is not None and not facts.abilities <= card.can:
        return Excluded(alias, "ability", f"cannot {', '.join(sorted(facts.abilities - card.can))}")
    return _too_large(alias, candidate, facts) or _too_dear(alias, candidate, facts) or _ill(alias, candidate)


def _too_large(alias: str, candidate: Candidate, facts: Facts) -> Excluded | None:
    card, asked = candidate.card, facts.max_output_tokens
    if asked is not None and card.max_output_tokens is not None and asked > card.max_output_tokens:
        return Excluded(alias, "output", f"writes {card.max_output_tokens} tokens at most, {asked} asked for")
    if card.window_tokens is None:
        return None
    prompt = facts.prompt_tokens if facts.min_prompt_tokens is None else facts.min_prompt_tokens
    prompt = max(prompt, candidate.tokens(prompt))  # a usage that seems too small breaks no window
    room = min(RESERVED_OUTPUT_TOKENS, card.window_tokens // 8) if asked is None else asked
    if prompt + room > card.window_tokens:
        return Excluded(alias, "window", f"{prompt} + {room} tokens do not fit into {card.window_tokens}")
    return None


def _too_dear(alias: str, candidate: Candidate, facts: Facts) -> Excluded | None:
    if facts.max_cost_nanousd is None:
        return None
    output = facts.max_output_tokens or candidate.card.max_output_tokens or RESERVED_OUTPUT_TOKENS
    worst = worst_cost_nanousd(candidate.tokens(facts.prompt_tokens), output, candidate.card.price)
    ceiling = usd_text(facts.max_cost_nanousd)
    if worst is None:
        return Excluded(alias, "price", f"unpriced, and the ceiling is {ceiling} USD")
    if worst > facts.max_cost_nanousd:
        return Excluded(alias, "price", f"may cost {usd_text(worst)} USD, the ceiling is {ceiling}")
    return None


def _ill(alias: str, candidate: Candidate) -> Excluded | None:
    if candidate.retry_after_s is None:
        return None
    return Excluded(alias, "health", f"its breaker is open for {candidate.retry_after_s:.1f} s")
