"""Replies of `/v1/chat/completions` and `/v1/completions`: read whole or in chunks, and written back mended.

What a reply holds beyond the parts we know is kept: only the text that was mended is replaced.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

import orjson

from policies.chat import Choice, Reply, ToolCall, Usage
from policies.contract import Verdict
from policies.money import usage_of
from proxy.wire.body import LARGE_BYTES, dump
from proxy.wire.large import TooMuch, read_large
from proxy.wire.sse import DONE, frame
from schemas.values import dataclass

_CHOICES = b'"choices":['
_ONLY_TEXT = re.compile(
    rb'\{"index":0,"delta":\{(?:"role":"assistant",)?"content":"([^"\\\x00-\x1f]++)"(?:,"refusal":null)?\}'
    rb'(?:,"logprobs":null)?,"finish_reason":null\}\](?:,"usage":null)?(?:,"obfuscation":"[A-Za-z0-9]*+")?\}'
)
"""The rest of an event whose one choice adds a text without escapes, as OpenAI, vLLM and most others write it."""
MOST_CHARS_PER_TOKEN = 8
"""Words of prose are rarely longer; only bounds what must not be exceeded."""
CHARS_PER_TOKEN = 4
"""For estimates where nothing was counted: OpenAI's rule of thumb for English text."""
CHARS_PER_EVENT = 6
"""Where the events of a stream hold more on average, each must hold several tokens."""


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
        _text(message.get("content")),
        _text(choice.get("finish_reason")),
        tuple(_tool_calls(message)),
        _text(message.get("refusal")) or None,
    )


def _tool_calls(message: Mapping[str, Any]) -> Iterator[ToolCall]:
    calls = message.get("tool_calls")
    for position, call in enumerate(calls if isinstance(calls, list) else ()):
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            name, arguments = _text(function.get("name")), _text(function.get("arguments"))
            yield ToolCall(_text(call.get("id")) or "", name or "", arguments or "", position)
    legacy = message.get("function_call")
    if isinstance(legacy, dict):
        yield ToolCall("", _text(legacy.get("name")) or "", _text(legacy.get("arguments")) or "")


def _text(value: Any) -> str | None:
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
        doc["choices"] = [_mended_choice(c, _index(c, n), verdict) for n, c in enumerate(doc["choices"])]
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
    """One event of a stream. `doc` None: the end marker.

    `speaks`: it carries something of the answer; `text`: what it adds to the content where it has one choice.
    """

    data: bytes
    doc: Mapping[str, Any] | None
    speaks: bool = False
    text: str | None = None
    calls: bool = False
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
        self._spoken = 0
        self._spoken_at_usage = 0
        self._like: Mapping[str, Any] | None = None
        """An event that was read whole, and said something in one choice; `_before` is its text before that choice."""
        self._before = b""

    @property
    def by_token(self) -> bool:
        """Whether the events that came are short enough to hold a token each."""
        return self._spoken > 0 and self.characters <= CHARS_PER_EVENT * self._spoken

    @property
    def tokens(self) -> int:
        """About how many tokens were written: one in each event, or more where events are too long for that."""
        return self._spoken if self.by_token else -(-self.characters // CHARS_PER_TOKEN)

    @property
    def spent(self) -> Usage | None:
        """The last usage that was reported; what was written after it is estimated. None where none was."""
        usage = self.usage
        if usage is None or self._spoken == self._spoken_at_usage or self.tokens <= usage.output_tokens:
            return usage
        return replace(usage, output_tokens=self.tokens, reported=False)

    @property
    def tokens_at_least(self) -> int:
        """A lower bound of what was written: an event that speaks holds a token, and a token few characters."""
        return max(self._spoken, self.characters // MOST_CHARS_PER_TOKEN)

    @property
    def finished(self) -> bool:
        """Whether every choice that spoke has its finish_reason."""
        return bool(self._choices) and all(c.finish_reason is not None for c in self._choices.values())

    def feed(self, data: bytes) -> Chunk:
        """Take one event's data. Raises Unreadable."""
        if self._like is not None and (chunk := self._feed_alike(data, self._like)) is not None:
            return chunk
        if data == DONE or data.strip() == DONE:
            return Chunk(data, None)
        doc = read_object(data)
        usage = doc.get("usage")
        chunk = self._read(data, doc, usage_only=usage is not None)
        if usage is not None and (read := usage_of(usage)) is not None:
            self.usage, self._spoken_at_usage = read, self._spoken
        if chunk.speaks and self._like is None:
            self._learn(data, doc)
        return chunk

    def _learn(self, data: bytes, doc: Mapping[str, Any]) -> None:
        """Remember what the events of this stream begin with: it is the same in nearly all of them."""
        before, found, _ = data.partition(_CHOICES)
        # One brace: what follows is a member of the event itself, not of something in it.
        if found and before.count(b"{") == 1 and 0 in self._choices:
            self._like, self._before = doc, before + found

    def _feed_alike(self, data: bytes, like: Mapping[str, Any]) -> Chunk | None:
        """Take an event that differs from `like` in nothing but its text; None where it may be another one.

        The beginning is known to be good JSON, and the rest is of one form: nothing is left to parse.
        """
        if not data.startswith(self._before):
            return None
        match = _ONLY_TEXT.fullmatch(data, len(self._before))
        if match is None:
            return None
        try:
            text = match[1].decode()
        except UnicodeDecodeError:
            return None
        gathered = self._choices[0]
        gathered.spoke = True
        self.characters += len(text)
        self._spoken += 1
        if not self._keep:
            return Chunk(data, like, speaks=True)
        gathered.text.append(text)
        return Chunk(data, like, speaks=True, text=text)

    def _read(self, data: bytes, doc: Mapping[str, Any], *, usage_only: bool) -> Chunk:
        if doc.get("error") is not None and not doc.get("choices"):
            return Chunk(data, doc, error=True)
        choices = doc.get("choices")
        if not isinstance(choices, list) or not choices:
            return Chunk(data, doc, usage_only=usage_only)
        speaks = False
        for position, choice in enumerate(choices):
            if isinstance(choice, dict):
                said = self._take(_index(choice, position), choice)
                self._spoken += said
                speaks = speaks or said or choice.get("finish_reason") is not None
        if not self._keep or len(choices) > 1:
            return Chunk(data, doc, speaks)
        return Chunk(data, doc, speaks, _content(choices[0]), _calls(choices[0]))

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
        return isinstance(delta, dict) and self._take_rest(gathered, delta)

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
        calls = tuple(
            ToolCall(call_id, name, arguments, at)
            for at, (call_id, name, arguments) in sorted(gathered.tool_calls.items())
        )
        return Choice(
            index,
            "".join(gathered.text) if gathered.spoke else (None if calls or gathered.refusal else ""),
            gathered.finish_reason,
            calls,
            "".join(gathered.refusal) or None,
        )


def _content(choice: Any) -> str | None:
    """The content that a choice of an event adds; None where it adds none."""
    delta = choice.get("delta") if isinstance(choice, dict) else None
    content = delta.get("content") if isinstance(delta, dict) else None
    return content if isinstance(content, str) and content else None


def _calls(choice: Any) -> bool:
    delta = choice.get("delta") if isinstance(choice, dict) else None
    return isinstance(delta, dict) and bool(delta.get("tool_calls"))


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
            for c in (_rewritten(c, _index(c, n), verdict, said) for n, c in enumerate(choices))
            if c is not None
        ]
        if kept:
            yield data if kept == choices else dump(doc | {"choices": kept})


_TEXT = -1
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
    key = (index, _index(call, position))
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
        end: dict[str, Any] = {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}
        events.append(dump(doc | {"choices": [end]}))
    if whole.doc.get("usage") is not None:
        events.append(dump(doc | {"choices": [], "usage": whole.doc["usage"]}))
    return events
