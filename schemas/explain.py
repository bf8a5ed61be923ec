"""Why a value does not satisfy a schema, in a few problems that lead to the mistake.

The validator knows whether a value is valid, and we believe it; but its list of all errors is eager
and copies the value into each of them (65 s and 12 GB for 1 MB of text against 1,000 required
names). So this module walks schema and value itself, lazily, within a budget, and picks the closest
branch of an alternative. Where it finds nothing it asks the validator for its first error.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from typing import Any, NamedTuple

import jsonschema_rs

from schemas.check import Problem
from schemas.dialect import Examined
from schemas.equality import identity, same
from schemas.patterns import LINEAR
from schemas.refs import Place
from schemas.vocabulary import escape
from schemas.wording import detail_of, encodable, message_of

MAX_STEPS = 4_000
_BRANCH_PROBLEMS = 5
_NAME_IN_POINTER_CHARS = 200


class _SpentBudget(Exception):
    """The walk has taken as many steps as it may."""


Small = dict[tuple[str, str], jsonschema_rs.Validator]
"""Validators of single patterns and formats, by (keyword, required)."""


def explain(
    examined: Examined, validator: jsonschema_rs.Validator, value: Any, limit: int, small: Small
) -> tuple[Problem, ...]:
    """At least one and at most `limit` problems of `value`, which `validator` has found invalid.

    `small` is kept from one call to the next for the same schema, and grows up to its patterns.
    """
    found: list[Problem] = []
    walk = _Walk(examined, small)
    try:
        for raw in walk.at(examined.refs.root, value, ""):
            problem = raw.worded()
            if problem not in found:
                found.append(problem)
            if len(found) >= limit:
                break
    except (_SpentBudget, RecursionError):
        pass
    return tuple(found) or (first_problem(validator, value),)


def first_problem(validator: jsonschema_rs.Validator, value: Any) -> Problem:
    """The validator's own first error of an invalid `value`, in our words."""
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        return worded(error)
    except (ValueError, RecursionError):
        pass
    return Problem("", "json", "nested too deeply, or no JSON value")


def worded(error: jsonschema_rs.ValidationError) -> Problem:
    """An error of the validator in our words."""
    kind: Any = error.kind
    keyword = "false" if kind.name == "falseSchema" else str(kind.name)
    facts = type(kind).__match_args__
    required = getattr(kind, facts[0]) if facts else None
    message = message_of(keyword, required)
    pointer = "".join(f"/{escape(part)}" for part in error.instance_path)
    return Problem(pointer, keyword, message, detail_of(keyword, required, message, error.instance))


def is_of_type(value: Any, kind: str) -> bool:
    """Whether `value` is of the JSON Schema type `kind`."""
    match kind:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "integer":
            whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            return whole and not isinstance(value, bool)
    return False


class Found(NamedTuple):
    """A problem before it is put into words: `required` is what the schema says, `value` what came."""

    pointer: str
    keyword: str
    required: Any
    value: Any

    def worded(self) -> Problem:
        """The problem in words."""
        message = message_of(self.keyword, self.required)
        detail = detail_of(self.keyword, self.required, message, self.value)
        return Problem(encodable(self.pointer), self.keyword, message, detail)


class _Walk:
    """One explanation and its budget."""

    def __init__(self, examined: Examined, small: Small) -> None:
        self.refs = examined.refs
        self.dialect = examined.dialect
        self.steps_left = MAX_STEPS
        self.small = small

    def spend(self, steps: int = 1) -> None:
        self.steps_left -= steps
        if self.steps_left < 0:
            raise _SpentBudget

    def at(self, place: Place, value: Any, pointer: str) -> Iterator[Found]:
        """The problems of `value` against the schema at `place`."""
        self.spend()
        schema = place.schema
        if schema is False:
            yield Found(pointer, "false", None, value)
        if not isinstance(schema, dict):
            return
        for _, targets in self.refs.referred(place):
            if len(targets) == 1:
                yield from self.at(targets[0], value, pointer)
        if "$ref" in schema and self.dialect.ref_hides_siblings:
            return
        failed_type = "type" in schema and not self._type_fits(schema["type"], value)
        if failed_type:
            yield Found(pointer, "type", schema["type"], value)
        if "const" in schema and not same(value, schema["const"]):
            yield Found(pointer, "const", schema["const"], value)
        if "enum" in schema and not failed_type and not self._is_one_of(schema["enum"], value):
            yield Found(pointer, "enum", schema["enum"], value)
        if isinstance(value, dict):
            yield from self._object(place, value, pointer)
        elif isinstance(value, list):
            yield from self._array(place, value, pointer)
        elif isinstance(value, str):
            yield from self._string(schema, value, pointer)
        elif is_of_type(value, "number"):
            yield from self._number(schema, value, pointer)
        yield from self._combined(place, value, pointer)

    def fits(self, place: Place, value: Any) -> bool:
        """Whether no problem is found."""
        return next(self.at(place, value, ""), None) is None

    def _type_fits(self, kinds: Any, value: Any) -> bool:
        return any(is_of_type(value, kind) for kind in (kinds if isinstance(kinds, list) else [kinds]))

    def _is_one_of(self, allowed: list[Any], value: Any) -> bool:
        self.spend(1 + len(allowed) // 50)
        return any(same(value, one) for one in allowed)

    def _small(self, keyword: str, required: str) -> jsonschema_rs.Validator:
        if (keyword, required) not in self.small:
            self.spend(20)
            self.small[keyword, required] = self.dialect.validator(
                {keyword: required},
                validate_formats=True,
                offline=True,
                pattern_options=LINEAR,
            )
        return self.small[keyword, required]

    def _passes(self, keyword: str, required: str, value: str) -> bool:
        self.spend(1 + len(value) // 10_000)
        try:
            return self._small(keyword, required).is_valid(value)
        except ValueError:  # lone surrogates: left to the validator of the whole schema
            return True

    def _string(self, schema: dict[str, Any], value: str, pointer: str) -> Iterator[Found]:
        if "minLength" in schema and len(value) < schema["minLength"]:
            yield Found(pointer, "minLength", schema["minLength"], value)
        if "maxLength" in schema and len(value) > schema["maxLength"]:
            yield Found(pointer, "maxLength", schema["maxLength"], value)
        for keyword in ("pattern", "format"):
            if keyword in schema and not self._passes(keyword, schema[keyword], value):
                yield Found(pointer, keyword, schema[keyword], value)

    def _number(self, schema: dict[str, Any], value: float, pointer: str) -> Iterator[Found]:
        low, high = schema.get("minimum"), schema.get("maximum")
        over, under = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        if self.dialect.number == 4:  # there they are booleans that sharpen the other two
            low, over = (None, low) if over is True else (low, None)
            high, under = (None, high) if under is True else (high, None)
        if low is not None and value < low:
            yield Found(pointer, "minimum", low, value)
        if high is not None and value > high:
            yield Found(pointer, "maximum", high, value)
        if over is not None and value <= over:
            yield Found(pointer, "exclusiveMinimum", over, value)
        if under is not None and value >= under:
            yield Found(pointer, "exclusiveMaximum", under, value)
        if "multipleOf" in schema and not _divides(schema["multipleOf"], value):
            yield Found(pointer, "multipleOf", schema["multipleOf"], value)

    def _object(self, place: Place, value: dict[str, Any], pointer: str) -> Iterator[Found]:
        schema = place.schema
        for name in schema.get("required", ()):
            if name not in value:
                yield Found(pointer, "required", name, value)
        for trigger, names in schema.get("dependentRequired", {}).items():
            for name in names:
                if trigger in value and name not in value:
                    yield Found(pointer, "dependentRequired", name, value)
        if "minProperties" in schema and len(value) < schema["minProperties"]:
            yield Found(pointer, "minProperties", schema["minProperties"], value)
        if "maxProperties" in schema and len(value) > schema["maxProperties"]:
            yield Found(pointer, "maxProperties", schema["maxProperties"], value)
        yield from self._members(place, value, pointer)

    def _members(self, place: Place, value: dict[str, Any], pointer: str) -> Iterator[Found]:
        schema = place.schema
        named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        others, names = schema.get("additionalProperties"), schema.get("propertyNames")
        if not named and not patterns and others is None and names is None:
            return
        for key, held in value.items():
            self.spend()
            short = len(key) <= _NAME_IN_POINTER_CHARS
            below = f"{pointer}/{escape(key)}" if short else pointer
            known = key in named
            if known:
                inner = self.refs.into(place, f"/properties/{escape(key)}", named[key])
                yield from self.at(inner, held, below)
            for pattern, child in patterns.items():
                if self._passes("pattern", pattern, key):
                    known = True
                    inner = self.refs.into(place, f"/patternProperties/{escape(pattern)}", child)
                    yield from self.at(inner, held, below)
            if not known and others is False:
                yield Found(below, "additionalProperties", False, held)
            elif not known and isinstance(others, dict):
                yield from self.at(self.refs.into(place, "/additionalProperties", others), held, below)
            if names is not None and not self.fits(self.refs.into(place, "/propertyNames", names), key):
                yield Found(below, "propertyNames", names, key)

    def _array(self, place: Place, value: list[Any], pointer: str) -> Iterator[Found]:
        schema = place.schema
        if "minItems" in schema and len(value) < schema["minItems"]:
            yield Found(pointer, "minItems", schema["minItems"], value)
        if "maxItems" in schema and len(value) > schema["maxItems"]:
            yield Found(pointer, "maxItems", schema["maxItems"], value)
        first, rest = self.positions(place)
        for index, held in enumerate(value):
            inner = first[index] if index < len(first) else rest
            if inner is None:
                break
            yield from self.at(inner, held, f"{pointer}/{index}")
        if schema.get("uniqueItems") is True:
            yield from self._unique(value, pointer)
        if "contains" in schema and schema.get("minContains", 1) == 1:
            wanted = self.refs.into(place, "/contains", schema["contains"])
            if not any(self.fits(wanted, held) for held in value):
                yield Found(pointer, "contains", None, value)

    def positions(self, place: Place) -> tuple[list[Place], Place | None]:
        """The schemas of an array's first items, and that of all others."""
        schema = place.schema
        first, rest = "prefixItems", "items"
        if self.dialect.list_items and isinstance(schema.get("items"), list):
            first, rest = "items", "additionalItems"
        heads = schema.get(first, [])
        places = [self.refs.into(place, f"/{first}/{index}", head) for index, head in enumerate(heads)]
        return places, self.refs.into(place, f"/{rest}", schema[rest]) if rest in schema else None

    def _unique(self, value: list[Any], pointer: str) -> Iterator[Found]:
        seen = set()
        for index, held in enumerate(value):
            self.spend()
            key = identity(held)
            if key in seen:
                yield Found(f"{pointer}/{index}", "uniqueItems", True, held)
                return
            seen.add(key)

    def _combined(self, place: Place, value: Any, pointer: str) -> Iterator[Found]:
        schema, into = place.schema, self.refs.into
        for index, child in enumerate(schema.get("allOf", ())):
            yield from self.at(into(place, f"/allOf/{index}", child), value, pointer)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                yield from self._alternatives(place, keyword, value, pointer)
        if "not" in schema and self.fits(into(place, "/not", schema["not"]), value):
            yield Found(pointer, "not", None, value)
        if "if" in schema:
            branch = "then" if self.fits(into(place, "/if", schema["if"]), value) else "else"
            if branch in schema:
                yield from self.at(into(place, f"/{branch}", schema[branch]), value, pointer)
        if isinstance(value, dict):
            yield from self._dependencies(place, value, pointer)

    def _dependencies(self, place: Place, value: dict[str, Any], pointer: str) -> Iterator[Found]:
        for keyword in ("dependentSchemas", "dependencies"):
            for trigger, wanted in place.schema.get(keyword, {}).items():
                if trigger not in value:
                    continue
                if isinstance(wanted, list):
                    for name in wanted:
                        if name not in value:
                            yield Found(pointer, "required", name, value)
                else:
                    inner = self.refs.into(place, f"/{keyword}/{escape(trigger)}", wanted)
                    yield from self.at(inner, value, pointer)

    def _alternatives(self, place: Place, keyword: str, value: Any, pointer: str) -> Iterator[Found]:
        """Nothing where the alternatives are met, else the problems of the closest one."""
        branches = []
        fitting = 0
        for index, child in enumerate(place.schema[keyword]):
            inner = self.refs.into(place, f"/{keyword}/{index}", child)
            problems = list(islice(self.at(inner, value, pointer), _BRANCH_PROBLEMS))
            if problems:
                branches.append(problems)
                continue
            fitting += 1
            if keyword == "anyOf":
                return
        if fitting == 1:
            return
        if fitting > 1:
            yield Found(pointer, keyword, fitting, value)
            return
        yield from closest(branches, pointer, keyword, value)


def closest(branches: list[list[Found]], pointer: str, keyword: str, value: Any) -> list[Found]:
    """The problems of the branch that the writer most likely meant.

    That is one whose type and constants fit, then the one with the fewest problems. Where none has
    the type, one problem names all types.
    """
    typed = [branch for branch in branches if branch[0][:2] != (pointer, "type")]
    if not typed:
        kinds = [kind for branch in branches for kind in _kinds(branch[0].required)]
        return [Found(pointer, "type", list(dict.fromkeys(kinds)), value)]
    ranked = sorted(typed, key=lambda branch: _rank(branch, pointer))
    if len(ranked) > 1 and _rank(ranked[0], pointer) == _rank(ranked[1], pointer):
        return [Found(pointer, keyword, None, value), *ranked[0]]
    return ranked[0]


def _rank(branch: list[Found], pointer: str) -> tuple[bool, int]:
    return _misses_constant(branch, pointer), len(branch)


def _kinds(required: Any) -> list[str]:
    return required if isinstance(required, list) else [required]


def _misses_constant(branch: list[Found], pointer: str) -> bool:
    """Whether a constant one level below is wrong: then another branch was meant."""
    depth = pointer.count("/") + 1
    return any(p.keyword in ("const", "enum") and p.pointer.count("/") <= depth for p in branch)


def _divides(step: float, value: float) -> bool:
    if isinstance(value, float) and not abs(value) < float("inf"):
        return False
    return (Fraction(str(value)) / Fraction(str(step))).denominator == 1
