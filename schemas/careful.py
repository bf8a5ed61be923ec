"""Strict JSON member by member, for texts of which the reader in `schemas.strict` cannot be sure.

Those are texts with duplicate keys, numbers of any length and lone surrogates. It is not compiled: a large text takes
long in a thread, and others must have their turn meanwhile.
"""

import json
from typing import Any, NoReturn

MAX_DEPTH = 64


class NotStrict(ValueError):
    """The text is not strict JSON; the message says why and quotes nothing of it."""


def parse_carefully(text: str) -> Any:
    """The value of a strict JSON text. Raises NotStrict, and never RecursionError."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError as error:
        raise NotStrict("nested too deeply") from error
    except NotStrict:
        raise
    except ValueError as error:  # also: an integer of more digits than Python converts
        raise NotStrict("not JSON") from error
    check_depth(value)
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


def check_depth(value: Any) -> None:
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
