"""Values written without quotes: literals of three languages, odd numbers, wrapped scalars, plain words."""

import re
from typing import Any, Literal, NamedTuple

from schemas.check import ChangeKind
from schemas.quotes import KEY_LIKE, WINDOW, after_cost

Place = Literal["root", "object", "array"]

_END = r"[\s\u200b\ufeff]*(?:[,}\])]|$|//|/\*|#|;|```)"
_LITERAL = re.compile(
    rf"(?i:(true|false|null|none|nil|undefined|nan|[-+]?infinity))(?={_END}|[ \t]*[\"'][^\n]{{1,80}}[:=]|[ \t]*\n)"
)
_STRICT_LITERALS = {"true": True, "false": False, "null": None}
_MEANS = {"true": True, "false": False}
# These mean that there is nothing; no string was meant by them.
_NO_STRING = frozenset({"null", "None", "undefined", "NaN"})
_NUMBER = re.compile(
    r"([-+]?(?:\d[\d_]{0,300}\.?\d{0,300}|\.\d{1,300})(?:[eE][-+]?\d{0,3})?)"
    rf"(?={_END}|\s*<!--|\s*:\s*[}}\],\n]|\\[unt]|\s+[\"'{{\[\d-]|[\"{{\[]|[ \t]*\n)"
)
_STRICT_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?\Z")
_MENDED_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\Z")
_THOUSANDS = re.compile(r"(-?\d{1,3}(?:,\d{3}){1,6}(?:\.\d{1,20})?)(?=\s*(?:,\s*[\"'\n]|[}\]]|\n|$))")
_PATTERN = re.compile(r"/(?![/*\s])(?:[^/\\\n]|\\.){1,500}/[a-z]*(?=\s*(?:[,}\]]|$))")
_WRAPPER = re.compile(
    r"(?:new\s+)?[A-Za-z_$][\w$.]{0,60}\s*\(\s*"
    r"(?:\"([^\"\\\n]*)\"|'([^'\\\n]*)'|(-?\d{1,18}(?:\.\d{1,18})?))\s*\)(?=\s*(?:[,}\]]|$|\n))"
)
_BLANK_LINE = re.compile(r"[ \t]{0,80}\r?\n")
_CLOSES = re.compile(r"\s{0,200}(?:[}\]]|\Z)")


class Bare(NamedTuple):
    """A value and where it ends; `operation` is what had to be done, None where it is as JSON has it."""

    value: Any
    end: int
    operation: str | None = None
    kind: ChangeKind = "lossless"
    raw: str | None = None
    """The characters, where a string may have been meant."""


def read_bare(text: str, position: int, place: Place, stack: list[str]) -> Bare | None:
    """The unquoted value at `position`, or None where there is not even a word."""
    if (match := _LITERAL.match(text, position)) is not None:
        return _literal(match)
    if place == "object" and (match := _THOUSANDS.match(text, position)) is not None:
        digits = match.group(1).replace(",", "")
        return Bare(_converted(digits), match.end(), "number", "choice", match.group(1))
    if (match := _NUMBER.match(text, position)) is not None and (number := _number(match)) is not None:
        return number
    if (match := _PATTERN.match(text, position)) is not None:
        return Bare(match.group(), match.end(), "unquoted-string")
    if place != "root" and (match := _WRAPPER.match(text, position)) is not None:
        double, single, digits = match.groups()
        if digits is not None:
            return Bare(_converted(digits), match.end(), "wrapper", "choice", digits)
        return Bare(double if double is not None else single, match.end(), "wrapper", "choice")
    return _word(text, position, place, stack)


def _literal(match: re.Match[str]) -> Bare:
    word = match.group(1)
    if word in _STRICT_LITERALS:
        return Bare(_STRICT_LITERALS[word], match.end(), raw=None if word in _NO_STRING else word)
    lower = word.lower()
    raw = None if word in _NO_STRING else word
    if lower in ("undefined", "nan") or "inf" in lower:
        return Bare(None, match.end(), "undefined", "choice", raw)
    return Bare(_MEANS.get(lower), match.end(), "literal", "lossless", raw)


def _number(match: re.Match[str]) -> Bare | None:
    """A number, perhaps written oddly; None where it cannot be converted exactly."""
    word = match.group(1)
    if _STRICT_NUMBER.match(word) is not None:
        value = _converted(word)
        return None if value is None else Bare(value, match.end(), raw=word)
    digits = re.sub(r"[eE][-+]?\Z", ".", word.replace("_", "").lstrip("+"))
    digits = digits.replace("..", ".")
    if _MENDED_NUMBER.match(digits) is None:
        return None
    value = _converted(digits)
    return None if value is None else Bare(value, match.end(), "number", "choice", word)


def _converted(digits: str) -> int | float | None:
    """The number; None where it is too large for a float."""
    if digits.lstrip("-").isdigit():
        return int(digits)
    number = float(digits)
    return None if number in (float("inf"), float("-inf")) else number


def _word(text: str, position: int, place: Place, stack: list[str]) -> Bare | None:
    """A string without quotes: it ends where JSON goes on as it should."""
    if place == "root":
        word = text[position:].strip()
        return Bare(word, len(text), "unquoted-string", "choice") if word else None
    at, depth = position, 0
    limit = min(len(text), position + WINDOW)
    while at < limit:
        char = text[at]
        if char in "{[(":
            depth += 1
        elif char in "}])" and depth:
            depth -= 1
        elif char in "}]" or (char in ',\n"“/' and not depth and _ends(text, at, position, place, stack)):
            break
        at += 1
    word = text[position:at].strip()
    if not word:
        return None
    if text[at : at + 1] == '"' and KEY_LIKE.match(text, at) is None:
        return Bare(word, at + 1, "missing-quote", "choice")
    return Bare(word, at, "unquoted-string", "choice", word)


def _ends(text: str, at: int, start: int, place: Place, stack: list[str]) -> bool:
    """Whether an unquoted string ends at the separator, quote or comment at `at`."""
    char = text[at]
    if char == ",":
        return place == "array" or bool(KEY_LIKE.match(text, at + 1) or _CLOSES.match(text, at + 1))
    if char == "\n":
        if _BLANK_LINE.match(text, at + 1):
            return False  # the last line break of a run decides
        return place == "array" or bool(_CLOSES.match(text, at) or KEY_LIKE.match(text, at))
    if char == "/":
        return text.startswith(("//", "/*"), at) and text[at - 1] in " \t"
    if at > start and KEY_LIKE.match(text, at):
        return True
    return char == '"' and after_cost(text, at + 1, "member" if place == "object" else "item", stack) == 0
