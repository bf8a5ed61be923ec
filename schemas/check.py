"""The values that a check of a text gives: problems, changes and the verdict."""

from dataclasses import field
from typing import Any, Literal

from schemas.values import dataclass

ChangeKind = Literal["lossless", "choice", "coercion", "lossy"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, at one place.

    `pointer` is an RFC 6901 JSON pointer ("" is the root). `keyword` is the JSON Schema keyword
    that failed, or "json" where the text is not JSON. `message` says what was expected and holds no
    value of the text, so that it may go into an error or a log. `detail` may quote the value: it is
    meant for the model that is asked again, and for nobody else.
    """

    pointer: str
    keyword: str
    message: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that mending did: what stood at `span` (character offsets in the text) became `after`."""

    operation: str
    kind: ChangeKind
    span: tuple[int, int]
    pointer: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Mended:
    """What `mend` makes of a text.

    `text` is what may be delivered: the very input where nothing had to change ("valid"), the mended
    value as compact JSON ("repaired"), or None ("invalid"). `value` is its parsed form. `problems` says
    what stands in the way of an invalid text, against the best reading there was: where `parsed` is
    true `value` is that reading, so that a patch can be merged into it; where it is false nothing in
    the text could be read. `changes` is empty unless repaired.
    """

    verdict: Literal["valid", "repaired", "invalid"]
    text: str | None
    value: Any = None
    changes: tuple[Change, ...] = field(default=())
    problems: tuple[Problem, ...] = field(default=())
    parsed: bool = False
