"""YAML to plain values that remember where they stood.

YAML is read in a small, safe form. Scalars follow YAML 1.2's core schema, so `off`, `no` and dates stay
texts; a name may stand once in a mapping; tags are refused; anchors, aliases and `<<` work, and what
they expand to is bounded. The parser's own messages quote the text, which may hold a key, so that they
are translated and never shown.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from proxy.config.problems import Path, Problem, field_name

MAX_BYTES = 512 * 1024
MAX_DEPTH = 64
MAX_VALUES = 50_000
"""Values after aliases are expanded."""

# YAML 1.2.2 §10.3.2, core schema; infinities and NaN have no use here and stay texts.
_INT = re.compile(r"[-+]?[0-9]{1,30}\Z")
_OTHER_INT = re.compile(r"0o[0-7]{1,30}\Z|0x[0-9a-fA-F]{1,30}\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,30}|[0-9]{1,30}(\.[0-9]{0,30})?)([eE][-+]?[0-9]{1,3})?\Z")
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]")
"""Also leaves out Unicode's noncharacters, of which two stand for the braces of `${NAME}` while YAML is read."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_BRACED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_BRACES = {0xFDD0: "{", 0xFDD1: "}"}

# What the parser says -> what to do. The first hit wins; the context is searched as well.
_SYNTAX = (
    (r"quoted scalar.*(end of stream|document separator)", "the quote that opens in line {since} is never closed"),
    (r"unknown escape|expected escape", "in double quotes a backslash begins an escape; write \\\\ or use single quotes"),
    (r"'\\t' that cannot start|'\t' that cannot start", "a tab: YAML indents with spaces"),
    (r"cannot start any token", "a value cannot begin with this character; put the value in quotes"),
    (r"mapping values are not allowed", "a ':' that may not stand here; check the indentation, or put a value with ': ' in quotes"),
    (r"could not find expected ':'", "line {since} has no ':'; write `name: value`, and check the indentation and quotes around it"),
    (r"expected ',' or '\]'", "the '[' that opens in line {since} is not closed, or a comma is missing"),
    (r"expected ',' or '\}'", "the '{{' that opens in line {since} is not closed, or a comma is missing"),
    (r"expected <block end>", "this does not fit the lines before it; give names of one level the same indentation"),
    (r"alias|anchor", "'*' and '&' begin an alias or an anchor; put a value that begins with them in quotes"),
    (r"tag|directive|YAML document|<document start>", "directives, tags and second documents are not used here"),
)  # fmt: skip
_OTHERWISE = "not valid YAML; check indentation, quotes and ':'"


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the text, counted from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Tree:
    """`value` as plain dicts, lists and scalars; where each value and each name stood."""

    value: Any = None
    values: dict[Path, Mark] = field(default_factory=dict)
    names: dict[Path, Mark] = field(default_factory=dict)

    def mark(self, path: Path) -> Mark:
        """Where `path` stands, or the nearest thing around it that does."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, Mark(1, 1))

    def name_mark(self, path: Path) -> Mark:
        """Where the name of `path` stands, else the nearest thing around it (an item of a list has no name)."""
        while path and path not in self.names and path not in self.values:
            path = path[:-1]
        return self.names.get(path) or self.mark(path)


@dataclass(slots=True)
class _Node:
    mark: Mark
    text: str | None = None
    plain: bool = False
    items: list["_Node"] | None = None
    pairs: list[tuple["_Node", "_Node"]] | None = None


class _Refused(Exception):
    """The text cannot be read to its end."""

    def __init__(self, message: str, mark: Mark) -> None:
        super().__init__(message)
        self.message = message
        self.mark = mark


def read(text: str, file: str) -> tuple[Tree, list[Problem]]:
    """The values of a YAML text, and what is wrong with it as YAML. Of two with one name the first stays."""
    try:
        _printable(text)
        flat = _Flattening(file)
        # Within {...} YAML would take the braces of ${NAME} for its own. Same length: places stay right.
        flat.tree.value = flat.flatten(_document(_BRACED.sub("$\ufdd0\\1\ufdd1", text)), ())
    except _Refused as refused:
        problem = Problem(file, refused.mark.line, refused.mark.column, "", refused.message)
        return Tree(), [problem]
    return flat.tree, flat.problems


def _printable(text: str) -> None:
    """Refuse what YAML 1.2.2 §5.1 leaves out; the parser's own message would quote it."""
    bad = _UNPRINTABLE.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        mark = Mark(line, bad.start() - text.rfind("\n", 0, bad.start()))
        raise _Refused("a control character or half a character; save the file as plain UTF-8", mark)


def resolved(text: str) -> Any:
    """What a scalar without quotes means."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return int(text)
    if _OTHER_INT.match(text):
        return int(text, 0)
    return float(text) if _FLOAT.match(text) else text


def _document(text: str) -> _Node:
    """The only document of `text` as nodes; an alias is the very node it names."""
    root: _Node | None = None
    stack: list[tuple[_Node, str | None]] = []
    anchors: dict[str, _Node] = {}
    waiting: list[_Node | None] = []  # of each open node: the name whose value comes next

    def add(node: _Node) -> None:
        nonlocal root
        if not stack:
            if root is not None:
                raise _Refused("a second document; a configuration is one", node.mark)
            root = node
        elif (parent := stack[-1][0]).items is not None:
            parent.items.append(node)
        elif (name := waiting[-1]) is None:
            waiting[-1] = node
        else:
            assert parent.pairs is not None
            parent.pairs.append((name, node))
            waiting[-1] = None

    for event in _events(text):
        mark = _mark(event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _Refused(
                "a value that begins with '!' is a tag, which is not used here; put it in quotes", mark
            )
        if isinstance(event, yaml.ScalarEvent):
            node = _Node(mark, text=_whole(event.value, mark).translate(_BRACES), plain=event.style is None)
            if event.anchor:
                anchors[event.anchor] = node
            add(node)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise _Refused(
                    "'*' begins an alias, and no such anchor stands before it; put a value that begins with '*' in quotes",
                    mark,
                )
            add(anchors[event.anchor])
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(stack) == MAX_DEPTH:
                raise _Refused(f"nested deeper than {MAX_DEPTH} levels", mark)
            is_map = isinstance(event, yaml.MappingStartEvent)
            node = _Node(mark, pairs=[]) if is_map else _Node(mark, items=[])
            stack.append((node, event.anchor))
            waiting.append(None)
        elif isinstance(event, yaml.CollectionEndEvent):
            node, anchor = stack.pop()
            waiting.pop()
            if anchor:  # only now: a node cannot hold itself
                anchors[anchor] = node
            add(node)
    return root or _Node(Mark(1, 1), text="", plain=True)


def _whole(text: str, mark: Mark) -> str:
    """`text` with pairs of surrogates joined, as JSON's escapes write them; half a pair is refused."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16") if _SURROGATE.search(text) else text
    except UnicodeDecodeError:
        raise _Refused(
            "an escape makes half a character; write both halves, or the character itself", mark
        ) from None


def _events(text: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = _mark(error.problem_mark or error.context_mark)
        since = _mark(error.context_mark or error.problem_mark).line
        said = f"{error.context or ''} {error.problem or ''}"
        what = next((tell for sign, tell in _SYNTAX if re.search(sign, said)), _OTHERWISE)
        raise _Refused(what.format(since=since), mark) from None
    except (yaml.YAMLError, ValueError, OverflowError):  # PyYAML passes "\UFFFFFFFF" to chr()
        raise _Refused(_OTHERWISE, Mark(1, 1)) from None


def _mark(at: Any) -> Mark:
    """The parser counts from 0, and leaves places out in some of its errors."""
    return Mark(at.line + 1, at.column + 1) if at else Mark(1, 1)


class _Flattening:
    """Turns nodes into plain values, aliases expanded, and notes where each one stood."""

    def __init__(self, file: str) -> None:
        self.tree = Tree()
        self.problems: list[Problem] = []
        self._file = file
        self._left = MAX_VALUES

    def flatten(self, node: _Node, path: Path) -> Any:
        """The value of `node`. Recursion is as deep as the tree, which aliases can deepen: bounded again."""
        self._spend(node, len(path))
        self.tree.values[path] = node.mark
        if node.items is not None:
            return [self.flatten(item, (*path, i)) for i, item in enumerate(node.items)]
        if node.pairs is not None:
            return self._mapping(node, path)
        assert node.text is not None
        return resolved(node.text) if node.plain else node.text

    def _mapping(self, node: _Node, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in self._own_pairs(node, path):
            assert name.text is not None
            here = (*path, name.text)
            self.tree.names[here] = name.mark
            found[name.text] = self.flatten(value, here)
        for name, value in self._merged_pairs(node, path):
            if name.text is not None and name.text not in found:
                here = (*path, name.text)
                self.tree.names[here] = name.mark
                found[name.text] = self.flatten(value, here)
        return found

    def _own_pairs(self, node: _Node, path: Path) -> Iterator[tuple[_Node, _Node]]:
        seen: dict[str, Mark] = {}
        for name, value in node.pairs or ():
            if name.text is None:
                self._refuse(path, "a name must be a plain text, not a list or a mapping", name.mark)
            elif _is_merge(name):
                continue
            elif name.text in seen:
                first = seen[name.text].line
                self._refuse((*path, name.text), f"stands twice, first in line {first}; keep one", name.mark)
            else:
                seen[name.text] = name.mark
                yield name, value

    def _merged_pairs(self, node: _Node, path: Path) -> Iterator[tuple[_Node, _Node]]:
        for name, value in node.pairs or ():
            if not _is_merge(name):
                continue
            for source in [value] if value.items is None else value.items:
                self._spend(source, len(path))
                if source.pairs is None:
                    self._refuse((*path, "<<"), "takes a mapping or a list of mappings", name.mark)
                    continue
                for pair in source.pairs:
                    self._spend(source, len(path))
                    if not _is_merge(pair[0]):
                        yield pair
                yield from self._merged_pairs(source, path)

    def _spend(self, node: _Node, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            raise _Refused(f"more than {MAX_VALUES} values or {MAX_DEPTH} levels, aliases counted", node.mark)

    def _refuse(self, path: Path, message: str, mark: Mark) -> None:
        self.problems.append(Problem(self._file, mark.line, mark.column, field_name(path), message))


def _is_merge(name: _Node) -> bool:
    return name.plain and name.text == "<<"
