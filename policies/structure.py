"""How a model is asked for an answer of a given shape: by its own means where it has them, else in words.

The full schema is checked by us in any case; what is asked for here only makes a valid answer likely.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final, Literal

from policies.route import Structured
from schemas.compiled import Compiled
from schemas.values import dataclass

Structure = Literal["as_asked", "native", "object", "tool", "prompt"]
"""as_asked: nothing is added; native: response_format json_schema; object: json_object and words; tool: a forced
call of a function whose parameters are the schema; prompt: words alone."""

TOOL_NAME: Final = "give_answer"
MAX_SCHEMA_CHARS: Final = 32_000
_WORDS: Final = "\nAnswer with one JSON value that is valid against this JSON Schema, and nothing else:\n"


MIN_BROKEN: Final = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """How a model treated the shapes it was asked for: natively constrained replies kept and broken, means refused."""

    kept: int = 0
    broken: int = 0
    refused: frozenset[Structure] = frozenset()
    takes_recall: bool = True
    """False: it refused a request with the tool to look up what was left out."""


@dataclass(frozen=True, slots=True)
class Shaped:
    """The changes of a request that ask for the shape, and whether the answer comes as a tool call."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    messages: Sequence[Mapping[str, Any]] | None = None
    as_tool: bool = False


NOT_SEEN: Final = Seen()
AS_ASKED: Final = Shaped()


def structure_for(
    setting: Structured,
    can: frozenset[str] | None,
    *,
    inline: bool,
    has_tools: bool,
    seen: Seen,
) -> Structure:
    """The means to use for one model, the strongest that it has and that worked.

    `inline`: the client itself sent a response_format, which goes on unchanged unless the model is known
    not to take it. `can` None: nothing is known of the model, and nothing is added to what the client
    wrote. A schema that was taken and not kept to is put in words as well, by way of `object`.
    """
    if setting != "auto":
        return setting
    if can is None or (inline and "json_schema" in can):
        return "as_asked"
    native_works = "json_schema" in can and "native" not in seen.refused and not ignores_schema(seen)
    if native_works:
        return "native"
    if "tools" in can and not has_tools and "tool" not in seen.refused:
        return "tool"
    takes_objects = "json_object" in can or "json_schema" in can
    return "object" if takes_objects and "object" not in seen.refused else "prompt"


def ignores_schema(seen: Seen) -> bool:
    """Whether a backend that accepts schemas does not keep to them: one slip may be bad luck, three are not."""
    return seen.broken >= MIN_BROKEN and seen.broken * 3 > seen.kept


def shape(
    structure: Structure, schema: Compiled, subset: Any, messages: Sequence[Mapping[str, Any]]
) -> Shaped:
    """What to change in a request so that its answer has the shape. `subset` is the schema as the provider takes it."""
    if structure == "as_asked":
        return AS_ASKED
    if structure == "native":
        named = {"name": "answer", "schema": subset, "strict": True}
        return Shaped({"response_format": {"type": "json_schema", "json_schema": named}})
    if structure == "tool":
        function = {"name": TOOL_NAME, "description": "Give the answer.", "parameters": subset}
        forced = {"type": "function", "function": {"name": TOOL_NAME}}
        return Shaped(
            {"tools": [{"type": "function", "function": function}], "tool_choice": forced}, as_tool=True
        )
    changes = {"response_format": {"type": "json_object"}} if structure == "object" else {}
    return Shaped(changes, _told(schema, messages))


def _told(schema: Compiled, messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages with the schema in words, in the last user message: what is before it may be cached."""
    text = json.dumps(schema.schema, ensure_ascii=False, separators=(",", ":"))
    if len(text) > MAX_SCHEMA_CHARS:
        return list(messages)
    told = list(messages)
    for at in range(len(told) - 1, -1, -1):
        content = told[at].get("content")
        if told[at].get("role") != "user":
            continue
        if isinstance(content, str):
            told[at] = {**told[at], "content": content + "\n" + _WORDS + text}
        elif isinstance(content, list):
            told[at] = {**told[at], "content": [*content, {"type": "text", "text": _WORDS + text}]}
        break
    return told
