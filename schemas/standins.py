"""Nulls that a model wrote because it had to write something: taken out of its answer again."""

from typing import Any

from schemas.explain import is_of_type
from schemas.vocabulary import escape


def without_stand_ins(
    root: dict[str, Any], marks: frozenset[str], schema: Any, pointer: str, value: Any
) -> Any:
    """`value` without the nulls that `schema`, which stands at `pointer` in `root`, calls missing."""
    while "$ref" in schema:
        pointer = schema["$ref"].removeprefix("#")
        schema = root["$defs"][pointer.rsplit("/", 1)[-1]] if pointer else root
    if "anyOf" in schema:
        for index, branch in enumerate(schema["anyOf"]):
            if _resembles(root, branch, value):
                return without_stand_ins(root, marks, branch, f"{pointer}/anyOf/{index}", value)
        return value
    if isinstance(value, dict) and "properties" in schema:
        kept = {}
        for name, held in value.items():
            child, below = schema["properties"].get(name, {}), f"{pointer}/properties/{escape(name)}"
            if held is not None or below not in marks:
                kept[name] = without_stand_ins(root, marks, child, below, held)
        return kept
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [without_stand_ins(root, marks, schema["items"], f"{pointer}/items", part) for part in value]
    return value


def _resembles(root: dict[str, Any], branch: dict[str, Any], value: Any) -> bool:
    """Whether `value` looks like a value of `branch`: its type, its names, its constants."""
    while "$ref" in branch:
        branch = root if branch["$ref"] == "#" else root["$defs"][branch["$ref"].rsplit("/", 1)[-1]]
    if "anyOf" in branch:
        return any(_resembles(root, inner, value) for inner in branch["anyOf"])
    kinds = branch.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if kinds and not any(is_of_type(value, kind) for kind in kinds):
        return False
    if "const" in branch and value != branch["const"]:
        return False
    if "enum" in branch and value not in branch["enum"]:
        return False
    if isinstance(value, dict) and "properties" in branch:
        named = branch["properties"]
        return value.keys() <= named.keys() and all(
            _resembles(
                root, {word: named[name][word] for word in ("const", "enum") if word in named[name]}, held
            )
            for name, held in value.items()
        )
    return True
