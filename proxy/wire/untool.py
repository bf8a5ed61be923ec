"""An answer that was asked for as a tool call, turned back into the text that the client asked for."""

from collections.abc import Mapping
from typing import Any


def untool(doc: Mapping[str, Any]) -> dict[str, Any]:
    """A reply or a stream's event with the arguments of its first tool call as its content.

    Our own forced call is the only tool there is, so that whatever else such a message holds is not an answer.
    """
    choices = doc.get("choices")
    if not isinstance(choices, list):
        return dict(doc)
    return {**doc, "choices": [_untooled(c) if isinstance(c, dict) else c for c in choices]}


def _untooled(choice: Mapping[str, Any]) -> dict[str, Any]:
    new = dict(choice)
    for part in ("message", "delta"):
        message = choice.get(part)
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        if isinstance(message, dict) and isinstance(calls, list) and calls:
            function = calls[0].get("function") if isinstance(calls[0], dict) else None
            arguments = function.get("arguments") if isinstance(function, dict) else None
            rest = {k: v for k, v in message.items() if k != "tool_calls"}
            new[part] = rest | {"content": arguments if isinstance(arguments, str) else ""}
    if choice.get("finish_reason") == "tool_calls":
        new["finish_reason"] = "stop"
    return new
