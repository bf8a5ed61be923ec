"""Exact coercion: a value of the wrong JSON type that says the same thing, made the right one.

Only what can be undone is done: "42" is 42, "true" is true, an enum member written in other case.
Where two branches of a schema would take two different results, none is made.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import jsonschema_rs

from schemas.check import ChangeKind
from schemas.reading import Edit
from schemas.shape import resolve

_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,300})(?:\.0+)?\Z")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,300})(?:\.\d{1,300})?(?:[eE][+-]?\d{1,3})?\Z")
_BOOLEANS = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}
_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
}
_FROM_STRING = ("number", "boolean")
_SAYS_TYPE = frozenset(
    {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "pattern", "format", "minLength"}
)
_MISFIT: Any = object()
_MAX_STEPS = 20_000
_MAX_BRANCHES = 32

COERCION_COST = 0.6


class Fitter:
    """Fits one value to one schema. Make one for each value.

    `raw` gives the characters of scalars that were written without quotes (see Reading.raw): such a
    scalar may be read as a string. Approximate on purpose: the validator has the last word.
    """

    def __init__(self, root: Any, raw: Mapping[tuple[int, Any], str]) -> None:
        self._root = root
        self._raw = raw
        self._steps = 0
        self._doubtful = False
        self._patterns: dict[str, Any] = {}
        self.edits: list[Edit] = []

    def fit(self, value: Any) -> Any:
        """`value`, changed so that it may satisfy the schema. Raises ValueError where it cannot be."""
        fitted = self._fit(value, self._root, "", None, 0)
        if fitted is _MISFIT:
            raise ValueError("no exact coercion makes it valid")
        if self._doubtful and any(edit.operation in _FROM_STRING for edit in self.edits):
            # The writer put scalars into quotes, and some stand where the schema takes either.
            raise ValueError("a string may have been meant as a number")
        return fitted

    def _doubt(self, value: Any) -> None:
        """Note if `value`, at a place where anything may stand, holds strings that look like other scalars."""
        pending = [value]
        while pending and not self._doubtful:
            self._steps += 1
            if self._steps > _MAX_STEPS:
                return
            item = pending.pop()
            if isinstance(item, str):
                self._doubtful = item in _BOOLEANS or _NUMBER.match(item) is not None
            elif isinstance(item, dict):
                pending.extend(item.values())
            elif isinstance(item, list):
                pending.extend(item)

    def _note(
        self, operation: str, pointer: str, before: Any, after: str, kind: ChangeKind = "coercion"
    ) -> None:
        self.edits.append(Edit(operation, kind, -1, -1, pointer, f"{_short(before)} -> {after}"))

    def _fit(self, value: Any, node: Any, pointer: str, place: tuple[int, Any] | None, depth: int) -> Any:
        self._steps += 1
        if node is True or self._steps > _MAX_STEPS or depth > 160:
            self._doubt(value)
            return value
        if not isinstance(node, dict):
            return _MISFIT
        if "$ref" in node:
            value = self._fit(value, resolve(self._root, node["$ref"]), pointer, place, depth + 1)
            if value is _MISFIT:
                return _MISFIT
        for branch in node.get("allOf") or ():
            value = self._fit(value, branch, pointer, place, depth + 1)
            if value is _MISFIT:
                return _MISFIT
        for name in ("anyOf", "oneOf"):
            if isinstance(node.get(name), list):
                value = self._fit_branches(value, node[name][:_MAX_BRANCHES], pointer, place, depth)
                if value is _MISFIT:
                    return _MISFIT
        if "const" in node:
            return self._fit_enum(value, [node["const"]], pointer, place)
        if isinstance(node.get("enum"), list):
            return self._fit_enum(value, node["enum"], pointer, place)
        if "type" in node:
            value = self._fit_type(value, node["type"], pointer, place)
            if value is _MISFIT:
                return _MISFIT
        if isinstance(value, dict):
            return self._fit_object(value, node, pointer, depth)
        if isinstance(value, list):
            return self._fit_array(value, node, pointer, depth)
        if isinstance(value, str) and _SAYS_TYPE.isdisjoint(node):
            self._doubt(value)
        return value

    def _fit_branches(self, value: Any, options: list[Any], pointer: str, place: Any, depth: int) -> Any:
        """The cheapest branch's result; none where two equally cheap ones differ."""
        mark = len(self.edits)
        best: Any = _MISFIT
        best_edits: list[Edit] = []
        tied = converted = False
        for option in options:
            fitted = self._fit(value, option, pointer, place, depth + 1)
            edits = self.edits[mark:]
            del self.edits[mark:]
            if fitted is _MISFIT:
                continue
            if isinstance(value, str) and any(edit.operation in _FROM_STRING for edit in edits):
                converted = True
            if best is _MISFIT or len(edits) < len(best_edits):
                best, best_edits, tied = fitted, edits, False
            elif len(edits) == len(best_edits) and not same(fitted, best):
                tied = True
        if tied:
            return _MISFIT
        self._doubtful = self._doubtful or (converted and not best_edits and best is not _MISFIT)
        self.edits.extend(best_edits)
        return best

    def _fit_enum(self, value: Any, members: list[Any], pointer: str, place: Any) -> Any:
        if any(same(value, member) for member in members):
            return value
        raw = self._raw.get(place) if place is not None else None
        text = value if isinstance(value, str) else raw
        if text is None:
            return _MISFIT
        if raw is not None and raw in members:
            self._note("string", pointer, raw, f'"{raw}"', "choice")
            return raw
        found = [member for member in members if alike(text, member)]
        if len(found) != 1:
            return _MISFIT
        self._note("enum", pointer, text, _short(found[0]))
        return found[0]

    def _fit_type(self, value: Any, types: Any, pointer: str, place: Any) -> Any:
        names = types if isinstance(types, list) else [types]
        if any(_is(value, name) for name in names):
            if (
                isinstance(value, str)
                and len(names) > 1
                and not {"number", "integer", "boolean"}.isdisjoint(names)
            ):
                self._doubt(value)
            return value
        if names == ["array"] and isinstance(value, str | int | float):
            self._note("wrapped", pointer, value, f"[{_short(value)}]")
            return [value]
        if isinstance(value, str):
            return self._from_string(value, names, pointer)
        if "string" in names and place is not None and (raw := self._raw.get(place)) is not None:
            self._note("string", pointer, raw, f'"{raw}"', "choice")
            return raw
        if isinstance(value, float) and value.is_integer() and "integer" in names:
            self._note("integer", pointer, value, str(int(value)))
            return int(value)
        if names == ["boolean"] and value in (0, 1) and not isinstance(value, bool):
            self._note("boolean", pointer, value, str(value == 1).lower())
            return value == 1
        return _MISFIT

    def _from_string(self, value: str, names: list[Any], pointer: str) -> Any:
        text = value.strip()
        found: list[tuple[str, Any]] = []
        if ("integer" in names or "number" in names) and _INTEGER.match(text):
            found.append(
                (
                    "number",
                    int(text.partition(".")[0]) if "." not in text or "number" not in names else float(text),
                )
            )
        elif "number" in names and _NUMBER.match(text):
            found.append(("number", float(text)))
        if "boolean" in names and text in _BOOLEANS:
            found.append(("boolean", _BOOLEANS[text]))
        elif names == ["boolean"] and text.lower() in ("yes", "no"):
            found.append(("boolean", text.lower() == "yes"))
        if "null" in names and text in ("null", "None"):
            found.append(("null", None))
        if len(found) != 1:
            return _MISFIT
        operation, result = found[0]
        self._note(operation, pointer, value, _short(result))
        return result

    def _fit_object(self, value: dict[str, Any], node: dict[str, Any], pointer: str, depth: int) -> Any:
        properties = node.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        extra = node.get("additionalProperties", True)
        open_to_more = extra is not False or "patternProperties" in node
        required = [key for key in node.get("required") or () if isinstance(key, str)]
        names = self._names(value, properties, required, open_to_more=open_to_more)
        if names is None:
            return _MISFIT
        changed: dict[str, Any] = {}
        same_object = True
        for key, inner in value.items():
            name = names.get(key, key)
            if name != key:
                self._note("key", f"{pointer}/{_escape(name)}", key, f'"{name}"')
                same_object = False
            schema = properties[name] if name in properties else self._schema_of(name, node, extra)
            fitted = self._fit(inner, schema, f"{pointer}/{_escape(name)}", (id(value), key), depth + 1)
            if fitted is _MISFIT:
                return _MISFIT
            same_object = same_object and fitted is inner
            changed[name] = fitted
        return value if same_object else changed

    def _schema_of(self, name: str, node: dict[str, Any], extra: Any) -> Any:
        """The subschema of a member that `properties` does not name."""
        patterns = node.get("patternProperties")
        for pattern, schema in patterns.items() if isinstance(patterns, dict) else ():
            if self._matches(pattern, name):
                return schema
        return True if extra is False else extra

    def _matches(self, pattern: str, name: str) -> bool:
        # By the validator's engine, whose time is bounded: Python's is not.
        if pattern not in self._patterns:
            self._patterns[pattern] = jsonschema_rs.validator_for({"pattern": pattern})
        return bool(self._patterns[pattern].is_valid(name))

    def _names(
        self, value: dict[str, Any], properties: dict[str, Any], required: list[str], *, open_to_more: bool
    ) -> dict[str, str] | None:
        """Keys that are a property's name in other case or with blanks; None where the object cannot fit."""
        missing = [key for key in required if key not in value]
        unknown = [key for key in value if key not in properties]
        if not missing and (open_to_more or not unknown):
            return {}
        free = [key for key in properties if key not in value]
        names: dict[str, str] = {}
        for key in unknown:
            found = [name for name in free if name.strip().casefold() == key.strip().casefold()]
            if len(found) == 1 and found[0] not in names.values():
                names[key] = found[0]
            elif not open_to_more:
                return None
        return names if all(key in names.values() for key in missing) else None

    def _fit_array(self, value: list[Any], node: dict[str, Any], pointer: str, depth: int) -> Any:
        items = node.get("items")
        prefix = items if isinstance(items, list) else node.get("prefixItems")
        if not isinstance(prefix, list):
            prefix = []
        rest = items if isinstance(items, dict) else True
        changed: list[Any] = []
        same_array = True
        for index, inner in enumerate(value):
            schema = prefix[index] if index < len(prefix) else rest
            fitted = self._fit(inner, schema, f"{pointer}/{index}", (id(value), index), depth + 1)
            if fitted is _MISFIT:
                return _MISFIT
            same_array = same_array and fitted is inner
            changed.append(fitted)
        return value if same_array else changed


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same; true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def alike(text: str, member: Any) -> bool:
    """Whether `text` is the enum's `member` but for case, blanks round it and accents."""
    if isinstance(member, str):
        return _plain(text) == _plain(member)
    if isinstance(member, bool):
        return _BOOLEANS.get(text.strip()) is member
    if isinstance(member, int | float):
        return _NUMBER.match(text.strip()) is not None and float(text) == member
    return False


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.strip().casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def _is(value: Any, name: Any) -> bool:
    if name == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if name == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    kind = _TYPES.get(name)
    return kind is None or isinstance(value, kind)


def _short(value: Any) -> str:
    return str(value)[:80]


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
