"""What a field may hold, in words: the same in error messages and in the reference."""

import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy.config.models import ConfigModel
from proxy.config.problems import Path
from proxy.config.types import Words
from proxy.secret import Secret

_UNBOUNDED = 1_000_000
"""A limit as high as this is there for safety and not worth a word."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A type without its Optional and Annotated, and what those said."""

    type: Any
    metadata: tuple[Any, ...] = ()

    @property
    def fields(self) -> dict[str, FieldInfo]:
        """The fields of a model by the names that the file uses; empty for every other type."""
        if isinstance(self.type, type) and issubclass(self.type, BaseModel):
            return {info.alias or name: info for name, info in self.type.model_fields.items()}
        return {}

    @property
    def item(self) -> "Shape | None":
        """What a list or a mapping of names holds."""
        arguments = get_args(self.type)
        return shape_of(arguments[-1]) if get_origin(self.type) in {list, dict} else None

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a Literal."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()


def shape_of(annotation: Any, metadata: tuple[Any, ...] = ()) -> Shape:
    """The shape that an annotation comes to."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            metadata += tuple(m for x in more for m in (x.metadata if isinstance(x, FieldInfo) else [x]))
        elif get_origin(annotation) in {Union, types.UnionType}:
            annotation = next(a for a in get_args(annotation) if a is not type(None))
        else:
            return Shape(annotation, metadata)


def shape_at(path: Path) -> Shape | None:
    """The shape of the field at `path`, None where there is no such field."""
    shape: Shape | None = Shape(ConfigModel)
    for step in path:
        if shape is None:
            return None
        info = shape.fields.get(str(step))
        shape = shape_of(info.annotation, tuple(info.metadata)) if info else shape.item
    return shape


def words(shape: Shape) -> str:
    """What a value of this shape looks like."""
    for said in shape.metadata:
        if isinstance(said, Words):
            return said.text
    if shape.choices:
        return " or ".join([", ".join(shape.choices[:-1]), shape.choices[-1]])
    if shape.fields:
        return f"a mapping with {', '.join(shape.fields)}"
    if shape.item:
        return _container(shape, shape.item)
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Secret: "a text"}
    return names.get(shape.type, "a value") + _bounds(shape.metadata)


def _container(shape: Shape, item: Shape) -> str:
    if get_origin(shape.type) is dict:
        return "a mapping from names to " + ("mappings" if item.fields else "texts")
    if item.fields:
        return f"a list of mappings {words(item).removeprefix('a mapping ')}"
    return f"a list of any of {words(item)}" if item.choices else f"a list; each item {words(item)}"


def _bounds(metadata: tuple[Any, ...]) -> str:
    low = next((m.ge for m in metadata if isinstance(m, Ge)), None)
    above = next((m.gt for m in metadata if isinstance(m, Gt)), None)
    high = next((m.le for m in metadata if isinstance(m, Le)), None)
    high = None if high is None or high >= _UNBOUNDED else high  # type: ignore[operator]  # numbers, all of them
    if low is not None and high is not None:
        return f" from {low} to {high}"
    parts = [f"above {above}"] if above is not None else [f"of at least {low}"] if low is not None else []
    if high is not None:
        parts.append(f"at most {high}")
    return " " + ", ".join(parts) if parts else ""
