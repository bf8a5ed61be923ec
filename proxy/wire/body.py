"""A request's JSON: read strictly, and changed member by member without touching the other bytes.

Clients may send integers beyond 64 bits, lone surrogates and numbers of any spelling; upstreams must get
them as they were written. So a change splices the text of one top-level member and leaves all others be.
"""

import json
import re
from collections.abc import Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves it out
from typing import Any, Final

import orjson

from schemas.quick import UNSURE, read_quick

REMOVE: Final = object()
"""As a change: take the member out."""

MAX_DEPTH = 64
MAX_VALUES = 500_000
"""Of a text: so many small values take Python a second, and memory a hundred times their text."""
LARGE_BYTES = 256 * 1024
"""A larger body is read and changed in a thread, so that the event loop goes on meanwhile."""

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],:]', re.DOTALL)
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SPACE = b" \t\r\n"


class NotJson(ValueError):
    """The body is not JSON as we take it; the message says why, without quoting it."""


def _no_constant(name: str) -> Any:
    raise NotJson(f"{name} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotJson("an object has the same key twice")
    return members


_plain = json.JSONDecoder()
_LARGE_SPACE = re.compile(r"[ \t\r\n]*+")
_LARGE_COLON = re.compile(r"[ \t\r\n]*+:[ \t\r\n]*+")
_LARGE_COMMA = re.compile(r"[ \t\r\n]*+,?")
_decoder = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)


def read_json(body: bytes) -> Any:
    """The value of `body`: UTF-8 only, no NaN or Infinity, no key twice, at most MAX_DEPTH deep.

    Raises NotJson.
    """
    value = read_quick(body, MAX_DEPTH)
    if value is not UNSURE:
        return value
    if body.count(b",") > MAX_VALUES and _commas(body) > MAX_VALUES:
        raise NotJson(f"it holds more than {MAX_VALUES} values")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotJson(f"byte {error.start} is not UTF-8") from None
    try:
        value = _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise NotJson(f"line {error.lineno} column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise NotJson(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except NotJson:
        raise
    except ValueError:  # CPython's limit on digits of an integer
        raise NotJson("a number has too many digits") from None
    # Deep nesting is rare; count brackets only when there are enough of them for it.
    if (body.count(b"{") + body.count(b"[")) > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise NotJson(f"it is nested deeper than {MAX_DEPTH} levels")
    return value


def _commas(body: bytes) -> int:
    """Commas outside of strings, as far as they matter: one between each two values."""
    outside = at = 0
    for strings, match in enumerate(_STRING.finditer(body), 1):
        outside += body.count(b",", at, match.start())
        at = match.end()
        if outside > MAX_VALUES or strings > 2 * MAX_VALUES:
            return max(outside, strings)
    return outside + body.count(b",", at)


def _depth(body: bytes) -> int:
    depth = deepest = 0
    for match in _TOKEN.finditer(body):
        token = match.group()
        if token in (b"{", b"["):
            depth += 1
            deepest = max(deepest, depth)
        elif token in (b"}", b"]"):
            depth -= 1
    return deepest


def dump(value: Any) -> bytes:
    """JSON text of a value we made or read; falls back where orjson refuses (surrogates, large integers)."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def edit(body: bytes, doc: Mapping[str, Any], changes: Mapping[str, Any]) -> bytes:
    """`body` with top-level members replaced, added or removed; all other bytes stay as they are.

    `doc` is what `read_json` made of `body`. A value of `changes` is a JSON value or REMOVE.
    """
    if not changes:
        return body
    if len(changes) == 1 and "model" in doc and (quick := _replace_model(body, changes)) is not None:
        return quick
    spans = _members(body) if len(body) <= LARGE_BYTES else _members_of_large(body)
    cuts: list[tuple[int, int, bytes]] = []
    added = []
    for key, value in changes.items():
        span = spans.get(key)
        if value is REMOVE:
            if span is not None:
                cuts.append((span[0], span[3], b""))
        elif span is None:
            added.append(dump(key) + b":" + dump(value))
        else:
            cuts.append((span[1], span[2], dump(value)))
    return _splice(body, cuts, added)


_MODEL = re.compile(rb'"model"\s*:\s*("[^"\\]*+")')


def _replace_model(body: bytes, changes: Mapping[str, Any]) -> bytes | None:
    """The commonest change by search alone, where the text allows no doubt which member is meant."""
    if (
        "model" not in changes
        or changes["model"] is REMOVE
        or body.count(b'"model"') != 1
        or b"\\u00" in body
    ):
        return None
    match = _MODEL.search(body)
    if match is None:
        return None
    return body[: match.start(1)] + dump(changes["model"]) + body[match.end(1) :]


def _splice(body: bytes, cuts: list[tuple[int, int, bytes]], added: list[bytes]) -> bytes:
    out = []
    at = 0
    for start, end, text in sorted(cuts):
        out += [body[at:start], text]
        at = end
    out.append(body[at:])
    whole = b"".join(out)
    # Removing the last member leaves the comma before it; members are few, so mend the edge here.
    end = whole.rindex(b"}")
    head = whole[:end].rstrip(_SPACE).removesuffix(b",")
    if not added:
        return head + b"}"
    comma = b"" if head.strip(_SPACE) == b"{" else b","
    return head + comma + b",".join(added) + b"}"


def _members(body: bytes) -> dict[str, tuple[int, int, int, int]]:
    """Per top-level key: start of the key, start and end of the value, end including a following comma."""
    spans: dict[str, tuple[int, int, int, int]] = {}
    depth = 0
    key = b""
    key_at = value_at = -1
    for match in _TOKEN.finditer(body):
        token = match.group()
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
            if depth == 0 and value_at >= 0:
                end = _value_end(body, match.start())
                spans[json.loads(key)] = (key_at, value_at, end, end)
        elif depth != 1:
            continue
        elif token == b":":
            value_at = _value_start(body, match.end())
        elif token == b",":
            spans[json.loads(key)] = (key_at, value_at, _value_end(body, match.start()), match.end())
            value_at = -1
        elif value_at < 0:
            key, key_at = token, match.start()
    return spans


def _members_of_large(body: bytes) -> dict[str, tuple[int, int, int, int]]:
    """The same by json's own scanner, which passes over long strings twenty times as fast as an expression."""
    text = body.decode()
    ends = [0, 0]  # characters and bytes that are counted already

    def in_bytes(at: int) -> int:
        if len(text) == len(body):
            return at
        ends[1] += len(text[ends[0] : at].encode())
        ends[0] = at
        return ends[1]

    spans: dict[str, tuple[int, int, int, int]] = {}
    at = _LARGE_SPACE.match(text, text.index("{") + 1).end()  # type: ignore[union-attr]  # it matches nothing, too
    while text[at] != "}":
        key_at = in_bytes(at)
        key, at = scanstring(text, at + 1, True)
        at = _LARGE_COLON.match(text, at).end()  # type: ignore[union-attr]  # the text is JSON: it was read
        value_at = in_bytes(at)
        _, at = _plain.raw_decode(text, at)
        value_end = in_bytes(at)
        at = _LARGE_COMMA.match(text, at).end()  # type: ignore[union-attr]  # as above
        spans[key] = (key_at, value_at, value_end, in_bytes(at))
        at = _LARGE_SPACE.match(text, at).end()  # type: ignore[union-attr]  # as above
    return spans


def _value_start(body: bytes, at: int) -> int:
    while body[at] in _SPACE:
        at += 1
    return at


def _value_end(body: bytes, at: int) -> int:
    while body[at - 1] in _SPACE:
        at -= 1
    return at
