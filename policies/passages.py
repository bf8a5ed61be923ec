"""A long text in pieces that can be kept or left out one by one, cut where a reader would cut."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Form = Literal["prose", "records", "json"]

LONG = 1_200
"""Characters from which prose is cut, and the most that a passage ever has. JSON is cut from 320 on."""
LONG_RESULT = 500
"""The same for what a tool returned: nobody wrote it to be read as a whole."""
_PROSE = 350
# Measured on contracts, all evidence kept, mean over 5, 10 and 20 % of the tokens: 350 characters 70, 450 69,
# 600 67; a passage of its own for each heading loses 1.
_HEADING = 60
_JSON = 160
_LOOK = 6_000
"""Characters of a JSON text that tell what kind it is."""

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
_SENTENCE = re.compile(r"(?<=[.;:?!。！？])\s+|\n")
_JSON_BORDER = re.compile(r"(?<=[}\]])\s*,\s*")
_WEAKER = (re.compile(r",\s+"), re.compile(r"\s+"))
# A first line that is a title: [in brackets], # a heading, Document 3:, or a short line above a longer text.
_TITLE = re.compile(
    r"\[([^\]\n]{1,120})\]|#{1,6} ([^\n]{1,120})|((?:document|title|source|result)\b[^\n]{0,110})",
    re.IGNORECASE,
)
_PLAIN_WORD = re.compile(r"[^\W\d_]{2,}")
_JSON_TITLE = re.compile(
    r"[^\w\n]{0,20}\"(?:title|name|heading|subject)\"\s*:\s*\"([^\"\n]{1,120})\"", re.IGNORECASE
)
_SHORT_LINE = re.compile(r"([^\n]{2,90}[^\n.;,])\n(?=[^\n]{60})")


@dataclass(frozen=True, slots=True)
class Passage:
    """The characters `start` to `end` of a text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Cut:
    """A text in passages: nothing but white space and commas of JSON lies between them.

    `form` says how they belong together: prose reads on from one to the next, records (search results,
    JSON objects) stand for themselves.
    """

    form: Form
    passages: tuple[Passage, ...]


def cut(text: str, long: int = LONG) -> Cut:
    """`text` in passages of bounded length; one of up to `long` characters stays whole, unless it is JSON."""
    if len(text) <= 2 * _JSON:
        return Cut("prose", (Passage(0, len(text)),))
    if _is_json(text):
        spans = _split(text, 0, len(text), _JSON_BORDER)
        if _tells(text[:_LOOK]):
            return Cut("records", tuple(_packed(spans, _HEADING, LONG)))
        return Cut("json", tuple(_packed(spans, _JSON, _JSON)))
    if len(text) <= long:
        return Cut("prose", (Passage(0, len(text)),))
    paragraphs = list(_spans(text, 0, len(text), _PARAGRAPH))
    titled = sum(1 for p in paragraphs if title_of(text[p.start : p.start + 200]))
    if len(paragraphs) > 2 and titled * 2 > len(paragraphs):
        return Cut("records", tuple(_bounded(text, paragraphs, LONG)))
    return Cut("prose", tuple(_packed(_bounded(text, paragraphs, _PROSE), _HEADING, _PROSE)))


def title_of(passage: str) -> str | None:
    """The title in the first line of a passage, without a remark in parentheses; None where it has none."""
    found = _TITLE.match(passage) or _JSON_TITLE.match(passage) or _SHORT_LINE.match(passage)
    if found is None:
        return None
    title = next(group for group in found.groups() if group)
    return re.sub(r"\s*\(.*?\)", "", title).strip() or None


def _tells(json_text: str) -> bool:
    """Whether JSON carries sentences (search results, pages) rather than ids and figures."""
    words = len(_PLAIN_WORD.findall(json_text))
    return words * 3 > 4 * sum(json_text.count(mark) for mark in '"{}[]:')


def _is_json(text: str) -> bool:
    start = text.lstrip()[:1]
    if start not in ("{", "["):
        return False
    # A list of records may be cut off by the tool itself: a quote after the bracket is enough then.
    return bool(re.match(r"\s*[\[{][\s\[{]*\"", text)) or _parses(text)


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _spans(text: str, start: int, end: int, border: re.Pattern[str]) -> Iterator[Passage]:
    """The stretches between borders that hold more than white space."""
    for found in border.finditer(text, start, end):
        if found.start() > start and not text[start : found.start()].isspace():
            yield Passage(start, found.start())
        start = found.end()
    if start < end and not text[start:end].isspace():
        yield Passage(start, end)


def _bounded(text: str, spans: list[Passage], most: int) -> Iterator[Passage]:
    for span in spans:
        if span.end - span.start <= most:
            yield span
        else:
            yield from _packed(_split(text, span.start, span.end, _SENTENCE), most, most)


def _split(text: str, start: int, end: int, border: re.Pattern[str]) -> Iterator[Passage]:
    """Stretches between borders, and weaker borders where one is longer than a passage may be."""
    for span in _spans(text, start, end, border):
        if span.end - span.start <= LONG:
            yield span
            continue
        weaker = _WEAKER[_WEAKER.index(border) + 1 :] if border in _WEAKER else _WEAKER
        if weaker:
            yield from _packed(_split(text, span.start, span.end, weaker[0]), _PROSE, _PROSE)
        else:
            for at in range(span.start, span.end, _PROSE):
                yield Passage(at, min(at + _PROSE, span.end))


def _packed(spans: Iterator[Passage], least: int, most: int) -> Iterator[Passage]:
    """Neighbours together while the first is shorter than `least` and both are no longer than `most`."""
    held: Passage | None = None
    for span in spans:
        if held is not None and held.end - held.start < least and span.end - held.start <= most:
            held = Passage(held.start, span.end)
            continue
        if held is not None:
            yield held
        held = span
    if held is not None:
        yield held
