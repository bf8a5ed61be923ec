"""What one attempt at a broken text gives: a value, what it cost, and where another choice was open."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from schemas.check import ChangeKind


class Edit(NamedTuple):
    """One repair, as the reader notes it: a cheap form of `schemas.check.Change`."""

    operation: str
    kind: ChangeKind
    start: int
    end: int
    pointer: str
    after: str


class Option(NamedTuple):
    """A reading not taken: what it would have cost up to here, and the plan that takes it."""

    cost: float
    position: int
    choice: int


@dataclass(slots=True)
class Reading:
    """`value` read from `text[start:end]`, and what had to be assumed for it.

    `cost` adds up the price of all `edits`; a lower cost is the more likely intention. `options` are
    the points where another choice was possible. `raw` holds, for scalars written without quotes, the
    characters they were written with, by (id of the container, key): the schema may want the other type.
    """

    value: Any
    start: int
    end: int
    cost: float
    edits: list[Edit]
    options: list[Option]
    raw: dict[tuple[int, Any], str]
    closers: bool
    """Whether a bracket was missing or wrong, so that members may stand on the wrong level."""


# The price of each repair. What counts are the differences: a reading is preferred to another when
# the writer's slip it assumes is the more usual one. Fitted by hand on public collections of broken JSON.
COST = {
    "comment": 0.3,
    "quote-style": 0.2,
    "unquoted-key": 0.3,
    "literal": 0.3,
    "undefined": 0.6,
    "control-character": 0.2,
    "escape": 0.4,
    "whitespace": 0.1,
    "colon": 0.5,
    "missing-colon": 1.0,
    "trailing-comma": 0.5,
    "missing-comma": 0.8,
    "extra-comma": 0.9,
    "separator": 0.9,
    "number": 0.5,
    "unquoted-string": 0.8,
    "wrapper": 0.8,
    "concatenation": 0.6,
    "ellipsis": 0.8,
    "missing-closer": 1.0,
    "closer-inserted": 1.5,
    "closer-replaced": 1.7,
    "closer-dropped": 2.0,
    "opener-dropped": 2.5,
    "missing-root": 1.5,
    "implicit-object": 2.0,
    "set-literal": 1.5,
    "tuple": 0.8,
    "inner-quotes": 0.7,
    "missing-quote": 1.4,
    "trailing-newline": 0.3,
    "stray-text": 4.0,
    "stray-word": 2.2,
    "stray-colon": 2.0,
    "inner-fence": 0.5,
    "prose": 1.0,
    "missing-value": 3.0,
    "dangling-key": 3.5,
    "duplicate-key": 1.0,
}

# What a writer does throughout the text costs in full only once: else a reading that swallows half of
# the members into one string would seem cheap.
HABITS = frozenset(
    {
        "comment", "quote-style", "unquoted-key", "literal", "control-character", "escape", "whitespace", "colon",
        "trailing-comma", "missing-comma", "number", "unquoted-string", "wrapper", "inner-fence", "missing-closer",
        "separator",
    }
)  # fmt: skip
HABIT_PRICE = 0.01
