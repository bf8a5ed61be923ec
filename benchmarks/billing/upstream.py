"""A scripted provider that writes down what it bills for each call, whatever becomes of the call.

It bills as the providers do: nothing for what it refuses (4xx, 5xx) or drops without a word; else the prompt, and every token that it had
written when the answer ended or its client hung up, which for a stream is every token that was sent, and for a
whole answer every token that was ready. Its money is computed here, in fractions, by nothing of the proxy's.
"""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from aiohttp import web

from proxy.counters import Counter

PRICES: Mapping[str, tuple[str, str, str]] = {
    "up-mini": ("0.15", "0.6", "0.075"),
    "up-big": ("2.5", "10", "1.25"),
    "up-odd": ("0.123457", "0.765433", "0.041153"),
}
"""USD per million tokens: prompt, answer, cached prompt. No fraction of `up-odd` is a whole nano-dollar."""
CASE = "x-client-request-id"
"""The header that names the case; it passes the proxy."""
WORDS = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school")

How = Literal["answer", "refuse", "error", "cut", "drop"]


@dataclass(frozen=True, slots=True)
class Play:
    """How one call is answered.

    `error` and `cut` end a stream after `words` tokens, with an error event or without a word; `drop` closes the
    connection without an answer. `pause_s` passes before each token. `usage` False: it tells none.
    """

    how: How = "answer"
    words: int = 8
    text: str | None = None
    usage: bool = True
    status: int = 500
    message: str = "no"
    pause_s: float = 0.0
    choices: int = 1
    calls: bool = False
    cached: float = 0.0
    each: bool = False
    """Usage stands on every event."""

    @property
    def pieces(self) -> Sequence[str]:
        """The tokens of one choice."""
        if self.text is not None:
            return re.findall(r"\s*\w+|\s*\W", self.text)
        return [" " + WORDS[n % len(WORDS)] for n in range(self.words)]


@dataclass(slots=True)
class Line:
    """One line of the invoice. `told`: its usage was sent to the proxy to the end."""

    case: str
    model: str
    prompt: int = 0
    cached: int = 0
    output: int = 0
    told: bool = False
    free: bool = False
    ended: bool = False
    """All that there was to send was sent."""
    how: str = ""

    @property
    def nanousd(self) -> int:
        """What it bills, rounded half up to a nano-dollar."""
        if self.free:
            return 0
        plain, answer, cached = (Fraction(price) * 1000 for price in PRICES[self.model])
        cost = (self.prompt - self.cached) * plain + self.cached * cached + self.output * answer
        return int(cost + Fraction(1, 2))

    def usage(self) -> dict[str, Any]:
        details = {"prompt_tokens_details": {"cached_tokens": self.cached}} if self.cached else {}
        total = self.prompt + self.output
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.output,
            "total_tokens": total,
            **details,
        }

    def usage_of_responses(self) -> dict[str, Any]:
        details = {"input_tokens_details": {"cached_tokens": self.cached}}
        return {"input_tokens": self.prompt, "output_tokens": self.output, **details}


class Biller:
    """The provider. `plays` has the answers for each case, in the order of its calls; the last one repeats."""

    def __init__(self, counter: Counter | None = None) -> None:
        self.counter = counter or Counter()
        self.counter.warm()
        self.plays: dict[str, Sequence[Play]] = {}
        self.lines: list[Line] = []
        self._calls: dict[str, int] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/v1/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=2048).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/v1"

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except ConnectionError:  # it hung up
            return web.Response()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.content_type == "application/json" else {}
        case, path = request.headers[CASE], request.match_info["path"]
        nth = self._calls[case] = self._calls.get(case, -1) + 1
        plays = self.plays[case]
        play = plays[min(nth, len(plays) - 1)]
        line = Line(case, body.get("model", ""), how=play.how)
        self.lines.append(line)
        if play.how == "refuse":
            line.free = line.ended = True
            error = {"message": play.message, "type": "t", "param": None, "code": None}
            return web.json_response({"error": error}, status=play.status)
        line.prompt = self._prompt(path, body)
        line.cached = int(line.prompt * play.cached)
        if play.how == "drop":
            line.free = True
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if path == "embeddings":
            return self._whole(line, play, {"object": "list", "data": []})
        if path == "audio/speech":
            return web.Response(body=b"RIFF" * 100, content_type="audio/wav")
        answer = self._responses if path == "responses" else self._chat
        return await answer(request, body, play, line)

    def _prompt(self, path: str, body: Mapping[str, Any]) -> int:
        if path == "chat/completions":
            return self.counter.count_messages(body["messages"], body.get("tools", ())).total
        return self.counter.count_text(str(body.get("input", "")))

    @staticmethod
    def _whole(line: Line, play: Play, doc: dict[str, Any]) -> web.Response:
        if play.usage:
            doc["usage"] = line.usage_of_responses() if doc["object"] == "response" else line.usage()
        line.told, line.ended = play.usage, True
        return web.json_response(doc)

    async def _chat(
        self, request: web.Request, body: Mapping[str, Any], play: Play, line: Line
    ) -> web.StreamResponse:
        if body.get("stream"):
            return await self._stream(request, body, play, line)
        for _ in range(play.choices):
            await self._write(play, line)
        text = "".join(play.pieces)
        calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]
        message = {"content": None, "tool_calls": calls} if play.calls else {"content": text}
        choices = [
            {
                "index": n,
                "message": {"role": "assistant", **message},
                "finish_reason": "tool_calls" if play.calls else "stop",
            }
            for n in range(play.choices)
        ]
        return self._whole(line, play, {"id": "x", "object": "chat.completion", "choices": choices})

    @staticmethod
    async def _write(play: Play, line: Line) -> None:
        """All of one choice; one that is hung up on stops where it is."""
        for _ in play.pieces:
            if play.pause_s:
                await asyncio.sleep(play.pause_s)
            line.output += 1

    async def _stream(
        self, request: web.Request, body: Mapping[str, Any], play: Play, line: Line
    ) -> web.StreamResponse:
        out = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await out.prepare(request)
        asked = play.usage and (body.get("stream_options") or {}).get("include_usage") is True
        for delta, finish, index in self._deltas(play):
            if play.pause_s:
                await asyncio.sleep(play.pause_s)
            line.output += finish is None and delta.get("role") is None
            event: dict[str, Any] = {
                "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
                "usage": line.usage() if asked and play.each else None,
            }
            await out.write(_event(event))
        if play.how == "cut":
            assert request.transport is not None
            request.transport.abort()
            return out
        if play.how == "error":
            await out.write(_event({"error": {"message": "overloaded"}}))
            return out
        if asked:
            await out.write(_event({"choices": [], "usage": line.usage()}))
        await out.write(b"data: [DONE]\n\n")
        line.told, line.ended = asked, True
        return out

    @staticmethod
    def _deltas(play: Play) -> Iterator[tuple[dict[str, Any], str | None, int]]:
        for index in range(play.choices):
            yield {"role": "assistant", "content": ""}, None, index
        if play.calls:
            for part in ('{"a"', ": 1", "}"):
                yield {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}, None, 0
        else:
            for piece in play.pieces:
                for index in range(play.choices):
                    yield {"content": piece}, None, index
        if play.how == "answer":
            for index in range(play.choices):
                yield {}, "tool_calls" if play.calls else "stop", index

    async def _responses(
        self, request: web.Request, body: Mapping[str, Any], play: Play, line: Line
    ) -> web.StreamResponse:
        if not body.get("stream"):
            await self._write(play, line)
            return self._whole(line, play, {"id": "r", "object": "response", "output": []})
        out = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await out.prepare(request)
        await out.write(_event({"type": "response.created", "response": {"usage": None}}))
        for piece in play.pieces:
            if play.pause_s:
                await asyncio.sleep(play.pause_s)
            line.output += 1
            await out.write(_event({"type": "response.output_text.delta", "delta": piece}))
        done = {"usage": line.usage_of_responses() if play.usage else None}
        await out.write(_event({"type": "response.completed", "response": done}))
        line.told, line.ended = play.usage, True
        return out


def _event(doc: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(doc).encode() + b"\n\n"
