"""A scalar as the whole answer, where the schema wants one: models then often answer in prose."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from schemas.shape import branches

MAX_CHARS = 1000
"""Longer prose says too much for one of its words to be the answer."""

_NUMBER = re.compile(r"-?(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?\Z")
_NEGATION = re.compile(r"(?:\b(?:not|never|neither|nor|no|cannot)|n['’]t)\W+(?:\w+\W+){0,2}\Z", re.IGNORECASE)
_ROUND = " \t\r\n*_`\"'.:!()"


def scalars(body: str, schema: Any) -> Iterator[tuple[Any, str]]:
    """(value, operation) for the scalars that `body`, which is not JSON, may stand for; the validator decides.

    A free string is the text itself; a number is the whole text; of a list of words exactly one, and
    not a negated one, must be in the text.
    """
    words, types, free_string = _wanted(schema)
    if free_string:
        yield body, "unquoted-string"
        return
    bare = body.strip(_ROUND)
    if types & {"number", "integer"} and _NUMBER.match(bare) and len(bare) < 40:
        digits = bare.replace(",", "")
        yield (float(digits) if "." in digits else int(digits)), "number"
    if words and len(body) <= MAX_CHARS:
        found = _mentioned(body, words)
        if len(found) == 1:
            yield found[0], "word-in-prose"


def _wanted(schema: Any) -> tuple[list[Any], set[str], bool]:
    """The listed words and booleans, the types, and whether any string will do."""
    words: list[Any] = []
    types: set[str] = set()
    free_string = False
    for node in branches(schema, [schema]):
        names = node.get("type")
        named = set(names if isinstance(names, list) else [names]) - {None}
        types |= {name for name in named if isinstance(name, str)}
        if "const" in node:
            words.append(node["const"])
        elif isinstance(node.get("enum"), list):
            words.extend(node["enum"])
        elif "boolean" in named:
            words.extend((True, False))
        elif "string" in named:
            free_string = True
    return [word for word in words if isinstance(word, str | bool)][:200], types, free_string


def _mentioned(body: str, words: list[Any]) -> list[Any]:
    """The members of `words` that `body` mentions; the longer of two that overlap."""
    plain = _plain(body)
    bare = plain.strip(_ROUND)
    taken: list[tuple[int, int]] = []
    found: list[Any] = []
    spoken = [(_plain(word if isinstance(word, str) else str(word).lower()), word) for word in words]
    for name, word in sorted(spoken, key=lambda pair: -len(pair[0])):
        if not name:
            continue
        if name == bare or name == plain.strip():
            return [word]
        if len(name) <= 2:
            continue
        for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", plain):
            if any(start < match.end() and match.start() < end for start, end in taken):
                continue
            taken.append(match.span())
            if _NEGATION.search(plain[: match.start()]):
                return []
            if word not in found:
                found.append(word)
    return found


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))
