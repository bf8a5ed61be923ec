"""Strict JSON (RFC 8259): one text, one value, or a reason why not.

Stricter than the grammar where a reader after us could see another value than we checked: duplicate
keys, NaN and Infinity are refused, so are texts too large or too deep to check in bounded time.
"""

import json
import re
from typing import Any, NoReturn

import orjson

MAX_CHARS = 1_000_000
MAX_DEPTH = 64

# orjson reads an integer beyond 64 bits as a float, which loses digits.
_LONG = b"0" * 18
_DIGITS = bytes(48 if 48 <= code <= 57 else 32 for code in range(256))
_ESCAPED_COLON = re.compile(r"\\u003[aA]")


class NotStrict(ValueError):
    """The text is not strict JSON; the message says why and quotes nothing of it."""


def parse(text: str) -> Any:
    """The value of a strict JSON text; white space around it is allowed.

    Raises NotStrict. Never raises RecursionError, whatever the text.
    """
    if len(text) > MAX_CHARS:
        raise NotStrict("the text is too long")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # What orjson refuses and the RFC allows: lone surrogates, integers of hundreds of digits.
        if "\\u" in text or _has_long_number(text) or not text.isascii():
            return _parse_slowly(text)
        raise NotStrict("not JSON") from error
    if _has_long_number(text):
        return _parse_slowly(text)
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)  # before anything recursive reads the value: orjson writes 254 levels and no more
    if text.count(":") != orjson.dumps(value).count(b":") or _ESCAPED_COLON.search(text):
        # A dropped member takes its colon with it: the counts differ exactly when a key came twice,
        # unless a colon in a string was written as an escape.
        return _parse_slowly(text)
    return value


def _has_long_number(text: str) -> bool:
    """Whether 18 digits stand in a row. A table and a search take a fifth of a regular expression's time."""
    return _LONG in text.encode("utf-8", "replace").translate(_DIGITS)


def _parse_slowly(text: str) -> Any:
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError as error:
        raise NotStrict("nested too deeply") from error
    except NotStrict:
        raise
    except ValueError as error:  # also: an integer of more digits than Python converts
        raise NotStrict("not JSON") from error
    _check_depth(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotStrict("a key comes twice in one object")
    return members


def _no_constant(name: str) -> NoReturn:
    raise NotStrict(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise NotStrict("a number is too large")
    return number


def _check_depth(value: Any) -> None:
    """Raise NotStrict where `value` is nested deeper than MAX_DEPTH."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise NotStrict("nested too deeply")
