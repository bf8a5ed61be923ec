"""Named schemas, each in all its versions. A registry never changes: a change gives a new one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from schemas.compiled import Compiled
from schemas.errors import SchemasError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class BadName(SchemasError, ValueError):
    """A schema may not have this name."""


def check_name(name: str) -> None:
    """Raises BadName unless a schema may have this name."""
    if not _NAME.fullmatch(name):
        raise BadName("a schema's name is 1 to 64 letters, digits, '.', '_' or '-', not first a sign")


@dataclass(frozen=True, slots=True)
class SchemaRegistry:
    """Schemas by name; of each name every version that ever was, the current one last."""

    _held: Mapping[str, tuple[Compiled, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def with_schema(self, name: str, compiled: Compiled) -> "SchemaRegistry":
        """The registry in which `compiled` is the current version of `name`; older ones stay.

        A version is its content: registering one again makes it current and adds nothing. Raises
        BadName.
        """
        check_name(name)
        older = [held for held in self._held.get(name, ()) if held.version != compiled.version]
        return SchemaRegistry(MappingProxyType({**self._held, name: (*older, compiled)}))

    def without(self, name: str) -> "SchemaRegistry":
        """The registry without `name` and all its versions; the same where there is no such name."""
        kept = {other: versions for other, versions in self._held.items() if other != name}
        return SchemaRegistry(MappingProxyType(kept))

    def get(self, name: str, version: str | None = None) -> Compiled | None:
        """The schema `name` in its current version, or in `version`; None where there is none."""
        known = self._held.get(name, ())
        if version is None:
            return known[-1] if known else None
        return next((held for held in known if held.version == version), None)

    def latest(self, name: str) -> Compiled:
        """The current version of a name that there is. Raises KeyError where there is none."""
        return self._held[name][-1]

    def names(self) -> tuple[str, ...]:
        """The names in alphabetical order."""
        return tuple(sorted(self._held))

    def versions(self, name: str) -> tuple[Compiled, ...]:
        """All versions of `name`, the current one last; empty where there is no such name."""
        return self._held.get(name, ())
