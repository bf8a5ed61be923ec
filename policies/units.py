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
    return content if isinstance(content, str) else "".join(_text_parts(content))


def long_text(message: Message) -> str:
    """The text of a message that may be shortened: its content, or the longest of its text parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return max(_text_parts(content), key=len, default="")


def with_long_text(message: Message, text: str) -> dict[str, Any]:
    """The message with `text` in place of its long text, and all else as it was."""
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": text}
    before = long_text(message)
    parts = list(content or ())
    at = next(n for n, part in enumerate(parts) if isinstance(part, Mapping) and part.get("text") == before)
    parts[at] = {**parts[at], "text": text}
    return {**message, "content": parts}


def has_calls(message: Message) -> bool:
    """Whether it asks for tools to be called."""
    return bool(message.get("tool_calls")) or "function_call" in message


def call_text(message: Message) -> str:
    """What a message asks tools to do: names and arguments, a line for each call."""
    calls = message.get("tool_calls")
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        calls = ()
    functions = [call.get("function") for call in calls if isinstance(call, Mapping)]
    functions.append(message.get("function_call"))
    named = (f for f in functions if isinstance(f, Mapping))
    return "\n".join([f"{f.get('name', '')} {f.get('arguments', '')}" for f in named])


def content_hash(message: Message) -> str:
    """SHA-256 of the message as sorted JSON: the name under which a dropped message is kept."""
    text = json.dumps(message, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _text_parts(content: Any) -> list[str]:
    if not isinstance(content, Sequence) or isinstance(content, str):
        return []
    parts = (part.get("text") if isinstance(part, Mapping) else None for part in content)
    return [text for text in parts if isinstance(text, str)]
