"""The content scorer: how much better the strong model is expected to answer a request than the cheap one.

Linear over hashed words and structure, fitted from the route's own log by `policies/fitting` and never shipped:
difficulty does not transfer between traffics. A request unlike the log gets no score at all.

    heads        linear in grams and structure: the gain itself, the cheap model's quality, what both answers cost
    recognition  linear in structure and some telling grams: which step this is, where the client did not declare it
    gain         linear in steps, heads and their products
"""

from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter, mul
from typing import Any

from policies.features import Features, features

Row = tuple[float, ...]

WEIGHTS = 1 << 16
"""Weights per head: grams share them, which costs little; whether a gram was seen is kept for each bucket."""

NEAREST = 3
"""Of so many of the likeliest steps the nearest must be near."""

CAPPED = 25.0
"""No single number makes a request stranger than this."""


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """Weights of a fitted scorer.

    `grams` holds WEIGHTS weights for each head, `structure` one row per head (its last number is the
    constant). `telling` maps a bucket to one weight per step, `step_structure` has a row per step. `gain` are the
    weights of the last layer: the constant, then per head; then per step: its own, then per head;
    `declared_gain` are the same for a step that the client declared.
    `seen` has a 1 for each bucket that the log knows; a request with a smaller share of these than `familiar`
    is unlike the log, and so is one whose structure is further than `strange` from each of its likeliest steps,
    whose means and spreads are `usual` and `spread`. `skilled` False: on its own log it told nothing beyond chance. `mean` is the log's mean gain. `centre` and `scale` bring structure to mean 0 and deviation 1, `head_centre` and
    `head_scale` the heads.
    """

    steps: tuple[str, ...]
    grams: "tuple[array[float], ...]"
    structure: tuple[Row, ...]
    telling: Mapping[int, Row]
    step_structure: tuple[Row, ...]
    gain: Row
    declared_gain: Row
    seen: bytes
    familiar: float
    usual: tuple[Row, ...]
    spread: tuple[Row, ...]
    strange: float
    skilled: bool
    mean: float
    centre: Row
    scale: Row
    head_centre: Row
    head_scale: Row


def score(scorer: Scorer, messages: Any, tools: Any = None, step: str | None = None) -> float | None:
    """The expected gain in quality, strong minus cheap, of a chat request; None where the scorer abstains.

    `step` is the declared one; without it the step is recognised from the content.
    """
    found = features(messages, tools)
    if not scorer.skilled or familiarity(scorer.seen, found) < scorer.familiar:
        return None
    structure = standard(found.structure, scorer.centre, scorer.scale)
    chances = step_chances(scorer, found, structure, step)
    if strangeness(scorer, structure, chances) > scorer.strange:
        return None
    return expected_gain(scorer, found, structure, chances, declared=step in scorer.steps)


def familiarity(seen: bytes, found: Features) -> float:
    """The share of the request's grams that the log knows."""
    return sum(_picked(found.grams)(seen)) / (len(found.grams) or 1)


def strangeness(scorer: Scorer, structure: Sequence[float], chances: Sequence[float]) -> float:
    """The mean square distance of the structure from the nearest of its NEAREST likeliest steps, in their spreads."""
    likely = sorted(range(len(chances)), key=lambda i: -chances[i])[:NEAREST]
    return min(
        sum(
            min(CAPPED, ((value - mean) / spread) ** 2)
            for value, mean, spread in zip(structure, scorer.usual[i], scorer.spread[i], strict=True)
        )
        for i in likely
    ) / len(structure)


def expected_gain(
    scorer: Scorer, found: Features, structure: Sequence[float], chances: Sequence[float], *, declared: bool
) -> float:
    """The gain for a request with these features, like the log or not."""
    heads = standard(head_values(scorer, found, structure), scorer.head_centre, scorer.head_scale)
    weights, width = (scorer.declared_gain if declared else scorer.gain), len(heads) + 1
    total = _dot(weights, heads)
    for i, chance in enumerate(chances):
        if chance:
            total += chance * _dot(weights[(i + 1) * width : (i + 2) * width], heads)
    return total


def head_values(scorer: Scorer, found: Features, structure: Sequence[float]) -> Row:
    """What each head says of the request."""
    length = (len(found.grams) + 1) ** -0.5
    picked = _picked([gram & WEIGHTS - 1 for gram in found.grams])
    return tuple(
        sum(picked(grams)) * length
        + sum(map(mul, row, structure))  # map ends with the shorter one: the constant is left out
        + row[-1]
        for grams, row in zip(scorer.grams, scorer.structure, strict=True)
    )


def step_chances(
    scorer: Scorer, found: Features, structure: Sequence[float], step: str | None
) -> Sequence[float]:
    """How likely each step is, summing to 1: certain where it is declared and known, else as recognised."""
    if step in scorer.steps:
        return tuple(float(step == name) for name in scorer.steps)
    told = [scorer.telling[gram] for gram in found.grams & scorer.telling.keys()]
    sums = [sum(column) for column in zip(*told, strict=True)] if told else [0.0] * len(scorer.steps)
    raw = [
        max(0.0, said + row[-1] + sum(map(mul, row, structure)))
        for said, row in zip(sums, scorer.step_structure, strict=True)
    ]
    whole = sum(raw)
    return [chance / whole for chance in raw] if whole else [1.0 / len(raw)] * len(raw)


def standard(values: Sequence[float], centre: Sequence[float], scale: Sequence[float]) -> Row:
    """`values` minus `centre`, over `scale`, cut to ±4: one odd number must not outweigh all others."""
    return tuple(
        max(-4.0, min(4.0, (value - mean) / deviation))
        for value, mean, deviation in zip(values, centre, scale, strict=True)
    )


def _dot(weights: Sequence[float], heads: Sequence[float]) -> float:
    """The first weight as a constant, the others times the heads."""
    weighted: float = sum(map(mul, weights[1:], heads))
    return weights[0] + weighted


def _picked(places: Collection[int]) -> Callable[[Any], tuple[float, ...]]:
    """What stands at `places` of a sequence, read in one go: it takes a third less time than one by one."""
    if len(places) < 2:
        return lambda values: tuple(values[place] for place in places)
    return itemgetter(*places)
