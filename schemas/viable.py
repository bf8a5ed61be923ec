"""Whether the text so far can still become a valid document: checked while it arrives.

The checker reads strict JSON with a stack of open containers. At each place of the document it knows
the branches (`schemas.plans`) of which at least one must come to hold, and drops those that the text
has ruled out; where none is left no continuation can be valid. A branch of a value belongs to one
or more groups, numbered by bits: one group for each different demand that the live branches of the
container around it make of this value. When the value ends, the groups that are left tell which of
the container's branches live on.

It never refuses a text that could become valid: what cannot be decided yet, or would cost too much,
counts as possible. Time is linear in the text, whatever the pieces.
"""

from bisect import bisect_left
from typing import Any

from schemas.atoms import ARRAY, BOOLEAN, NULL, NUMBER, OBJECT, STRING, Atom
from schemas.compiled import Compiled
from schemas.plans import Branch, Goal
from schemas.strict import MAX_CHARS, MAX_DEPTH
from schemas.tokens import (
    CUT_ESCAPE,
    KEY_TOKEN,
    NUMBER_CLASSES,
    NUMBER_STEPS,
    NUMBER_TOKEN,
    RUN,
    STRING_TOKEN,
    WHOLE_NUMBER,
    after_space,
    decoded,
    number_of,
)

_WORDS: dict[str, tuple[str, Any]] = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}
_KIND_OF_FIRST = {
    "{": OBJECT,
    "[": ARRAY,
    '"': STRING,
    **dict.fromkeys("-0123456789", NUMBER),
    "t": BOOLEAN,
    "f": BOOLEAN,
    "n": NULL,
}

(
    _VALUE,
    _FIRST_ITEM,
    _AFTER_ITEM,
    _FIRST_KEY,
    _KEY_DUE,
    _COLON,
    _AFTER_MEMBER,
    _IN_TEXT,
    _IN_NUMBER,
    _DONE,
    _DEAD,
) = range(11)

# The validators of parts may read so many characters for each character of the document, and these.
_LATE_PER_CHAR = 8
_LATE_FREE = 20_000


class _Open:
    """A container that has begun and not ended, with the branches that it may still satisfy.

    `groups`: the groups that each branch belongs to. `routes`: the group of the value being read that
    each branch needs, None where all need the same one.
    """

    __slots__ = ("branches", "groups", "key", "outer", "parts", "routes", "start")

    def __init__(
        self, parts: Any, branches: list[Branch], groups: list[int], outer: "_Open | None", start: int
    ) -> None:
        self.parts = parts
        self.branches = branches
        self.groups = groups
        self.outer = outer
        self.start = start
        self.key = ""
        self.routes: list[int] | None = None

    def keep(self, indices: list[int]) -> None:
        """Drop the branches that are not among `indices`."""
        if len(indices) < len(self.branches):
            self.branches = [self.branches[index] for index in indices]
            self.groups = [self.groups[index] for index in indices]


class _Text:
    """A string that has begun and not ended: `runs` are its raw pieces, whole escapes only.

    `watching`: each branch says something that a beginning alone can violate. `watched`: the runs that
    were looked at for that, up to the half of a pair of surrogates in `held`.
    """

    __slots__ = ("held", "is_key", "length", "prefix", "runs", "watched", "watching")

    def __init__(self, *, is_key: bool, watching: bool) -> None:
        self.is_key = is_key
        self.watching = watching
        self.runs: list[str] = []
        self.watched = 0
        self.held = ""
        self.prefix = ""
        self.length = 0


class PrefixChecker:
    """Reads one document piece by piece."""

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._plans = compiled.plans
        self._branches = self._plans.root.branches
        self._groups = self._plans.root.ones
        self._state = _VALUE
        self._open: _Open | None = None
        self._depth = 0
        self._base = 0
        self._carry = ""
        self._late_spent = 0
        self._text = _Text(is_key=False, watching=False)
        self._number: list[str] = []
        self._number_state = ""
        self._steps = (
            self._read_value,
            self._read_first_item,
            self._read_after_item,
            self._read_first_key,
            self._read_key,
            self._read_colon,
            self._read_after_member,
            self._read_text,
            self._read_number,
            self._read_nothing,
        )

    @property
    def viable(self) -> bool:
        """Whether some continuation, or none at all, makes the text a valid document."""
        return self._state != _DEAD

    @property
    def complete(self) -> bool:
        """Whether the text as it stands is a valid document."""
        if self._state == _IN_NUMBER and self._open is None and self._number_state in WHOLE_NUMBER:
            value = number_of("".join(self._number))
            return value is not None and self._compiled.is_valid(value)
        return self._state == _DONE

    def feed(self, piece: str) -> bool:
        """Read on. False when no continuation can be valid any more, then and ever after."""
        if self._state == _DEAD:
            return False
        if self._carry:
            piece, self._carry = self._carry + piece, ""
        at, end = 0, len(piece)
        while at < end:
            at = self._steps[self._state](piece, at)
            if self._state == _DEAD:
                return False
        self._base += end - len(self._carry)
        if self._base > MAX_CHARS:
            self._state = _DEAD
        elif self._state == _IN_TEXT and self._text.watching:
            self._watch(self._text)
        return self._state != _DEAD

    # Each reader takes the piece and a position, and returns the position after what it has read.

    def _die(self, at: int) -> int:
        self._state = _DEAD
        return at

    def _read_nothing(self, piece: str, at: int) -> int:
        after = after_space(piece, at)
        return after if after == len(piece) else self._die(at)

    def _read_value(self, piece: str, at: int) -> int:
        if piece[at] in " \t\n\r":
            at = after_space(piece, at)
            if at == len(piece):
                return at
        kind = _KIND_OF_FIRST.get(piece[at], 0)
        if not self._narrow(kind):
            return self._die(at)
        if kind == STRING:
            whole = STRING_TOKEN.match(piece, at)
            if whole:
                self._end_text(whole[1])
                return whole.end()
            watching = all(branch.watched for branch in self._branches)
            self._text = _Text(is_key=False, watching=watching)
            self._state = _IN_TEXT
            return at + 1
        if kind == NUMBER:
            return self._begin_number(piece, at)
        if kind == OBJECT:
            return self._begin({}, _FIRST_KEY, at)
        if kind == ARRAY:
            return self._begin([], _FIRST_ITEM, at)
        return self._read_word(piece, at)

    def _narrow(self, kind: int) -> bool:
        """Drop the branches that take no value of `kind`; whether one is left."""
        branches = self._branches
        if len(branches) == 1:
            return bool(branches[0].kinds & kind)
        kept = [index for index, branch in enumerate(branches) if branch.kinds & kind]
        self._keep(kept)
        return bool(kept)

    def _keep(self, indices: list[int]) -> None:
        branches, groups = self._branches, self._groups
        if len(indices) < len(branches):
            self._branches = [branches[index] for index in indices]
            self._groups = [groups[index] for index in indices]

    def _read_word(self, piece: str, at: int) -> int:
        word, value = _WORDS[piece[at]]
        if piece.startswith(word, at):
            kind = NULL if value is None else BOOLEAN
            self._end_scalar(value, kind, [branch.takes_constant(value) for branch in self._branches])
            return at + len(word)
        rest = piece[at:]
        if not word.startswith(rest):
            return self._die(at)
        self._carry = rest
        return len(piece)

    def _end_scalar(self, value: Any, kind: int, taken: list[bool]) -> None:
        accepted = 0
        for branch, group, takes in zip(self._branches, self._groups, taken, strict=True):
            if takes and (not branch.late or self._late_fits(branch.late, kind, value, 20, {})):
                accepted |= group
        self._end_value(value, accepted)

    def _end_value(self, value: Any, accepted: int) -> None:
        """A value has ended, and these groups of its branches hold."""
        open_ = self._open
        if not accepted:
            self._state = _DEAD
        elif open_ is None:
            self._state = _DONE if self._compiled.is_valid(value) else _DEAD
        else:
            if open_.routes is not None:
                open_.keep([index for index, bit in enumerate(open_.routes) if bit & accepted])
            if isinstance(open_.parts, dict):
                open_.parts[open_.key] = value
                self._state = _AFTER_MEMBER
            else:
                open_.parts.append(value)
                self._state = _AFTER_ITEM

    # Containers

    def _begin(self, parts: Any, state: int, at: int) -> int:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            return self._die(at)
        self._open = _Open(parts, self._branches, self._groups, self._open, self._base + at)
        self._state = state
        return at + 1

    def _read_first_item(self, piece: str, at: int) -> int:
        at = after_space(piece, at)
        if at == len(piece):
            return at
        if piece[at] == "]":
            return self._end_container(at)
        return self._read_value(piece, at) if self._expect_item() else self._die(at)

    def _read_after_item(self, piece: str, at: int) -> int:
        at = after_space(piece, at)
        if at == len(piece):
            return at
        if piece[at] == ",":
            return at + 1 if self._expect_item() else self._die(at)
        return self._end_container(at) if piece[at] == "]" else self._die(at)

    def _expect_item(self) -> bool:
        open_ = self._open
        assert open_ is not None
        index = len(open_.parts)
        return self._expect(open_, [branch.item(index) for branch in open_.branches])

    def _expect_member(self, key: str) -> bool:
        open_ = self._open
        assert open_ is not None
        if key in open_.parts:
            return False
        open_.key = key
        count = len(open_.parts)
        demands = [branch.member(key) if count < branch.max_members else None for branch in open_.branches]
        return self._expect(open_, demands)

    def _expect(self, open_: _Open, demands: list[Goal | None]) -> bool:
        """Make `demands`, one of each branch of a container, those of the value that comes.

        A branch without a demand allows no such value and is dropped. Whether one is left.
        """
        self._state = _VALUE
        goals = [goal for goal in demands if goal is not None]
        if not goals:
            return False
        if len(goals) < len(demands):
            open_.keep([index for index, goal in enumerate(demands) if goal is not None])
        if len(goals) == 1:
            self._branches, self._groups, open_.routes = goals[0].branches, goals[0].ones, None
        else:
            bits = {number: 1 << n for n, number in enumerate(dict.fromkeys(goal.number for goal in goals))}
            open_.routes = [bits[goal.number] for goal in goals]
            self._branches, self._groups = self._plans.union(goals)
        return True

    def _read_first_key(self, piece: str, at: int) -> int:
        at = after_space(piece, at)
        if at < len(piece) and piece[at] == "}":
            return self._end_container(at)
        self._state = _FIRST_KEY if at == len(piece) else _KEY_DUE
        return at

    def _read_key(self, piece: str, at: int) -> int:
        at = after_space(piece, at)
        if at == len(piece):
            return at
        whole = KEY_TOKEN.match(piece, at)
        if whole:
            return whole.end() if self._expect_member(whole[1]) else self._die(at)
        if piece[at] != '"':
            return self._die(at)
        self._text = _Text(is_key=True, watching=False)
        self._state = _IN_TEXT
        return at + 1

    def _read_colon(self, piece: str, at: int) -> int:
        at = after_space(piece, at)
        if at < len(piece):
            self._state = _VALUE if piece[at] == ":" else _DEAD
            at += 1
        return at

    def _read_after_member(self, piece: str, at: int) -> int:
        at = after_space(piece, at)
        if at == len(piece):
            return at
        if piece[at] == ",":
            self._state = _KEY_DUE
            return at + 1
        return self._end_container(at) if piece[at] == "}" else self._die(at)

    def _end_container(self, at: int) -> int:
        open_ = self._open
        assert open_ is not None
        parts = open_.parts
        kind = OBJECT if isinstance(parts, dict) else ARRAY
        size = self._base + at + 1 - open_.start
        known: dict[str, bool] = {}
        accepted = 0
        for branch, group in zip(open_.branches, open_.groups, strict=True):
            closes = branch.closes_object(parts) if kind == OBJECT else branch.closes_array(parts)
            if closes and (not branch.late or self._late_fits(branch.late, kind, parts, size, known)):
                accepted |= group
        self._open = open_.outer
        self._depth -= 1
        self._end_value(parts, accepted)
        return at + 1

    def _late_fits(self, late: list[Atom], kind: int, value: Any, size: int, known: dict[str, bool]) -> bool:
        """What the validators of the value's whole schemas say, as far as their cost is within bounds."""
        for atom in late:
            if not atom.late & kind:
                continue
            pointer = atom.place.pointer
            if pointer not in known:
                spent = self._late_spent + size
                if spent > _LATE_FREE + _LATE_PER_CHAR * (self._base + size):
                    continue
                check = self._plans.late(atom)
                if check is None:
                    continue
                self._late_spent = spent
                known[pointer] = check(value)
            if not known[pointer]:
                return False
        return True

    # Strings

    def _read_text(self, piece: str, at: int) -> int:
        run = RUN.match(piece, at)
        assert run is not None
        stop = run.end()
        text = self._text
        if stop > at:
            text.runs.append(run[0])
        if stop == len(piece):
            return stop
        if piece[stop] == '"':
            value = decoded("".join(text.runs))
            if not text.is_key:
                self._end_text(value)
            elif self._expect_member(value):
                self._state = _COLON
            else:
                self._die(stop)
            return stop + 1
        if CUT_ESCAPE.fullmatch(piece, stop):
            self._carry = piece[stop:]
            return len(piece)
        return self._die(stop)

    def _end_text(self, value: str) -> None:
        self._end_scalar(value, STRING, [branch.takes_text(value) for branch in self._branches])

    def _watch(self, text: _Text) -> None:
        """Drop the branches that a string can not satisfy any more, though it has not ended."""
        if text.watched == len(text.runs):
            return
        raw = text.held + "".join(text.runs[text.watched :])
        text.watched = len(text.runs)
        new, text.held = decoded(raw), ""
        if new and "\ud800" <= new[-1] <= "\udbff" and raw[-1] != new[-1]:
            new, text.held = new[:-1], raw[-6:]  # the other half of the pair may come
        text.length += len(new)
        if any(branch.sorted_strings is not None for branch in self._branches):
            text.prefix += new
        self._keep([i for i, branch in enumerate(self._branches) if _may_begin(branch, text)])
        if not self._branches:
            self._state = _DEAD

    # Numbers

    def _begin_number(self, piece: str, at: int) -> int:
        whole = NUMBER_TOKEN.match(piece, at)
        if whole:
            self._end_number(whole[0])
            return whole.end()
        self._number = []
        self._number_state = ""
        self._state = _IN_NUMBER
        return self._read_number(piece, at)

    def _read_number(self, piece: str, at: int) -> int:
        state, start, end = self._number_state, at, len(piece)
        while at < end:
            step = NUMBER_STEPS[state].get(NUMBER_CLASSES.get(piece[at], ""))
            if step is None:
                break
            state = step
            at += 1
        self._number.append(piece[start:at])
        self._number_state = state
        if at < end:
            if state not in WHOLE_NUMBER:
                return self._die(at)
            self._end_number("".join(self._number))
        return at

    def _end_number(self, token: str) -> None:
        value = number_of(token)
        if value is None:
            self._state = _DEAD
        else:
            self._end_scalar(value, NUMBER, [branch.takes_number(value) for branch in self._branches])


def _may_begin(branch: Branch, text: _Text) -> bool:
    """Whether a string that begins with `text` may satisfy `branch`."""
    if text.length > branch.max_length:
        return False
    strings = branch.sorted_strings
    if strings is None:
        return True
    at = bisect_left(strings, text.prefix)
    return at < len(strings) and strings[at].startswith(text.prefix)
