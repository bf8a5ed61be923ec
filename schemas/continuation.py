"""Go on after a text that was already delivered: what must follow it so that the whole is a given value.

Used when a streamed answer turned out wrong after part of it was out: a corrected value can still be delivered
if everything that was said so far is true of it.
"""

import json
from dataclasses import dataclass
from typing import Any

_SPACE = " \t\n\r"
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class _Whole:
    """The prefix holds the whole value; it ends at `end`."""

    end: int


class _Contradicted(Exception):
    """The prefix says something that is not true of the value."""


def continue_from(prefix: str, value: Any) -> str | None:
    """The text that completes `prefix` to JSON of `value`; None where the prefix contradicts it.

    Depth is that of `value`, which our parsers bound to 64.
    """
    try:
        found = _value(prefix, _skip(prefix, 0), value)
    except _Contradicted:
        return None
    if isinstance(found, str):
        return found
    return "" if not prefix[found.end :].strip(_SPACE) else None


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _value(text: str, at: int, value: Any) -> str | _Whole:
    """What completes the value that begins at `at`, or where it ends."""
    if at == len(text):
        return _dump(value)
    if isinstance(value, dict):
        return _members(text, _expect(text, at, "{"), value)
    if isinstance(value, list):
        return _items(text, _expect(text, at, "["), value)
    return _scalar(text, at, value)


def _expect(text: str, at: int, character: str) -> int:
    if text[at] != character:
        raise _Contradicted
    return at + 1


def _scalar(text: str, at: int, value: Any) -> str | _Whole:
    for whole in (_dump(value), json.dumps(value)):
        said = text[at : at + len(whole)]
        if said == whole:
            return _Whole(at + len(whole))
        if at + len(said) == len(text) and whole.startswith(said):
            return whole[len(said) :]
    try:  # another spelling of the same: 1.0 and 1, \u00e9 and é
        said_value, end = _DECODER.raw_decode(text, at)
    except ValueError:
        raise _Contradicted from None
    if type(said_value) is not type(value) or said_value != value:
        raise _Contradicted
    return _Whole(end)


def _items(text: str, at: int, value: list[Any]) -> str | _Whole:
    for n, item in enumerate(value):
        at = _skip(text, at)
        if n:
            if at == len(text):
                return "," + _dump(value[n:])[1:]
            at = _skip(text, _expect(text, at, ","))
        found = _value(text, at, item)
        if isinstance(found, str):
            rest = _dump(value[n + 1 :])[1:]
            return found + ("," if n + 1 < len(value) else "") + rest
        at = found.end
    at = _skip(text, at)
    return "]" if at == len(text) else _Whole(_expect(text, at, "]"))


def _members(text: str, at: int, value: dict[str, Any]) -> str | _Whole:
    left = dict(value)
    first = True
    while True:
        at = _skip(text, at)
        if at == len(text):
            return _rest(left, comma=not first)
        if text[at] == "}" and not left:
            return _Whole(at + 1)
        if not first:
            at = _skip(text, _expect(text, at, ","))
            if at == len(text):
                if not left:
                    raise _Contradicted
                return _rest(left, comma=False)
        key, at_value = _key(text, at, left)
        item = left.pop(key)
        if at_value is None:
            return _key_rest(text, at, key) + _dump(item) + _rest(left, comma=True)
        found = _value(text, at_value, item)
        if isinstance(found, str):
            return found + _rest(left, comma=True)
        at = found.end
        first = False


def _rest(left: dict[str, Any], *, comma: bool) -> str:
    text = _dump(left)
    return text[1:] if not left or not comma else "," + text[1:]


def _key(text: str, at: int, left: dict[str, Any]) -> tuple[str, int | None]:
    """The key that begins at `at` and where its value begins; None where the text ends before that."""
    if text[at] != '"':
        raise _Contradicted
    try:
        key, end = _DECODER.raw_decode(text, at)
    except ValueError:
        begun = text[at:]
        fits = [k for k in left if _dump(k).startswith(begun)]
        if not fits:
            raise _Contradicted from None
        return fits[0], None
    if key not in left:
        raise _Contradicted
    end = _skip(text, end)
    if end == len(text):
        return key, None
    return key, _skip(text, _expect(text, end, ":"))


def _key_rest(text: str, at: int, key: str) -> str:
    """What is missing of the key and its colon."""
    begun = text[at:]  # with its spaces: they may be the key's own
    whole = _dump(key)
    return (whole[len(begun) :] if whole.startswith(begun) else "") + ":"
