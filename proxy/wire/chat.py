"""Replies of `/v1/chat/completions` and `/v1/completions`: read whole, and written back mended, whole or in events.

What a reply holds beyond the parts we know is kept: only the text that was mended is replaced.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from policies.chat import Choice, Reply, ToolCall
from policies.contract import Verdict
from policies.money import usage_of
from proxy.wire.body import LARGE_BYTES, dump
from proxy.wire.large import TooMuch, read_large
from proxy.wire.sse import frame
from schemas.values import dataclass


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


def read_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`. Raises Unreadable. A large one is for a thread: it takes long, and lets others run."""
    try:
        doc = loads(data) if len(data) <= LARGE_BYTES else read_large(data, loads)
    except TooMuch as error:
        raise Unreadable(f"the upstream's answer is too large to be read: {error}") from None
    except ValueError:
        raise Unreadable("the upstream's answer is not JSON") from None
    if not isinstance(doc, dict):
        raise Unreadable("the upstream's answer is not a JSON object")
    return doc


def read_reply(body: bytes) -> Reply:
    """The reply in a whole body. Raises Unreadable."""
    doc = read_object(body)
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
        text_of(message.get("content")),
        text_of(choice.get("finish_reason")),
        tuple(_tool_calls(message)),
        text_of(message.get("refusal")) or None,
    )


def _tool_calls(message: Mapping[str, Any]) -> Iterator[ToolCall]:
    calls = message.get("tool_calls")
    for position, call in enumerate(calls if isinstance(calls, list) else ()):
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            name, arguments = text_of(function.get("name")), text_of(function.get("arguments"))
            yield ToolCall(text_of(call.get("id")) or "", name or "", arguments or "", position)
    legacy = message.get("function_call")
    if isinstance(legacy, dict):
        yield ToolCall("", text_of(legacy.get("name")) or "", text_of(legacy.get("arguments")) or "")


def text_of(value: Any) -> str | None:
    """The value where it is a text."""
    return value if isinstance(value, str) else None


def with_mended(whole: Whole, verdict: Verdict, extra: Mapping[str, Any]) -> bytes:
    """The body with mended contents and arguments in place, and members of `extra` added at the top.

    Nothing to change gives the very bytes that came. Log probabilities of a replaced text are dropped:
    they were those of another text.
    """
    if not verdict.texts and not verdict.arguments and not extra:
        return whole.body
    doc = dict(whole.doc)
    if verdict.texts or verdict.arguments:
        doc["choices"] = [_mended_choice(c, index_of(c, n), verdict) for n, c in enumerate(doc["choices"])]
    return dump(doc | dict(extra))


def _mended_choice(choice: Any, index: int, verdict: Verdict) -> Any:
    if index in verdict.texts:
        choice = _with_text(choice, verdict.texts[index])
    calls = {call: text for (at, call), text in verdict.arguments.items() if at == index}
    if not calls:
        return choice
    message = choice["message"]
    mended = [_with_arguments(c, calls[n]) if n in calls else c for n, c in enumerate(message["tool_calls"])]
    return choice | {"message": message | {"tool_calls": mended}}


def _with_arguments(call: Mapping[str, Any], arguments: str) -> dict[str, Any]:
    return {**call, "function": {**call.get("function", {}), "arguments": arguments}}


def index_of(choice: Any, position: int) -> int:
    """The index that a choice or a call gives itself, else its position."""
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
class Piece:
    """A part of a streamed answer as one frame; see `policies.release.Piece`."""

    data: bytes
    speaks: bool
    text: str | None = None
    calls: bool = False

    def saying(self, text: str) -> bytes:
        """The frame with another content."""
        if text == self.text:
            return self.data
        return frame(saying(event_of(self.data), text))


def event_of(framed: bytes) -> bytes:
    """The data in one frame that `proxy.wire.sse.frame` made of one line."""
    return framed[6:-2]


def saying(event: bytes, text: str, head: Mapping[str, Any] | None = None) -> bytes:
    """An event of one choice with another content, under the top-level members of `head`."""
    doc = loads(event)
    choice, *others = doc["choices"]
    delta = {k: v for k, v in choice.get("delta", {}).items() if k != "content"}
    if text:
        delta["content"] = text
    mended = choice | {"delta": delta} | ({"logprobs": None} if "logprobs" in choice else {})
    return dump(doc | dict(head or {}) | {"choices": [mended, *others]})


def with_mended_streamed(events: Sequence[bytes], verdict: Verdict) -> Iterator[bytes]:
    """The events of a finished stream with mended contents and arguments in place.

    The first event that carried a part of a text carries all of the new one; later ones lose theirs, and
    vanish where nothing else is left in them.
    """
    said: set[tuple[int, int]] = set()
    for data in events:
        doc = loads(data)
        choices = doc.get("choices")
        if not choices:
            yield data
            continue
        kept = [
            c
            for c in (_rewritten(c, index_of(c, n), verdict, said) for n, c in enumerate(choices))
            if c is not None
        ]
        if kept:
            yield data if kept == choices else dump(doc | {"choices": kept})


_TEXT: Final = -1
"""Stands for the content among the indices of calls."""


def _rewritten(choice: Any, index: int, verdict: Verdict, said: set[tuple[int, int]]) -> Any:
    """One choice of an event under its new texts; None where nothing is left to say."""
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return _rewritten_legacy(choice, index, verdict, said)
    new = dict(delta)
    if index in verdict.texts and delta.get("content"):
        new.pop("content")
        if (index, _TEXT) not in said:
            new["content"] = verdict.texts[index]
            said.add((index, _TEXT))
    if isinstance(delta.get("tool_calls"), list):
        new["tool_calls"] = [
            _rewritten_call(c, index, n, verdict, said) for n, c in enumerate(delta["tool_calls"])
        ]
    if new == delta:
        return choice
    if not new and choice.get("finish_reason") is None:
        return None
    return choice | {"delta": new} | ({"logprobs": None} if "logprobs" in choice else {})


def _rewritten_legacy(choice: Any, index: int, verdict: Verdict, said: set[tuple[int, int]]) -> Any:
    if index not in verdict.texts or not choice.get("text"):
        return choice
    text = "" if (index, _TEXT) in said else verdict.texts[index]
    said.add((index, _TEXT))
    return choice | {"text": text} if text or choice.get("finish_reason") else None


def _rewritten_call(
    call: Any, index: int, position: int, verdict: Verdict, said: set[tuple[int, int]]
) -> Any:
    key = (index, index_of(call, position))
    if key not in verdict.arguments or not isinstance(call.get("function"), dict):
        return call
    arguments = "" if key in said else verdict.arguments[key]
    said.add(key)
    return _with_arguments(call, arguments)


def as_events(whole: Whole) -> list[bytes]:
    """A whole reply as the events of a stream, for an upstream that did not stream when asked to."""
    doc = {k: v for k, v in whole.doc.items() if k not in ("choices", "usage", "object")}
    doc["object"] = "chat.completion.chunk"
    events = []
    for position, choice in enumerate(whole.doc.get("choices") or ()):
        if not isinstance(choice, dict):
            continue
        index = index_of(choice, position)
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
        end: dict[str, Any] = {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}
        events.append(dump(doc | {"choices": [end]}))
    if whole.doc.get("usage") is not None:
        events.append(dump(doc | {"choices": [], "usage": whole.doc["usage"]}))
    return events
