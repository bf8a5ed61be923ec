"""What JSON Schema means by equal: 1 is 1.0, true is not 1, the order of names does not count."""

from collections.abc import Hashable
from typing import Any


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal. JSON Schema 2020-12 Core §4.2.2."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(held, other[key]) for key, held in one.items())
    return bool(one == other)


def identity(value: Any) -> Hashable:
    """A key that two JSON values share exactly when they are the same."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, list):
        return ("list", *map(identity, value))
    if isinstance(value, dict):
        return ("dict", frozenset((key, identity(held)) for key, held in value.items()))
    return ("plain", value)
