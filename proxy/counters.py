"""Token counts: how long a prompt is before a provider tells.

Counts are those of o200k_base with OpenAI's chat overhead; for another family of models they are
multiplied with a factor learned from the usage its upstream reported. Where a text was counted before,
a count costs a dictionary look-up, so that a growing conversation pays for its new messages only.
"""

import asyncio
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy import vocabulary

# Sources: OpenAI Cookbook, "How to count tokens with Tiktoken" (read 2026-11): 3 tokens per message and
# one for its role, 1 more where a name is given, 3 that open the reply.
PER_MESSAGE = 4
PER_NAME = 1
REPLY_OPENING = 3
# Measured against usage of gpt-4o: the frame of one tool call, and of a tool's result.
PER_TOOL_CALL = 8
PER_TOOL_RESULT = 4
# Same cookbook page, gpt-4o: the frame of tool definitions.
PER_FUNCTION = 7
PER_PROPERTIES = 3
PER_PROPERTY = 3
PER_ENUM = -3
PER_ENUM_ITEM = 3
AFTER_FUNCTIONS = 12
# OpenAI docs, "Images and vision": 85 at low detail; 85 + 170 for each tile at high detail, and a square
# image of unknown size has four.
LOW_DETAIL_IMAGE = 85
HIGH_DETAIL_IMAGE = 765
# A kind of part nobody has measured (audio, files) is counted by its size, at most as much as this.
OPAQUE_PART = 4_000

LONG_TEXT = 16_384
"""Characters encoded in one go. tiktoken is linear below it, panics at a million spaces."""
RUN = 4_096
"""Where a long text shows no border between words, it is cut after this many characters."""
HEAVY = 20_000
"""Characters not counted before that are worth a thread: about 2 ms of work."""
DEEPEST_SCHEMA = 12


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens of one request: of each message, of the tool definitions, and of what frames them all."""

    messages: tuple[int, ...]
    tools: int = 0
    overhead: int = REPLY_OPENING

    @property
    def total(self) -> int:
        """What the prompt comes to."""
        return sum(self.messages) + self.tools + self.overhead


class _Recent:
    """Counts of texts by their hash, the recently used ones: two generations, the older is dropped whole.

    A text is known by its hash and length and is not kept: the memory of the cache does not depend
    on what clients send.
    """

    __slots__ = ("_limit", "_new", "_old")

    def __init__(self, limit: int) -> None:
        self._limit = max(2, limit // 2)
        self._new: dict[tuple[int, int], int] = {}
        self._old: dict[tuple[int, int], int] = {}

    def get(self, text: str) -> int | None:
        key = (hash(text), len(text))
        tokens = self._new.get(key)
        if tokens is None and (tokens := self._old.get(key)) is not None:
            self._put(key, tokens)
        return tokens

    def put(self, text: str, tokens: int) -> None:
        self._put((hash(text), len(text)), tokens)

    def _put(self, key: tuple[int, int], tokens: int) -> None:
        if len(self._new) >= self._limit:
            self._old, self._new = self._new, {}
        self._new[key] = tokens

    def __len__(self) -> int:
        return len(self._new) + len(self._old)


class Counter:
    """Counts tokens for one app. The vocabulary is loaded with the first text that has to be counted."""

    def __init__(
        self,
        *,
        remembered_texts: int = 200_000,
        load: Callable[[], Any] = vocabulary.load,
    ) -> None:
        self._known = _Recent(remembered_texts)
        self._load = load
        self._encode: Callable[[str], list[int]] | None = None
        self._loading = threading.Lock()
        self._wanted = False
        self._factors: dict[str, _Factor] = {}

    def __repr__(self) -> str:
        state = "ready" if self._encode else "not loaded"
        return f"<Counter {state}, {len(self._known)} texts known>"

    def warm(self) -> None:
        """The vocabulary is loaded; 0.3 s, so call it in a thread after the start."""
        with self._loading:
            if self._encode is None:
                self._encode = self._load().encode_ordinary

    def count_text(self, text: str) -> int:
        """Tokens of a text, whatever it holds: linear time, no panic on runs of one character."""
        if not text:
            return 0
        tokens = self._known.get(text)
        if tokens is None:
            tokens = self._count_new(text)
            self._known.put(text, tokens)
        return tokens

    def count_message(self, message: Mapping[str, Any]) -> int:
        """Tokens of one chat message with its frame; images by the provider's published rule."""
        content = message.get("content")
        tokens = PER_MESSAGE
        if isinstance(content, str):
            tokens += self.count_text(content)
        elif isinstance(content, Sequence):
            tokens += self._count_parts(content)
        role = message.get("role")
        if role == "tool":
            tokens += PER_TOOL_RESULT
        elif isinstance(name := message.get("name"), str):
            tokens += PER_NAME + self.count_text(name)
        for key in ("refusal", "reasoning_content"):
            if isinstance(extra := message.get(key), str):
                tokens += self.count_text(extra)
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, Sequence) and not isinstance(calls, str) else ():
            tokens += self._count_call(call.get("function") if isinstance(call, Mapping) else None)
        if "function_call" in message:
            tokens += self._count_call(message["function_call"])
        return tokens

    def count_messages(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> Counted:
        """Tokens of each message and of the tool definitions."""
        return Counted(
            messages=tuple([self.count_message(message) for message in messages]),
            tools=self.count_tools(tools),
        )

    async def measure(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> Counted:
        """As `count_messages`, with long work in a thread: the event loop goes on meanwhile."""
        if self._encode is None or self._new_characters(messages) + _characters(tools) > HEAVY:
            return await asyncio.to_thread(self.count_messages, messages, tools)
        return self.count_messages(messages, tools)

    def at_once(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> int | None:
        """The tokens of a prompt where counting them takes no thread; None elsewhere."""
        if not self._ready() or self._new_characters(messages) > HEAVY:
            return None
        return self.count_messages(messages, tools).total

    def texts_at_once(self, texts: Sequence[str]) -> int | None:
        """The tokens of texts where counting them takes no thread; None elsewhere."""
        if not self._ready() or sum(map(len, texts)) > HEAVY:
            return None
        return sum(map(self.count_text, texts))

    def _ready(self) -> bool:
        """Whether the vocabulary is loaded; the first time that it is missed it begins to be, for the next."""
        if self._encode is None and not self._wanted:
            self._wanted = True
            threading.Thread(target=self.warm, name="vocabulary", daemon=True).start()
        return self._encode is not None

    def count_tools(self, tools: Sequence[Mapping[str, Any]]) -> int:
        """Tokens of tool definitions, as OpenAI lays them out for the model."""
        functions = [f for f in map(_function_of, tools) if f is not None]
        if not functions:
            return 0
        return AFTER_FUNCTIONS + sum(self._count_function(function) for function in functions)

    def at_most(self, body_bytes: int, messages: Sequence[Mapping[str, Any]]) -> int:
        """A bound that needs no vocabulary: a token holds a byte at least, and a frame takes less than its JSON.

        `body_bytes` is the length of the request as it came. Where this fits, nothing has to be counted.
        """
        most = body_bytes + REPLY_OPENING
        for message in messages:
            content = message.get("content")
            if isinstance(content, list):
                most += sum(_image_tokens(part) for part in content if _is_image(part))
        return most

    def observe(self, family: str, estimated: int, reported: int) -> None:
        """An upstream told how long a prompt was that we had estimated (with a factor of 1)."""
        if estimated > 0 and reported > 0:
            self._factors.setdefault(family, _Factor()).learn(estimated, reported)

    def factor(self, family: str) -> float:
        """What to multiply counts with for this family of models; 1 until something was learned."""
        learned = self._factors.get(family)
        return learned.value if learned else 1.0

    def at_most_theirs(self, family: str, tokens: int) -> int:
        """So many of our tokens are at most so many of the family's: no fewer, whatever its usage seems to say."""
        return math.ceil(tokens * max(1.0, self.factor(family)))

    def _new_characters(self, messages: Sequence[Mapping[str, Any]]) -> int:
        new = 0
        for message in messages:
            content = message.get("content")
            if isinstance(content, str):
                if self._known.get(content) is None:
                    new += len(content)
            elif content is not None:
                parts = content if isinstance(content, list) else [content]
                new += sum(_characters(part) for part in parts if not _is_image(part))
            if "tool_calls" in message:
                new += _characters(message["tool_calls"])
        return new

    def _count_new(self, text: str) -> int:
        if self._encode is None:
            self.warm()
        encode = self._encode
        assert encode is not None
        if len(text) <= LONG_TEXT:
            return _encoded(encode, text)
        seen: dict[str, int] = {}  # a character repeated a million times is counted once
        tokens = 0
        for piece in pieces(text):
            if piece not in seen:
                seen[piece] = _encoded(encode, piece)
            tokens += seen[piece]
        return tokens

    def _count_parts(self, parts: Sequence[Any]) -> int:
        tokens = 0
        text: list[str] = []
        for part in parts:
            if isinstance(part, str):
                text.append(part)
            elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
                text.append(part["text"])
            elif _is_image(part):
                tokens += _image_tokens(part)
            else:
                tokens += min(OPAQUE_PART, _characters(part) // 4)
        return tokens + self.count_text("".join(text))

    def _count_call(self, function: Any) -> int:
        if not isinstance(function, Mapping):
            return PER_TOOL_CALL
        named = (function.get("name"), function.get("arguments"))
        return PER_TOOL_CALL + sum(self.count_text(text) for text in named if isinstance(text, str))

    def _count_function(self, function: Mapping[str, Any]) -> int:
        description = function.get("description")
        line = f"{function.get('name')}:{description.rstrip('.') if isinstance(description, str) else ''}"
        return PER_FUNCTION + self.count_text(line) + self._count_schema(function.get("parameters"), 0)

    def _count_schema(self, schema: Any, depth: int) -> int:
        if not isinstance(schema, Mapping):
            return 0
        if depth > DEEPEST_SCHEMA:
            return self.count_text(json.dumps(schema, default=str))
        tokens = 0
        properties = schema.get("properties")
        if isinstance(properties, Mapping) and properties:
            tokens += PER_PROPERTIES
            for name, value in properties.items():
                tokens += PER_PROPERTY + self._count_property(str(name), value, depth)
        return tokens + self._count_schema(schema.get("items"), depth + 1)

    def _count_property(self, name: str, value: Any, depth: int) -> int:
        if not isinstance(value, Mapping):
            return self.count_text(name)
        description = value.get("description")
        line = f"{name}:{value.get('type')}:{description.rstrip('.') if isinstance(description, str) else ''}"
        tokens = self.count_text(line)
        choices = value.get("enum")
        if isinstance(choices, list):
            tokens += PER_ENUM + sum(PER_ENUM_ITEM + self.count_text(str(choice)) for choice in choices)
        return tokens + self._count_schema(value, depth + 1)


class _Factor:
    """Reported over estimated tokens of one family of models, the last twenty or so requests counting most."""

    __slots__ = ("_estimated", "_reported")
    _FORGET = 0.9
    # A wild report (another tokenizer entirely, or a wrong usage) must not move budgets further than this.
    _LEAST, _MOST = 0.5, 3.0

    def __init__(self) -> None:
        self._estimated = 0.0
        self._reported = 0.0

    def learn(self, estimated: int, reported: int) -> None:
        ratio = min(self._MOST, max(self._LEAST, reported / estimated))
        # Long prompts tell more than short ones, but not in proportion: one of a million tokens
        # would outvote all others for a day.
        weight = math.sqrt(estimated)
        self._estimated = self._estimated * self._FORGET + weight
        self._reported = self._reported * self._FORGET + weight * ratio

    @property
    def value(self) -> float:
        return self._reported / self._estimated


def pieces(text: str) -> Iterator[str]:
    """A long text in pieces whose token counts add up to its own, wherever words have borders.

    A blank between a word and a letter is such a border in o200k_base: no token spans it. Where
    there is none within reach, the cut is made anywhere, and the sum is an estimate (a little high).
    """
    start = 0
    while len(text) - start > LONG_TEXT:
        end = _border(text, start + LONG_TEXT - RUN, start + LONG_TEXT)
        yield from _runs(text[start:end]) if end == start + LONG_TEXT else (text[start:end],)
        start = end
    yield text[start:]


def _border(text: str, least: int, most: int) -> int:
    at = most
    while (at := text.rfind(" ", least, at)) > 0:
        if text[at - 1].isalnum() and text[at + 1].isalpha():
            return at
    return most


def _runs(text: str) -> Iterator[str]:
    for start in range(0, len(text), RUN):
        yield text[start : start + RUN]


def _encoded(encode: Callable[[str], list[int]], text: str) -> int:
    try:
        return len(encode(text))
    except UnicodeEncodeError:  # a lone surrogate is legal JSON; it reaches the model as U+FFFD
        return len(encode(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")))
    except (ValueError, RuntimeError):  # the splitting expression gave up: a byte is a token at most
        return len(text.encode("utf-8", "replace"))


def _function_of(tool: Any) -> Mapping[str, Any] | None:
    if not isinstance(tool, Mapping):
        return None
    function = tool.get("function", tool)
    return function if isinstance(function, Mapping) else None


def _is_image(part: Any) -> bool:
    return isinstance(part, Mapping) and ("image_url" in part or part.get("type") in ("image", "input_image"))


def _image_tokens(part: Mapping[str, Any]) -> int:
    url = part.get("image_url")
    detail = url.get("detail") if isinstance(url, Mapping) else part.get("detail")
    return LOW_DETAIL_IMAGE if detail == "low" else HIGH_DETAIL_IMAGE


def _characters(value: Any) -> int:
    """About how much text a JSON value holds, without building it."""
    characters = 0
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            characters += len(item)
        elif isinstance(item, Mapping):
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)
    return characters
