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
    of a document to a leaf, recursion met once. `recursions`: in how many ways a schema of that path
    meets itself again in one part of the value; with two or more the work can grow with its depth.

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
        inner = refs.into(place, below, child)
        if keyword in _STORE or id(inner.schema) not in index:
            continue
        kind: Kind = "here" if keyword in _HERE else "either" if keyword in _EITHER else "also"
        yield _Edge(kind, index[id(inner.schema)], inner.pointer)
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
    """What lies on a circle of references counts once, at the place of it where there is most."""
    circles = _circles(edges)
    home = {node: number for number, circle in enumerate(circles) for node in circle}
    done: list[tuple[int, int]] = []
    for number, circle in enumerate(circles):
        counts = [_path_of(edges[node], home, done, number) for node in circle]
        done.append((max(path for path, _ in counts), max(again for _, again in counts)))
    return done[home[0]]


def _path_of(
    edges: list[_Edge], home: dict[int, int], done: list[tuple[int, int]], own: int
) -> tuple[int, int]:
    """The counts of one schema from those of the schemas it leads to; on its own circle each is 1."""
    total, recursions, widest, deepest = 1, 0, 0, 0
    for edge in edges:
        path, again = done[home[edge.to]] if home[edge.to] != own else (1, 1)
        if edge.kind == "either":
            widest, deepest = max(widest, path), max(deepest, again)
        else:
            total, recursions = total + path, recursions + again
    return min(total + widest, _ENOUGH), min(recursions + deepest, _ENOUGH)


def _circles(edges: list[list[_Edge]]) -> list[list[int]]:
    """The strongly connected components, each after all that it leads to (Tarjan 1972)."""
    order: dict[int, int] = {}
    lowest: dict[int, int] = {}
    trail: list[int] = []
    on_trail: set[int] = set()
    found: list[list[int]] = []
    for start in range(len(edges)):
        stack = [(start, iter(edges[start]))] if start not in order else []
        while stack:
            node, left = stack[-1]
            if node not in order:
                order[node] = lowest[node] = len(order)
                trail.append(node)
                on_trail.add(node)
            for edge in left:
                if edge.to not in order:
                    stack.append((edge.to, iter(edges[edge.to])))
                    break
                if edge.to in on_trail:
                    lowest[node] = min(lowest[node], order[edge.to])
            else:
                stack.pop()
                if stack:
                    above = stack[-1][0]
                    lowest[above] = min(lowest[above], lowest[node])
                if lowest[node] == order[node]:
                    circle: list[int] = []
                    while not circle or circle[-1] != node:
                        circle.append(trail.pop())
                    on_trail.difference_update(circle)
                    found.append(circle)
    return found
