"""White space, comments and closing brackets: where a container of broken JSON ends."""

import itertools
import re

from schemas.builder import Builder
from schemas.quotes import KEY_LIKE
from schemas.reading import COST

_SPACE = re.compile(r"[ \t\r\n]*+")
_ODD_SPACE = re.compile(r"[\s\u200b\u200c\u2060\ufeff]+")
_ESCAPED_SPACE = re.compile(
    r"\\(?:[ntr]|u(?:0020|0009|000[aAdD]|00[aA]0|20[02][0-9a-fA-F]|202[fF]|3000|[fF][eE][fF][fF]))"
)
# A fence among the members: what follows it is structure, and more of that comes.
_INNER_FENCE = re.compile(
    r"```(json\w?|JSON|)[ \t]*(?:\r?\n\s*|(?=\s*[}\],]))(?=[\"'{}\[\],\d-]|true|false|null|\w+\s*:)"
)
_LINE_COMMENT = re.compile(r"(?://|#)[^\n]*")


class Levels(Builder):
    """The part of a reader that goes over what separates values, and closes containers."""

    __slots__ = ()

    def _skip(self) -> None:
        """Move over white space and comments."""
        text = self.text
        for steps in itertools.count():
            self.fuel.burn(min(steps, 2))
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

    def _insert_closer(self, pos: int) -> None:
        closer = self.stack[-1]
        self.closers_odd = True
        self._note("closer-inserted", "choice", pos, pos, closer)
        self._pop()

    def _close_to(self, key: str, pos: int) -> None:
        """Close the objects that `key` does not belong to, by the layout or else by the schema."""
        assert self.shapes is not None
        indent, own = self._indent(pos), self.indents[-1]
        if own is None:
            self.indents[-1] = indent
        elif indent is not None:
            if indent < own:
                self._close_to_indent(key, indent, pos)
            return
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

    def _close_to_indent(self, key: str, indent: int, pos: int) -> None:
        """Close what is open inside the object whose keys are indented by `indent`, if there is one."""
        for depth in range(len(self.nodes) - 2, -1, -1):
            if self.indents[depth] == indent and key not in self.nodes[depth]:
                while len(self.nodes) > depth + 1:
                    self._insert_closer(pos)
                return

    def _indent(self, pos: int) -> int | None:
        """How far what stands at `pos` is indented; None where it does not begin a line."""
        line = self.text.rfind("\n", max(0, pos - 200), pos)
        return pos - line - 1 if line >= 0 and not self.text[line:pos].strip() else None

    def _drop_comma(self) -> None:
        """The comma before `pos` separates nothing."""
        back = self._comma_before()
        if self.members and back is not None:
            self._note("trailing-comma", "lossless", back, back + 1)
        self.members = 0

    def _comma_before(self) -> int | None:
        at = self.pos - 1
        while at >= self.start and self.text[at] in " \t\r\n":
            at -= 1
        return at if at >= self.start and self.text[at] == "," else None

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
        # With its own opener further out a closer is hardly a slip for another one.
        unlikely = 0.6 if above else 0.0
        replace = COST["closer-replaced"] + unlikely
        if len(self.nodes) == 1 and not self._ends_here(pos + 1):
            replace += 2.0
        choice = self._choose(pos, [insert, replace, COST["closer-dropped"]])
        if choice == 0:
            for _ in range(above):
                self._insert_closer(pos)
            self._close_top(pos)
        elif choice == 1:
            self.cost += unlikely
            self._note("closer-replaced", "choice", pos, pos + 1, self.stack[-1])
            self.pos = pos + 1
            self._pop()
        else:
            self._note("closer-dropped", "choice", pos, pos + 1)
            self.pos = pos + 1
            self.state = "after"

    def _close_top(self, pos: int) -> None:
        if len(self.nodes) == 1 and not self._ends_here(pos + 1) and self._members_follow(pos + 1):
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
