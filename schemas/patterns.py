"""Regular expressions of schemas: hostile too, so weighed before they are compiled.

jsonschema-rs compiles them for a linear-time engine; what remains to bound is the size of what a
short pattern with counted repetition unfolds to.
"""

import re
from collections.abc import Iterator

import jsonschema_rs

from schemas.refs import Place
from schemas.vocabulary import Dialect, escape

LINEAR = jsonschema_rs.RegexOptions()  # no back-tracking: a match takes time linear in the text

MAX_CHARS = 10_000
MAX_WEIGHT = 100_000
"""For all patterns of a schema; one unit takes about a microsecond to compile."""

_CHAR, _PROPERTY = 5, 100  # a class of Unicode properties unfolds to hundreds of ranges
_TOKEN = re.compile(
    r"(?P<property>\\[pP]\{[^}]*\})|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]"
    r"|(?P<open>\()|(?P<close>\))|\{(?P<least>\d+)(?P<comma>,(?P<most>\d*))?\}|.",
    re.DOTALL,
)
_LOOK_AROUND = re.compile(r"\(\?<?[=!]|\\[1-9]|\\k<")


def patterns_of(place: Place) -> Iterator[tuple[str, str]]:
    """The regular expressions of one schema, each with its pointer."""
    pattern = place.schema.get("pattern")
    if isinstance(pattern, str):
        yield f"{place.pointer}/pattern", pattern
    names = place.schema.get("patternProperties")
    if isinstance(names, dict):
        for name in names:
            yield f"{place.pointer}/patternProperties/{escape(name)}", name


def weight(pattern: str) -> int:
    """About how much `pattern` unfolds to: counted repetitions multiply what they repeat."""
    sums = [0]
    last = 0
    for token in _TOKEN.finditer(pattern):
        if token["open"]:
            sums.append(0)
            last = 0
        elif token["close"] and len(sums) > 1:
            last = sums.pop()
            sums[-1] += last
        elif token["least"]:
            digits = (token["most"] or token["least"])[:7]
            times = max(int(digits), int(token["least"][:7]), 1)
            sums[-1] += last * (times - 1)
            last *= times
        else:
            last = _PROPERTY if token["property"] or "\\p" in token[0].lower() else _CHAR
            sums[-1] += last
    return sum(sums)


def is_pattern(dialect: Dialect, pattern: str) -> bool:
    """Whether the engine takes `pattern`."""
    try:
        dialect.validator({"pattern": pattern}, pattern_options=LINEAR)
    except ValueError:
        return False
    return True


def why_refused(pattern: str) -> str:
    """Why the engine does not take `pattern`."""
    if _LOOK_AROUND.search(pattern):
        return "look-around and back-references are not supported: their time is not bounded"
    return "not a regular expression, or one that needs too much memory"
