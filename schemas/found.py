"""Where in a reply the JSON may be: behind thinking, in a fence, among prose, wrapped in a call."""

import re
from collections.abc import Iterator

from schemas.quotes import KEY_LIKE

_THINK = re.compile(
    r"<(think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis|seed:think)\b[^>\n]{0,100}>",
    re.IGNORECASE,
)
_THINK_END = re.compile(
    r"</(think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis|seed:think)\s*>",
    re.IGNORECASE,
)
_FENCE = re.compile(r"(?:^|(?<=[^`]))(`{3,}|~~~)[ \t]*([\w+.-]{0,20})[ \t]*")
_START = re.compile(
    r"\{(?=\s{0,400}+(?:\\*[\"'“”‘`„]|[}/{\[,#]|\.\.\.|<!--|[\w$][\w$ .-]{0,80}\s{0,40}(?:[:=]|[\"'“])|\w{1,60}+\s{0,40},|$))"
    r"|\[(?=\s{0,400}+(?:\\*[\"'“”‘`„]|[\[{\]/,}\d#.]|-[\d.e]|true\b|false\b|null\b|True\b|False\b|None\b|undefined\b|$|\w{1,60}+\s{0,40}[,\]\"]|https?:))"
)
_QUOTED_KEY = re.compile(r"\s*,?\s*\\{0,3}[\"“'‘`]")
_LABEL = re.compile(r"\s*[\w ]{1,60}:\s*")
_NAME_BEFORE = re.compile(r"[\"'”`]\s*:\s*\Z")
_JSONP_HEAD = re.compile(r"(?:^|[\s;/])(?:[A-Za-z_$][\w$.]*)\s*\(\s*\Z")


def after_thinking(text: str) -> int:
    """Where the answer begins: behind a byte order mark and the thinking before it.

    Thinking counts only before the first bracket outside of it: a tag in a string is content. Where
    it has no end there is no answer, and the result is the length of the text.
    """
    at = 1 if text.startswith("\ufeff") else 0
    while True:
        opening = _THINK.search(text, at)
        if opening is None or _bracket_between(text, at, opening.start()):
            break
        closing = _THINK_END.search(text, opening.end())
        if closing is None:
            return len(text)
        at = closing.end()
    if (
        at <= 1
        and (closing := _THINK_END.search(text, at)) is not None
        and not _answer_before(text, at, closing.start())
    ):
        # Some servers put the opening tag into the prompt, so that only the closing one arrives.
        at = closing.end()
    return at


def _bracket_between(text: str, start: int, stop: int) -> bool:
    return text.find("{", start, stop) >= 0 or text.find("[", start, stop) >= 0


def _answer_before(text: str, start: int, stop: int) -> bool:
    head = text[start:stop].lstrip()
    return head[:1] in ("{", "[", '"') and text[stop:].find("{") < 0 and text[stop:].find("[") < 0


def fences(text: str, start: int) -> list[tuple[int, int]]:
    """(start, end) of what stands in fences from `start` on; a fence inside a bracket or string is not one.

    The end is that of the fence, or of the text where the fence is not closed.
    """
    found = []
    at = start
    for _ in range(20):
        opening = _FENCE.search(text, at)
        if opening is None:
            break
        closing = text.find(opening.group(1)[:3], opening.end())
        end = closing if closing >= 0 else len(text)
        found.append((opening.end(), end))
        at = end + 3
    return found


def starts(text: str, start: int) -> Iterator[int]:
    """Positions of brackets that may begin a JSON value, in order."""
    for match in _START.finditer(text, start):
        yield match.start()


def first_start(text: str, start: int) -> int | None:
    """The first of `starts`."""
    match = _START.search(text, start)
    return match.start() if match is not None else None


def begins_inside(text: str, start: int) -> int | None:
    """Where the members begin if the text begins inside an object whose brace is missing."""
    start += len(text) - start - len(text[start:].lstrip())
    if KEY_LIKE.match(text, start) is not None:
        return start
    return None


def quoted_at(text: str, start: int) -> bool:
    """Whether a quote comes next."""
    return _QUOTED_KEY.match(text, start) is not None


def is_call(text: str, start: int, stop: int) -> bool:
    """Whether `text[start:stop]` ends with the head of a call: `callback(`."""
    return _JSONP_HEAD.search(text[max(start, stop - 100) : stop]) is not None


def is_label(text: str, start: int, stop: int) -> bool:
    """Whether `text[start:stop]` is one unquoted label, as in `JSON: {...}`."""
    return stop - start < 100 and _LABEL.fullmatch(text, start, stop) is not None


def is_named(text: str, start: int) -> bool:
    """Whether what begins at `start` is the value of a quoted key before it."""
    return _NAME_BEFORE.search(text[max(0, start - 200) : start]) is not None


def closed_at_margin(text: str, start: int) -> bool:
    """Whether the last line is a closer indented as the line of `start` is: what lacks one then lacks it inside."""
    last = text.rfind("\n") + 1
    first = text.rfind("\n", 0, start) + 1
    return last > start and text[last:].rstrip() == text[first:start] + ("}" if text[start] == "{" else "]")
