"""pydantic's errors as problems: each with its place, its value where that is no secret, and the words of its field."""

from typing import Any, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.config.checks import Findings
from proxy.config.environ import Expansion, is_secret
from proxy.config.models import ConfigModel
from proxy.config.problems import Path, shortened
from proxy.config.words import Shape, shape_at, words

_WHAT = {
    "literal_error": "unknown value",
    "too_short": "is empty",
    "too_long": "is too long",
    "string_too_short": "is empty",
    "string_too_long": "is too long",
    "string_pattern_mismatch": "wrong form",
    "greater_than": "out of range",
    "greater_than_equal": "out of range",
    "less_than": "out of range",
    "less_than_equal": "out of range",
    "finite_number": "out of range",
}


def validate(value: Any, found: Findings, expansion: Expansion) -> ConfigModel | None:
    """The configuration, typed; None where something was wrong, which `found` holds then."""
    try:
        return ConfigModel.model_validate(value)
    except ValidationError as refused:
        for error in refused.errors(include_url=False, include_input=False):
            path: Path = tuple(error["loc"])
            if path not in expansion.failed:
                _note(error, path, value, found, expansion)
    return None


def _note(error: ErrorDetails, path: Path, value: Any, found: Findings, expansion: Expansion) -> None:
    kind = error["type"]
    if kind == "extra_forbidden":
        known = (shape_at(path[:-1]) or Shape(None)).fields
        expected = f"one of {', '.join(known)}"
        found.refuse(path, "unknown field", at_name=True, meant=str(path[-1]), known=known, expected=expected)
        return
    shape = shape_at(path) or Shape(None)
    if kind == "missing":
        found.refuse(path, "is missing", at_name=True, expected=words(shape))
        return
    given = expansion.written.get(path, _at(value, path))
    what = str(error["ctx"]["error"]) if kind == "value_error" else _WHAT.get(kind, "wrong type")
    found.refuse(
        path,
        what,
        value=shown(given, kind_only=_hides(path, shape)),
        expected=words(shape),
        meant=given if isinstance(given, str) else None,
        known=shape.choices,
    )


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def _hides(path: Path, shape: Shape) -> bool:
    """Whether a value here may be a secret or hold one: also a text where a list of keys should be."""
    holds_more = bool(shape.fields) or get_origin(shape.type) in {list, dict}
    may_have_password = path == ("store",) or path[-1:] == ("base_url",) or "query" in path
    return is_secret(path) or holds_more or may_have_password


def shown(value: Any, *, kind_only: bool) -> str:
    """A value as a message repeats it; only its kind where it may be a secret."""
    if value is None:
        return "nothing"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    if kind_only:
        return "a text" if isinstance(value, str) else "a number or truth value"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{shortened(value)}'" if isinstance(value, str) else repr(value)
