"""What a schema says of the members at one place: enough to see on which level a key belongs."""

from collections.abc import Iterator, Sequence
from typing import Any

_MAX_NODES = 64


def resolve(root: Any, reference: Any) -> Any:
    """The subschema that a local `$ref` points to, or None."""
    if reference == "#":
        return root
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    node = root
    for written in reference[2:].split("/"):
        part = written.replace("~1", "/").replace("~0", "~").replace("%25", "%")
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
        else:
            return None
    return node


def branches(root: Any, nodes: Sequence[Any]) -> list[dict[str, Any]]:
    """All object schemas that `nodes` consist of: references followed, combinators opened, at most 64."""
    return list(_branches(root, nodes))


def _branches(root: Any, nodes: Sequence[Any]) -> Iterator[dict[str, Any]]:
    queue = list(nodes)
    seen: set[int] = set()
    while queue and len(seen) < _MAX_NODES:
        node = queue.pop(0)
        if not isinstance(node, dict) or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if "$ref" in node:
            queue.append(resolve(root, node["$ref"]))
        for name in ("anyOf", "oneOf", "allOf"):
            if isinstance(node.get(name), list):
                queue.extend(node[name])
        queue.extend(node[name] for name in ("then", "else") if name in node)


class Shape:
    """The subschemas that may apply at one place of a document."""

    __slots__ = ("_branches", "_nodes", "_root")

    def __init__(self, root: Any, nodes: Sequence[Any]) -> None:
        self._root = root
        self._nodes = nodes
        self._branches: list[dict[str, Any]] | None = None

    def _all(self) -> list[dict[str, Any]]:
        if self._branches is None:
            self._branches = branches(self._root, self._nodes)
        return self._branches

    def member(self, key: str) -> "Shape":
        """The place under `key`."""
        found = []
        for node in self._all():
            properties = node.get("properties")
            if isinstance(properties, dict) and key in properties:
                found.append(properties[key])
            elif isinstance(node.get("additionalProperties"), dict):
                found.append(node["additionalProperties"])
        return Shape(self._root, found)

    def item(self, index: int) -> "Shape":
        """The place of an array's item."""
        found = []
        for node in self._all():
            prefix = node.get("prefixItems", node.get("items"))
            if isinstance(prefix, list) and index < len(prefix):
                found.append(prefix[index])
            elif isinstance(node.get("items"), dict):
                found.append(node["items"])
        return Shape(self._root, found)

    def knows(self, key: str) -> bool | None:
        """Whether `key` is a named property here; None where any key may come."""
        known: bool | None = None
        for node in self._all():
            properties = node.get("properties")
            if isinstance(properties, dict):
                if key in properties:
                    return True
                if known is None:
                    known = False
        return known


def has_strangers(value: Any, shape: Shape) -> bool:
    """Whether some object in `value` has a key that the schema, which names others there, does not know."""
    pending: list[tuple[Any, Shape]] = [(value, shape)]
    while pending:
        node, here = pending.pop()
        if isinstance(node, dict):
            for key, inner in node.items():
                if here.knows(key) is False:
                    return True
                if isinstance(inner, dict | list):
                    pending.append((inner, here.member(key)))
        elif isinstance(node, list):
            pending.extend(
                (inner, here.item(at)) for at, inner in enumerate(node) if isinstance(inner, dict | list)
            )
    return False


def root_types(schema: Any) -> set[str]:
    """The JSON types that a whole answer may have; all of them where the schema does not say."""
    everything = {"object", "array", "string", "number", "boolean", "null"}
    nodes = branches(schema, [schema])
    types: set[str] = set()
    for node in nodes:
        if "type" in node:
            names = node["type"] if isinstance(node["type"], list) else [node["type"]]
            types.update("number" if name == "integer" else name for name in names)
        elif "const" in node or "enum" in node:
            types.update(_type_of(member) for member in node.get("enum", [node.get("const")]))
        elif "properties" in node or "required" in node or "additionalProperties" in node:
            types.add("object")
        elif "items" in node or "prefixItems" in node:
            types.add("array")
    return types & everything or everything


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if value is None:
        return "null"
    if isinstance(value, str):
        return "string"
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else "number"
