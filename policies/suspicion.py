"""How much a valid answer of a cheap model is to be doubted, from what can be seen without knowing the truth.

A valid answer is not a correct one: a model that is offered a tool calls it though nobody asked for it, calls it once
where two things were asked, or not at all. `doubt` says so by rules that hold for any traffic; where a route has
a log, `policies/fitting` weighs the same signs by how they turned out there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

from policies.features import STRUCTURE, Features
from policies.scorer import Row, standard


@dataclass(frozen=True, slots=True)
class Signals:
    """What the check of an answer says.

    `valid` is the verdict, `strict` that nothing had to be mended. With tools: `calls` made, whether each
    names a tool of the request, has what is required, the types and the enums asked for. `chars` is the length of the answer.
    """

    valid: bool = True
    strict: bool = True
    calls: int = 0
    named: bool = True
    complete: bool = True
    typed: bool = True
    listed: bool = True
    chars: int = 0


LONG_CHARS = 1500
"""An answer of this length is half as doubtful as its length can make it."""

SIGNS = (
    "invalid",
    "mended",
    "called without need",
    "did not call",
    "unknown name",
    "incomplete",
    "mistyped",
    "not in the enum",
    "more calls than asked",
    "fewer calls than asked",
    "calls",
    "calls of several tools",
    "long answer",
    "answer per prompt",
    "doubt",
)

_FIT = STRUCTURE.index("fit")
_TOOLS = STRUCTURE.index("tools")
_SEVERAL = STRUCTURE.index("several tools")
_CHARS = STRUCTURE.index("chars")
_ANDS = STRUCTURE.index("ands")
_COMMAS = STRUCTURE.index("count ','")
_QUESTIONS = STRUCTURE.index("count '?'")
_ASKS = STRUCTURE.index("asks for several")


def doubt(signals: Signals, found: Features) -> float:
    """0 to 1, higher is more doubtful; an invalid answer, which climbs anyway, is at least as doubtful as any valid one."""
    return _doubt(signals, found, signs(signals, found))


def signs(signals: Signals, found: Features) -> Row:
    """One number per SIGNS (all but the last, which `doubt` makes of them)."""
    structure = found.structure
    tools, several = structure[_TOOLS] > 0, structure[_SEVERAL] > 0
    wanted = _rising(structure[_FIT], 0.28, 12) if tools else 0.0
    asked, calls = _asked_for(structure), signals.calls
    called = tools and calls > 0
    return (
        float(not signals.valid),
        float(not signals.strict),
        (1 - wanted) if called else 0.0,
        wanted if tools and not calls else 0.0,
        float(called and not signals.named),
        float(called and not signals.complete),
        float(called and not signals.typed),
        float(called and not signals.listed),
        1 - _rising(asked, 1.7, 2) if calls > 1 and not several else 0.0,
        _rising(asked, 3.0, 2) if calls == 1 else 0.0,
        math.log1p(calls),
        math.log1p(calls) * several,
        math.log1p(signals.chars),
        math.log1p(signals.chars / (math.expm1(structure[_CHARS]) + 50)),
    )


def _doubt(signals: Signals, found: Features, seen: Sequence[float]) -> float:
    sign = dict(zip(SIGNS, seen, strict=False))
    if found.structure[_TOOLS] == 0:
        worked = signals.chars / (signals.chars + LONG_CHARS)  # what took many words was not easy
        return 1.0 if sign["invalid"] else 0.2 * sign["mended"] + 0.5 * worked
    if not signals.calls:
        return sign["did not call"]
    return max(
        sign["called without need"],
        0.85 * sign["unknown name"],
        0.8 * sign["incomplete"],
        0.6 * sign["not in the enum"],
        0.3 * sign["mistyped"],
        0.8 * sign["more calls than asked"],
        0.5 * sign["fewer calls than asked"],
        (0.12 + 0.06 * signals.calls * (signals.calls > 1)) * (found.structure[_SEVERAL] > 0),
    )


def _asked_for(structure: Sequence[float]) -> float:
    """About how many things the text asks for: joined by commas, "and", question marks, words like "both"."""
    ands, commas, questions, several = (math.expm1(structure[i]) for i in (_ANDS, _COMMAS, _QUESTIONS, _ASKS))
    return 1 + ands / 2 + commas / 3 + max(0.0, questions - 1) / 2 + several / 2


def _rising(value: float, middle: float, slope: float) -> float:
    return 1 / (1 + math.exp(-slope * (value - middle)))


@dataclass(frozen=True, slots=True)
class Doubter:
    """Weights of the signs and the structure, fitted on a log; the last weight is the constant."""

    weights: Row
    centre: Row
    scale: Row


def evidence_row(signals: Signals, found: Features) -> Row:
    """All signs, `doubt` among them, and the request's structure: what a `Doubter` weighs."""
    seen = signs(signals, found)
    return (*seen, _doubt(signals, found, seen), *found.structure)


def learned_doubt(doubter: Doubter, signals: Signals, found: Features) -> float:
    """The gain in quality to be expected from asking the strong model after all."""
    row = standard(evidence_row(signals, found), doubter.centre, doubter.scale)
    weighted: float = sum(map(mul, doubter.weights, row))
    return weighted + doubter.weights[-1]
