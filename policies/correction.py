"""What a model is told when its answer was not valid."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.check import Problem
from schemas.compiled import Compiled

MAX_PROBLEMS = 8
MAX_REPLY_CHARS = 16_000
MAX_SCHEMA_CHARS = 16_000


def reask(
    messages: Sequence[Mapping[str, Any]], said: str, problems: Sequence[Problem], schema: Compiled
) -> list[Mapping[str, Any]]:
    """The conversation again, with the model's answer and what is wrong with it at the end.

    The client's messages stay as they are and in front, so that a provider's prompt cache still holds.
    """
    return [
        *messages,
        {"role": "assistant", "content": said[:MAX_REPLY_CHARS]},
        {"role": "user", "content": _complaint(problems, schema)},
    ]


def _complaint(problems: Sequence[Problem], schema: Compiled) -> str:
    lines = [f"- at {p.pointer or 'the root'}: {p.detail or p.message}" for p in problems[:MAX_PROBLEMS]]
    more = len(problems) - MAX_PROBLEMS
    if more > 0:
        lines.append(f"- and {more} more")
    text = json.dumps(schema.schema, ensure_ascii=False, separators=(",", ":"))
    shape = f"\nThe JSON Schema:\n{text}" if len(text) <= MAX_SCHEMA_CHARS else ""
    return (
        "Your last answer does not satisfy the required JSON Schema:\n"
        + "\n".join(lines)
        + shape
        + "\nAnswer again with the complete corrected JSON value only: no explanation, no code fence."
    )
