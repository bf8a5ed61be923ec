"""Where a local `$ref` leads: within one schema document, never outside it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from schemas.vocabulary import Dialect, children, is_schema, unknown_words


@dataclass(frozen=True, slots=True)
class Place:
    """A schema in the document: where it stands, what it is, and the root that its `#` means.

    That root is the document, or the nearest enclosing schema with an `$id` of its own.
    """

    pointer: str
    schema: Any
    base: dict[str, Any]
    base_pointer: str


@dataclass(frozen=True, slots=True, eq=False)
class Refs:
    """The document's places that references can name."""

    root: Place
    dialect: Dialect
    anchors: dict[tuple[int, str], Place]
    dynamic: dict[str, tuple[Place, ...]]
    unknown: frozenset[str]
    _known: dict[int, dict[str, Any]]
    _raw: dict[int, dict[str, Any]]

    def known(self, schema: Any) -> Any:
        """`schema` without the keywords that mean nothing in its dialect; always the same object."""
        if not isinstance(schema, dict) or self.unknown.isdisjoint(schema):
            return schema
        if id(schema) not in self._known:
            known = {word: held for word, held in schema.items() if word not in self.unknown}
            self._known[id(schema)] = known
            self._raw[id(known)] = schema
        return self._known[id(schema)]

    def ignored(self, place: Place) -> list[str]:
        """The words at `place` that are keywords of other dialects and mean nothing in this one."""
        raw = self._raw.get(id(place.schema), {})
        return [word for word in raw if word in self.unknown]

    def into(self, place: Place, keyword_pointer: str, schema: Any) -> Place:
        """The place of `schema`, which stands at `keyword_pointer` below `place`."""
        pointer = place.pointer + keyword_pointer
        if is_resource(schema, self.dialect):
            return Place(pointer, self.known(schema), schema, pointer)
        return Place(pointer, self.known(schema), place.base, place.base_pointer)

    def _step(self, place: Place, below: str, value: Any) -> Place:
        pointer = place.pointer + below
        if is_resource(value, self.dialect):
            return Place(pointer, value, value, pointer)
        return Place(pointer, value, place.base, place.base_pointer)

    def target(self, place: Place, ref: str) -> Place | None:
        """What `ref`, found at `place`, names; None where it leads out of the document or nowhere."""
        if not ref.startswith("#"):
            return None
        fragment = unquote(ref[1:])
        base = Place(place.base_pointer, place.base, place.base, place.base_pointer)
        if not fragment:
            return replace(base, schema=self.known(base.schema))
        if not fragment.startswith("/"):
            return self.anchors.get((id(place.base), fragment))
        return self._follow(base, fragment)

    def _follow(self, at: Place, fragment: str) -> Place | None:
        for raw in fragment.split("/")[1:]:
            part = raw.replace("~1", "/").replace("~0", "~")
            held = at.schema
            if isinstance(held, dict) and part in held:
                at = self._step(at, f"/{raw}", held[part])
            elif isinstance(held, list) and part.isdecimal() and int(part) < len(held):
                at = self._step(at, f"/{raw}", held[int(part)])
            else:
                return None
        return replace(at, schema=self.known(at.schema)) if is_schema(at.schema) else None

    def referred(self, place: Place) -> Iterator[tuple[str, tuple[Place, ...]]]:
        """Each reference of the schema at `place`: its keyword and the places that it can mean."""
        schema = place.schema
        for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            ref = schema.get(keyword)
            if not isinstance(ref, str):
                continue
            found = self.target(place, ref)
            places = () if found is None else (found,)
            others = self.dynamic.get(ref[1:] if keyword == "$dynamicRef" else keyword, ())
            if others and keyword != "$ref":
                places = tuple({p.pointer: p for p in (*places, *others)}.values())
            yield keyword, places


def is_resource(schema: Any, dialect: Dialect) -> bool:
    """Whether `schema` has an identity of its own, so that `#` inside it means it."""
    if not isinstance(schema, dict):
        return False
    if dialect.ref_hides_siblings and "$ref" in schema:
        return False
    own = schema.get(dialect.id_keyword)
    return isinstance(own, str) and not own.startswith("#")


def collect(schema: dict[str, Any] | bool, dialect: Dialect) -> tuple[Refs, list[Place]]:
    """The references of a document whose depth is bounded, and all its schemas, outermost first.

    The second part also holds schemas that stand where no keyword looks but a reference does.
    """
    base = schema if isinstance(schema, dict) else {}
    unknown = unknown_words(dialect)
    foreign = not unknown.isdisjoint(base)
    known = {word: held for word, held in base.items() if word not in unknown} if foreign else base
    root = Place("", known if isinstance(schema, dict) else schema, base, "")
    anchors: dict[tuple[int, str], Place] = {}
    dynamic: dict[str, tuple[Place, ...]] = {}
    refs = Refs(root, dialect, anchors, dynamic, unknown, {id(base): known}, {id(known): base})
    places: list[Place] = []
    seen: set[int] = set()
    waiting = [root]
    referrers = 0
    while waiting:
        while waiting:
            place = waiting.pop()
            if id(place.schema) in seen or not isinstance(place.schema, dict):
                continue
            seen.add(id(place.schema))
            places.append(place)
            _note_anchors(place, dialect, anchors, dynamic)
            for _, below, child in children(place.schema, dialect):
                waiting.append(refs.into(place, below, child))
        newly, referrers = places[referrers:], len(places)
        for place in newly:
            for _, targets in refs.referred(place):
                waiting += [target for target in targets if isinstance(target.schema, dict)]
    return refs, places


def _note_anchors(
    place: Place,
    dialect: Dialect,
    anchors: dict[tuple[int, str], Place],
    dynamic: dict[str, tuple[Place, ...]],
) -> None:
    schema, base = place.schema, id(place.base)
    own = schema.get(dialect.id_keyword)
    if isinstance(own, str) and own.startswith("#") and len(own) > 1 and dialect.number < 2019:
        anchors[base, own[1:]] = place
    if dialect.number < 2019:
        return
    if isinstance(anchor := schema.get("$anchor"), str):
        anchors[base, anchor] = place
    if isinstance(anchor := schema.get("$dynamicAnchor"), str):
        anchors[base, anchor] = place
        dynamic[anchor] = (*dynamic.get(anchor, ()), place)
    if schema.get("$recursiveAnchor") is True:
        dynamic["$recursiveRef"] = (*dynamic.get("$recursiveRef", ()), place)
