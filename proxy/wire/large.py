"""A large JSON document, read in slices: whoever reads it in a thread lets others have their turn between them.

A JSON parser in C holds the interpreter until it is done, wherever it runs: 32 MB of empty lists take orjson five
seconds. Here it is only given runs of about SLICE_BYTES, and single strings; the containers above are taken apart by
looking for quotes and brackets. What would take too many steps is refused.
"""

import re
from collections.abc import Callable
from typing import Any

SLICE_BYTES = 128 * 1024
MAX_STEPS = 4_000_000
"""Quotes and brackets that are looked at: some two seconds of a thread's time."""
MAX_LARGE_DEPTH = 12
"""Containers of more than SLICE_BYTES within each other: each level looks at all that it holds."""

_SIGN = re.compile(rb'["\[\]{}]')
_SIGN_OR_COMMA = re.compile(rb'["\[\]{},]')
_BLANK = b" \t\r\n"
_QUOTE, _BACKSLASH = b'"\\'
_OPENING = b"[{"

Loads = Callable[[bytes], Any]
"""Reads a small document."""


class TooMuch(ValueError):
    """Perhaps it is JSON, but none that is taken apart in bounded time."""


def read_large(data: bytes, loads: Loads) -> Any:
    """The value of a document, as `loads` reads it. Raises what `loads` does, and ValueError."""
    return _Reader(data, loads).value(0, len(data), 0)


class _Reader:
    """Takes one document apart."""

    __slots__ = ("_data", "_loads", "_steps")

    def __init__(self, data: bytes, loads: Loads) -> None:
        self._data = data
        self._loads = loads
        self._steps = 0

    def value(self, start: int, end: int, depth: int) -> Any:
        """The value that stands in data[start:end], blanks round it included."""
        data = self._data
        while start < end and data[start] in _BLANK:
            start += 1
        while end > start and data[end - 1] in _BLANK:
            end -= 1
        ends = data[start : start + 1] + data[end - 1 : end]
        if end - start <= SLICE_BYTES or ends not in (b"[]", b"{}"):
            return self._loads(data[start:end])
        if depth >= MAX_LARGE_DEPTH:
            raise TooMuch(f"more than {MAX_LARGE_DEPTH} levels of it are larger than {SLICE_BYTES} bytes")
        return _Container(self, ends, end - 1, depth).read(start + 1)

    @property
    def data(self) -> bytes:
        """The document."""
        return self._data

    def small(self, text: bytes) -> Any:
        """The value of a part."""
        return self._loads(text)

    def after_string(self, quote: int) -> int:
        """Where the string ends that begins with this quote. Raises ValueError."""
        data, at = self._data, quote + 1
        while at := data.find(b'"', at) + 1:
            self.step()
            before = at - 2
            while before > quote and data[before] == _BACKSLASH:
                before -= 1
            if (at - 2 - before) % 2 == 0:
                return at
        raise ValueError("a string does not end")

    def step(self) -> None:
        """One more quote or bracket. Raises TooMuch."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise TooMuch(f"it holds more than {MAX_STEPS} quotes and brackets")


class _Container:
    """One large list or object: what is small in it is read in runs, each large value by itself."""

    __slots__ = ("_after_large", "_depth", "_end", "_ends", "_first", "_found", "_reader")

    def __init__(self, reader: _Reader, ends: bytes, end: int, depth: int) -> None:
        self._reader = reader
        self._ends = ends
        self._end = end
        self._depth = depth
        self._found: Any = [] if ends == b"[]" else {}
        self._first = 0
        """Where the run begins that is not read yet."""
        self._after_large = False

    def read(self, start: int) -> Any:
        """Its value; its first member begins at `start`."""
        reader, data, end = self._reader, self._reader.data, self._end
        self._first = at = opened = name = start
        level = 0
        while True:
            enough = end if level else min(end, max(at, self._first + SLICE_BYTES))
            sign = _SIGN.search(data, at, max(enough, at + 1) if enough < end else end)
            if sign is None:
                if enough == end:
                    break
                at = self._cut(enough)
                continue
            reader.step()
            at = sign.end()
            if data[at - 1] == _QUOTE:
                name = name if level else at - 1
                at = reader.after_string(at - 1)
            elif data[at - 1] in _OPENING:
                opened = opened if level else at - 1
                level += 1
            else:
                level -= 1
                if level < 0:
                    raise ValueError("a bracket closes what did not open")
                if level == 0 and at - opened > SLICE_BYTES:
                    self._large(opened, at, name)
        if level:
            raise ValueError("a bracket does not close")
        self._run(end, before_large=False)
        return self._found

    def _cut(self, at: int) -> int:
        """The run is long enough: it ends with the next comma, if that comes before the next quote or bracket."""
        sign = _SIGN_OR_COMMA.search(self._reader.data, at, self._end)
        if sign is None:
            return self._end
        if sign.group() != b",":
            return sign.start()
        self._run(sign.start(), before_large=False)
        self._first, self._after_large = sign.end(), False
        return sign.end()

    def _large(self, opened: int, end: int, name: int) -> None:
        """One large value; `name` is where the last string before it begins, in an object its name."""
        if isinstance(self._found, list):
            self._run(opened, before_large=True)
            self._found.append(self._reader.value(opened, end, self._depth + 1))
        else:
            self._run(name, before_large=True)
            named = self._reader.data[name:opened].rstrip(_BLANK)
            if not named.endswith(b":"):
                raise ValueError("a colon is missing")
            (key,) = self._reader.small(b"{" + named + b"0}")
            self._found[key] = self._reader.value(opened, end, self._depth + 1)
        self._first, self._after_large = end, True

    def _run(self, end: int, *, before_large: bool) -> None:
        """Read what stands between the last large value, or cut, and `end`. Raises ValueError."""
        text = self._reader.data[self._first : end].strip(_BLANK)
        if self._after_large and (text or before_large):
            if not text.startswith(b","):
                raise ValueError("a comma is missing")
            if before_large and text == b",":
                return
            text = text[1:]
        elif self._after_large or (before_large and not text):
            return
        if before_large:
            if not text.endswith(b","):
                raise ValueError("a comma is missing")
            text = text[:-1]
        if not text.strip(_BLANK):
            raise ValueError("a value is missing beside a comma")
        found = self._reader.small(self._ends[:1] + text + self._ends[1:])
        if isinstance(self._found, list):
            self._found += found
        else:
            self._found.update(found)
