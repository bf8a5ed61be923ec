"""The tokens of strict JSON (RFC 8259) where a text may be cut in the middle of one."""

import json
import math
import re

SPACE = re.compile(r"[ \t\n\r]*")
STRING_TOKEN = re.compile(r'"([^"\\\x00-\x1f]*)"')
KEY_TOKEN = re.compile(r'"([^"\\\x00-\x1f]*)"[ \t\n\r]*:')
RUN = re.compile(r'[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*')
CUT_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
NUMBER_TOKEN = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?(?=[,\]} \t\n\r])")

# The states of a number and where a class of characters leads. RFC 8259 §6.
NUMBER_STEPS = {
    "": {"0": "0", "d": "i", "s": "-"},
    "-": {"0": "0", "d": "i"},
    "0": {".": ".", "e": "e"},
    "i": {"0": "i", "d": "i", ".": ".", "e": "e"},
    ".": {"0": "f", "d": "f"},
    "f": {"0": "f", "d": "f", "e": "e"},
    "e": {"0": "x", "d": "x", "s": "s", "p": "s"},
    "s": {"0": "x", "d": "x"},
    "x": {"0": "x", "d": "x"},
}
NUMBER_CLASSES = {
    **dict.fromkeys("123456789", "d"),
    "0": "0",
    ".": ".",
    "e": "e",
    "E": "e",
    "-": "s",
    "+": "p",
}
WHOLE_NUMBER = frozenset("0ifx")


def after_space(piece: str, at: int) -> int:
    """Where the first character that is no white space stands, from `at` on, or the end."""
    if at == len(piece) or piece[at] not in " \t\n\r":
        return at
    space = SPACE.match(piece, at)
    assert space is not None
    return space.end()


def decoded(raw: str) -> str:
    """The string that stands between quotes as `raw`, whose escapes are known to be whole."""
    return raw if "\\" not in raw else str(json.loads(f'"{raw}"'))


def number_of(token: str) -> float | None:
    """The number, an int where it is written as one; None for those that are too large to be read."""
    if "." in token or "e" in token or "E" in token:
        value = float(token)
        return value if math.isfinite(value) else None
    try:
        return int(token)
    except ValueError:  # thousands of digits
        return None
