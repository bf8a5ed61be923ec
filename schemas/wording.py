"""Problems in words that a model and a developer understand."""

import json
from typing import Any

_DETAIL_CHARS = 200
_MESSAGE_CHARS = 300
_NAME_CHARS = 80

_BOUNDS = {
    "minLength": ("shorter than", "character"),
    "maxLength": ("longer than", "character"),
    "minItems": ("fewer than", "item"),
    "maxItems": ("more than", "item"),
    "minProperties": ("fewer than", "property"),
    "maxProperties": ("more than", "property"),
}
_LIMITS = {
    "minimum": "must be {} or more",
    "maximum": "must be {} or less",
    "exclusiveMinimum": "must be more than {}",
    "exclusiveMaximum": "must be less than {}",
    "multipleOf": "must be a multiple of {}",
}
_PLAIN = {
    "additionalProperties": "this property is not allowed here",
    "unevaluatedProperties": "this property is not allowed here",
    "additionalItems": "more items than allowed",
    "unevaluatedItems": "more items than allowed",
    "uniqueItems": "the items must differ from each other",
    "contains": "no item is of the kind that must be among them",
    "not": "matches what is forbidden",
    "false": "nothing is allowed here",
    "propertyNames": "the name of a property is not allowed",
    "contentMediaType": "the text is not of the required media type",
    "contentEncoding": "the text is not encoded as required",
}


def message_of(keyword: str, required: Any) -> str:
    """What `keyword` expects; `required` is its value in the schema. Holds no value of the text."""
    if keyword == "type":
        kinds = required if isinstance(required, list) else [required]
        message = "expected " + " or ".join(map(str, kinds))
    elif keyword in ("required", "dependentRequired"):
        message = f"missing required property {name_of(required)}"
    elif keyword == "enum":
        message = _of_allowed(len(required))
    elif keyword == "const":
        message = "not the one allowed value"
    elif keyword in _BOUNDS:
        words, unit = _BOUNDS[keyword]
        message = f"{words} {_counted(required, unit)}"
    elif keyword in _LIMITS:
        message = _LIMITS[keyword].format(shown(required))
    elif keyword == "pattern":
        message = f"does not match the pattern {shown(required)}"
    elif keyword == "format":
        message = f"not a valid {required}"
    elif keyword == "oneOf" and isinstance(required, int):
        message = f"matches {required} of the alternatives and must match exactly one"
    elif keyword in ("anyOf", "oneOf"):
        message = "matches none of the alternatives"
    else:
        message = _PLAIN.get(keyword, f"fails {keyword}")
    return message if len(message) <= _MESSAGE_CHARS else message[: _MESSAGE_CHARS - 1] + "…"


def detail_of(keyword: str, required: Any, message: str, value: Any) -> str:
    """The message with the value, both cut to a length that fits a prompt."""
    if keyword == "enum":
        message = f"{message} ({shown(required)[1:-1]})"
    elif keyword == "const":
        message = f"expected {shown(required)}"
    elif keyword in ("required", "dependentRequired"):
        return message
    return f"{message}, got {shown(value)}"


def name_of(name: Any) -> str:
    """A property's name in quotes, cut where it is long."""
    text = encodable(str(name))
    return repr(text if len(text) <= _NAME_CHARS else text[: _NAME_CHARS - 1] + "…")


def shown(value: Any) -> str:
    """`value` as JSON of at most 200 characters, without reading much more of it than that."""
    text = encodable(json.dumps(_pruned(value, 3), ensure_ascii=False))
    return text if len(text) <= _DETAIL_CHARS else text[: _DETAIL_CHARS - 1] + "…"


def encodable(text: str) -> str:
    """`text` with a question mark for each lone surrogate: these have no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _pruned(value: Any, levels: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _DETAIL_CHARS else value[:_DETAIL_CHARS]
    if isinstance(value, int) and abs(value) >= 10**100:
        return "a very large integer"
    if isinstance(value, list):
        return ["…"] if not levels and value else [_pruned(part, levels - 1) for part in value[:20]]
    if isinstance(value, dict):
        if not levels and value:
            return {"…": "…"}
        some = list(zip(value.items(), range(20), strict=False))
        return {str(key)[:_DETAIL_CHARS]: _pruned(held, levels - 1) for (key, held), _ in some}
    return value


def _of_allowed(count: int) -> str:
    return "not the one allowed value" if count == 1 else f"not one of the {count} allowed values"


def _counted(number: Any, unit: str) -> str:
    one = number == 1
    plural = unit[:-1] + "ies" if unit.endswith("y") else unit + "s"
    return f"{shown(number)} {unit if one else plural}"
