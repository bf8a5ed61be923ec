"""Streams of `/v1/chat/completions` and `/v1/completions`: what each event says, and the reply they add up to."""

import re
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any, Final

from policies.chat import Choice, Reply, ToolCall, Usage
from policies.money import usage_of
from proxy.wire.chat import index_of, read_object, text_of
from proxy.wire.sse import DONE
from schemas.values import dataclass

_CHOICES: Final = b'"choices":['
_ONLY_TEXT: Final = re.compile(
    rb'\{"index":0,"delta":\{(?:"role":"assistant",)?"content":"([^"\\\x00-\x1f]++)"(?:,"refusal":null)?\}'
    rb'(?:,"logprobs":null)?,"finish_reason":null\}\](?:,"usage":null)?(?:,"obfuscation":"[A-Za-z0-9]*+")?\}'
)
"""The rest of an event whose one choice adds a text without escapes, as OpenAI, vLLM and most others write it."""
_NOT_PLAIN: Final = bytes(range(32)) + b'"\\'
"""What JSON writes by an escape."""
MOST_CHARS_PER_TOKEN: Final = 8
"""Words of prose are rarely longer; only bounds what must not be exceeded."""
CHARS_PER_TOKEN: Final = 4
"""For estimates where nothing was counted: OpenAI's rule of thumb for English text."""
CHARS_PER_EVENT: Final = 6
"""Where the events of a stream hold more on average, each must hold several tokens."""


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
        self._start = self._end = b""
        """What stands before and after the text of the last event that was like it."""

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
        said = self._between(data)
        if said is None:
            return None
        try:
            text = said.decode()
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

    def _between(self, data: bytes) -> bytes | None:
        """The text of such an event; None where it is none, or is written with escapes."""
        start, end = self._start, self._end
        if end and data.startswith(start) and data.endswith(end):  # as the event before it: nearly always
            said = data[len(start) : -len(end)]
            if said and len(said.translate(None, _NOT_PLAIN)) == len(said):
                return said
        if not data.startswith(self._before):
            return None
        match = _ONLY_TEXT.fullmatch(data, len(self._before))
        if match is None:
            return None
        self._start, self._end = data[: match.start(1)], data[match.end(1) :]
        return match[1]

    def _read(self, data: bytes, doc: Mapping[str, Any], *, usage_only: bool) -> Chunk:
        if doc.get("error") is not None and not doc.get("choices"):
            return Chunk(data, doc, error=True)
        choices = doc.get("choices")
        if not isinstance(choices, list) or not choices:
            return Chunk(data, doc, usage_only=usage_only)
        speaks = False
        for position, choice in enumerate(choices):
            if isinstance(choice, dict):
                said = self._take(index_of(choice, position), choice)
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
                self._take_call(gathered, index_of(call, position), call)
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str):
            self.characters += len(reasoning)
        return bool(calls) or any(v for k, v in delta.items() if k not in ("role", "content"))

    def _take_call(self, gathered: _Gathered, index: int, call: Mapping[str, Any]) -> None:
        found = gathered.tool_calls.setdefault(index, ["", "", ""])
        function = call.get("function", call)
        if not isinstance(function, dict):
            return
        arguments = text_of(function.get("arguments")) or ""
        self.characters += len(arguments)
        found[0] = found[0] or text_of(call.get("id")) or ""
        found[1] = found[1] or text_of(function.get("name")) or ""
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
