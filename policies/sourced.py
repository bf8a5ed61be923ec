"""Whether a text says only what its source says: every number, id and date of it must stand there.

A model that shortens a text may round, mix up or make up. Words cannot be checked, but a figure can: it stands in the
source or it does not. English names of numbers, months and days are known; a false alarm costs one summary, a wrong
figure may cost the conversation.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

MOST_TOLD = 20

_CALENDAR = "january february march april may june july august september october november december"
_MONTHS = tuple(_CALENDAR.split())
_MONTH = MappingProxyType(
    {name: n for n, full in enumerate(_MONTHS, 1) for name in (full, full[:3])} | {"sept": 9}
)
_WEEK = "monday tuesday wednesday thursday friday saturday sunday"
_DAYS = frozenset(_WEEK.split())
_COUNTING = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty"""
_TENS = "thirty forty fifty sixty seventy eighty ninety"
_VALUE = MappingProxyType(
    {name: str(n) for n, name in enumerate(_COUNTING.split())}
    | {name: str(10 * n) for n, name in enumerate(_TENS.split(), 3)}
)
_LARGE = frozenset({"hundred", "thousand", "million", "billion", "trillion", "dozen"})
_NO_FIGURE = frozenset({"one", "zero"})
"""Said of anything: "the one that failed"."""

_NAMES = "|".join(sorted(_MONTH, key=len, reverse=True))
_ORDINAL = r"(?:st|nd|rd|th)?"
_DATES = (
    re.compile(r"(?<!\d)(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})(?!\d)"),
    re.compile(
        rf"(?<![\d.])(?P<d>\d{{1,2}}){_ORDINAL}\.?(?: of)? (?P<m>{_NAMES})\b\.?(?:,? (?P<y>\d{{4}})(?!\d))?",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\b(?P<m>{_NAMES})\.? (?P<d>\d{{1,2}}){_ORDINAL}(?!\w)(?:,? (?P<y>\d{{4}})(?!\d))?", re.IGNORECASE
    ),
)
_WORD = re.compile(r"[^\s\"“”„«»()\[\]{}<>|;!?*`=~\\]+")
_EDGES = "#$€£¥.,:'’‘/-–—+&@"
_NUMBER = re.compile(r"\d+(?:\.\d+)?\Z|\d{1,3}(?:,\d{3})+(?:\.\d+)?\Z")
_WITH_UNIT = re.compile(
    r"(\d[\d.,:]*)(?:[-–][^\W\d_]{3,}|[-–]?(?:st|nd|rd|th|am|pm|h|s|ms|min|kg|g|mg|km|m|cm|mm|[kmgt]b|usd|eur))\Z"
)
_INSIDE = re.compile(r"\d+(?:\.\d+)?")
_LETTERS = re.compile(r"[^\W\d_]+")


def unsourced(text: str, source: str) -> tuple[str, ...]:
    """The numbers, ids and dates of `text` that do not stand in `source`; at most the first MOST_TOLD."""
    known = _Source.of(source)
    return tuple(dict.fromkeys(_missing(_plain(text), known)))[:MOST_TOLD]


@dataclass(frozen=True, slots=True)
class _Source:
    """What a source holds that can be checked against."""

    text: str
    numbers: frozenset[str]
    words: frozenset[str]
    dates: frozenset[tuple[int | None, int, int]]

    @classmethod
    def of(cls, source: str) -> "_Source":
        text = _plain(source)
        numbers: set[str] = set()
        for word in _figures(text):
            amount, _ = _split(word)
            numbers.add(_canonical(amount))
            if not _NUMBER.match(amount):
                numbers.update(_canonical(part) for part in _INSIDE.findall(amount))
        return cls(
            text.casefold(),
            frozenset(numbers),
            frozenset(found[0] for found in _LETTERS.finditer(text.casefold())),
            _dates(text),
        )

    def holds(self, name: str) -> bool:
        """Whether `name` stands in the text as a word of its own."""
        return re.search(rf"(?<!\w)(?<!\w[.@-]){re.escape(name)}(?![.@-]?\w)", self.text) is not None


def _missing(text: str, known: _Source) -> Iterator[str]:
    for word in dict.fromkeys(_figures(text)):
        amount, number = _split(word)
        if _DATES[0].fullmatch(word):
            continue  # another spelling of a date is the same date: see below
        if number:
            if _canonical(amount) not in known.numbers:
                yield word
        elif not known.holds(amount.casefold()) and not known.holds(word.casefold()):
            yield word
    for year, month, day in _dates(text):
        if not any((m, d) == (month, day) and year in (y, None) for y, m, d in known.dates) and not (
            (None, month, day) in known.dates and str(year) in known.numbers
        ):
            yield f"{_MONTHS[month - 1]} {day}"
    for word in dict.fromkeys(_LETTERS.findall(text)):
        if not _named(word, known):
            yield word


def _named(word: str, known: _Source) -> bool:
    """Whether a word is no name of a number, a month or a day, or the source has it too."""
    low = word.casefold()
    if low in known.words or low in _NO_FIGURE:
        return True
    if low in _VALUE:
        return _VALUE[low] in known.numbers
    if low in _MONTHS and word[0].isupper() and low not in ("may", "march"):
        n = _MONTH[low]
        return low[:3] in known.words or any(month == n for _, month, _ in known.dates)
    return low not in _LARGE and low not in _DAYS


def _plain(text: str) -> str:
    """Full-width digits and the like as everybody writes them, every run of blanks one blank."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _figures(text: str) -> Iterator[str]:
    """The words of a text that hold a digit, or look like an address or a name out of a program."""
    for found in _WORD.finditer(text):  # one by one: a long source must not hold up other threads
        word = found[0].strip(_EDGES)
        if any(c.isdigit() for c in word) or "@" in word or "_" in word:
            yield word


def _split(word: str) -> tuple[str, bool]:
    """A word without its unit, and whether it is a plain number."""
    bare = word.removesuffix("%").lower()
    unit = _WITH_UNIT.match(bare)
    amount = unit[1].rstrip(".,:") if unit else word.removesuffix("%")
    return amount, _NUMBER.match(amount) is not None


def _canonical(amount: str) -> str:
    """One spelling for a number: no thousands separators, no zeros that say nothing."""
    if not _NUMBER.match(amount):
        return amount.casefold()
    number = amount.replace(",", "")
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return number.lstrip("0") or "0" if len(number) <= 2 else number


def _dates(text: str) -> frozenset[tuple[int | None, int, int]]:
    """(year, month, day) of each date that a text names; year None where it does not say."""
    found = set()
    for pattern in _DATES:
        for match in pattern.finditer(text):
            name = match["m"].lower()
            month = int(name) if name.isdigit() else _MONTH[name]
            if 1 <= month <= 12:
                found.add((int(match["y"]) if match["y"] else None, month, int(match["d"])))
    return frozenset(found)
