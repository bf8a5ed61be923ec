"""Strings of broken JSON: which quotes open one, where it ends, what it says.

Where a string ends is the hardest question of a broken text: quotes inside may be unescaped, the
closing one may be missing. Each possible end gets a price by what follows it.
"""

import re
import textwrap
from collections.abc import Iterator
from typing import Literal, NamedTuple

Context = Literal["key", "member", "item"]

OPENER = re.compile(r"\\{0,3}(?:\"\"\"(?!\")|'''(?!')|[\"'`´“”„‟‘’‚‛])")

_CLOSERS = {
    '"': '"',
    "'": "'",
    "`": "`´",
    "´": "´`",
    "“": '”“"‟',
    "”": '”“"',
    "„": '”“"‟',
    "‟": '”“"',
    "‘": "’‘'‛",
    "’": "’‘'",
    "‚": "’‘'",
    "‛": "’‘'",
}
_CLOSE = {opener: re.compile(f"[{closers}]") for opener, closers in _CLOSERS.items()}
_ESCAPED_CLOSE = re.compile(r'(\\+)(["\'])')

_S = r"[\s\u200b\u2060\ufeff]{0,200}"
_KEY = (
    r"(?:\\{0,3}\"[^\"\n]{0,120}\"|'[^'\n]{0,120}'|`[^`\n]{0,120}[`´]|[“”][^“”\"\n]{0,120}[“”\"]|‘[^‘’\n]{0,120}’"
    r"|[A-Za-z_$][\w$.-]{0,80}\"?)"
)
KEY_LIKE = re.compile(rf"{_S}{_KEY}{_S}(?::(?!//)|=)")
_STRAY_THEN_KEY = re.compile(rf"{_S}[A-Za-z_]{{1,40}}[ \t]+\"[^\"\n]{{0,120}}\"{_S}:")
_COMMENT = re.compile(r"//|/\*|#|<!--")
_VALUE_LIKE = re.compile(
    r"[\s\u200b\ufeff]*(?:\\?[\"'`“‘{\[(\d\]}]|-\d|\.\.\.|(?:true|false|null|True|False|None)\b|//|/\*|$)"
)
_NEXT = re.compile(r"[\s\u200b\u2060\ufeff]*")
_CONCAT = re.compile(r"\+\s*[\"'`]")
_ENDS_MEMBERS = re.compile(r"[\s,]*(?:[}\]]|\.\.\.|//|/\*|#|<!--|```|$)")

# None of these may begin with a repeated white space: searching would take quadratic time on a run of it.
_CLOSED = r"[}\]][\s}\],;]{0,200}(?:\n```|\Z)"
_MEMBER_BREAK = re.compile(
    rf",{_S}(?={_KEY}{_S}:(?!//))|(?:,[ \t]{{0,40}})?\r?\n(?=[ \t]{{0,80}}(?:[}}\]]|{_KEY}[ \t]{{0,40}}:(?!//)))"
    rf"|(?={_CLOSED})|(?=\}}\s{{0,40}}[,}}\]])"
)
_ITEM_BREAK = re.compile(
    r",(?=[ \t]{0,40}(?:[\"'\d\]{\[]|\r?\n))|,?\r?\n(?=[ \t]{0,80}[\"'\]}\d{\[])"
    rf"|(?={_CLOSED})|(?=\]\s{{0,40}}[,}}\]])"
)
_KEY_BREAK = re.compile(r"(?=:)")
_NAMED = re.compile(r"\"\s{0,20}:")
_NAMED_OTHERWISE = re.compile(r"['`”’]\s{0,20}:")

_PLAIN_KEY = re.compile(r"[^{}\[\],:]{1,60}\Z")
_NAMES_A_MEMBER = 1.2

MAX_ENDS = 24
WINDOW = 6000
_QUOTES = ('"', "'", "`", "´", "”", "’")
_INNER = 0.7
_MISSING = 1.4


class End(NamedTuple):
    """A possible end: the content is `text[start:stop]`, reading goes on at `resume`."""

    rank: float
    """How unlikely the end is, with what follows it."""
    price: float
    """What it costs itself; what follows is paid when it is read."""
    stop: int
    resume: int
    quotes: int
    """Unescaped quotes that become part of the content."""
    missing: bool
    """Whether there is no closing quote at this end."""


def after_cost(text: str, position: int, context: Context, stack: list[str]) -> float:
    """How odd it is that a string ends before `position`: 0 is as it should be, 3 is hardly possible.

    `stack` holds the closers of the open containers, outermost first.
    """
    follow = _NEXT.match(text, position).end()  # type: ignore[union-attr]  # matches the empty string
    char = text[follow : follow + 1]
    if context == "key":
        if char in (":", "="):
            return 0.0
        return 2.0 if char else 0.5
    if char in ("", ";"):
        return 0.0 if len(stack) <= 1 or not char else 1.0
    if char == ",":
        if context == "item":
            return 0.0 if _VALUE_LIKE.match(text, follow + 1) else 1.4
        ahead = follow + 1
        if KEY_LIKE.match(text, ahead) or _ENDS_MEMBERS.match(text, ahead):
            return 0.0
        return 1.2 if _STRAY_THEN_KEY.match(text, ahead) else 2.6
    if char in "}])":
        return _closing_cost(text, follow, stack)
    if char == "\\" and text[follow + 1 : follow + 2] in ("n", '"'):
        return 1.0
    if _COMMENT.match(text, follow):
        return 0.2
    if char == "+" and _CONCAT.match(text, follow):
        return 0.0
    if text.startswith("```", follow):
        return 0.2
    line_break = "\n" in text[position:follow]
    if context == "member":
        if KEY_LIKE.match(text, follow) and (follow > position or char in "\"'"):
            return 0.3 if line_break else 0.8
        if char == ":":
            return _NAMES_A_MEMBER
        return 0.6 if char == "{" and line_break else 3.0
    if char == ":":
        return 0.5
    if char == "{" or line_break:
        return 0.2 if line_break and char in "\"'{" else 0.8
    if char in "\"'" and follow > position:
        return 0.9
    return 1.0 if char.isdigit() and follow > position else 3.0


def _closing_cost(text: str, position: int, stack: list[str]) -> float:
    """How odd the closers at `position` are: they should close what is open, and then go on as JSON does."""
    depth = len(stack)
    cost = 0.0
    at = position
    for _ in range(8):
        char = text[at : at + 1]
        if char not in ("}", "]", ")") or not char:
            break
        if depth and stack[depth - 1] == char:
            depth -= 1
        elif char in stack[:depth]:
            while stack[depth - 1] != char:
                depth -= 1
                cost += 0.4
            depth -= 1
        else:
            cost += 0.8
        at = _NEXT.match(text, at + 1).end()  # type: ignore[union-attr]
    char = text[at : at + 1]
    if not char or text.startswith("```", at) or _COMMENT.match(text, at) or char == ";":
        return cost
    if not depth:
        # Something follows the root: prose perhaps, but a comma or quote means we are inside a string.
        return cost + (2.0 if char in ",\"'" and not KEY_LIKE.match(text, at + 1) else 0.9)
    if char == ",":
        if stack[depth - 1] == "}":
            plausible = KEY_LIKE.match(text, at + 1) or _ENDS_MEMBERS.match(text, at + 1)
        else:
            plausible = _VALUE_LIKE.match(text, at + 1)
        return cost if plausible else cost + 2.5
    if char in "\"'{[" or KEY_LIKE.match(text, at):
        return cost + 0.5
    return cost + 2.0


def ends(
    text: str, opener: re.Match[str], context: Context, stack: list[str], *, thorough: bool
) -> tuple[list[End], int]:
    """Possible ends of the string that `opener` opens, the likeliest first, never none; and the work it took.

    Looks no further than an end that is perfect, unless `thorough`: then that end has led to trouble.
    Looks at a bounded number of quotes and characters, so that a hostile text costs linear time.
    """
    mark = opener.group()
    start = opener.end()
    if len(mark) >= 3 and mark[-1] == mark[-3]:
        return _triple_ends(text, mark[-3:], start), 1
    work = 0
    found: list[End] = []
    skipped = 0.0
    limit = min(len(text), start + WINDOW)
    for stop, resume, escaped in _closing_quotes(text, mark, start):
        odd = after_cost(text, resume, context, stack)
        work += 1 + (stop - start) // 2000
        if escaped:
            if odd <= 0.3 and text[resume : resume + 3].strip(" \t\r") != '"':
                found.append(End(odd + 1.0 + skipped, 1.0 + skipped, stop, resume, len(found), missing=False))
            continue
        inside = text[start:stop]
        if odd == _NAMES_A_MEMBER and not _PLAIN_KEY.match(inside):
            odd = 3.0
        price = skipped + (_swallowed(inside, mark) if skipped else 0.0)
        if context == "item" and len(found) % 2:
            price += 1.5
        if context == "key" and found and "\n" in inside:
            price += 3.0
        if found and _between(text, found[-1].resume, stop):
            price += 2.0  # this quote rather opens the next string
        found.append(End(odd + price, price, stop, resume, len(found), missing=False))
        if odd == 0.0 and not thorough:
            break
        # The more like an end it looks, the less likely it is that it is not one.
        skipped += (
            (_INNER if len(found) < 7 else 0.1)
            + max(0.0, 1.5 - 1.5 * odd)
            + (0.7 if context == "key" else 0.0)
        )
        if len(found) >= MAX_ENDS or work > 3 * MAX_ENDS:
            break
    if found and found[0].rank == 0.0 and not thorough:
        return found, work
    missing, looked = _missing_ends(text, start, limit, context, found)
    found.extend(missing)
    work += 2 + (looked - start) // 40
    if not found or all(end.rank >= 2.0 for end in found):
        price = (_MISSING if context != "key" else 3.0) + _INNER * text.count('"', start, limit)
        found.append(End(price, price, len(text), len(text), text.count(mark[-1], start), missing=True))
    found.sort(key=lambda end: end.rank)
    return found, work


def _between(text: str, start: int, stop: int) -> bool:
    """Whether only a separator stands between two quotes."""
    return stop - start < 80 and text[start:stop].strip() in (
        ",",
        ":",
        "],",
        "},",
        ",{",
        ", {",
        ",[",
        ": {",
        ":{",
        ":[",
        ": [",
    )


def _swallowed(inside: str, mark: str) -> float:
    """What makes it unlikely that `inside`, with quotes in it, is one string: it looks like members of its own."""
    cost = 0.0
    if "\n" in inside.strip():
        cost += 0.4 * min(inside.count(mark), 4)
    opened, closed = inside.count("{") + inside.count("["), inside.count("}") + inside.count("]")
    named = len((_NAMED if mark == '"' else _NAMED_OTHERWISE).findall(inside))
    if named:
        cost += 0.3 if opened == closed and opened else 1.5 * min(named, 3)
    elif closed > opened or (
        closed
        and min(inside.find("]") % WINDOW, inside.find("}") % WINDOW)
        < min(inside.find("[") % WINDOW, inside.find("{") % WINDOW)
    ):
        cost += 0.8
    return cost


def _closing_quotes(text: str, mark: str, start: int) -> Iterator[tuple[int, int, bool]]:
    """(stop, resume, escaped) of each quote that may close a string opened by `mark`."""
    slashes = len(mark) - 1 if mark[0] == "\\" else 0
    if slashes:
        quote = mark[-1]
        for match in _ESCAPED_CLOSE.finditer(text, start):
            if match.group(2) == quote and len(match.group(1)) == slashes:
                yield match.start(), match.end(), False
        return
    at = start
    pattern = _CLOSE[mark]
    while (quoted := pattern.search(text, at)) is not None:
        stop = quoted.start()
        back = stop
        while back > start and text[back - 1] == "\\":
            back -= 1
        at = stop + 1
        odd = (stop - back) % 2
        yield stop - odd, at, bool(odd)


def _triple_ends(text: str, mark: str, start: int) -> list[End]:
    stop = text.find(mark, start)
    if stop < 0:
        return [End(_MISSING, _MISSING, len(text), len(text), 0, missing=True)]
    return [End(0.0, 0.0, stop, stop + 3, 0, missing=False)]


def _missing_ends(
    text: str, start: int, limit: int, context: Context, real: list[End]
) -> tuple[list[End], int]:
    """Ends where a closing quote is missing, before a line break, a comma, a bracket or a colon; and how far it looked."""
    pattern = {"member": _MEMBER_BREAK, "item": _ITEM_BREAK, "key": _KEY_BREAK}[context]
    found: list[End] = []
    for match in pattern.finditer(text, start, limit):
        stop = match.start()
        if context == "key" and not 0 < stop - start <= 60:
            return found, stop
        if text[max(start, stop - 40) : stop].rstrip()[-1:] in _QUOTES and stop > start:
            continue  # the quote that is there would be the better end
        before = [end for end in real if end.resume <= stop]
        if before and not text[before[-1].resume : stop].strip(" \t\r\n,}]"):
            continue
        quotes = len(before)
        likely = sum(max(0.0, 1.5 - 1.5 * (end.rank - end.price)) for end in before)
        price = _MISSING + _INNER * quotes + likely + (0.5 * len(found))
        found.append(End(price, price, stop, stop, quotes, missing=True))
        if len(found) == 2:
            return found, stop
    return found, limit


_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(\r?\n)|(.))", re.DOTALL)
_STRICT_ESCAPES = re.compile(r"(?:[^\\]|\\(?:[\"\\/bfnrt]|u[0-9a-fA-F]{4}))*+", re.DOTALL)
CONTROL = re.compile(r"[\x00-\x1f]")
_SIMPLE = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "b": "\b",
    "f": "\f",
    '"': '"',
    "\\": "\\",
    "/": "/",
    "'": "'",
    "`": "`",
}


def unescape(raw: str) -> str:
    """The characters that `raw` stands for; a backslash that escapes nothing stays a backslash."""
    if "\\" not in raw:
        return raw
    said = _ESCAPE.sub(_unescaped, raw)
    if any("\ud800" <= char <= "\udfff" for char in said):
        said = said.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return said


def _unescaped(match: re.Match[str]) -> str:
    code, byte, newline, char = match.groups()
    if code or byte:
        return chr(int(code or byte, 16))
    if newline:
        return newline
    return _SIMPLE.get(char, "\\" + char)


def strict_escapes(raw: str) -> bool:
    """Whether each backslash in `raw` escapes what JSON lets it escape."""
    return "\\" not in raw or _STRICT_ESCAPES.fullmatch(raw) is not None


def literal_backslashes(raw: str) -> bool:
    """Whether the writer meant backslashes as such: one stands before what cannot be escaped."""
    return any(match.group(4) and match.group(4) not in _SIMPLE for match in _ESCAPE.finditer(raw))


def block(raw: str) -> str:
    """The content of a triple-quoted block: without the line breaks and indentation round it."""
    if "\n" not in raw:
        return raw
    first, _, rest = raw.partition("\n")
    return (textwrap.dedent(rest) if not first.strip() else raw).strip("\r\n").rstrip()
