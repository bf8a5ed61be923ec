"""What the structured-output modes of the providers understand of JSON Schema."""

from dataclasses import dataclass
from typing import Literal

FamilyName = Literal["openai-strict", "anthropic", "gemini", "grammar"]

_COMMON = frozenset(
    {
        "type",
        "enum",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "anyOf",
        "title",
        "description",
    }
)
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})


@dataclass(frozen=True, slots=True)
class Family:
    """Keywords that a family keeps, and what it demands beyond leaving out the others.

    `closed`: every object says `additionalProperties: false` and every value has a type.
    `all_required`: every property is required, so an optional one is written as null.
    Limits are for one schema; None where none is documented.
    """

    name: FamilyName
    keywords: frozenset[str]
    formats: frozenset[str] = frozenset()
    closed: bool = False
    all_required: bool = False
    recursion: bool = True
    object_root: bool = False
    enum_kinds: tuple[type, ...] = (str, int, float, bool, type(None), list, dict)
    max_min_items: int | None = None
    max_properties: int | None = None
    max_levels: int | None = None
    max_name_chars: int | None = None
    max_enum_values: int | None = None
    max_optional: int | None = None
    max_unions: int | None = None


OPENAI_STRICT = Family(  # OpenAI docs, "Structured Outputs: Supported schemas", as of 2026-02
    "openai-strict",
    _COMMON
    | {
        "const",
        "pattern",
        "format",
        "multipleOf",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
    }
    | {"minItems", "maxItems"},
    formats=_FORMATS,
    closed=True,
    all_required=True,
    object_root=True,
    max_properties=5_000,
    max_levels=10,
    max_name_chars=120_000,
    max_enum_values=1_000,
)
ANTHROPIC = Family(  # Anthropic docs, "Structured outputs: JSON Schema limitations", as of 2026-02
    "anthropic",
    _COMMON | {"const", "format", "pattern", "minItems"},
    formats=_FORMATS | {"uri"},
    closed=True,
    recursion=False,
    enum_kinds=(str, int, float, bool, type(None)),
    max_min_items=1,
    max_optional=24,
    max_unions=16,
)
GEMINI = Family(  # Gemini API docs, "Structured outputs: JSON Schema support", as of 2025-11
    "gemini",
    _COMMON | {"prefixItems", "minItems", "maxItems", "minimum", "maximum", "format"},
    formats=frozenset({"date-time", "date", "time"}),
    enum_kinds=(str, int, float),
)
GRAMMAR = Family("grammar", _COMMON | {"const", "prefixItems"})  # what llama.cpp, xgrammar, outlines share
FAMILIES: dict[FamilyName, Family] = {
    family.name: family for family in (OPENAI_STRICT, ANTHROPIC, GEMINI, GRAMMAR)
}
