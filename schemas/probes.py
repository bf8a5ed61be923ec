"""Large values that keep a schema busy: long texts and lists, many names, at every place that a value can reach."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from schemas.atoms import ARRAY, OBJECT, STRING, Atom
from schemas.compiled import Compiled
from schemas.refs import Place

MAX_PLACES = 48
"""Places that probes are made for, outermost first; the rest of a schema is more of the same."""
MAX_NAMES = 64
_MAX_WRAPS = 12

Wrap = Callable[[Any], Any]


def probes(compiled: Compiled, size: int) -> Iterator[tuple[str, Any]]:
    """Values of about `size` bytes of JSON, each with what it is and where; every kind at the root first."""
    for pointer, wrap, place in _reached(compiled):
        kinds = Atom(place, compiled.dialect, incomplete=False).kinds if place is not None else 0
        at = pointer or "the root"
        if place is None or kinds & STRING:
            yield f"a text at {at}", wrap("a" * size)
            yield f"a text of many words at {at}", wrap("ab 1-" * (size // 5))
        if place is None or kinds & ARRAY:
            yield f"a list of numbers at {at}", wrap(list(range(size // 7)))
            for element in _elements(compiled, place):
                yield f"a list of objects at {at}", wrap([element] * (size // max(8, _length(element))))
        if place is None or kinds & OBJECT:
            yield f"an object of many names at {at}", wrap({f"p{n}": n for n in range(size // 15)})


def _reached(compiled: Compiled) -> Iterator[tuple[str, Wrap, Place | None]]:
    """Places of values, breadth first, with how a value is put there. The first stands for any schema's root."""
    yield "", lambda value: value, None
    refs = compiled.examined.refs
    waiting: deque[tuple[Place, Wrap, int]] = deque([(refs.root, lambda value: value, 0)])
    seen: set[str] = set()
    while waiting and len(seen) < MAX_PLACES:
        place, wrap, depth = waiting.popleft()
        if place.pointer in seen or not isinstance(place.schema, dict):
            continue
        seen.add(place.pointer)
        if depth:
            yield place.pointer, wrap, place
        if depth < _MAX_WRAPS:
            waiting += [(inner, _then(wrap, outer), depth + 1) for inner, outer in _inner(compiled, place)]


def _then(wrap: Wrap, outer: Wrap) -> Wrap:
    return lambda value: wrap(outer(value))


def _inner(compiled: Compiled, place: Place) -> Iterator[tuple[Place, Wrap]]:
    """The places below `place`, and what is put round a value to get there."""
    schema, refs = place.schema, compiled.examined.refs
    for _, targets in refs.referred(place):
        for target in targets:
            yield target, lambda value: value
    for keyword in ("allOf", "anyOf", "oneOf"):
        for index, child in enumerate(_list(schema.get(keyword))[:8]):
            yield refs.into(place, f"/{keyword}/{index}", child), lambda value: value
    for keyword in ("items", "additionalItems", "contains"):
        if isinstance(child := schema.get(keyword), dict):
            yield refs.into(place, f"/{keyword}", child), lambda value: [value]
    for name, child in list(_dict(schema.get("properties")).items())[:MAX_NAMES]:
        pointer = f"/properties/{name.replace('~', '~0').replace('/', '~1')}"
        yield refs.into(place, pointer, child), lambda value, name=name: {name: value}  # type: ignore[misc]  # of a lambda's default
    if isinstance(child := schema.get("additionalProperties"), dict):
        yield refs.into(place, "/additionalProperties", child), lambda value: {"p": value}


def _elements(compiled: Compiled, place: Place | None) -> list[Any]:
    """Objects that look like what a list here may hold: every name that is declared, with its last constant."""
    names: dict[str, Any] = {}
    places = compiled.examined.places
    for found in places[:512] if place is None else _near(places, place.pointer):
        for name, child in _dict(found.schema.get("properties")).items():
            if name in names or len(names) < MAX_NAMES:
                names[name] = _typical(child)
    return [{}, {"p": 1}, names] if names else [{}, {"p": 1}]


def _near(places: tuple[Place, ...], pointer: str) -> list[Place]:
    below = [place for place in places if place.pointer.startswith(pointer)]
    return below[:512] or list(places[:512])


def _typical(schema: Any) -> Any:
    """A value that may well satisfy `schema`."""
    if not isinstance(schema, dict):
        return 1
    if "const" in schema:
        return schema["const"]
    if values := _list(schema.get("enum")):
        return values[-1]
    kind = schema.get("type")
    kind = kind[-1] if isinstance(kind, list) and kind else kind
    return {"string": "ab 1-", "array": [], "object": {}, "boolean": True, "null": None}.get(str(kind), 1)


def _length(value: Any) -> int:
    """About how long the JSON of an element is."""
    return 2 + sum(len(name) + 6 + len(str(held)) for name, held in value.items())


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
