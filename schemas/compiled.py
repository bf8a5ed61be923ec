"""A JSON Schema made ready: checked once, compiled once, then asked many times."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jsonschema_rs

from schemas.check import Problem
from schemas.cost import cost_class
from schemas.dialect import Examined, examine
from schemas.errors import SchemaRefused
from schemas.explain import Small, explain, worded
from schemas.patterns import LINEAR, is_pattern, patterns_of, why_refused
from schemas.plans import Plans
from schemas.surrogates import without_surrogates
from schemas.vocabulary import Dialect


@dataclass(frozen=True, eq=False)
class Compiled:
    """A schema that may be used: `schema` equals what came, `version` is the hash of its content.

    `examined` holds what was found out about it. `tried_slow`: validating took long when it was tried.
    """

    schema: Any
    version: str
    examined: Examined
    tried_slow: bool = False

    @cached_property
    def may_be_slow(self) -> bool:
        """Whether validating may take long, so that it is done elsewhere."""
        return self.tried_slow or cost_class(self.examined) == "maybe_slow"

    @property
    def dialect(self) -> Dialect:
        """The dialect of JSON Schema that it is read in."""
        return self.examined.dialect

    @cached_property
    def _validator(self) -> jsonschema_rs.Validator:
        return _validator_of(self.examined)

    def prepare(self) -> None:
        """The validator is made now and not when it is first asked. Raises SchemaRefused."""
        _ = self._validator

    @cached_property
    def plans(self) -> Plans:
        """What the prefix checker works out of the schema, shared by all checkers."""
        return Plans(self.examined)

    @cached_property
    def _small(self) -> Small:
        return {}

    def is_valid(self, value: Any) -> bool:
        """Whether `value` satisfies the schema.

        Its depth must be bounded, as that of every value of `schemas.strict` and `schemas.lenient` is
        (64): the validator recurses, and 100,000 levels end the process.
        """
        try:
            return self._validator.is_valid(value)
        except UnicodeEncodeError:
            # Lone surrogates are legal JSON, yet no UTF-8: another single character stands in.
            return self._is_valid(without_surrogates(value))
        except (ValueError, RecursionError):
            return False

    def _is_valid(self, value: Any) -> bool:
        try:
            return self._validator.is_valid(value)
        except (ValueError, RecursionError):
            return False

    def problems(self, value: Any, limit: int = 20) -> tuple[Problem, ...]:
        """The first `limit` problems of `value`, empty when it is valid."""
        if self.is_valid(value):
            return ()
        return explain(self.examined, self._validator, value, limit, self._small)


def compile_schema(schema: Any) -> Compiled:
    """Make `schema` ready. Raises SchemaRefused where it is not one we work with.

    Dialects: those of `schemas.vocabulary`; formats are asserted; patterns are of linear time.
    """
    compiled = admitted(examine(schema))
    compiled.prepare()
    return compiled


def admitted(examined: Examined) -> Compiled:
    """The schema, its validator not made yet: for one that is known to be good, and may never be asked here."""
    version = hashlib.sha256(examined.text.encode()).hexdigest()[:16]
    return Compiled(examined.schema, version, examined)


def _validator_of(examined: Examined) -> jsonschema_rs.Validator:
    try:
        return examined.dialect.validator(
            examined.schema, validate_formats=True, offline=True, pattern_options=LINEAR
        )
    except jsonschema_rs.ValidationError as error:
        raise SchemaRefused(_metaschema_problems(examined, error)) from error
    except ValueError as error:
        raise SchemaRefused([Problem("", "schema", "not a valid JSON Schema", str(error)[:200])]) from error


def _metaschema_problems(examined: Examined, error: jsonschema_rs.ValidationError) -> list[Problem]:
    """A pattern that the linear engine cannot do is named as such, all else by its first error."""
    refused = [
        Problem(pointer, "pattern", why_refused(pattern), pattern[:200])
        for place in examined.places
        for pointer, pattern in patterns_of(place)
        if not is_pattern(examined.dialect, pattern)
    ]
    if refused:
        return refused[:20]
    problem = worded(error)
    if problem.pointer.endswith("/type"):
        types = "null, boolean, integer, number, string, array, object"
        return [
            replace(
                problem, keyword="type", message=f"not a type: expected one of {types}, or a list of them"
            )
        ]
    return [problem]
