"""One schema object's own keywords, made ready to be asked while a document is still being read."""

from collections.abc import Callable
from typing import Any

import jsonschema_rs

from schemas.patterns import LINEAR
from schemas.refs import Place, Refs
from schemas.surrogates import without_surrogates
from schemas.vocabulary import Dialect, children, escape

OBJECT, ARRAY, STRING, NUMBER, BOOLEAN, NULL = 1, 2, 4, 8, 16, 32
ANY_KIND = 63
NO_LIMIT = float("inf")

_KINDS = {
    "object": OBJECT,
    "array": ARRAY,
    "string": STRING,
    "number": NUMBER,
    "integer": NUMBER,
    "boolean": BOOLEAN,
    "null": NULL,
}
_TEXT = ("minLength", "maxLength", "pattern", "format", "contentMediaType", "contentEncoding")
_NUMBER = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_LATE_FOR_ANY = frozenset({"not", "if", "oneOf"})
_LATE_FOR_OBJECTS = frozenset(
    {"dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties"}
)
_LATE_FOR_ARRAYS = frozenset({"contains", "uniqueItems", "unevaluatedItems"})
_OWN = frozenset(
    {
        "type",
        "enum",
        "const",
        *_TEXT,
        *_NUMBER,
        *_LATE_FOR_ANY,
        *_LATE_FOR_OBJECTS,
        *_LATE_FOR_ARRAYS,
        "required",
        "properties",
        "patternProperties",
        "additionalProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "items",
        "prefixItems",
        "additionalItems",
        "minItems",
        "maxItems",
    }
)

Check = Callable[[Any], bool]


def says_something(schema: dict[str, Any]) -> bool:
    """Whether `schema` has a keyword of its own that can refuse a value."""
    return not _OWN.isdisjoint(schema)


def kind_of(value: Any) -> int:
    """The bit of a JSON value's kind."""
    if isinstance(value, str):
        return STRING
    if isinstance(value, bool):
        return BOOLEAN
    if value is None:
        return NULL
    return OBJECT if isinstance(value, dict) else ARRAY if isinstance(value, list) else NUMBER


class Atom:
    """What one schema says by itself. `late` are the kinds that only the validator can judge."""

    def __init__(self, place: Place, dialect: Dialect, *, incomplete: bool) -> None:
        schema = place.schema
        self.place = place
        self.kinds = _kinds_of(schema)
        self.strings = _strings_of(schema)
        self.required = frozenset(schema.get("required", ()))
        self.min_members = schema.get("minProperties", 0)
        self.max_members = schema.get("maxProperties", NO_LIMIT)
        self.min_items = schema.get("minItems", 0)
        self.max_items = schema.get("maxItems", NO_LIMIT)
        self.max_length = schema.get("maxLength", NO_LIMIT)
        types = schema.get("type", ())
        whole = ["type"] if "integer" in types and "number" not in types else []
        constants = ["enum", "const"]
        numeric = [*whole, *constants, *_NUMBER]
        self.text_check = _check_of(schema, _TEXT, dialect) if self.kinds & STRING else None
        self.number_check = _check_of(schema, numeric, dialect) if self.kinds & NUMBER else None
        others = self.kinds & ~(STRING | NUMBER)
        self.constant_check = _check_of(schema, constants, dialect) if others else None
        self.late = ANY_KIND if incomplete or not _LATE_FOR_ANY.isdisjoint(schema) else 0
        self.late |= 0 if _LATE_FOR_OBJECTS.isdisjoint(schema) else OBJECT
        self.late |= 0 if _LATE_FOR_ARRAYS.isdisjoint(schema) else ARRAY
        self.named = schema.get("properties", {})
        self.patterns = {
            pattern: dialect.validator({"pattern": pattern}, pattern_options=LINEAR)
            for pattern in schema.get("patternProperties", {})
        }
        self.first, self.rest = _positions(schema, dialect)

    def members(self, refs: Refs, name: str) -> list[Place]:
        """The schemas that the member `name` meets."""
        schema, found = self.place.schema, []
        if name in self.named:
            found.append(refs.into(self.place, f"/properties/{escape(name)}", self.named[name]))
        for pattern, validator in self.patterns.items():
            if passes(validator, name):
                below = f"/patternProperties/{escape(pattern)}"
                found.append(refs.into(self.place, below, schema["patternProperties"][pattern]))
        if not found and "additionalProperties" in schema:
            found.append(refs.into(self.place, "/additionalProperties", schema["additionalProperties"]))
        return found

    def item(self, refs: Refs, index: int) -> list[Place]:
        """The schema that the item at `index` meets, if any."""
        schema = self.place.schema
        if self.first and index < len(schema[self.first]):
            return [refs.into(self.place, f"/{self.first}/{index}", schema[self.first][index])]
        if self.rest in schema:
            return [refs.into(self.place, f"/{self.rest}", schema[self.rest])]
        return []


def passes(validator: jsonschema_rs.Validator, value: Any) -> bool:
    """What `validator` says of a value whose depth is bounded."""
    try:
        return validator.is_valid(value)
    except UnicodeEncodeError:
        return validator.is_valid(without_surrogates(value))


def late_check(atom: Atom, refs: Refs) -> Check | None:
    """A validator of the atom's whole schema; None where it can not stand without its document."""
    schema, root = atom.place.schema, refs.root.schema
    if atom.place.pointer == "":
        return None  # the document is validated as a whole when it ends
    if refs.dynamic or not _needs_stores_only(atom.place, refs):
        return None
    alone = {**schema, "$schema": refs.dialect.uri}
    alone |= {store: root[store] for store in ("$defs", "definitions") if store in root}
    try:
        validator = refs.dialect.validator(alone, validate_formats=True, offline=True, pattern_options=LINEAR)
    except ValueError:
        return None
    return lambda value: passes(validator, value)


def _needs_stores_only(start: Place, refs: Refs) -> bool:
    """Whether all references below `start` lead into the document's `$defs` or `definitions`."""
    waiting, seen = [start], set[str]()
    while waiting:
        place = waiting.pop()
        if place.pointer in seen or not isinstance(place.schema, dict):
            continue
        seen.add(place.pointer)
        for _, targets in refs.referred(place):
            stored = [t for t in targets if t.pointer.startswith(("/$defs/", "/definitions/"))]
            if place.base_pointer or len(stored) != len(targets) or len(targets) != 1:
                return False
            waiting += targets
        waiting += [
            refs.into(place, below, child) for _, below, child in children(place.schema, refs.dialect)
        ]
        if len(seen) > 1_000:
            return False
    return True


def _kinds_of(schema: dict[str, Any]) -> int:
    kinds = ANY_KIND
    if "type" in schema:
        named = schema["type"]
        kinds = 0
        for name in [named] if isinstance(named, str) else named:
            kinds |= _KINDS[name]
    if "const" in schema:
        kinds &= kind_of(schema["const"])
    if "enum" in schema:
        allowed = 0
        for value in schema["enum"]:
            allowed |= kind_of(value)
        kinds &= allowed
    return kinds


def _strings_of(schema: dict[str, Any]) -> frozenset[str] | None:
    """The strings that `enum` and `const` leave, None where they say nothing."""
    found: frozenset[str] | None = None
    if "enum" in schema:
        found = frozenset(value for value in schema["enum"] if isinstance(value, str))
    if "const" in schema:
        constant = schema["const"]
        only = frozenset({constant} if isinstance(constant, str) else ())
        found = only if found is None else found & only
    return found


def _check_of(schema: dict[str, Any], keywords: Any, dialect: Dialect) -> Check | None:
    own = {keyword: schema[keyword] for keyword in keywords if keyword in schema}
    if not own:
        return None
    validator = dialect.validator(own, validate_formats=True, offline=True, pattern_options=LINEAR)
    return lambda value: passes(validator, value)


def _positions(schema: dict[str, Any], dialect: Dialect) -> tuple[str, str]:
    """The keywords for the first items of an array and for the others; "" where there are no first."""
    if dialect.list_items:
        return ("items", "additionalItems") if isinstance(schema.get("items"), list) else ("", "items")
    return ("prefixItems" if "prefixItems" in schema else "", "items")
