"""Strict JSON (RFC 8259): one text, one value, or a reason why not.

Stricter than the grammar where a reader after us could see another value than we checked: duplicate
keys, NaN and Infinity are refused, so are texts too large or too deep to check in bounded time.
"""

import re
from typing import Any, Final

import orjson

from schemas.careful import MAX_DEPTH, NotStrict, check_depth, parse_carefully
from schemas.quick import UNSURE, read_quick

__all__ = ["MAX_CHARS", "MAX_DEPTH", "NotStrict", "parse"]

MAX_CHARS: Final = 1_000_000

_loads: Final = orjson.loads
_dumps: Final = orjson.dumps
# orjson reads an integer beyond 64 bits as a float, which loses digits.
_LONG: Final = b"0" * 18
_DIGITS: Final = bytes(48 if 48 <= code <= 57 else 32 for code in range(256))
_ESCAPED_COLON: Final = re.compile(r"\\u003[aA]")


def parse(text: str) -> Any:
    """The value of a strict JSON text; white space around it is allowed.

    Raises NotStrict. Never raises RecursionError, whatever the text.
    """
    if len(text) > MAX_CHARS:
        raise NotStrict("the text is too long")
    try:
        value = read_quick(text.encode(), MAX_DEPTH)
    except UnicodeEncodeError:  # lone surrogates
        value = UNSURE
    if value is not UNSURE:
        return value
    try:
        value = _loads(text)
    except orjson.JSONDecodeError as error:
        # What orjson refuses and the RFC allows: lone surrogates, integers of hundreds of digits.
        if "\\u" in text or _has_long_number(text) or not text.isascii():
            return parse_carefully(text)
        raise NotStrict("not JSON") from error
    if _has_long_number(text):
        return parse_carefully(text)
    if text.count("[") + text.count("{") > MAX_DEPTH:
        check_depth(value)  # before anything recursive reads the value: orjson writes 254 levels and no more
    if text.count(":") != _dumps(value).count(b":") or ("\\u003" in text and _ESCAPED_COLON.search(text)):
        # A dropped member takes its colon with it: the counts differ exactly when a key came twice,
        # unless a colon in a string was written as an escape.
        return parse_carefully(text)
    return value


def _has_long_number(text: str) -> bool:
    """Whether 18 digits stand in a row. A table and a search take a fifth of a regular expression's time."""
    data = text.encode() if text.isascii() else text.encode("utf-8", "replace")
    # Not `in`, which takes bytes for a number first: that fails, and slowly.
    return data.translate(_DIGITS).find(_LONG) >= 0
