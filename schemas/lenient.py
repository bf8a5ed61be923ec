"""A tolerant reader: text that was meant to be JSON -> the value, and every repair it took.

One pass, no recursion. Well-formed members are taken whole by one regular expression each; where that
fails, one careful step is done, which may cost something (`reading.COST`). Where two readings are
possible the cheaper is taken and the other is noted as an `Option`; a `plan` (position -> which
choice) makes the reader take it. `schemas.mend` searches among them.
"""

import re
from typing import Any

from schemas import quotes
from schemas.bare import Place, read_bare
from schemas.check import ChangeKind
from schemas.levels import Levels
from schemas.quotes import KEY_LIKE, Context
from schemas.reading import COST, Edit, Option, Reading

_ELLIPSIS = re.compile(r"(?:\.{3,}|…)[^\n,\]}\"{\[/]*")
_BARE_KEY = re.compile(
    r"([^\s\"'{}\[\]:=,`“”](?:[^\"{}\[\]:=,\n“”]{0,100}[^\s\"{}\[\]:=,“”])??)(\"?)[ \t]{0,40}(?==|:)"
)
_KEY_THEN_VALUE = re.compile(
    r"([A-Za-z_$][\w$-]{0,60})[ \t]{1,40}+(?=[\"'“‘{\[]|-?\d)(?!\"[^\"\n]{0,120}\"\s*:|'[^'\n]{0,120}'\s*:)"
)
_COLON = re.compile(r"(:=|=>|=|:|->|：)")
_VALUE_START = re.compile(r"[\"'`´“‘„{\[\d\\(]|-[\d.]|\.\d|(?:true|false|null|True|False|None|undefined)\b")
_STRING_PREFIX = re.compile(r"[rbuRBU]{1,2}(?=[\"'])")
_PLUS = re.compile(r"\s*\+\s*(?:/\*.*?\*/\s*)?(?=[\"'`])")
_WORD = re.compile(r"[A-Za-z_]{1,40}\Z")
_WORD_ITEM = re.compile(r"[\w.-]{1,40}\"?\s*[,\]]")


class Reader(Levels):
    """Reads one value that begins at `start`. Make one for each reading."""

    __slots__ = ()

    def read(self, *, members: bool = False) -> Reading:
        """The reading from here. `members`: the text begins inside an object whose brace is missing.

        Raises OutOfFuel.
        """
        if members:
            self._note("missing-root", "choice", self.start, self.start, "{")
            self._open("{", implicit=True)
        while not self.done:
            if self.shapes is None and self.pos > self.until and self.stack:
                self.take_members()
            self.fuel.burn(1)
            if self.state == "key":
                self._read_key()
            elif self.state == "after":
                self._read_after()
            else:
                self._read_value()
        return Reading(
            self.root, self.start, self.pos, self.cost, self.edits, self.options, self.raw, self.closers_odd
        )

    def _end_of_block(self) -> bool:
        """Whether the text ends here, or its fence, or only prose follows."""
        text, pos = self.text, self.pos
        if pos >= len(text):
            return True
        if text.startswith("```", pos):
            return True
        if pos > self.last_structure and self.state != "value" and text[pos].isalpha():
            self._note("prose", "choice", pos, len(text))
            return True
        return False

    def _read_key(self) -> None:
        self._skip()
        text, pos = self.text, self.pos
        if self._end_of_block():
            self._drop_comma()
            self._finish()
            return
        char = text[pos]
        if char in "}])":
            self._drop_comma()
            self._close(char)
            return
        if char == ",":
            self._note("extra-comma", "lossless", pos, pos + 1)
            self.pos = pos + 1
            return
        match = _ELLIPSIS.match(text, pos)
        if match is not None:
            self._ellipsis(match)
            return
        opener = quotes.OPENER.match(text, pos)
        if opener is not None:
            key = self._string(opener, "key")
            self._after_key(key, pos)
            return
        match = _BARE_KEY.match(text, pos)
        if match is not None:
            if match.group(2):
                self._note("missing-quote", "choice", pos, match.end(2), '"')
            else:
                self._note("unquoted-key", "lossless", pos, match.end(1))
            self.pos = match.end()
            self._after_key(match.group(1), pos)
            return
        match = _KEY_THEN_VALUE.match(text, pos)
        if match is not None:
            self._note("unquoted-key", "lossless", pos, match.end(1))
            self.pos = match.end()
            self._after_key(match.group(1), pos)
            return
        if char in "{[":
            self._opener_for_key(char)
            return
        self._stray()

    def _after_key(self, key: str, start: int) -> None:
        """A key was read: place it, and go over its colon."""
        if self.shapes is not None:
            self._close_to(key, start)
        node = self.nodes[-1]
        self._skip()
        match = _COLON.match(self.text, self.pos)
        char = self.text[self.pos : self.pos + 1]
        if match is None and char in (",", "}") and not node and self.stack[-1] == "}":
            self._to_list(key, start)
            return
        self.key = key
        self.members = 1
        if match is not None:
            if match.group() != ":":
                self._note("colon", "lossless", self.pos, match.end(), ":")
            self.pos = match.end()
            self.state = "value"
            return
        self._regret()
        if _VALUE_START.match(self.text, self.pos):
            self._note("missing-colon", "choice", self.pos, self.pos, ":")
            self.state = "value"
        elif not char or char in ",}])":
            self._note("dangling-key", "lossy", start, self.pos)
            self.state = "after"
            self.members = 1
        else:
            self._note("stray-text", "lossy", start, self.pos)
            self.state = "key"

    def _to_list(self, first: str, start: int) -> None:
        """`{'a', 'b'}` is a list in wrong brackets (a Python set)."""
        self._note("set-literal", "choice", start, start, "[")
        old = self.nodes.pop()
        new: list[Any] = [first]
        self.nodes.append(new)
        self.stack[-1] = "}"
        if len(self.nodes) == 1:
            self.root = new
        elif isinstance(self.nodes[-2], list):
            self.nodes[-2][-1] = new
        else:
            self.nodes[-2][self.keys[-1]] = new
        assert not old
        self.state = "after"

    def _opener_for_key(self, char: str) -> None:
        """A bracket where a key should be: the object before was not closed, or the brace was doubled."""
        pos = self.pos
        if len(self.nodes) > 1 and self.nodes[-1] and isinstance(self.nodes[-2], list):
            self._insert_closer(pos)
            self.state = "item"
            return
        if not self.nodes[-1] and char == "{":
            self._note("opener-dropped", "choice", pos, pos + 1)
            self.pos = pos + 1
            return
        self._regret()
        self._stray()

    def _ellipsis(self, match: re.Match[str]) -> None:
        self._note("ellipsis", "choice", match.start(), match.end())
        self.pos = match.end()
        self._skip()
        if self.text[self.pos : self.pos + 1] == ",":
            self.pos += 1

    def _stray(self) -> None:
        """Nothing fits here: drop a word or a character, for a high price."""
        text, pos = self.text, self.pos
        self._regret()
        end = pos + 1
        while end < len(text) and text[end] not in "\"'{}[],\n“”" and end - pos < 400:
            end += 1
        self.fuel.burn(1 + (end - pos) // 50)
        word = text[pos:end].strip()
        if _WORD.match(word) and end < len(text) and text[end] in "\"'}]\n":
            self._note("stray-word", "choice", pos, end)
        else:
            self._note("stray-text", "lossy", pos, end)
        self.pos = end

    def _read_after(self) -> None:
        self._skip()
        text, pos = self.text, self.pos
        if self._end_of_block():
            self._finish()
            return
        char = text[pos]
        dictionary = self.stack[-1] == "}" and isinstance(self.nodes[-1], dict)
        if char in ",;":
            if char == ";":
                self._note("separator", "lossless", pos, pos + 1, ",")
            self.pos = pos + 1
            self.members = 1
            self.state = "key" if dictionary else "item"
            return
        if char in "}])":
            self._close(char)
            return
        if dictionary and (char == "{" and len(self.nodes) > 1 and isinstance(self.nodes[-2], list)):
            self._insert_closer(pos)
            self.state = "item"
            self._note("missing-comma", "lossless", pos, pos, ",")
            return
        if char == ":":
            self._regret()
            self._note("stray-colon", "choice", pos, pos + 1)
            self.pos = pos + 1
            return
        if dictionary:
            starts = KEY_LIKE.match(text, pos) is not None
        else:
            starts = _VALUE_START.match(text, pos) is not None or (
                text[pos].isalpha() and self._comma_or_end_ahead(pos)
            )
        if starts:
            if "\n" not in text[max(self.start, pos - 80) : pos]:
                self._regret()
            self._note("missing-comma", "lossless", pos, pos, ",")
            self.state = "key" if dictionary else "item"
            return
        self._stray()

    def _comma_or_end_ahead(self, pos: int) -> bool:
        """Whether what follows is one unquoted word and then a delimiter: an item whose comma is missing."""
        return _WORD_ITEM.match(self.text, pos) is not None

    def _read_value(self) -> None:
        self._skip()
        text, pos = self.text, self.pos
        char = text[pos : pos + 1]
        item = self.state == "item"
        if not char or (
            text.startswith("```", pos) and (item or (text.startswith("```", pos) and not self._block(pos)))
        ):
            if item:
                self._drop_comma()
            elif self.nodes:
                self._note("missing-value", "lossy", pos, pos, "")
            self._finish()
            return
        if self.done or self.state == "after":
            return
        if char in "}]),":
            self._no_value(char, item=item)
            return
        if char in "{[(":
            if char == "(":
                self._note("tuple", "lossless", pos, pos + 1, "[")
            self.pos = pos + 1
            self._open(char)
            return
        opener = quotes.OPENER.match(text, pos)
        if opener is None and (prefix := _STRING_PREFIX.match(text, pos)) is not None:
            opener = quotes.OPENER.match(text, prefix.end())
        if opener is not None:
            self._string_value(opener, item=item)
            return
        match = _ELLIPSIS.match(text, pos)
        if match is not None and item:
            self._ellipsis(match)
            return
        if self._end_of_block():
            self._finish()
            return
        self._bare_value()

    def _bare_value(self) -> None:
        place: Place = "root" if not self.nodes else "array" if isinstance(self.nodes[-1], list) else "object"
        start = self.pos
        bare = read_bare(self.text, start, place, self.stack)
        if bare is None:
            self._stray()
            return
        self.fuel.burn(1 + (bare.end - start) // 20)
        self.pos = bare.end
        if bare.operation is not None:
            self._note(bare.operation, bare.kind, start, bare.end)
        self._scalar(bare.value, raw=bare.raw)

    def _block(self, pos: int) -> bool:
        """A fenced block as a value, as models write code: its content becomes a string."""
        line = self.text.find("\n", pos)
        stop = self.text.find("```", line) if 0 <= line < pos + 30 else -1
        if stop < 0:
            return False
        self._note("quote-style", "choice", pos, stop + 3)
        self.pos = stop + 3
        self._scalar(quotes.block("\n" + self.text[line + 1 : stop]))
        return True

    def _no_value(self, char: str, *, item: bool) -> None:
        pos = self.pos
        if item and char != ",":
            self._drop_comma()
            self._close(char)
        elif item:
            self._note("extra-comma", "lossless", pos, pos + 1)
            self.pos = pos + 1
        elif not self.nodes:
            self.pos = pos + 1
            self._note("stray-text", "lossy", pos, pos + 1)
        else:
            self._note("missing-value", "lossy", pos, pos, "null")
            self._scalar(None)

    def _string_value(self, opener: re.Match[str], *, item: bool) -> None:
        start = opener.start()
        value = self._string(opener, "item" if item else "member")
        while (plus := _PLUS.match(self.text, self.pos)) is not None:
            again = quotes.OPENER.match(self.text, plus.end())
            assert again is not None
            self._note("concatenation", "lossless", plus.start(), plus.end())
            value += self._string(again, "item" if item else "member")
        if self.nodes:
            self._skip()
            if self.text[self.pos : self.pos + 1] == ":":
                if item:
                    self._member_in_list(value, start)
                elif self.edits and self.edits[-1].operation == "inner-quotes":
                    self._scalar(value)
                else:
                    self._note("implicit-object", "choice", start, start, "{")
                    self._open("{")
                    self._after_key(value, start)
                return
        self._scalar(value)

    def _member_in_list(self, key: str, start: int) -> None:
        """`"key":` inside an array: the array should have been closed, or an object opened."""
        parent = len(self.nodes) > 1 and isinstance(self.nodes[-2], dict)
        close = COST["closer-inserted"] if parent else 99.0
        if self._choose(start, [close, COST["implicit-object"]]) == 0:
            self._drop_comma()
            self._insert_closer(start)
            if isinstance(self.nodes[-1], dict):
                self._after_key(key, start)
            return
        self._note("implicit-object", "choice", start, start, "{")
        self._open("{", implicit=True)
        self._after_key(key, start)

    def _string(self, opener: re.Match[str], context: Context) -> str:
        """Read a string; `pos` is behind it afterwards."""
        text, start = self.text, opener.start()
        found, work = quotes.ends(text, opener, context, self.stack, thorough=2 * start in self.plan)
        self.fuel.burn(work)
        found = found[:6]
        index = min(self.plan.get(2 * start, 0), len(found) - 1)
        end = found[index]
        if index == 0:
            for choice, other in enumerate(found[1:], 1):
                if other.rank < end.rank + 3.0:
                    self.options.append(Option(self.cost + (other.price + other.rank) / 2, 2 * start, choice))
        self.last = (start, self.cost, context)
        mark = opener.group()
        raw = text[opener.end() : end.stop]
        if text[end.stop : end.stop + 1] == "\\" and mark[0] != "\\":
            self.edits.append(Edit("escaped-quote", "choice", end.stop, end.resume, self._pointer(), '"'))
            if quotes.literal_backslashes(raw):
                raw += "\\\\"
        self.pos = end.resume
        self.cost += end.price
        if end.missing:
            cut = end.resume >= len(text) and not raw.endswith((".", "!", "?", "\n"))
            raw = raw.rstrip() if end.resume < len(text) else raw
            kind: ChangeKind = "lossy" if cut else "choice"
            operation = "cut-string" if cut else "missing-quote"
            self.edits.append(Edit(operation, kind, opener.end() + len(raw), end.stop, self._pointer(), '"'))
        if end.quotes:
            raw = self._inner_quotes(raw, mark, opener.end(), end.resume, doubled=not end.missing)
        if mark != '"':
            self._note("quote-style", "lossless", start, end.resume, '"')
        return self._said(raw, mark, opener.end())

    def _inner_quotes(self, raw: str, mark: str, start: int, resume: int, *, doubled: bool) -> str:
        if mark not in raw and not raw.count('"'):
            return raw
        self.edits.append(Edit("inner-quotes", "choice", start, resume, self._pointer(), '\\"'))
        if doubled and raw.startswith(mark) and raw.count(mark) % 2:
            return raw[len(mark) :]  # the opening quote came twice
        return raw

    def _said(self, raw: str, mark: str, start: int) -> str:
        """What the characters `raw` between quotes `mark` stand for."""
        self.fuel.burn(raw.count("\\") // 6)
        if mark[0] == "\\":
            return quotes.unescape(quotes.unescape(raw))
        if len(mark) >= 3:
            return quotes.block(raw) if "\\" not in raw else quotes.unescape(raw)
        said = quotes.unescape(raw)
        if not quotes.strict_escapes(raw):
            self._note("escape", "lossless", start, start + len(raw))
        if quotes.CONTROL.search(raw) is not None:
            self._note("control-character", "lossless", start, start + len(raw))
            if raw.endswith("\n") and raw.strip() and self.pos > start + len(raw):
                said = said.rstrip("\r\n")
                self._note("trailing-newline", "choice", start, start + len(raw))
        return said
