"""Lone surrogates: legal in JSON (RFC 8259 §8.2), impossible in UTF-8, so the validator knows none."""

from typing import Any

STAND_IN = "\U0010ffff"
"""A code point that is no character, so that no text has a use for it."""


def without_surrogates(value: Any) -> Any:
    """`value` with each lone surrogate replaced by one other character, so that lengths are kept."""
    if isinstance(value, str):
        return "".join(STAND_IN if "\ud800" <= char <= "\udfff" else char for char in value)
    if isinstance(value, list):
        return [without_surrogates(part) for part in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(held) for key, held in value.items()}
    return value
