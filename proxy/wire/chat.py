"""Replies of `/v1/chat/completions` and `/v1/completions`: read whole or in chunks, and written back mended.

What a reply holds beyond the parts we know is kept: only the text that was mended is replaced.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from policies.chat import Choice, Reply, ToolCall, Usage
from policies.money import usage_of
from proxy.wire.body import dump
from proxy.wire.sse import DONE


class Unreadable(Exception):
    """The upstream's answer is not what its dialect promises; the message quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A reply as one JSON document."""

    body: bytes
    doc: Mapping[str, Any]


def loads(data: bytes) -> Any:
    """The JSON in `data`. orjson first; what it refuses (lone surrogates) json may take. Raises Unreadable."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise Unreadable("the upstream's answer is not JSON") from None


def read_reply(body: bytes) -> Reply:
    """The reply in a whole body. Raises Unreadable."""
    doc = loads(body)
    if not isinstance(doc, dict):
        raise Unreadable("the upstream's answer is not a JSON object")
    raw = doc.get("choices")
    choices = (
        tuple(_choice(i, c) for i, c in enumerate(raw) if isinstance(c, dict))
        if isinstance(raw, list)
        else ()
    )
    return Reply(choices, usage_of(doc.get("usage")), Whole(body, doc))


def _choice(position: int, choice: Mapping[str, Any]) -> Choice:
    index = choice.get("index")
    message = choice.get("message")
    if not isinstance(message, dict):
        message = {"content": choice.get("text")}
    return Choice(
        index if isinstance(index, int) else position,
        _text(message.get("content")),
        _text(choice.get("finish_reason")),
        tuple(_tool_calls(message)),
        _text(message.get("refusal")) or None,
    )


def _tool_calls(message: Mapping[str, Any]) -> Iterator[ToolCall]:
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            name, arguments = _text(function.get("name")), _text(function.get("arguments"))
            yield ToolCall(_text(call.get("id")) or "", name or "", arguments or "")
    legacy = message.get("function_call")
    if isinstance(legacy, dict):
        yield ToolCall("", _text(legacy.get("name")) or "", _text(legacy.get("arguments")) or "")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def with_texts(whole: Whole, texts: Mapping[int, str], extra: Mapping[str, Any]) -> bytes:
    """The body with the contents of choices replaced by index, and members of `extra` added at the top.

    Nothing to change gives the very bytes that came. Log probabilities of a replaced text are dropped:
    they were those of another text.
    """
    if not texts and not extra:
        return whole.body
    doc = dict(whole.doc)
    if texts:
        doc["choices"] = [
            _with_text(c, texts[i]) if (i := _index(c, n)) in texts else c
            for n, c in enumerate(doc["choices"])
        ]
    return dump(doc | dict(extra))


def _index(choice: Any, position: int) -> int:
    index = choice.get("index") if isinstance(choice, dict) else None
    return index if isinstance(index, int) else position


def _with_text(choice: Mapping[str, Any], text: str) -> dict[str, Any]:
    new = {k: (None if k == "logprobs" else v) for k, v in choice.items()}
    if isinstance(choice.get("message"), dict):
        new["message"] = choice["message"] | {"content": text}
    else:
        new["text"] = text
    return new


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event of a stream. `speaks`: it carries something of the answer. `doc` None: the end marker."""

    data: bytes
    doc: Mapping[str, Any] | None
    speaks: bool = False
    usage_only: bool = False
    error: bool = False

    @property
    def done(self) -> bool:
        """Whether this is `[DONE]`."""
        return self.doc is None


@dataclass(slots=True)
class _Gathered:
    text: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    tool_calls: dict[int, list[str]] = field(default_factory=dict)
    finish_reason: str | None = None
    spoke: bool = False


class Accumulator:
    """Builds the reply of a stream from its events.

    `keep_text` False only counts: enough where nothing will be judged, and a stream then needs no memory
    that grows with it.
    """

    def __init__(self, *, keep_text: bool) -> None:
        self._choices: dict[int, _Gathered] = {}
        self._keep = keep_text
        self.usage: Usage | None = None
        self.characters = 0

    @property
    def finished(self) -> bool:
        """Whether every choice that spoke has its finish_reason."""
        return bool(self._choices) and all(c.finish_reason is not None for c in self._choices.values())

    def feed(self, data: bytes) -> Chunk:
        """Take one event's data. Raises Unreadable."""
        if data == DONE or data.strip() == DONE:
            return Chunk(data, None)
        doc = loads(data)
        if not isinstance(doc, dict):
            raise Unreadable("an event of the stream is not a JSON object")
        if doc.get("error") is not None and not doc.get("choices"):
            return Chunk(data, doc, error=True)
        usage = doc.get("usage")
        if usage is not None:
            self.usage = usage_of(usage) or self.usage
        choices = doc.get("choices")
        if not isinstance(choices, list) or not choices:
            return Chunk(data, doc, usage_only=usage is not None)
        speaks = False
        for position, choice in enumerate(choices):
            if isinstance(choice, dict):
                speaks = self._take(_index(choice, position), choice) or speaks
        return Chunk(data, doc, speaks=speaks)

    def _take(self, index: int, choice: Mapping[str, Any]) -> bool:
        """Add one choice's delta; whether it said anything."""
        gathered = self._choices.get(index)
        if gathered is None:
            gathered = self._choices[index] = _Gathered()
        finish = choice.get("finish_reason")
        if isinstance(finish, str):
            gathered.finish_reason = finish
        delta = choice.get("delta")
        content = delta.get("content") if isinstance(delta, dict) else choice.get("text")
        if isinstance(content, str) and content:
            self.characters += len(content)
            if self._keep:
                gathered.text.append(content)
            gathered.spoke = True
            return True
        spoke = isinstance(delta, dict) and self._take_rest(gathered, delta)
        return spoke or finish is not None

    def _take_rest(self, gathered: _Gathered, delta: Mapping[str, Any]) -> bool:
        """What is not content: refusals, tool calls, reasoning, audio; whether there was any."""
        refusal = delta.get("refusal")
        if isinstance(refusal, str) and refusal:
            gathered.refusal.append(refusal)
            self.characters += len(refusal)
            return True
        calls = delta.get("tool_calls") or ([delta["function_call"]] if delta.get("function_call") else [])
        for position, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                self._take_call(gathered, _index(call, position), call)
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str):
            self.characters += len(reasoning)
        return bool(calls) or any(v for k, v in delta.items() if k not in ("role", "content"))

    def _take_call(self, gathered: _Gathered, index: int, call: Mapping[str, Any]) -> None:
        found = gathered.tool_calls.setdefault(index, ["", "", ""])
        function = call.get("function", call)
        if not isinstance(function, dict):
            return
        arguments = _text(function.get("arguments")) or ""
        self.characters += len(arguments)
        found[0] = found[0] or _text(call.get("id")) or ""
        found[1] = found[1] or _text(function.get("name")) or ""
        if self._keep:
            found[2] += arguments

    def reply(self, original: Any) -> Reply:
        """What was gathered so far, as a reply."""
        return Reply(tuple(self._built(i) for i in sorted(self._choices)), self.usage, original)

    def _built(self, index: int) -> Choice:
        gathered = self._choices[index]
        calls = tuple(ToolCall(*gathered.tool_calls[i]) for i in sorted(gathered.tool_calls))
        return Choice(
            index,
            "".join(gathered.text) if gathered.spoke else (None if calls or gathered.refusal else ""),
            gathered.finish_reason,
            calls,
            "".join(gathered.refusal) or None,
        )


def with_texts_streamed(events: Sequence[bytes], texts: Mapping[int, str]) -> Iterator[bytes]:
    """The events of a finished stream with the contents of choices replaced.

    The first event that carried text of a choice carries all of its new text; later ones lose theirs, and
    vanish where nothing else is left in them.
    """
    said: set[int] = set()
    for data in events:
        doc = loads(data)
        choices = doc.get("choices")
        if not choices or not any(_index(c, n) in texts for n, c in enumerate(choices)):
            yield data
            continue
        kept = [c for c in (_rewritten(c, n, texts, said) for n, c in enumerate(choices)) if c is not None]
        if kept:
            yield dump(doc | {"choices": kept})


def _rewritten(choice: Any, position: int, texts: Mapping[int, str], said: set[int]) -> Any:
    """One choice of an event under its new text; None where nothing is left to say."""
    index = _index(choice, position)
    delta = choice.get("delta")
    legacy = not isinstance(delta, dict)
    content = choice.get("text") if legacy else delta.get("content")
    if index not in texts or not isinstance(content, str) or not content:
        return choice
    text = "" if index in said else texts[index]
    said.add(index)
    new = choice | {"logprobs": None} if "logprobs" in choice else dict(choice)
    if legacy:
        return new | {"text": text} if text or choice.get("finish_reason") else None
    rest = {k: v for k, v in delta.items() if k != "content"}
    if text:
        return new | {"delta": rest | {"content": text}}
    return new | {"delta": rest} if rest or choice.get("finish_reason") else None


def as_events(whole: Whole) -> list[bytes]:
    """A whole reply as the events of a stream, for an upstream that did not stream when asked to."""
    doc = {k: v for k, v in whole.doc.items() if k not in ("choices", "usage", "object")}
    doc["object"] = "chat.completion.chunk"
    events = []
    for position, choice in enumerate(whole.doc.get("choices") or ()):
        if not isinstance(choice, dict):
            continue
        index = _index(choice, position)
        message = choice.get("message")
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        if isinstance(message, dict) and isinstance(calls, list):
            message = message | {
                "tool_calls": [c | {"index": i} for i, c in enumerate(calls) if isinstance(c, dict)]
            }
        rest = {k: v for k, v in choice.items() if k not in ("message", "index", "finish_reason")}
        if message is None:
            events.append(dump(doc | {"object": "text_completion", "choices": [choice]}))
            continue
        events.append(
            dump(doc | {"choices": [rest | {"index": index, "delta": message, "finish_reason": None}]})
        )
        end = {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}
        events.append(dump(doc | {"choices": [end]}))
    if whole.doc.get("usage") is not None:
        events.append(dump(doc | {"choices": [], "usage": whole.doc["usage"]}))
    return events
