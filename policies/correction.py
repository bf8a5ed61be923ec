"""What a model is told when its answer was not valid."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from policies.chat import Choice, Reply
from policies.contract import CUT, Verdict
from policies.patching import Patch
from schemas.check import Problem
from schemas.compiled import Compiled

MAX_PROBLEMS = 8
MAX_REPLY_CHARS = 16_000
MAX_SCHEMA_CHARS = 16_000


def reask(
    messages: Sequence[Mapping[str, Any]],
    reply: Reply,
    verdict: Verdict,
    schema: Compiled | None,
    patch: Patch | None = None,
) -> list[Mapping[str, Any]]:
    """The conversation again, with the model's answer and what is wrong with it at the end.

    With `patch` only the failing parts are asked for. The client's messages stay as they are and in
    front, so that a provider's prompt cache still holds.
    """
    called = next((c for c in reply.choices if c.tool_calls), None)
    if called is not None:
        return [*messages, *_called_again(called, verdict.problems)]
    said = next((c.text for c in reply.choices if c.text), "")
    complaint = _parts(patch, verdict.problems) if patch is not None else _complaint(verdict.problems, schema)
    return [
        *messages,
        {"role": "assistant", "content": said[:MAX_REPLY_CHARS]},
        {"role": "user", "content": complaint},
    ]


def _called_again(choice: Choice, problems: Sequence[Problem]) -> list[Mapping[str, Any]]:
    """The model's tool calls, each answered with what was wrong of it: every call must have an answer."""
    calls = [
        {
            "id": call.id or f"call_{n}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments[:MAX_REPLY_CHARS]},
        }
        for n, call in enumerate(choice.tool_calls)
    ]
    answers = []
    for n, call in enumerate(calls):
        mine = [p for p in problems if p.pointer.startswith(f"/tool_calls/{n}/")]
        text = "Not run, because another call was not valid."
        if mine:
            text = "Not run, this call is not valid:\n" + _listed(mine)
        answers.append({"role": "tool", "tool_call_id": call["id"], "content": text})
    # Without a word of the user many models take the answers for results and go on in prose.
    again = {"role": "user", "content": "Make the tool calls again, with what was not valid corrected."}
    return [{"role": "assistant", "content": choice.text, "tool_calls": calls}, *answers, again]


def _parts(patch: Patch, problems: Sequence[Problem]) -> str:
    text = json.dumps(patch.schema.schema, ensure_ascii=False, separators=(",", ":"))
    return (
        "Parts of your last answer do not satisfy the required JSON Schema:\n"
        + _listed(problems)
        + "\nEverything else in it is kept. Answer with one JSON object that has the JSON pointer of each of these "
        + "parts as a key and the corrected part as its value, valid against this JSON Schema:\n"
        + text
        + "\nNo explanation, no code fence."
    )


def _listed(problems: Sequence[Problem]) -> str:
    lines = [f"- at {p.pointer or 'the root'}: {p.detail or p.message}" for p in problems[:MAX_PROBLEMS]]
    more = len(problems) - MAX_PROBLEMS
    return "\n".join([*lines, f"- and {more} more"] if more > 0 else lines)


def _complaint(problems: Sequence[Problem], schema: Compiled | None) -> str:
    text = "" if schema is None else json.dumps(schema.schema, ensure_ascii=False, separators=(",", ":"))
    shape = f"\nThe JSON Schema:\n{text}" if 0 < len(text) <= MAX_SCHEMA_CHARS else ""
    if CUT in problems:
        return (
            "Your last answer was cut off because it was too long."
            + shape
            + "\nAnswer again, complete and shorter."
        )
    return (
        "Your last answer does not satisfy the required JSON Schema:\n"
        + _listed(problems)
        + shape
        + "\nAnswer again with the complete corrected JSON value only: no explanation, no code fence."
    )
