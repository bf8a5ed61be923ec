"""The dialects of JSON Schema that we read, and where their keywords hold further schemas."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jsonschema_rs


@dataclass(frozen=True, slots=True)
class Dialect:
    """One published version of JSON Schema.

    `ref_hides_siblings`: a schema with `$ref` is that reference and nothing else (up to draft-07).
    `list_items`: `items` may be a list of schemas, one per position (up to 2019-09).
    """

    name: str
    uri: str
    number: int
    validator: type[jsonschema_rs.Validator]
    id_keyword: str = "$id"
    ref_hides_siblings: bool = False
    list_items: bool = True


DRAFT_2020_12 = Dialect(
    "draft 2020-12",
    "https://json-schema.org/draft/2020-12/schema",
    2020,
    jsonschema_rs.Draft202012Validator,
    list_items=False,
)
DRAFT_2019_09 = Dialect(
    "draft 2019-09",
    "https://json-schema.org/draft/2019-09/schema",
    2019,
    jsonschema_rs.Draft201909Validator,
)
DRAFT_7 = Dialect(
    "draft-07",
    "http://json-schema.org/draft-07/schema",
    7,
    jsonschema_rs.Draft7Validator,
    ref_hides_siblings=True,
)
DRAFT_6 = Dialect(
    "draft-06",
    "http://json-schema.org/draft-06/schema",
    6,
    jsonschema_rs.Draft6Validator,
    ref_hides_siblings=True,
)
DRAFT_4 = Dialect(
    "draft-04",
    "http://json-schema.org/draft-04/schema",
    4,
    jsonschema_rs.Draft4Validator,
    id_keyword="id",
    ref_hides_siblings=True,
)
DIALECTS = (DRAFT_2020_12, DRAFT_2019_09, DRAFT_7, DRAFT_6, DRAFT_4)

# Which keywords hold schemas, and whether those look at the same value ("here") or at a part of it
# ("inside"), or at nothing until something refers to them ("store"). JSON Schema 2020-12 Core §10, §11.
HERE_ONE = ("not", "if", "then", "else")
HERE_LIST = ("allOf", "anyOf", "oneOf")
HERE_MAP = ("dependentSchemas", "dependencies")
INSIDE_ONE = (
    "additionalProperties",
    "propertyNames",
    "items",
    "additionalItems",
    "contains",
    "unevaluatedProperties",
    "unevaluatedItems",
)
INSIDE_LIST = ("prefixItems", "items")
INSIDE_MAP = ("properties", "patternProperties")
STORE_ONE = ("contentSchema",)
STORE_MAP = ("$defs", "definitions")

NAMED = frozenset({*HERE_MAP, *INSIDE_MAP, *STORE_MAP})
"""Keywords whose value maps names to schemas: the names are data and no keywords."""

SINCE = {
    **dict.fromkeys(("const", "contains", "propertyNames", "examples"), 6),
    **dict.fromkeys(("if", "then", "else", "contentMediaType", "contentEncoding"), 7),
    **dict.fromkeys(("dependentRequired", "dependentSchemas", "minContains", "maxContains"), 2019),
    **dict.fromkeys(("unevaluatedProperties", "unevaluatedItems", "$recursiveRef"), 2019),
    **dict.fromkeys(("prefixItems", "$dynamicRef"), 2020),
}
"""The dialect in which a keyword first has a meaning; before it is a word like any other."""

UNTIL = {"additionalItems": 2019, "$recursiveRef": 2019}
"""The last dialect in which a keyword has a meaning. (`dependencies` is understood in all.)"""

_ONE = (*HERE_ONE, *INSIDE_ONE, *STORE_ONE)
_LIST = (*HERE_LIST, *INSIDE_LIST)


def unknown_words(dialect: Dialect) -> frozenset[str]:
    """The keywords of other dialects that mean nothing in this one."""
    later = {word for word, number in SINCE.items() if number > dialect.number}
    return frozenset({*later, *(word for word, number in UNTIL.items() if number < dialect.number)})


def is_schema(value: Any) -> bool:
    """Whether `value` has the form of a schema: an object or a boolean."""
    return isinstance(value, dict | bool)


def escape(part: str | int) -> str:
    """`part` as it stands in a JSON pointer. RFC 6901 §3."""
    return str(part).replace("~", "~0").replace("/", "~1")


def children(schema: dict[str, Any], dialect: Dialect) -> Iterator[tuple[str, str, Any]]:
    """Each schema that stands directly in `schema`: (keyword, relative pointer, schema).

    What `$ref` hides in old dialects is left out, but for the places that other references may name.
    """
    keywords: Any = schema
    if dialect.ref_hides_siblings and "$ref" in schema:
        keywords = [keyword for keyword in STORE_MAP if keyword in schema]
    for keyword in keywords:
        held = schema[keyword]
        if keyword in NAMED:
            if isinstance(held, dict):
                for name, child in held.items():
                    if is_schema(child):
                        yield keyword, f"/{escape(keyword)}/{escape(name)}", child
        elif isinstance(held, list):
            if keyword in _LIST:
                for index, child in enumerate(held):
                    if is_schema(child):
                        yield keyword, f"/{keyword}/{index}", child
        elif keyword in _ONE and is_schema(held):
            yield keyword, f"/{keyword}", held
