"""How many schemas look at a value once every reference is followed: bombs are counted, not run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.check import Problem
from schemas.errors import SchemaRefused
from schemas.refs import Place, Refs
from schemas.vocabulary import HERE_LIST, HERE_MAP, HERE_ONE, STORE_MAP, STORE_ONE, children

MAX_HERE = 10_000
MAX_PATH = 1_000_000
_ENOUGH = 1_000_000_000  # counts stop here: a bomb of 5,000 doublings needs no number of 1,500 digits

Kind = Literal["here", "also", "either"]
_HERE = frozenset({*HERE_ONE, *HERE_LIST, *HERE_MAP})
_STORE = frozenset({*STORE_ONE, *STORE_MAP})
_EITHER = frozenset({"properties", "additionalProperties", "prefixItems", "items", "additionalItems"})


@dataclass(frozen=True, slots=True)
class Expansion:
    """Three counts, the largest there are.

    `here`: schemas that look at one value. `path`: the same for all values on one path from the root
    of a document to a leaf, recursion met once. `recursions`: how often the schema can meet itself
    again on such a path; with two or more the work can double with each level of a value.

    Upper bounds: where several schemas look into a value, they are taken to look at the same part.
    """

    here: int
    path: int
    recursions: int


@dataclass(frozen=True, slots=True)
class _Edge:
    """One schema leads to another.

    `here`: it looks at the same value. `also`: at a part that others may look at too. `either`: at a
    part that only one of these edges can lead to (properties of different names).
    """

    kind: Kind
    to: int
    pointer: str


def expand(refs: Refs, places: Sequence[Place]) -> Expansion:
    """Count. Raises SchemaRefused for a bomb, and for a schema that meets itself at the same value."""
    if not places:  # the schema is true or false
        return Expansion(1, 1, 0)
    index = {id(place.schema): number for number, place in enumerate(places)}
    edges = [list(_edges(refs, place, index)) for place in places]
    here = _count_here(places, edges)
    path, recursions = _count_paths(edges)
    if path > MAX_PATH:
        raise SchemaRefused([Problem("", "$ref", f"references multiply to more than {MAX_PATH} schemas")])
    return Expansion(here, path, recursions)


def _edges(refs: Refs, place: Place, index: dict[int, int]) -> Iterator[_Edge]:
    for keyword, below, child in children(place.schema, refs.dialect):
        if keyword in _STORE or id(child) not in index:
            continue
        kind: Kind = "here" if keyword in _HERE else "either" if keyword in _EITHER else "also"
        yield _Edge(kind, index[id(child)], place.pointer + below)
    for keyword, targets in refs.referred(place):
        for target in targets:
            if id(target.schema) in index:
                yield _Edge("here", index[id(target.schema)], f"{place.pointer}/{keyword}")


def _count_here(places: Sequence[Place], edges: list[list[_Edge]]) -> int:
    counts: dict[int, int] = {}
    on_way: set[int] = set()
    for start in range(len(places)):
        stack = [(start, iter([edge for edge in edges[start] if edge.kind == "here"]))]
        if start in counts:
            continue
        on_way.add(start)
        while stack:
            node, left = stack[-1]
            for edge in left:
                if edge.to in on_way:
                    message = "refers to itself without looking any deeper into the value"
                    raise SchemaRefused([Problem(edge.pointer, "$ref", message)])
                if edge.to not in counts:
                    on_way.add(edge.to)
                    stack.append((edge.to, iter([e for e in edges[edge.to] if e.kind == "here"])))
                    break
            else:
                stack.pop()
                on_way.discard(node)
                total = 1 + sum(counts[edge.to] for edge in edges[node] if edge.kind == "here")
                if total > MAX_HERE:
                    message = f"more than {MAX_HERE} schemas look at the same value, references followed"
                    raise SchemaRefused([Problem(places[node].pointer, "$ref", message)])
                counts[node] = total
    return max(counts.values(), default=1)


def _count_paths(edges: list[list[_Edge]]) -> tuple[int, int]:
    done: dict[int, tuple[int, int]] = {}
    on_way = {0}
    stack = [(0, iter(edges[0]))]
    while stack:
        node, left = stack[-1]
        for edge in left:
            if edge.to not in done and edge.to not in on_way:
                on_way.add(edge.to)
                stack.append((edge.to, iter(edges[edge.to])))
                break
        else:
            stack.pop()
            on_way.discard(node)
            done[node] = _path_of(edges[node], done)
    return done[0]


def _path_of(edges: list[_Edge], done: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """The counts of one schema from those of the schemas it leads to; one still open is a recursion."""
    total, recursions, widest, deepest = 1, 0, 0, 0
    for edge in edges:
        path, again = done.get(edge.to, (1, 1))
        if edge.kind == "either":
            widest, deepest = max(widest, path), max(deepest, again)
        else:
            total, recursions = total + path, recursions + again
    return min(total + widest, _ENOUGH), min(recursions + deepest, _ENOUGH)
