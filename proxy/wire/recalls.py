"""Calls of our own tool, taken out of an answer before anything else sees it; and an answer that goes on after one.

What a client is told never holds a call that it did not offer a tool for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from policies.chat import Recalls, ToolCall

_SKIPPED = frozenset({"role", "tool_calls", "refusal", "function_call"})
PARAGRAPH = "\n\n"


@dataclass(slots=True)
class _Seen:
    """One call of a stream. `mine` None: its name is not known yet, what came of it waits."""

    call_id: str = ""
    name: str = ""
    mine: bool | None = None
    place: int = -1
    """Which of the client's calls it is."""
    waiting: list[dict[str, Any]] = field(default_factory=list)
    whole: dict[str, Any] = field(default_factory=dict)


class RecallFilter:
    """Takes the calls of the tool `name` out of one reply, whole or streamed, and keeps them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen: dict[int, _Seen] = {}
        self._mine: list[dict[str, Any]] = []
        self._clients = 0
        self._texts: dict[str, list[str]] = {}
        self._rest: dict[str, Any] = {}

    @property
    def found(self) -> Recalls | None:
        """The calls so far, with the message that they are in; None where there are none."""
        if not self._mine:
            return None
        calls = []
        for n, call in enumerate(self._mine):
            function = call.get("function") or {}
            arguments = function.get("arguments")
            said = arguments if isinstance(arguments, str) else ""
            calls.append(ToolCall(str(call.get("id") or ""), self._name, said, n))
        message = {"role": "assistant", "content": None} | self._rest
        message |= {key: "".join(parts) for key, parts in self._texts.items()}
        return Recalls(tuple(calls), {**message, "tool_calls": list(self._mine)})

    def whole(self, doc: Mapping[str, Any]) -> dict[str, Any]:
        """A whole reply without the calls."""
        choices = doc.get("choices")
        if not isinstance(choices, list):
            return dict(doc)
        return {**doc, "choices": [self._whole(c) if isinstance(c, dict) else c for c in choices]}

    def event(self, doc: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """An event of a stream without the calls; None where nothing is left of it."""
        choices = doc.get("choices")
        if not isinstance(choices, list) or not choices:
            return doc
        kept = [self._choice(c) if isinstance(c, dict) else c for c in choices]
        if kept == choices:
            return doc
        empty = all(not c.get("delta") and c.get("finish_reason") is None for c in kept)
        return None if empty and doc.get("usage") is None else {**doc, "choices": kept}

    def _whole(self, choice: dict[str, Any]) -> dict[str, Any]:
        message = choice.get("message")
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        if not isinstance(message, dict) or not isinstance(calls, list):
            return choice
        mine = [c for c in calls if isinstance(c, dict) and _function(c).get("name") == self._name]
        if not mine:
            return choice
        self._mine += [{k: v for k, v in c.items() if k != "index"} for c in mine]
        self._remember(message)
        left = [c for c in calls if c not in mine]
        self._clients += len(left)
        rest = {k: v for k, v in message.items() if k != "tool_calls"} | (
            {"tool_calls": left} if left else {}
        )
        return {**choice, "message": rest, "finish_reason": self._reason(choice)}

    def _choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        self._remember(delta)
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            left = [c for n, call in enumerate(calls) if isinstance(call, dict) for c in self._take(call, n)]
        else:
            left = []
        ended = choice.get("finish_reason") is not None
        if ended:
            left += [c for seen in self._seen.values() for c in self._decided(seen, mine=False)]
        if left or isinstance(calls, list):
            rest = {k: v for k, v in delta.items() if k != "tool_calls"}
            choice = {**choice, "delta": rest | ({"tool_calls": left} if left else {})}
        return {**choice, "finish_reason": self._reason(choice)} if ended else choice

    def _reason(self, choice: Mapping[str, Any]) -> Any:
        """Why the answer ended, as it looks without the calls."""
        reason = choice.get("finish_reason")
        return "stop" if reason == "tool_calls" and self._mine and not self._clients else reason

    def _take(self, call: dict[str, Any], position: int) -> Iterator[dict[str, Any]]:
        """One call's part of an event; gives what of it is the client's to see, and what waited until it was known."""
        index = call.get("index")
        index = index if isinstance(index, int) else position
        function = _function(call)
        name, call_id = function.get("name"), call.get("id")
        seen = self._seen.get(index)
        # Some servers give all calls the index 0: another id and a name begin another call.
        if seen is None or (name and call_id and seen.call_id and call_id != seen.call_id):
            seen = self._seen[index] = _Seen()
        seen.call_id = seen.call_id or (call_id if isinstance(call_id, str) else "")
        if seen.mine is None:
            seen.name += name if isinstance(name, str) else ""
            seen.waiting.append(call)
            if seen.name == self._name:
                yield from self._decided(seen, mine=True)
            elif not self._name.startswith(seen.name) or (seen.name and not name):
                yield from self._decided(seen, mine=False)
        elif seen.mine:
            _merge(seen.whole, call)
        else:
            yield {**call, "index": seen.place}

    def _decided(self, seen: _Seen, *, mine: bool) -> Iterator[dict[str, Any]]:
        """It is known whose call it is: ours is kept, the client's parts that waited come out."""
        if seen.mine is not None:
            return
        seen.mine = mine
        waiting, seen.waiting = seen.waiting, []
        if mine:
            for part in waiting:
                _merge(seen.whole, part)
            seen.whole["function"]["name"] = self._name
            self._mine.append(seen.whole)
            return
        seen.place = self._clients
        self._clients += 1
        for part in waiting:
            yield {**part, "index": seen.place}

    def _remember(self, said: Mapping[str, Any]) -> None:
        """Keep the rest of the model's message: some models want their reasoning back with their calls."""
        for key, value in said.items():
            if key in _SKIPPED or not value:
                continue
            if isinstance(value, str):
                self._texts.setdefault(key, []).append(value)
            elif isinstance(value, list):
                self._rest[key] = [*self._rest.get(key, ()), *value]
            else:
                self._rest[key] = value


class GoingOn:
    """Makes the events of a later call go on with the answer that a client was told part of.

    They get that answer's `head` (its id and the like), no role again, and a paragraph before the first text,
    where `paragraph` says so.
    """

    def __init__(self, head: Mapping[str, Any], *, paragraph: bool) -> None:
        self.head = head
        self._paragraph = paragraph

    def event(self, doc: Mapping[str, Any]) -> dict[str, Any]:
        """The event under that head."""
        choices = doc.get("choices")
        if not isinstance(choices, list):
            return {**doc, **self.head}
        return {
            **doc,
            **self.head,
            "choices": [self._choice(c) if isinstance(c, dict) else c for c in choices],
        }

    def _choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return choice
        new = {k: v for k, v in delta.items() if k != "role"}
        content = new.get("content")
        if self._paragraph and isinstance(content, str) and content:
            self._paragraph = False
            new["content"] = PARAGRAPH + content
        return {**choice, "delta": new}


def _function(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call.get("function")
    return function if isinstance(function, dict) else {}


def _merge(whole: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Add a part of a call: its arguments are joined, all else is taken once. Its place in the stream is left out."""
    for key, value in part.items():
        if key == "function" and isinstance(value, dict):
            known = whole.setdefault("function", {})
            for name, text in value.items():
                joined = name == "arguments" and isinstance(text, str)
                if joined:
                    known[name] = known.get(name, "") + text
                elif text:
                    known[name] = known.get(name) or text
        elif key != "index" and value:
            whole[key] = whole.get(key) or value
