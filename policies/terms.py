"""The words of a text as relevance sees them: stems, kinds of answers, identifiers."""

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType

from policies.thesaurus import SAME

_WORD = re.compile(r"\w+")
# Chinese, Japanese and Korean run words together: pairs of characters stand for them.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_QUOTED = re.compile(r"[\"“„«](.{2,80}?)[\"”»]")
_PROPER = re.compile(r"\b[A-Z][\w'’-]*|\b\d{4}\b")

_STOP = """a an the and or but if of at by for with about to from in on off over under is are was were be been being
    am do does did doing has have had having i me my we our you your he him his she her it its they them their
    this that these those what which who whom whose when where why how all any both each few more most other
    some such no nor not only own same so than too very can will just should now would could there here as into
    out up down then s t d ll m re ve don didn doesn isn wasn aren weren won let get got also may might must
    shall"""
STOP_WORDS = frozenset(_STOP.split())
"""Words that stand in every text and tell nothing of it. Left out of the index too, which halves its size."""

_ASKING = """please tell show find list highlight summarize summarise explain describe answer question details detail
    part parts related following regarding according give provide name identify section passage document text
    information mention review reviewed many much"""
ASKING_WORDS = frozenset(_ASKING.split())
"""Words of the request itself ("please list the parts related to"): they are in the question, not in the answer."""

# Longest first: stripping repeats, so that exclusivity, exclusive and exclusion meet in one stem.
_ENDINGS = """ations ation itions ition ions ion ingly edly ing ed ers er ors or ly ities ity ives ive als al ments ment
    ness ables able ibles ible ances ance ences ence ancy ency ants ant ents ent ics ic ists ist isms ism izes ize
    ised ise ized izing ous fully ful less ship es s e y ies ied ier ate ates ated ating ator"""
_SUFFIXES = sorted(_ENDINGS.split(), key=len, reverse=True)
_SUFFIXES_BY_LAST = MappingProxyType(
    {last: tuple(s for s in _SUFFIXES if s[-1] == last) for last in {s[-1] for s in _SUFFIXES}}
)
_INFLECTIONS = frozenset({"ies", "ied", "es", "s", "ing", "ed", "ly", "e", "y"})
_KEPT_DOUBLE = frozenset("lsz")

_DATES = """january february march april june july august september october november december yesterday tomorrow
    tonight today ago second seconds minute minutes hour hours day days night nights week weeks weekend weekends month
    months year years summer winter spring autumn"""
_NUMBERS = """two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty ninety
    dozen hundred thousand million twice once"""
_AMOUNTS = "dollars dollar usd eur euro euros percent cents pounds"
DATE_WORDS = frozenset(_DATES.split())
NUMBER_WORDS = frozenset(_NUMBERS.split())
MONEY_WORDS = frozenset(_AMOUNTS.split())
_DIGIT = re.compile(r"\d")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_MONEY = re.compile(r"[$€£¥%]")
# How an answer of a kind is asked for.
_ASKED = (
    (
        "#time",
        re.compile(
            r"\b(?:when|date|how (?:long|old|often)|what (?:day|year|month|time)|duration|period|deadline)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "#money",
        re.compile(
            r"\b(?:how much|price|cost|fee|amount|revenue|royalty|percentage|payment|cap)\b", re.IGNORECASE
        ),
    ),
    (
        "#number",
        re.compile(r"\b(?:how (?:many|much)|number of|minimum|maximum|quantity|amount)\b", re.IGNORECASE),
    ),
)
# A date or a label in brackets before a chat turn says when it was said, not what.
_LABEL = re.compile(r"^\s*\[[^\]\n]{0,60}\]")
_SPEAKER = re.compile(r"^(?:\[[^\]\n]{0,60}\]\s*)?(\w{1,30}):")

_IDENTIFIER = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{1,63}"  # an email address
    r"|\b\d{4}-\d\d-\d\d\b"  # a date as machines write it
    r"|\b(?=\w*\d)(?=\w*[A-Za-z_])\w{4,}\b"  # letters and digits in one word: order numbers, codes, user ids
    r"|\b\d{4,}\b"
    r"|\b[a-z]+(?:_[a-z]+)+\b"  # a name out of a program or an enumeration
)


class Lexicon:
    """Stems, remembered. One object for each index: the memory is its owner's, not the module's."""

    __slots__ = ("_stems",)

    def __init__(self) -> None:
        self._stems: dict[str, str] = dict.fromkeys(STOP_WORDS, "")

    def terms(self, text: str) -> list[str]:
        """The stems of the words that tell something, in their order, repeated as they are."""
        return self._stemmed(_WORD.findall(text.lower()))

    def described(self, text: str) -> list[str]:
        """The terms of a text, and marks for the kinds of answers it may give and for who speaks it."""
        words = _WORD.findall(text.lower())
        return self._stemmed(words) + marks(text, words)

    def _stemmed(self, words: list[str]) -> list[str]:
        stems = self._stems
        found = []
        for word in words:
            known = stems.get(word)
            if known is None:
                if not word.isascii() and _UNSPACED.search(word):
                    found += [word[at : at + 2] for at in range(max(1, len(word) - 1))]
                    continue
                known = stems[word] = stem(word)
            if known:
                found.append(known)
        return found


def stem(word: str) -> str:
    """The part of a lower-case English word that its relatives share; other words as they are.

    Inflections leave three letters at least, derivations five: shorter stems join words that have
    nothing in common (measured: 4 and 3 are worse on contracts, the same on chats).
    """
    if len(word) <= 3 or not word.isalpha() or not word.isascii():
        return word
    for _ in range(3):
        for suffix in _SUFFIXES_BY_LAST.get(word[-1], ()):
            if word.endswith(suffix) and len(word) - len(suffix) >= (3 if suffix in _INFLECTIONS else 5):
                if suffix in ("s", "es") and word.endswith(("ss", "us", "is")):
                    continue
                word = word[: -len(suffix)]
                break
        else:
            break
        if len(word) > 3 and word[-1] == word[-2] and word[-1] not in _KEPT_DOUBLE:
            word = word[:-1]
    return word


def marks(text: str, words: Collection[str]) -> list[str]:
    """What a text holds besides its words: the kinds of answers it may give, and who speaks it."""
    found = []
    label = _LABEL.match(text)
    start = label.end() if label else 0
    digits = _DIGIT.search(text, start) is not None
    dated = not DATE_WORDS.isdisjoint(words if label is None else _WORD.findall(text[start:].lower()))
    if dated or (digits and _YEAR.search(text, start)):
        found.append("#time")
    if _MONEY.search(text, start) or not MONEY_WORDS.isdisjoint(words):
        found.append("#money")
    if digits or not NUMBER_WORDS.isdisjoint(words):
        found.append("#number")
    speaker = _SPEAKER.match(text)
    if speaker:
        found.append("@" + stem(speaker[1].lower()))
    return found


def speaker_of(text: str) -> str | None:
    """Who a turn says that it is spoken by: Ann of `Ann: hello` and `[3 May] Ann: hello`; None where it does not say."""
    found = _SPEAKER.match(text)
    return None if found is None else found[1]


def asked_kinds(question: str) -> list[str]:
    """The kinds of answers that a question asks for."""
    return [kind for kind, asks in _ASKED if asks.search(question)]


def quoted(question: str) -> list[str]:
    """What stands in quotation marks: the asker's own words for what is sought."""
    return _QUOTED.findall(question)


def names(text: str) -> set[str]:
    """Capitalised words and years, lower-case: what one text points to another with."""
    return {word.lower() for word in _PROPER.findall(text)} - STOP_WORDS


def identifiers(text: str) -> set[str]:
    """Ids, emails, order numbers, dates: words that mean one thing only."""
    return set(_IDENTIFIER.findall(text))


def _groups() -> dict[str, frozenset[str]]:
    same: dict[str, set[str]] = {}
    for group in SAME:
        stems = {stem(word) for word in group.split()}
        for one in stems:
            same.setdefault(one, set()).update(stems - {one})
    return {one: frozenset(others) for one, others in same.items()}


RELATED: Mapping[str, frozenset[str]] = MappingProxyType(_groups())
"""The stems that stand for the same thing as a stem. Built once, never changed."""
