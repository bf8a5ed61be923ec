"""A tolerant reader: text that was meant to be JSON -> the value, and every repair it took.

One pass, no recursion. Well-formed members are taken whole by one regular expression each; where that
fails, one careful step is done, which may cost something (`reading.COST`). Where two readings are
possible the cheaper is taken and the other is noted as an `Option`; a `plan` (position -> which
choice) makes the reader take it. `schemas.mend` searches among them.
"""

import re
from typing import Any

from schemas import quotes
from schemas.quotes import KEY_LIKE, Context
from schemas.reading import COST, HABIT_PRICE, HABITS, Edit, Option, Reading
from schemas.shape import Shape

MAX_DEPTH = 64

_W = r"[ \t\r\n]*+"
_STRING = r'"((?:[^"\\\x00-\x1f]|\\["\\/bfnrt])*+)"'
_NUMBER = r"(-?(?:0|[1-9]\d{0,17})(?:\.\d{1,30})?(?:[eE][+-]?\d{1,2})?)"
_MEMBER = re.compile(
    rf'{_W}"([^"\\\x00-\x1f]*+)"{_W}:{_W}(?:(?:{_STRING}|{_NUMBER}(?!,\d)|(true|false|null)){_W}(?:([,}}])|(?=\]))|([\[{{]))'
)
_ITEM = re.compile(rf"{_W}(?:(?:{_STRING}|{_NUMBER}|(true|false|null)){_W}(?:([,\]])|(?=\}}))|([\[{{]))")
_AFTER = re.compile(rf"{_W}([,}}\]])")
_LITERALS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
# The same, as JavaScript, Python and typesetting write them; strings hold no quotes of any kind.
_INSIDE = r"[^'\"\\\n\r\t“”‘’]*+"
_ODD_STRING = rf"(\"{_INSIDE}\"|'{_INSIDE}'|“{_INSIDE}”)"
_ODD_VALUE = rf"(?:(?:{_ODD_STRING}|{_NUMBER}(?!,\d)|(true|false|null|True|False|None)){_W}"
_ODD_MEMBER = re.compile(
    rf"{_W}({_ODD_STRING[1:-1]}|[A-Za-z_$][\w$-]*+){_W}([:=]){_W}{_ODD_VALUE}(?:([,}}])|(?=\]))|([\[{{]))"
)
_ODD_ITEM = re.compile(rf"{_W}{_ODD_VALUE}(?:([,\]])|(?=\}}))|([\[{{]))")

_SPACE = re.compile(r"[ \t\r\n]*+")
_ODD_SPACE = re.compile(r"[\s\u200b\u200c\u2060\ufeff]+")
_ESCAPED_SPACE = re.compile(r"\\(?:[ntr]|u(?:0020|0009|000[aAdD]|00[aA]0|20[02][0-9a-fA-F]|202[fF]|3000|[fF][eE][fF][fF]))")
# A fence among the members: what follows it is structure, and more of that comes.
_INNER_FENCE = re.compile(r"```(json\w?|JSON|)[ \t]*(?:\r?\n\s*|(?=\s*[}\],]))(?=[\"'{}\[\],\d-]|true|false|null|\w+\s*:)")
_LINE_COMMENT = re.compile(r"(?://|#)[^\n]*")
_ELLIPSIS = re.compile(r"(?:\.{3,}|…)[^\n,\]}\"{\[/]*")
_BARE_KEY = re.compile(
    r"([^\s\"'{}\[\]:=,`“”](?:[^\"{}\[\]:=,\n“”]{0,100}[^\s\"{}\[\]:=,“”])??)(\"?)[ \t]*(?==|:)"
)
_KEY_THEN_VALUE = re.compile(
    r"([A-Za-z_$][\w$-]{0,60})[ \t]+(?=[\"'“‘{\[]|-?\d)(?!\"[^\"\n]{0,120}\"\s*:|'[^'\n]{0,120}'\s*:)"
)
_COLON = re.compile(r"(:=|=>|=|:|->|：)")
_VALUE_START = re.compile(r"[\"'`´“‘„{\[\d\\(]|-[\d.]|\.\d|(?:true|false|null|True|False|None|undefined)\b")
_LITERAL = re.compile(
    r"(?i:(true|false|null|none|nil|undefined|nan|[-+]?infinity))(?=[\s\u200b\ufeff]*(?:[,}\])]|$|//|/\*|#|;|```|[\"'][^\n]{1,80}[:=]|\n))"
)
_NO_STRING = frozenset({"null", "None", "undefined", "NaN"})
_MEANS = {"true": True, "false": False}
_BARE_NUMBER = re.compile(
    r"([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d*)?)(?=[\s\u200b\ufeff]*(?:[,}\])]|$|//|/\*|#|;|```|<!--|:\s*[}\],\n]|\\[unt])|\s+[\"'{\[\d-]|[\"{\[]|[ \t]*\n)"
)
_STRICT_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?\Z")
_THOUSANDS = re.compile(r"(-?\d{1,3}(?:,\d{3})+(?:\.\d+)?)(?=\s*(?:,\s*[\"'\n]|[}\]]|\n|$))")
_WRAPPER = re.compile(r"(?:new\s+)?[A-Za-z_$][\w$.]{0,60}\s*\(\s*")
_STRING_PREFIX = re.compile(r"[rbuRBU]{1,2}(?=[\"'])")
_PATTERN = re.compile(r"/(?![/*\s])(?:[^/\\\n]|\\.)+/[a-z]*(?=\s*(?:[,}\]]|$))")
_PLUS = re.compile(r"\s*\+\s*(?:/\*.*?\*/\s*)?(?=[\"'`])")
_WORD = re.compile(r"[A-Za-z_]{1,40}\Z")
_STRUCTURE = '"{}[]:='


class OutOfFuel(Exception):
    """The text is too tangled: the budget of work is used up. Internal to the package."""


class Fuel:
    """The work that may still be done for one text; one unit is about one step of the reader."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def burn(self, units: int) -> None:
        """Take `units` off. Raises OutOfFuel when there are none left."""
        self.left -= units
        if self.left < 0:
            raise OutOfFuel


class Reader:
    """Reads one value that begins at `start`. Make one for each reading."""

    __slots__ = (
        "closers_odd", "cost", "done", "edits", "fuel", "habits", "implicit", "key", "keys", "last", "last_structure", "members", "nodes",
        "options", "plan", "pos", "raw", "root", "shapes", "stack", "start", "state", "text", "until",
    )  # fmt: skip

    def __init__(
        self,
        text: str,
        start: int,
        fuel: Fuel,
        plan: dict[int, int] | None = None,
        shape: Shape | None = None,
    ) -> None:
        self.text = text
        self.start = self.pos = start
        self.fuel = fuel
        self.plan = plan or {}
        self.until = max(self.plan, default=-2) // 2
        """Up to here the careful path is taken, so that no planned choice is skipped."""
        self.stack: list[str] = []
        self.nodes: list[Any] = []
        self.keys: list[Any] = []
        self.shapes: list[Shape] | None = [shape] if shape is not None else None
        self.key: Any = None
        self.state = "value"
        """key: a member or the end of an object; value; after: a separator or a closer; item: as value, or `]`."""
        self.root: Any = None
        self.done = False
        self.cost = 0.0
        self.edits: list[Edit] = []
        self.options: list[Option] = []
        self.raw: dict[tuple[int, Any], str] = {}
        self.last: tuple[int, float, Context] | None = None
        self.members = 0
        self.habits: set[str] = set()
        self.implicit: set[int] = set()
        """Depths of the objects that have no brace in the text."""
        self.closers_odd = False
        self.fuel.burn(len(text) // 100)
        self.last_structure = max(text.rfind(char) for char in _STRUCTURE)

    # -- the loop -------------------------------------------------------------------------------

    def read(self, *, members: bool = False) -> Reading:
        """The reading from here. `members`: the text begins inside an object whose brace is missing.

        Raises OutOfFuel.
        """
        if members:
            self._note("missing-root", "choice", self.start, self.start, "{")
            self._open("{", implicit=True)
        while not self.done:
            if self.shapes is None and self.pos > self.until and self.stack:
                self._fast()
                if self.done:
                    break
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

    def _fast(self) -> None:
        """Take well-formed members and items as long as they come."""
        text, pos, state = self.text, self.pos, self.state
        nodes = self.nodes
        node = nodes[-1]
        while True:
            if state == "key":
                match = _MEMBER.match(text, pos)
                if match is None:
                    match = _ODD_MEMBER.match(text, pos)
                    if match is None:
                        break
                    self.pos, self.state = pos, state
                    if not self._odd_member(match):
                        break
                    pos, state, node = self.pos, self.state, nodes[-1]
                    continue
                key, string, number, literal, delimiter, opener = match.groups()
                if key in node:
                    break
            elif state == "item":
                match = _ITEM.match(text, pos)
                if match is None:
                    match = _ODD_ITEM.match(text, pos)
                    if match is None:
                        break
                    self.pos, self.state = pos, state
                    self.key = len(node)
                    if not self._odd_value(match, 1):
                        break
                    pos, state, node = self.pos, self.state, nodes[-1]
                    continue
                string, number, literal, delimiter, opener = match.groups()
                key = len(node)
            elif state == "after":
                match = _AFTER.match(text, pos)
                if match is None:
                    break
                char = match.group(1)
                if char == ",":
                    state = "key" if isinstance(node, dict) else "item"
                    pos = match.end()
                    self.members = 1
                    continue
                if char != self.stack[-1] or len(nodes) == 1:
                    break
                pos = match.end()
                self._pop()
                node = nodes[-1]
                continue
            else:
                break
            if opener is not None:
                if len(nodes) >= MAX_DEPTH:
                    break
                pos = match.end()
                self.key = key
                self._open(opener)
                node = nodes[-1]
                state = self.state
                continue
            if string is not None:
                value: Any = string if "\\" not in string else quotes.unescape(string)
                if delimiter == "," or delimiter is None:
                    self.last = (
                        match.start(len(match.groups()) - 4) - 1,
                        self.cost,
                        "member" if state == "key" else "item",
                    )
            elif number is not None:
                value = int(number) if number.lstrip("-").isdigit() else float(number)
                self.raw[id(node), key] = number
            else:
                value = _LITERALS[literal]
                if value is not None:
                    self.raw[id(node), key] = literal
            if state == "key":
                node[key] = value
            else:
                node.append(value)
            pos = match.end()
            if delimiter == ",":
                self.members = 1
                continue
            state = "after"
            if delimiter is not None:
                if len(nodes) == 1 or delimiter != self.stack[-1]:
                    pos -= 1
                    break
                self._pop()
                node = nodes[-1]
        self.pos = pos
        self.state = state

    def _odd_member(self, match: re.Match[str]) -> bool:
        """Take a member in another language's spelling; False, and nothing done, where care is needed."""
        key = match.group(1)
        bare = key[0] not in "\"'“"
        name = key if bare else key[1:-1]
        if name in self.nodes[-1]:
            return False
        self.key = name
        if bare:
            self._note("unquoted-key", "lossless", match.start(1), match.end(1))
        elif key[0] != '"':
            self._note("quote-style", "lossless", match.start(1), match.end(1), '"')
        if match.group(2) == "=":
            self._note("colon", "lossless", match.start(2), match.end(2), ":")
        if self._odd_value(match, 3):
            return True
        raise AssertionError("only an opener too deep is refused, and that before")

    def _odd_value(self, match: re.Match[str], first: int) -> bool:
        """The value of an odd member or item; its groups begin at `first`."""
        string, number, literal, delimiter, opener = match.groups()[first - 1 :]
        node = self.nodes[-1]
        if opener is not None:
            self.pos = match.end()
            self._open(opener)
            return True
        value: Any
        if string is not None:
            value = string[1:-1]
            at = match.start(first)
            self.last = (at, self.cost, "item" if isinstance(node, list) else "member")
            if string[0] != '"':
                self._note("quote-style", "lossless", at, match.end(first), '"')
        elif number is not None:
            value = int(number) if number.lstrip("-").isdigit() else float(number)
            self.raw[id(node), self.key] = number
        else:
            value = _LITERALS[literal]
            if literal[0] in "TFN":
                self._note("literal", "lossless", match.start(first + 2), match.end(first + 2), literal.lower())
            if value is not None:
                self.raw[id(node), self.key] = literal
        if isinstance(node, list):
            node.append(value)
        else:
            node[self.key] = value
        self.pos = match.end()
        self.members = 1
        if delimiter == ",":
            return True
        self.state = "after"
        if delimiter is not None:
            self.pos -= 1
        return True

    # -- bookkeeping ----------------------------------------------------------------------------

    def _pointer(self) -> str:
        parts = [*self.keys[1:], self.key] if self.nodes else []
        if self.nodes and isinstance(self.nodes[-1], list) and self.state != "key":
            parts[-1] = len(self.nodes[-1])
        return "".join(
            f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts if part is not None
        )

    def _note(
        self, operation: str, kind: Any, start: int, end: int, after: str = "", times: float = 1.0
    ) -> None:
        if operation in self.habits:
            self.cost += HABIT_PRICE
        else:
            self.cost += COST[operation]
            if operation in HABITS:
                self.habits.add(operation)
        self.edits.append(Edit(operation, kind, start, end, self._pointer(), after))

    def _open(self, opener: str, *, implicit: bool = False) -> None:
        node: Any = {} if opener == "{" else []
        if self.shapes is not None:
            here = self.shapes[-1]
            if self.nodes:
                here = (
                    here.member(self.key)
                    if isinstance(self.nodes[-1], dict)
                    else here.item(len(self.nodes[-1]))
                )
            self.shapes.append(here)
        if self.nodes:
            self._place(node)
        else:
            self.root = node
        self.nodes.append(node)
        self.keys.append(self.key)
        self.key = None
        self.stack.append("}" if opener == "{" else (")" if opener == "(" else "]"))
        self.state = "key" if opener == "{" else "item"
        self.members = 0
        if len(self.nodes) > MAX_DEPTH:
            raise OutOfFuel
        if implicit:
            self.implicit.add(len(self.nodes))

    def _pop(self) -> None:
        self.implicit.discard(len(self.nodes))
        self.nodes.pop()
        self.key = self.keys.pop()
        self.stack.pop()
        if self.shapes is not None:
            self.shapes.pop()
        self.state = "after"
        if not self.nodes:
            self.done = True

    def _place(self, value: Any) -> None:
        """Put `value` where it belongs: the open container, or the root."""
        if not self.nodes:
            self.root = value
            return
        node = self.nodes[-1]
        if isinstance(node, list):
            self.key = len(node)
            node.append(value)
            return
        if self.key in node:
            same = node[self.key] == value and type(node[self.key]) is type(value)
            self._note("duplicate-key", "lossless" if same else "lossy", self.pos, self.pos)
        node[self.key] = value

    def _scalar(self, value: Any, raw: str | None = None) -> None:
        self._place(value)
        if raw is not None and self.nodes:
            self.raw[id(self.nodes[-1]), self.key] = raw
        if self.nodes:
            self.state = "after"
        else:
            self.done = True

    def _choose(self, position: int, costs: list[float]) -> int:
        """Which of the choices with these `costs` to take at `position`; the others are noted as options."""
        place = 2 * position + 1
        planned = self.plan.get(place)
        if planned is not None and planned < len(costs):
            return planned
        best = min(range(len(costs)), key=costs.__getitem__)
        for index, cost in enumerate(costs):
            if index != best and cost < costs[best] + 3.0:
                self.options.append(Option(self.cost + cost, place, index))
        return best

    def _regret(self) -> None:
        """Trouble here: perhaps the last string went on beyond the quote that seemed to close it."""
        if self.last is not None and 2 * self.last[0] not in self.plan:
            position, cost, _ = self.last
            for index in (1, 2, 3):
                self.options.append(Option(cost + 0.7, 2 * position, index))
            self.last = None

    def _skip(self) -> None:
        """Move over white space and comments."""
        text = self.text
        while True:
            pos = _SPACE.match(text, self.pos).end()  # type: ignore[union-attr]  # matches the empty string
            self.pos = pos
            char = text[pos : pos + 1]
            if char in ("/", "#", "<"):
                if not self._skip_comment(pos):
                    return
            elif char and (char.isspace() or char in "\u200b\u200c\u2060\ufeff"):
                match = _ODD_SPACE.match(text, pos)
                assert match is not None
                self.pos = match.end()
                self._note("whitespace", "lossless", pos, self.pos)
            elif char == "\\" and (match := _ESCAPED_SPACE.match(text, pos)) is not None:
                self.pos = match.end()
                self._note("whitespace", "lossless", pos, self.pos)
            elif char == "`" and self.nodes and (match := _INNER_FENCE.match(text, pos)) is not None:
                if self.state == "value" and not match.group(1):
                    return
                self.pos = match.end()
                self._note("inner-fence", "lossless", pos, self.pos)
            else:
                return

    def _skip_comment(self, pos: int) -> bool:
        text = self.text
        if text.startswith("/*", pos):
            end = text.find("*/", pos + 2)
            self.pos = end + 2 if end >= 0 else len(text)
        elif text.startswith("<!--", pos):
            end = text.find("-->", pos + 4)
            self.pos = end + 3 if end >= 0 else len(text)
        else:
            match = _LINE_COMMENT.match(text, pos)
            if match is None or (text[pos] == "#" and not self.stack):
                return False
            end = match.end()
            if end == len(text) and self.stack:
                # No line break ends it: it cannot have swallowed the closers as well.
                closers = [at for at in (text.find("}", pos), text.find("]", pos)) if at >= 0]
                end = min(closers, default=end)
            self.pos = end
        self._note("comment", "lossless", pos, self.pos)
        return True

    # -- the careful steps ------------------------------------------------------------------------

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

    def _finish(self) -> None:
        """The text ends while containers are open: close them."""
        pos = self.pos
        while self.nodes:
            closer = self.stack[-1]
            if len(self.nodes) not in self.implicit:
                self.closers_odd = True
                self._note("missing-closer", "choice", pos, pos, closer)
            self._pop()
        self.done = True

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
            self._drop_comma()
            self.state = "item"
            return
        if not self.nodes[-1] and char == "{":
            self._note("opener-dropped", "choice", pos, pos + 1)
            self.pos = pos + 1
            return
        self._regret()
        self._stray()

    def _insert_closer(self, pos: int) -> None:
        closer = self.stack[-1]
        self.closers_odd = True
        self._note("closer-inserted", "choice", pos, pos, closer)
        self._pop()

    def _close_to(self, key: str, pos: int) -> None:
        """Close objects whose schema does not know `key`, up to one that does."""
        assert self.shapes is not None
        if key not in self.nodes[-1] and self.shapes[-1].knows(key) is not False:
            return
        for depth in range(len(self.nodes) - 2, -1, -1):
            node = self.nodes[depth]
            if isinstance(node, list):
                inner = self.shapes[depth + 1].item(len(node))
                if key in self.nodes[-1] and depth == len(self.nodes) - 2 and inner.knows(key):
                    self._insert_closer(pos)
                    self._open("{")
                    return
                continue
            if key not in node and self.shapes[depth + 1].knows(key):
                while len(self.nodes) > depth + 1:
                    self._insert_closer(pos)
                return

    def _drop_comma(self) -> None:
        """The comma before `pos` separates nothing."""
        back = len(self.text[: self.pos].rstrip()) if self.pos - 200 < 0 else self.pos
        back = self._comma_before()
        if self.members and back is not None:
            self._note("trailing-comma", "lossless", back, back + 1)
        self.members = 0

    def _comma_before(self) -> int | None:
        at = self.pos - 1
        while at >= self.start and self.text[at] in " \t\r\n":
            at -= 1
        return at if at >= self.start and self.text[at] == "," else None

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

    def _close(self, char: str) -> None:
        """A closing bracket."""
        pos = self.pos
        if self.stack[-1] != char and len(self.nodes) > 1 and len(self.nodes) in self.implicit:
            self._pop()
        if self.stack[-1] == char:
            self._close_top(pos)
            return
        self.closers_odd = True
        self._regret()
        above = next((up for up, closer in enumerate(reversed(self.stack)) if closer == char), 0)
        insert = COST["closer-inserted"] * above if above else 99.0
        replace = COST["closer-replaced"]
        if len(self.nodes) == 1 and not self._ends_here(pos + 1):
            replace += 2.0
        choice = self._choose(pos, [insert, replace, COST["closer-dropped"]])
        if choice == 0:
            for _ in range(above):
                self._insert_closer(pos)
            self._close_top(pos)
        elif choice == 1:
            self._note("closer-replaced", "choice", pos, pos + 1, self.stack[-1])
            self.pos = pos + 1
            self._pop()
        else:
            self._note("closer-dropped", "choice", pos, pos + 1)
            self.pos = pos + 1
            self.state = "after"

    def _close_top(self, pos: int) -> None:
        if self.stack[-1] != "]" and isinstance(self.nodes[-1], list):
            pass  # a tuple or set: noted where it was opened
        if (
            len(self.nodes) == 1
            and not self._ends_here(pos + 1)
            and self._members_follow(pos + 1)
        ):
            # Members follow the end: this closer came too early, or the rest is not ours.
            choice = self._choose(pos, [4.0, COST["closer-dropped"]])
            if choice == 1 and isinstance(self.nodes[-1], dict):
                self._note("closer-dropped", "choice", pos, pos + 1)
                self.closers_odd = True
                self.pos = pos + 1
                self.state = "after"
                return
            self.cost += 4.0
        self.pos = pos + 1
        self._pop()

    def _members_follow(self, pos: int) -> bool:
        """Whether a member comes next, after a comma or with its key in quotes."""
        at = self._past_comma(pos)
        return KEY_LIKE.match(self.text, at) is not None and (
            self.text[at - 1 : at] == "," or self.text[at : at + 1] in ('"', "'")
        )

    def _past_comma(self, pos: int) -> int:
        match = _SPACE.match(self.text, pos)
        assert match is not None
        return match.end() + (self.text[match.end() : match.end() + 1] == ",")

    def _ends_here(self, pos: int) -> bool:
        match = _SPACE.match(self.text, pos)
        assert match is not None
        return match.end() >= len(self.text)

    def _read_after(self) -> None:
        self._skip()
        text, pos = self.text, self.pos
        if self._end_of_block():
            self._finish()
            return
        char = text[pos]
        dictionary = self.stack[-1] == "}" and isinstance(self.nodes[-1], dict)
        if char == "," or char == ";":
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
        starts = KEY_LIKE.match(text, pos) if dictionary else _VALUE_START.match(text, pos)
        if starts is None and not dictionary and text[pos].isalpha() and self._comma_or_end_ahead(pos):
            starts = _VALUE_START
        if starts is not None:
            if "\n" not in text[max(self.start, pos - 80) : pos]:
                self._regret()
            self._note("missing-comma", "lossless", pos, pos, ",")
            self.state = "key" if dictionary else "item"
            return
        self._stray()

    def _comma_or_end_ahead(self, pos: int) -> bool:
        """Whether what follows is one unquoted word and then a delimiter: an item whose comma is missing."""
        return re.compile(r"[\w.-]{1,40}\"?\s*[,\]]").match(self.text, pos) is not None

    def _read_value(self) -> None:
        self._skip()
        text, pos = self.text, self.pos
        char = text[pos : pos + 1]
        item = self.state == "item"
        if not char or (
            text.startswith("```", pos) and (item or text.startswith("```", pos) and not self._block(pos))
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
        self._bare()

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
        if text[end.stop : end.stop + 1] == "\\" and mark[0] != "\\" and quotes.literal_backslashes(raw):
            raw += "\\\\"
        self.pos = end.resume
        self.cost += end.price
        if end.missing:
            cut = end.resume >= len(text) and not raw.endswith((".", "!", "?", "\n"))
            raw = raw.rstrip() if end.resume < len(text) else raw
            operation, kind = ("cut-string", "lossy") if cut else ("missing-quote", "choice")
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
        if mark[0] == "\\":
            said = quotes.unescape(quotes.unescape(raw))
            return said
        if len(mark) >= 3:
            return quotes.block(raw) if "\\" not in raw else quotes.unescape(raw)
        said = quotes.unescape(raw)
        if "\n" in raw or "\t" in raw or "\r" in raw:
            self._note("control-character", "lossless", start, start + len(raw))
            if raw.endswith("\n") and raw.strip() and self.pos > start + len(raw):
                said = said.rstrip("\r\n")
                self._note("trailing-newline", "choice", start, start + len(raw))
        return said

    # -- values without quotes --------------------------------------------------------------------

    def _bare(self) -> None:
        text, pos = self.text, self.pos
        if (match := _LITERAL.match(text, pos)) is not None:
            word = match.group(1)
            lower = word.lower()
            self.pos = match.end()
            if word not in _LITERALS:
                odd = lower in ("undefined", "nan") or "inf" in lower
                self._note(
                    "undefined" if odd else "literal", "choice" if odd else "lossless", pos, self.pos, lower
                )
            self._scalar(_MEANS.get(lower), raw=word if word not in _NO_STRING else None)
            return
        if (match := _THOUSANDS.match(text, pos)) is not None and not isinstance(
            self.nodes[-1] if self.nodes else {}, list
        ):
            self.pos = match.end()
            self._note("number", "choice", pos, self.pos)
            digits = match.group(1).replace(",", "")
            self._scalar(float(digits) if "." in digits else int(digits), raw=match.group(1))
            return
        if (match := _BARE_NUMBER.match(text, pos)) is not None and self._number(match):
            return
        if (match := _PATTERN.match(text, pos)) is not None:
            self.pos = match.end()
            self._note("unquoted-string", "lossless", pos, self.pos)
            self._scalar(match.group())
            return
        if (match := _WRAPPER.match(text, pos)) is not None and self._wrapper(match):
            return
        self._bare_string()

    def _number(self, match: re.Match[str]) -> bool:
        """Take a number, perhaps written oddly. False where it is not one we can convert exactly."""
        word = match.group(1)
        if len(word) > 300:
            return False
        start = self.pos
        self.pos = match.end()
        if _STRICT_NUMBER.match(word) is None:
            digits = word.replace("_", "").lstrip("+")
            digits = re.sub(r"[eE][-+]?$", "", digits)
            if re.fullmatch(r"-?[\d.]*\d[\d.]*(?:[eE][-+]?\d+)?", digits) is None:
                self.pos = start
                return False
            self._note("number", "choice", start, self.pos)
        else:
            digits = word
        integer = digits.lstrip("-").isdigit()
        value: Any = int(digits) if integer else float(digits)
        if word.endswith((".", "e", "E")) and integer:
            value = float(digits)
        if value in (float("inf"), float("-inf")):
            self.pos = start
            return False
        self._scalar(value, raw=word)
        return True

    def _wrapper(self, match: re.Match[str]) -> bool:
        """`ISODate("...")`, `NumberLong(2)`: the one scalar inside. False where it is not of that form."""
        text = self.text
        inner = re.compile(
            r"(?:\"([^\"\\\n]*)\"|'([^'\\\n]*)'|(-?\d+(?:\.\d+)?))?\s*\)(?=\s*(?:[,}\]]|$|\n))"
        ).match(text, match.end())
        if inner is None or not self.nodes or inner.lastindex is None:
            return False
        double, single, number = inner.groups()
        self.pos = inner.end()
        self._note("wrapper", "choice", match.start(), self.pos)
        if number is not None:
            self._scalar(float(number) if "." in number else int(number), raw=number)
        else:
            self._scalar(double if double is not None else single)
        return True

    def _bare_string(self) -> None:
        """An unquoted string: it ends where JSON goes on as it should."""
        text, pos = self.text, self.pos
        if not self.nodes:
            self.pos = len(text)
            self._note("unquoted-string", "choice", pos, self.pos)
            self._scalar(text[pos:].strip())
            return
        dictionary = isinstance(self.nodes[-1], dict)
        at, depth = pos, 0
        limit = min(len(text), pos + quotes.WINDOW)
        while at < limit:
            char = text[at]
            if char in "{[(":
                depth += 1
            elif char in "}])" and depth:
                depth -= 1
            elif char in "}]":
                break
            elif char == "," and not depth:
                if (
                    not dictionary
                    or KEY_LIKE.match(text, at + 1)
                    or re.compile(r"\s*(?:[}\]]|$)").match(text, at + 1)
                ):
                    break
            elif char == "\n" and not depth:
                if not dictionary or re.compile(r"\s*[}\]]").match(text, at) or KEY_LIKE.match(text, at):
                    break
            elif char in '"“' and at > pos and KEY_LIKE.match(text, at):
                break
            elif (
                char == '"'
                and quotes.after_cost(text, at + 1, "member" if dictionary else "item", self.stack) == 0
            ):
                break
            elif text.startswith(("//", "/*"), at) and text[at - 1 : at] in (" ", "\t"):
                break
            at += 1
        self.fuel.burn(1 + (at - pos) // 20)
        word = text[pos:at].strip()
        quoted = text[at : at + 1] == '"' and not KEY_LIKE.match(text, at)
        if not word:
            self._stray()
            return
        self.pos = at + 1 if quoted else at
        self._note("missing-quote" if quoted else "unquoted-string", "choice", pos, self.pos, '"')
        self._scalar(word, raw=None if quoted else word)
