"""A schema in the words of a provider's structured-output mode, and what those cannot say.

What comes out accepts whatever the schema accepts, for every family, with the exceptions that the
family forces and that are reported: objects are closed where it knows no open ones, and an optional
property that must be written is written as null. Answers are validated against the full schema all
the same.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from schemas.atoms import NULL
from schemas.check import Problem
from schemas.compiled import Compiled
from schemas.explain import is_of_type
from schemas.families import FAMILIES, Family, FamilyName
from schemas.refs import Place
from schemas.standins import without_stand_ins
from schemas.vocabulary import escape

_MAX_WRITTEN = 6_000
_MARK = "x-null-means-missing"
_NOTES = frozenset(
    {
        *("$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$comment", "$vocabulary"),
        *("$defs", "definitions", "default", "examples", "example", "readOnly", "writeOnly", "deprecated"),
        *("title", "description", "contentSchema", "nullable"),
    }
)
_HANDLED = frozenset(
    {"$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "properties", "required"}
)
_ARRAY_WORDS = frozenset({"items", "prefixItems", "additionalItems"})
_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")


@dataclass(frozen=True, slots=True)
class Subset:
    """A schema for one family.

    `schema` is None where the family cannot say it at all; then `dropped` says why. Else `dropped`
    names what it leaves out, each at its place in the original schema. `null_means_missing` are
    pointers into the new schema, to properties whose null stands for "not there".
    """

    family: FamilyName
    schema: dict[str, Any] | None
    dropped: tuple[Problem, ...]
    null_means_missing: frozenset[str]

    def without_stand_ins(self, value: Any) -> Any:
        """`value` without the nulls that stand for properties that are not there."""
        if not self.null_means_missing or self.schema is None:
            return value
        return without_stand_ins(self.schema, self.null_means_missing, self.schema, "", value)


def compile_subset(compiled: Compiled, family: FamilyName) -> Subset:
    """The schema as `family` understands it, with a report of what it does not."""
    writer = _Writer(compiled, FAMILIES[family])
    try:
        written = writer.document()
    except (_TooMuch, RecursionError):
        problem = Problem("", "schema", "unfolds to too much where references are merged")
        return Subset(family, None, (problem,), frozenset())
    marks: set[str] = set()
    _unmark(written, "", marks)
    impossible = [*writer.impossible, *_over_limits(written, FAMILIES[family])]
    if impossible:
        return Subset(family, None, tuple(impossible), frozenset())
    return Subset(family, written, tuple(writer.dropped), frozenset(marks))


class _TooMuch(Exception):
    """More schemas would have to be written than anybody wants to read."""


class _Writer:
    """Writes the schemas of a document anew, those that are referred to under `$defs`."""

    def __init__(self, compiled: Compiled, family: Family) -> None:
        self.family = family
        self.refs = compiled.examined.refs
        self.dialect = compiled.dialect
        self.dropped: list[Problem] = []
        self.impossible: list[Problem] = []
        self.plans = compiled.plans
        self.names: dict[str, str] = {}
        self.targets: dict[str, Place] = {}
        self.waiting: list[Place] = []
        self.inlining: list[str] = []
        self.leads: dict[str, set[str]] = {}
        self.at = ""
        self.left = _MAX_WRITTEN

    def document(self) -> dict[str, Any]:
        """The whole schema."""
        written = self.schema(self.refs.root)
        if "$ref" in written:
            written = self.inlined(self.refs.root)
            if self.family.closed:
                self.close(self.refs.root, written)
        if self.family.object_root and "anyOf" in written:
            self.impossible.append(Problem("", "anyOf", "the outermost value must be one kind of object"))
        elif self.family.object_root and written.get("type") != "object":
            self.impossible.append(Problem("", "type", "the outermost value must be an object"))
        stored = {}
        while self.waiting:
            place = self.waiting.pop()
            self.at = self.names[place.pointer]
            stored[self.at] = self.schema(place)
        if stored:
            written["$defs"] = stored
        if not self.family.recursion and _has_circle(self.leads):
            self.impossible.append(Problem("", "$ref", "the schema must not refer to itself"))
        return written

    def drop(self, place: Place, keyword: str, message: str = "") -> None:
        """Note that `keyword` of the schema at `place` is left out."""
        text = message or "not enforced while the answer is written, checked afterwards"
        self.dropped.append(Problem(f"{place.pointer}/{escape(keyword)}", keyword, text))

    def cannot(self, place: Place, keyword: str, message: str) -> None:
        """Note that the family has no way to say this."""
        self.impossible.append(Problem(place.pointer, keyword, message))

    def schema(self, place: Place) -> dict[str, Any]:
        """The schema at `place`, with what the family demands of every schema."""
        written = self.body(place)
        if self.family.closed:
            self.close(place, written)
        return written

    def body(self, place: Place) -> dict[str, Any]:
        """The schema at `place` with the keywords that the family knows."""
        schema = place.schema
        self.left -= 1
        if self.left < 0:
            raise _TooMuch
        if not isinstance(schema, dict):
            if schema is False:
                self.drop(place, "false")
            return {}
        targets = [found for _, found in self.refs.referred(place)]
        if targets:
            return self.reference(place, targets)
        written: dict[str, Any] = {note: schema[note] for note in ("title", "description") if note in schema}
        if "type" in schema:
            written["type"] = schema["type"]
        if "properties" in schema:
            written["properties"] = {
                name: self.schema(self.refs.into(place, f"/properties/{escape(name)}", child))
                for name, child in schema["properties"].items()
                if child is not False or not self.family.closed
            }
        if "required" in schema:
            written["required"] = list(schema["required"])
        self.array_words(place, written)
        for keyword in schema:
            if keyword not in _NOTES | _HANDLED | _ARRAY_WORDS and keyword not in written:
                self.keyword(place, keyword, written)
        for index, child in enumerate(schema.get("allOf", ())):
            written = _merged(written, self.inlined(self.refs.into(place, f"/allOf/{index}", child)))
        return _distributed(self.alternatives(place, written))

    def reference(self, place: Place, targets: list[tuple[Place, ...]]) -> dict[str, Any]:
        own = [word for word in place.schema if word not in _NOTES and not word.startswith("$")]
        if not self.dialect.ref_hides_siblings:
            for keyword in own:
                self.drop(place, keyword)
        if len(targets) > 1 or len(targets[0]) != 1:
            self.drop(place, "$dynamicRef")
            return {}
        return {"$ref": self.ref(targets[0][0])}

    def ref(self, target: Place) -> str:
        """A reference to `target`, which is written once, under `$defs`."""
        if target.pointer == "":
            self.leads.setdefault(self.at, set()).add("")
            return "#"
        if target.pointer not in self.names:
            last = re.sub(r"[^A-Za-z0-9_-]+", "_", target.pointer.rsplit("/", 1)[-1])[:40] or "schema"
            taken = set(self.names.values())
            self.names[target.pointer] = last if last not in taken else f"{last}_{len(taken)}"
            self.waiting.append(target)
        self.leads.setdefault(self.at, set()).add(self.names[target.pointer])
        ref = f"#/$defs/{self.names[target.pointer]}"
        self.targets[ref] = target
        return ref

    def inlined(self, place: Place) -> dict[str, Any]:
        """The body at `place`, references followed, so that it can be merged with another."""
        targets = [found for _, found in self.refs.referred(place)] if isinstance(place.schema, dict) else []
        if len(targets) != 1 or len(targets[0]) != 1:
            return self.body(place)
        target = targets[0][0]
        if target.pointer in self.inlining:
            self.drop(place, "$ref")
            return {}
        self.inlining.append(target.pointer)
        written = self.inlined(target)
        self.inlining.pop()
        return written

    def alternatives(self, place: Place, written: dict[str, Any]) -> dict[str, Any]:
        """`written` with the alternatives of the schema, each of them complete in itself."""
        keyword = "anyOf" if "anyOf" in place.schema else "oneOf"
        if keyword not in place.schema:
            return written
        if keyword == "anyOf" and "oneOf" in place.schema:
            self.drop(place, "oneOf")
        elif keyword == "oneOf":
            self.drop(place, "oneOf", "written as anyOf: that exactly one fits is checked afterwards")
        if place.pointer == "" and self.family.object_root and "object" in _listed(written.get("type")):
            self.drop(place, keyword)
            return written
        bare = not written.keys() - {"title", "description"}
        branches: list[dict[str, Any]] = []
        for index, child in enumerate(place.schema[keyword]):
            inner = self.refs.into(place, f"/{keyword}/{index}", child)
            branch = self.body(inner) if bare else self.inlined(inner)
            branches += branch["anyOf"] if branch.keys() == {"anyOf"} else [branch]
        if "anyOf" in written:
            self.drop(place, keyword)
            return written
        return {**written, "anyOf": branches}

    def keyword(self, place: Place, keyword: str, written: dict[str, Any]) -> None:
        """Write one keyword that stands for itself, or its nearest laxer relative, or drop it."""
        family, schema = self.family, place.schema
        value = schema[keyword]
        if keyword == "additionalProperties":
            self.additional(place, written)
        elif keyword == "const" and "const" not in family.keywords and _is_one(value, family):
            written["enum"] = [value]
        elif keyword in ("exclusiveMinimum", "exclusiveMaximum"):
            self.exclusive(place, keyword, written)
        elif keyword == "enum" and not all(_is_one(one, family) for one in value):
            self.drop(place, keyword)
        elif keyword == "minItems" and family.max_min_items is not None and value > family.max_min_items:
            written["minItems"] = family.max_min_items
            self.drop(place, keyword, f"lowered to {family.max_min_items}, checked afterwards")
        elif keyword == "format" and value not in family.formats:
            self.drop(place, keyword)
        elif keyword in family.keywords:
            written[keyword] = value
        elif not keyword.startswith("x-"):
            self.drop(place, keyword)

    def additional(self, place: Place, written: dict[str, Any]) -> None:
        value = place.schema["additionalProperties"]
        if "patternProperties" in place.schema:
            return  # the names that a pattern allows must not become forbidden
        if isinstance(value, dict) and not self.family.closed:
            written["additionalProperties"] = self.schema(
                self.refs.into(place, "/additionalProperties", value)
            )
        else:
            written["additionalProperties"] = value

    def exclusive(self, place: Place, keyword: str, written: dict[str, Any]) -> None:
        plain = "minimum" if keyword == "exclusiveMinimum" else "maximum"
        value = place.schema[keyword]
        if isinstance(value, bool):  # draft-04: it sharpens the plain limit, which stays
            if value:
                self.drop(place, keyword)
        elif keyword in self.family.keywords:
            written[keyword] = value
        else:
            self.drop(place, keyword)
            if plain in self.family.keywords and plain not in place.schema:
                written[plain] = value

    def array_words(self, place: Place, written: dict[str, Any]) -> None:
        schema = place.schema
        first = "items" if isinstance(schema.get("items"), list) else "prefixItems"
        rest = "additionalItems" if first == "items" else "items"
        heads = schema.get(first) if isinstance(schema.get(first), list) else []
        places = [self.refs.into(place, f"/{first}/{index}", head) for index, head in enumerate(heads)]
        tail = schema.get(rest)
        others = self.schema(self.refs.into(place, f"/{rest}", tail)) if isinstance(tail, dict) else {}
        if not places:
            if rest in schema and isinstance(tail, dict):
                written["items"] = others
            elif tail is False:
                self.drop(place, rest)
            return
        if "prefixItems" in self.family.keywords:
            written["prefixItems"] = [self.schema(one) for one in places]
            if rest in schema:
                written["items"] = others if isinstance(tail, dict) else tail
            return
        self.drop(place, first, "written as items of any of these kinds, their order is checked afterwards")
        kinds = [self.schema(one) for one in places] + ([] if tail is False else [others])
        written["items"] = {"anyOf": kinds}

    def close(self, place: Place, written: dict[str, Any]) -> None:
        """Give a schema the type that it must have, and an object a closed list of properties."""
        if "$ref" in written:
            return
        if "anyOf" in written:
            for branch in written["anyOf"]:
                self.close(place, branch)
            return
        if "type" not in written:
            self.infer_type(place, written)
        kinds = _listed(written.get("type"))
        if "array" in kinds and "items" not in written:
            self.cannot(place, "items", "items of any kind")
        if "object" not in kinds:
            return
        named = written.setdefault("properties", {})
        if written.get("additionalProperties") is not False or "patternProperties" in place.schema:
            if not named:
                self.cannot(place, "additionalProperties", "an object whose names are not known beforehand")
            message = "only the named properties can be written"
            self.drop(place, "additionalProperties", message)
        written["additionalProperties"] = False
        required = written.setdefault("required", [])
        if not named.keys() >= set(required):
            self.cannot(place, "required", "a required property without a schema of its own")
        if self.family.all_required:
            for name in named:
                if name not in required and not self.takes_null(named[name]):
                    named[name] = _or_null(named[name])
            written["required"] = list(named)

    def infer_type(self, place: Place, written: dict[str, Any]) -> None:
        values = written.get("enum", [written["const"]] if "const" in written else [])
        if values:
            kinds = [kind for kind in _TYPES if any(is_of_type(value, kind) for value in values)]
            if "number" in kinds and "integer" in kinds:
                kinds.remove("integer")
            written["type"] = kinds[0] if len(kinds) == 1 else kinds
        elif "properties" in written or "items" in written:
            written["type"] = "object" if "properties" in written else "array"
            self.drop(place, "type", f"only values of type {written['type']} can be written")
        else:
            self.cannot(place, "type", "a value of any type")

    def takes_null(self, written: dict[str, Any]) -> bool:
        """Whether a written schema accepts null."""
        if "$ref" in written:
            target = self.refs.root if written["$ref"] == "#" else self.targets[written["$ref"]]
            branches = self.plans.goal([target]).branches
            return any(branch.kinds & NULL and branch.takes_constant(None) for branch in branches)
        if "anyOf" in written:
            return any(self.takes_null(branch) for branch in written["anyOf"])
        if "enum" in written:
            return None in written["enum"]
        return "null" in _listed(written.get("type"))


def _is_one(value: Any, family: Family) -> bool:
    """Whether the family's enums may hold `value`."""
    if isinstance(value, bool):
        return bool in family.enum_kinds
    return isinstance(value, family.enum_kinds)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _or_null(written: dict[str, Any]) -> dict[str, Any]:
    notes: dict[str, Any] = {note: written[note] for note in ("title", "description") if note in written}
    kinds = _listed(written.get("type"))
    if kinds and "enum" not in written and "const" not in written:
        return {**written, "type": [*kinds, "null"], _MARK: True}
    if "anyOf" in written:
        return {**written, "anyOf": [*written["anyOf"], {"type": "null"}], _MARK: True}
    rest = {word: held for word, held in written.items() if word not in notes}
    return {**notes, "anyOf": [rest, {"type": "null"}], _MARK: True}


def _distributed(written: dict[str, Any]) -> dict[str, Any]:
    """The same schema with nothing but notes beside `anyOf`: some backends read nothing else there."""
    rest = {word: held for word, held in written.items() if word not in ("title", "description", "anyOf")}
    if "anyOf" not in written or not rest:
        return written
    notes = {word: held for word, held in written.items() if word not in rest}
    return {**notes, "anyOf": [_distributed(_merged(branch, rest)) for branch in written["anyOf"]]}


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A schema that accepts what both accept, and perhaps more: of two equal keywords one stays."""
    merged = dict(one)
    for keyword, held in other.items():
        if keyword not in merged:
            merged[keyword] = held
        elif keyword == "required":
            merged["required"] = list(dict.fromkeys([*merged["required"], *held]))
        elif keyword == "properties":
            both = {
                name: _merged(merged["properties"][name], child) if name in merged["properties"] else child
                for name, child in held.items()
            }
            merged["properties"] = {**merged["properties"], **both}
        elif keyword == "type":
            kinds = [kind for kind in _listed(merged["type"]) if kind in _listed(held)]
            merged["type"] = (kinds if len(kinds) > 1 else kinds[0]) if kinds else merged["type"]
    return merged


def _has_circle(leads: dict[str, set[str]]) -> bool:
    left = {name: set(to) for name, to in leads.items()}
    while True:
        ends = [name for name, to in left.items() if not to & left.keys()]
        if not ends:
            return bool(left)
        for name in ends:
            del left[name]


def _parts(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for keyword in ("properties", "$defs"):
        for name, child in schema.get(keyword, {}).items():
            yield f"/{keyword}/{escape(name)}", child
    for keyword in ("anyOf", "prefixItems"):
        for index, child in enumerate(schema.get(keyword, ())):
            yield f"/{keyword}/{index}", child
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield f"/{keyword}", schema[keyword]


def _unmark(schema: dict[str, Any], pointer: str, marks: set[str]) -> None:
    if schema.pop(_MARK, False):
        marks.add(pointer)
    for below, child in _parts(schema):
        _unmark(child, pointer + below, marks)


def _over_limits(written: dict[str, Any], family: Family) -> Iterator[Problem]:
    properties = name_chars = enum_values = optional = unions = levels = 0
    waiting = [(written, 0)]
    while waiting:
        schema, level = waiting.pop()
        named = schema.get("properties", {})
        level += bool(named)
        properties += len(named)
        levels = max(levels, level)
        optional += len(named.keys() - set(schema.get("required", ())))
        unions += "anyOf" in schema or isinstance(schema.get("type"), list)
        values = schema.get("enum", [schema["const"]] if "const" in schema else [])
        enum_values += len(values) if "enum" in schema else 0
        texts = [*named, *schema.get("$defs", {}), *(value for value in values if isinstance(value, str))]
        name_chars += sum(map(len, texts))
        waiting += [(child, level) for _, child in _parts(schema)]
    for words, found, most in (
        ("properties", properties, family.max_properties),
        ("levels of objects", levels, family.max_levels),
        ("characters in names and constants", name_chars, family.max_name_chars),
        ("values in enums", enum_values, family.max_enum_values),
        ("optional properties", optional, family.max_optional),
        ("properties of several types", unions, family.max_unions),
    ):
        if most is not None and found > most:
            yield Problem("", "schema", f"{found} {words}, at most {most} are allowed")
