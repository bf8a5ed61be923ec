"""What of a conversation stays or goes as one: a message, or a tool call with its results."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Message = Mapping[str, Any]

LEADING_ROLES = frozenset({"system", "developer"})
RESULT_ROLES = frozenset({"tool", "function"})


@dataclass(frozen=True, slots=True)
class Unit:
    """The messages `start` up to, not including, `end`."""

    start: int
    end: int


def units_of(messages: Sequence[Message], start: int = 0) -> list[Unit]:
    """The messages from `start` on, cut where a cut leaves a valid chat on both sides.

    A message that calls tools and the results that follow it are one unit. A result that no call
    precedes goes with what stands before it: trimming must not make a broken chat worse.
    """
    units: list[Unit] = []
    first = start
    for at in range(start + 1, len(messages) + 1):
        if at == len(messages) or messages[at].get("role") not in RESULT_ROLES:
            units.append(Unit(first, at))
            first = at
    return units if len(messages) > start else []


def leading(messages: Sequence[Message]) -> int:
    """How many system and developer messages the conversation begins with."""
    for at, message in enumerate(messages):
        if message.get("role") not in LEADING_ROLES:
            return at
    return len(messages)


def last_user(messages: Sequence[Message]) -> int | None:
    """The index of the last user message: the question."""
    for at in range(len(messages) - 1, -1, -1):
        if messages[at].get("role") == "user":
            return at
    return None


def text_of(message: Message) -> str:
    """The text a message shows: its content, or the text parts of it."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    parts = (part.get("text") if isinstance(part, Mapping) else part for part in content)
    return "".join([text for text in parts if isinstance(text, str)])


def call_text(message: Message) -> str:
    """What a message asks tools to do: names and arguments, a line for each call."""
    calls = message.get("tool_calls")
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        calls = ()
    functions = [call.get("function") for call in calls if isinstance(call, Mapping)]
    functions.append(message.get("function_call"))
    named = (f for f in functions if isinstance(f, Mapping))
    return "\n".join([f"{f.get('name', '')} {f.get('arguments', '')}" for f in named])


def has_parts_of_other_kinds(message: Message) -> bool:
    """Whether it carries images, sound or files, which are kept whole or dropped whole."""
    content = message.get("content")
    if not isinstance(content, Sequence) or isinstance(content, str):
        return False
    return any(isinstance(part, Mapping) and not isinstance(part.get("text"), str) for part in content)


def content_hash(message: Message) -> str:
    """SHA-256 of the message as sorted JSON: the name under which a dropped message is kept."""
    text = json.dumps(message, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
