"""Errors of this package.

SchemasError
└── SchemaRefused     a JSON Schema we will not work with: invalid, hostile or too large
"""

from collections.abc import Sequence

from schemas.check import Problem


class SchemasError(Exception):
    """Root of this package's errors; knows nothing of HTTP."""


class SchemaRefused(SchemasError):
    """The schema itself is refused; `problems` point into the schema."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        super().__init__(f"schema refused at {first.pointer or '/'}: {first.message}")
