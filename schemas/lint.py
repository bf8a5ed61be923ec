"""What is odd about a schema that may be used: contradictions, parts without effect, what is not enforced."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Literal

from schemas.atoms import ANY_KIND, ARRAY, NUMBER, OBJECT, STRING, Atom, passes
from schemas.check import Problem
from schemas.compiled import Compiled
from schemas.equality import identity
from schemas.families import FamilyName
from schemas.patterns import LINEAR
from schemas.refs import Place
from schemas.subset import compile_subset
from schemas.vocabulary import SINCE, UNTIL, Dialect, escape
from schemas.wording import name_of

Severity = Literal["error", "warning", "note"]

MAX_FINDINGS = 100
_ORDER: tuple[Severity, ...] = ("error", "warning", "note")

_PAIRS = (
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
    ("minContains", "maxContains"),
    ("minimum", "maximum"),
)
_FOR_KIND = {
    STRING: ("minLength", "maxLength", "pattern", "format", "contentMediaType", "contentEncoding"),
    NUMBER: ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    ARRAY: ("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains"),
    OBJECT: (
        *("properties", "patternProperties", "additionalProperties", "propertyNames", "required"),
        *("minProperties", "maxProperties", "dependentRequired", "dependentSchemas"),
    ),
}
_KIND_NAMES = {STRING: "strings", NUMBER: "numbers", ARRAY: "arrays", OBJECT: "objects"}
_VALUE_KEYWORDS = frozenset({"type", *_FOR_KIND[STRING], *_FOR_KIND[NUMBER]})
_FORMATS = frozenset(
    {
        *("date", "time", "date-time", "duration", "email", "idn-email", "hostname", "idn-hostname"),
        *("ipv4", "ipv6", "uri", "uri-reference", "iri", "iri-reference", "uri-template", "uuid"),
        *("json-pointer", "relative-json-pointer", "regex"),
    }
)
_KNOWN = frozenset(
    {
        *chain.from_iterable(_FOR_KIND.values()),
        *SINCE,
        *UNTIL,
        "dependencies",
        *("type", "enum", "not", "allOf", "anyOf", "oneOf", "title", "description", "default", "format"),
        *("$ref", "$schema", "$id", "$defs", "$comment", "$anchor", "$dynamicAnchor", "$vocabulary", "id"),
        *("definitions", "readOnly", "writeOnly", "deprecated", "nullable", "example", "contentSchema"),
        *("$recursiveRef", "$recursiveAnchor", "discriminator", "xml", "externalDocs"),
    }
)


def _less_one(word: str) -> set[str]:
    """`word` in small letters, and all that is left when one letter is taken out."""
    word = word.lower()
    return {word, *(word[:index] + word[index + 1 :] for index in range(len(word)))}


_LESS_ONE = {part: word for word in sorted(_KNOWN) if len(word) >= 4 for part in _less_one(word)}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something odd at one place of a schema.

    error: no value, or no value of the kind that is meant, can satisfy it. warning: a part has no
    effect, or not the one it seems to have. note: somebody will not enforce it.
    """

    severity: Severity
    problem: Problem


def lint(compiled: Compiled, families: Sequence[FamilyName] = ()) -> tuple[Finding, ...]:
    """What is odd, errors first, at most 100; with a note for all that the families do not enforce."""
    places = chain.from_iterable(_of_place(compiled, place) for place in compiled.examined.places)
    found = list(islice(places, MAX_FINDINGS))
    for family in families:
        found += _of_family(compiled, family)
    found.sort(key=lambda finding: _ORDER.index(finding.severity))
    return tuple(found[:MAX_FINDINGS])


def _of_family(compiled: Compiled, family: FamilyName) -> Iterator[Finding]:
    made = compile_subset(compiled, family)
    for problem in made.dropped:
        severity: Severity = "note" if made.schema is not None else "warning"
        words = "" if made.schema is not None else " has no structured output for this schema"
        message = f"{family}{words}: {problem.message}"
        yield Finding(severity, Problem(problem.pointer, problem.keyword, message))


def _of_place(compiled: Compiled, place: Place) -> Iterator[Finding]:
    schema, dialect = place.schema, compiled.dialect
    if dialect.ref_hides_siblings and "$ref" in schema:
        for keyword in sorted(
            (_KNOWN & schema.keys()) & (_VALUE_KEYWORDS | {"properties", "enum", "required"})
        ):
            yield _finding("warning", place, keyword, f"ignored beside $ref in {dialect.name}")
        return
    own = [*_crossed_limits(place), *_impossible_members(compiled, place), *_constants(place, dialect)]
    yield from own
    if not own and not compiled.plans.goal([place]).branches:
        yield _finding(
            "error", place, "schema", "no value can satisfy this: its types or constants exclude each other"
        )
    yield from _alternatives(compiled, place)
    yield from _without_effect(compiled, place)


def _finding(severity: Severity, place: Place, keyword: str, message: str) -> Finding:
    pointer = place.pointer if keyword == "schema" else f"{place.pointer}/{escape(keyword)}"
    return Finding(severity, Problem(pointer, keyword, message))


def _crossed_limits(place: Place) -> Iterator[Finding]:
    schema = place.schema
    for low, high in _PAIRS:
        if low in schema and high in schema and schema[low] > schema[high]:
            yield _finding("error", place, low, f"more than {high}")
    low, high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if isinstance(low, bool) or isinstance(high, bool):  # draft-04
        return
    if low is not None and low >= min(schema.get("maximum", low + 1), high if high is not None else low + 1):
        yield _finding("error", place, "exclusiveMinimum", "leaves no number below the upper limit")
    elif high is not None and "minimum" in schema and schema["minimum"] >= high:
        yield _finding("error", place, "minimum", "leaves no number below exclusiveMaximum")


def _impossible_members(compiled: Compiled, place: Place) -> Iterator[Finding]:
    schema = place.schema
    required = schema.get("required", ())
    if not isinstance(required, list):
        return
    if len(required) > schema.get("maxProperties", len(required)):
        yield _finding("error", place, "required", "more names than maxProperties allows")
    if not required:
        return
    atom = Atom(place, compiled.dialect, incomplete=False)
    for name in required:
        if any(member.schema is False for member in atom.members(compiled.examined.refs, name)):
            message = f"the required property {name_of(name)} is forbidden by this schema"
            yield _finding("error", place, "required", message)


def _constants(place: Place, dialect: Dialect) -> Iterator[Finding]:
    """Constants that the keywords beside them exclude."""
    schema = place.schema
    if schema.keys().isdisjoint({"const", "enum", "default"}):
        return
    beside = {keyword: schema[keyword] for keyword in _VALUE_KEYWORDS & schema.keys()}
    validator = dialect.validator(beside, validate_formats=True, offline=True, pattern_options=LINEAR)
    if "const" in schema and not passes(validator, schema["const"]):
        yield _finding("error", place, "const", "excluded by the keywords beside it")
    if "enum" in schema:
        bad = [index for index, value in enumerate(schema["enum"]) if not passes(validator, value)]
        if schema["enum"] and len(bad) == len(schema["enum"]):
            yield _finding("error", place, "enum", "every value is excluded by the keywords beside it")
        else:
            for index in bad:
                pointer = f"{place.pointer}/enum/{index}"
                yield Finding("warning", Problem(pointer, "enum", "excluded by the keywords beside it"))
        if not schema["enum"]:
            yield _finding("error", place, "enum", "an empty list allows no value")
    if "default" in schema and not passes(validator, schema["default"]):
        yield _finding("warning", place, "default", "does not satisfy the keywords beside it")


def _alternatives(compiled: Compiled, place: Place) -> Iterator[Finding]:
    """Branches that nothing can reach."""
    schema, refs = place.schema, compiled.examined.refs
    own = (
        Atom(place, compiled.dialect, incomplete=False).kinds if "anyOf" in schema or "oneOf" in schema else 0
    )
    for keyword in ("anyOf", "oneOf"):
        seen: dict[Any, int] = {}
        everything = None
        for index, child in enumerate(schema.get(keyword, ())):
            inner = refs.into(place, f"/{keyword}/{index}", child)
            branches = compiled.plans.goal([inner]).branches
            where = Place(inner.pointer, child, inner.base, inner.base_pointer)
            if child in (True, {}) and everything is None:
                everything = index
            elif everything is not None and keyword == "anyOf":
                yield _finding(
                    "warning", where, "schema", f"alternative {everything} accepts everything already"
                )
            if not any(branch.kinds & own for branch in branches):
                yield _finding("warning", where, "schema", "no value can reach this alternative")
            key = identity(child)
            if key in seen:
                severity: Severity = "error" if keyword == "oneOf" else "warning"
                yield _finding(severity, where, "schema", f"the same as alternative {seen[key]}")
            seen.setdefault(key, index)


def _without_effect(compiled: Compiled, place: Place) -> Iterator[Finding]:
    schema, dialect = place.schema, compiled.dialect
    kinds = Atom(place, dialect, incomplete=False).kinds if "type" in schema else ANY_KIND
    for kind, keywords in _FOR_KIND.items():
        if not kinds & kind:
            for keyword in keywords:
                if keyword in schema:
                    message = f"says something of {_KIND_NAMES[kind]} only, which the type excludes"
                    yield _finding("warning", place, keyword, message)
    if "if" in schema and "then" not in schema and "else" not in schema:
        yield _finding("warning", place, "if", "has no effect without then or else")
    for keyword in ("then", "else"):
        if keyword in schema and "if" not in schema:
            yield _finding("warning", place, keyword, "has no effect without if")
    for keyword in compiled.examined.refs.ignored(place):
        yield _finding("warning", place, keyword, f"unknown to {dialect.name}, so it has no effect")
    for keyword in schema:
        if keyword not in _KNOWN and (near := _near(keyword)):
            yield _finding("warning", place, keyword, f"no keyword; is {near} meant?")
    if isinstance(schema.get("format"), str) and schema["format"] not in _FORMATS:
        yield _finding("warning", place, "format", "not a format that is checked")


def _near(word: str) -> str | None:
    """The keyword that differs from `word` by one letter or two changed places, or None."""
    if not 4 <= len(word) <= 30:
        return None
    return next((_LESS_ONE[part] for part in sorted(_less_one(word)) if part in _LESS_ONE), None)
