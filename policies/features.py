"""What a scorer looks at in a request: hashed words and word pairs, and the request's structure in numbers.

Nothing here is fitted, and nothing depends on a process's hash seed. The scan is capped, so that a request of
100k tokens costs as much as one of 4k characters.
"""

import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.facts import list_of, object_of, text_of

HEAD_CHARS, TAIL_CHARS = 2600, 1400
"""Of a longer text its beginning and its end are read: the task stands in one of them."""

FIRST_WORDS, LAST_WORDS = 320, 80
MAX_TOOLS = 16
MAX_PARAMETERS = 32
MAX_TOLD_CHARS = 600
STEM = 5
BUCKETS = 1 << 20

_WORD = re.compile(rb"[A-Za-z\x80-\xff]+|\d|[^\sA-Za-z\d\x80-\xff]")
_NUMBER = re.compile(rb"\d+")
_NAME = re.compile(rb" [A-Z]")
_SENTENCE = re.compile(r"[.?!](?:\s|$)")
_LETTERS = re.compile(rb"[a-z]+")
_PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_QUOTED = re.compile(r"\"[^\"\n]{1,400}\"|'[^'\n]{1,400}'")
_SEVERAL = frozenset(
    b"also both each respectively then next after another additionally two three four first second different".split()
)
_COMMON = frozenset(
    b"the and for with that this what how can you are from by pleas would like need find get give have has was were"
    b" one all any its use which who when where will not but your our his her their given based return retur".split()
)
_CONTROL = ("for ", "while ", "if ", "return ")
_COUNTED = "?,.:;\"'()[]{}=_\\$%+*/^-<>\n"


@dataclass(frozen=True, slots=True)
class Features:
    """`grams` are buckets of words and pairs of neighbours, each once; `structure` has one number per STRUCTURE name."""

    grams: frozenset[int]
    structure: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Counts:
    """Counted once, used twice: for the text alone, and against what the tools ask for."""

    numbers: int
    names: int
    quoted: list[int]
    ands: int
    commas: int


STRUCTURE = (
    *(f"count {c!r}" for c in _COUNTED),
    "chars",
    "words",
    "distinct words",
    "long words",
    "numbers",
    "names",
    "sentences",
    "words per sentence",
    "longest quoted",
    "control words",
    "ands",
    "asks for several",
    "tools",
    "several tools",
    "required per tool",
    "optional per tool",
    "enums per tool",
    "unusual types",
    "tool description",
    "fit",
    "second fit",
    "values per parameter",
    "ands per parameter",
)


_READ = (
    *(
        HEAD_CHARS,
        TAIL_CHARS,
        FIRST_WORDS,
        LAST_WORDS,
        MAX_TOOLS,
        MAX_PARAMETERS,
        MAX_TOLD_CHARS,
        STEM,
        BUCKETS,
    ),
    *(pattern.pattern for pattern in (_WORD, _NUMBER, _NAME, _SENTENCE, _LETTERS, _PIECE, _QUOTED)),
    *(sorted(_SEVERAL), sorted(_COMMON), _CONTROL),
)
VERSION = f"{zlib.crc32(repr((STRUCTURE, _READ)).encode()):08x}"
"""Of what is looked at: weights that were fitted on other features mean nothing here."""


def features(messages: Any, tools: Any = None) -> Features:
    """The features of a chat request, whatever its `messages` and `tools` hold."""
    text = capped(messages)
    raw = text.encode("utf-8", "replace")
    words = words_of(raw.lower())
    counts = _Counts(
        numbers=len(_NUMBER.findall(raw)),
        names=len(_NAME.findall(raw)),
        quoted=[len(quoted) for quoted in _QUOTED.findall(text)],
        ands=words.count(b"and"),
        commas=words.count(b","),
    )
    structure = (*_text_structure(text, words, counts), *_tool_structure(words, counts, tools))
    return Features(frozenset(_grams(words)), structure)


def words_of(raw: bytes) -> list[bytes]:
    """The words, digits and marks of a text; of a long one the first FIRST_WORDS and the last LAST_WORDS.

    What lies between is not looked at where both ends have enough: the tokens beside a cut are left out, all others
    are those of the whole.
    """
    if len(raw) > 8 * (FIRST_WORDS + LAST_WORDS):
        head, tail = _WORD.findall(raw[: 6 * FIRST_WORDS]), _WORD.findall(raw[-8 * LAST_WORDS :])
        if len(head) > FIRST_WORDS and len(tail) > LAST_WORDS:
            return head[:FIRST_WORDS] + tail[-LAST_WORDS:]
    words = _WORD.findall(raw)
    if len(words) > FIRST_WORDS + LAST_WORDS:
        return words[:FIRST_WORDS] + words[-LAST_WORDS:]
    return words


def capped(messages: Any) -> str:
    """The text of the system and user messages; of a long one its beginning and its end."""
    head: list[str] = []
    room = HEAD_CHARS + TAIL_CHARS
    asked = [m for m in list_of(messages) if object_of(m).get("role") in ("user", "system", "developer")]
    for i, message in enumerate(asked):
        text = text_of(message.get("content"))
        if len(text) > room:
            last = text if i == len(asked) - 1 else text_of(asked[-1].get("content"))
            return "\n".join((*head, text[: max(0, room - TAIL_CHARS)], last[-TAIL_CHARS:]))
        head.append(text)
        room -= len(text)
    return "\n".join(head)


def _grams(words: Sequence[bytes]) -> set[int]:
    mask = BUCKETS - 1
    ones = list(map(zlib.crc32, words))
    pairs = map(zlib.crc32, words[1:], ones)
    return {one & mask for one in ones} | {pair & mask for pair in pairs}


def _text_structure(text: str, words: Sequence[bytes], counts: _Counts) -> tuple[float, ...]:
    log = math.log1p
    real = [word for word in words if len(word) > 1]
    sentences = len(_SENTENCE.findall(text))
    return (
        *(log(text.count(c)) for c in _COUNTED),
        log(len(text)),
        log(len(real)),
        len(set(real)) / (len(real) + 1),
        sum(map((8).__lt__, map(len, real))) / (len(real) + 1),
        log(counts.numbers),
        log(counts.names),
        log(sentences),
        log(len(real) / (sentences + 1)),
        log(max(counts.quoted, default=0)),
        log(sum(map(text.count, _CONTROL))),
        log(counts.ands),
        log(sum(map(_SEVERAL.__contains__, real))),
    )


@dataclass(frozen=True, slots=True)
class _Tool:
    fit: float
    required: int
    optional: int
    enums: int
    unusual: int
    described: int


def _tool_structure(words: Sequence[bytes], counts: _Counts, tools: Any) -> tuple[float, ...]:
    listed = list_of(tools)[:MAX_TOOLS]
    if not listed:
        return (0.0,) * 11
    asked = stems(words)
    seen = sorted(
        (_tool(object_of(object_of(tool).get("function")), asked) for tool in listed), key=lambda t: -t.fit
    )
    n, best, log = len(listed), seen[0], math.log1p
    values = counts.numbers + counts.names + len(counts.quoted)
    joined = counts.ands + counts.commas
    return (
        log(n),
        float(n > 1),
        sum(tool.required for tool in seen) / n,
        sum(tool.optional for tool in seen) / n,
        sum(tool.enums for tool in seen) / n,
        log(sum(tool.unusual for tool in seen)),
        log(sum(tool.described for tool in seen) / n),
        best.fit,
        seen[1].fit if n > 1 else 0.0,
        log(values / (best.required + 1)),
        log(joined / (best.required + 1)),
    )


def _tool(function: Mapping[str, Any], asked: frozenset[bytes]) -> _Tool:
    parameters = object_of(function.get("parameters"))
    properties = object_of(parameters.get("properties"))
    kinds = [object_of(value) for value in list(properties.values())[:MAX_PARAMETERS]]
    required = len(list_of(parameters.get("required")))
    return _Tool(
        fit=fit_of(function, asked),
        required=required,
        optional=max(0, len(properties) - required),
        enums=sum("enum" in kind for kind in kinds),
        unusual=sum(kind.get("type") not in ("string", "integer", "number", "boolean") for kind in kinds),
        described=len(text_of(function.get("description"))),
    )


def fit_of(function: Mapping[str, Any], asked: frozenset[bytes]) -> float:
    """How much of what a tool says of itself the request speaks of, 0 to 1: a tool nobody asked for fits little."""
    name = stems(name_words(text_of(function.get("name"))))
    told = stems(
        _LETTERS.findall(
            text_of(function.get("description"))[:MAX_TOLD_CHARS].lower().encode("utf-8", "replace")
        )
    )
    by_name = len(asked & name) / (len(name) + 0.5)
    by_text = len(asked & told) / (len(told) + 2)
    return 0.5 * by_name + 0.5 * min(1.0, 2 * by_text)


def stems(words: Iterable[bytes]) -> frozenset[bytes]:
    """The beginnings of the words that say something: words that begin alike for STEM letters are one."""
    return frozenset(word[:STEM] for word in words if len(word) > 2) - _COMMON


def name_words(name: str) -> list[bytes]:
    """The words of an identifier: `getUserName` and `get_user_name` have the same."""
    return [word.lower().encode() for word in _PIECE.findall(name[:200])]
