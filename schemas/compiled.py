"""A JSON Schema made ready: checked once, compiled once, then asked many times."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from schemas.check import Problem
from schemas.errors import SchemaRefused


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """A schema that may be used: `schema` as it came, `version` the hash of its content."""

    schema: Any
    version: str
    _validator: Any

    def is_valid(self, value: Any) -> bool:
        """Whether `value` satisfies the schema."""
        return bool(self._validator.is_valid(value))

    def problems(self, value: Any, limit: int = 20) -> tuple[Problem, ...]:
        """The first `limit` problems of `value`, empty when it is valid."""
        found = []
        for error in self._validator.iter_errors(value):
            pointer = "".join(f"/{str(p).replace('~', '~0').replace('/', '~1')}" for p in error.instance_path)
            keyword = str(error.schema_path[-1]) if error.schema_path else "schema"
            found.append(Problem(pointer, keyword, f"fails {keyword}", error.message))
            if len(found) == limit:
                break
        return tuple(found)


def compile_schema(schema: Any) -> Compiled:
    """Make `schema` ready. Raises SchemaRefused where it is not one we work with."""
    try:
        validator = jsonschema_rs.validator_for(schema, validate_formats=True, offline=True)
    except (ValueError, TypeError) as error:
        raise SchemaRefused([Problem("", "schema", "not a valid JSON Schema", str(error))]) from error
    text = json.dumps(schema, sort_keys=True, separators=(",", ":"))
    return Compiled(schema, hashlib.sha256(text.encode()).hexdigest()[:16], validator)
