"""What a reader has built so far, and the fast part of reading: well-formed members, taken whole."""

import re
from typing import Any

from schemas import quotes
from schemas.check import ChangeKind
from schemas.quotes import Context
from schemas.reading import COST, HABIT_PRICE, HABITS, Edit, Option
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
_INSIDE = r"[^'\"\\\x00-\x1f“”‘’]*+"
_ODD_STRING = rf"(\"{_INSIDE}\"|'{_INSIDE}'|“{_INSIDE}”)"
_ODD_VALUE = rf"(?:(?:{_ODD_STRING}|{_NUMBER}(?!,\d)|(true|false|null|True|False|None)){_W}"
_ODD_MEMBER = re.compile(
    rf"{_W}({_ODD_STRING[1:-1]}|[A-Za-z_$][\w$-]*+){_W}([:=]){_W}{_ODD_VALUE}(?:([,}}])|(?=\]))|([\[{{]))"
)
_ODD_ITEM = re.compile(rf"{_W}{_ODD_VALUE}(?:([,\]])|(?=\}}))|([\[{{]))")

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


class Builder:
    """The containers open at one position of a text, with what it cost to come here."""

    __slots__ = (
        "closers_odd", "cost", "done", "edits", "fuel", "habits", "implicit", "indents", "key", "keys", "last", "last_structure", "members", "nodes",
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
        self.indents: list[int | None] = []
        """With `shapes`: how far the first key of each open container is indented, where it begins a line."""
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

    # -- the fast part -----------------------------------------------------------------------------

    def take_members(self) -> None:
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
                self._note(
                    "literal", "lossless", match.start(first + 2), match.end(first + 2), literal.lower()
                )
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

    # -- bookkeeping -------------------------------------------------------------------------------

    def _pointer(self) -> str:
        parts = [*self.keys[1:], self.key] if self.nodes else []
        if self.nodes and isinstance(self.nodes[-1], list) and self.state != "key":
            parts[-1] = len(self.nodes[-1])
        return "".join(
            f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts if part is not None
        )

    def _note(self, operation: str, kind: ChangeKind, start: int, end: int, after: str = "") -> None:
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
            self.indents.append(None)
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
            self.indents.pop()
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
