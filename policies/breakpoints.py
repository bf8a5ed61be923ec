"""Where a provider that caches on demand is told to: `cache_control` on the last part of the frozen prefix.

Anthropic caches a prompt up to each breakpoint, four at most, and looks for earlier ones up to twenty blocks back
(docs, "Prompt caching", read 2026-11); its OpenAI-compatible resellers take them on parts of a message's content.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from policies.units import LEADING_ROLES, Message

MOST = 4
BEARING_ROLES = LEADING_ROLES | {"user", "assistant"}
"""Roles whose content may be a list of parts everywhere; of tools' results some compatible servers know texts only."""
FIELD = "cache_control"


def breakpoints_in(value: Any) -> int:
    """How many breakpoints a JSON value holds, wherever in it."""
    found = 0
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Mapping):
            found += item.get(FIELD) is not None
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)
    return found


def with_breakpoint(messages: Sequence[Message], end: int, others: int = 0) -> list[Message] | None:
    """The messages with a breakpoint on the last of the first `end` that can bear one.

    None where they go as they are: none can, it bears one already, or the client has set MOST, `others` of them
    outside the messages. What the client has set stays as it is.
    """
    if others + breakpoints_in(messages) >= MOST:
        return None
    for at in range(min(end, len(messages)) - 1, -1, -1):
        parts = _parts(messages[at])
        if parts is None:
            continue
        if breakpoints_in(messages[at]):
            return None
        parts[-1] = {**parts[-1], FIELD: {"type": "ephemeral"}}
        return [*messages[:at], {**messages[at], "content": parts}, *messages[at + 1 :]]
    return None


def _parts(message: Message) -> list[Any] | None:
    """The content of a message as parts; None where none of them can bear a breakpoint: an empty text cannot."""
    if message.get("role") not in BEARING_ROLES:
        return None
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else None
    if not isinstance(content, Sequence) or not content or not isinstance(content[-1], Mapping):
        return None
    text = content[-1].get("text", "an image")
    return list(content) if isinstance(text, str) and text.strip() else None
