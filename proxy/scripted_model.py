"""A stand-in for a language model, where no real one can run: an OpenAI-compatible upstream that plays a script.

It must never be taken for a model: each text starts with a label, `system_fingerprint` and a header say
"scripted", and the JSON it gives carries the label in its strings. JSON comes the way small models give it,
in prose and a fence, with an error or two, so that the route with a schema has something to mend.
"""

import asyncio
import itertools
import re
import time
from typing import Any

import orjson
from aiohttp import web

NAME = "scripted"
LABEL = "[scripted model, not an LLM]"
HEADERS = {"x-scripted-model": "1"}
PIECE_S = 0.01
"""Between two pieces of a stream, so that it looks like one."""


class ScriptedModel:
    """The upstream on a free port of the loopback interface, in this process. `start` gives its base URL."""

    def __init__(self) -> None:
        self._runner: web.AppRunner | None = None
        self._numbers = itertools.count(1)

    async def start(self) -> str:
        app = web.Application(client_max_size=20 * 2**20)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/v1"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _models(self, _: web.Request) -> web.Response:
        card = {"id": NAME, "object": "model", "created": 0, "owned_by": "tailrace-demo"}
        return _json({"object": "list", "data": [card]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = orjson.loads(await request.read())
            messages = [m for m in asked["messages"] if isinstance(m, dict)]
        except (ValueError, TypeError, KeyError):
            return _error(400, "expected a JSON object with `messages`")
        text = reply_to(messages, asked.get("response_format"))
        usage = _usage(messages, text)
        head = {
            "id": f"chatcmpl-scripted-{next(self._numbers)}",
            "created": int(time.time()),
            "model": NAME,
            "system_fingerprint": "scripted-not-an-llm",
        }
        if asked.get("stream") is True:
            options = asked.get("stream_options")
            wanted = isinstance(options, dict) and options.get("include_usage") is True
            return await _stream(request, head, text, usage if wanted else None)
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return _json({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


def reply_to(messages: list[dict[str, Any]], response_format: Any) -> str:
    """The script: JSON of the demo's route where JSON is asked for, else a sentence. Always labelled."""
    said = [m["content"] for m in messages if isinstance(m.get("content"), str)]
    constrained = isinstance(response_format, dict) and response_format.get("type") != "text"
    if constrained or any("json" in text.lower() for text in said):
        broken = f"{{'name': '{LABEL}', 'city': 'Nowhere', 'age': 0,}}"
        return f"{LABEL} Sure, here is the JSON:\n```json\n{broken}\n```"
    last = said[-1].strip() if said else ""
    return f"{LABEL} Words in your message: {len(last.split())}. Install the local model or set a provider's key for an answer."


def _usage(messages: list[dict[str, Any]], text: str) -> dict[str, int]:
    """Words for tokens: a script has no tokenizer, and its price is zero."""
    prompt = sum(len(str(m.get("content", "")).split()) + 4 for m in messages)
    completion = len(text.split())
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def _stream(
    request: web.Request, head: dict[str, Any], text: str, usage: dict[str, int] | None
) -> web.StreamResponse:
    reply = web.StreamResponse(
        headers={**HEADERS, "content-type": "text/event-stream", "cache-control": "no-cache"}
    )
    await reply.prepare(request)

    async def send(choices: list[dict[str, Any]], **more: Any) -> None:
        chunk = {**head, "object": "chat.completion.chunk", "choices": choices, **more}
        await reply.write(b"data: " + orjson.dumps(chunk) + b"\n\n")

    def choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "finish_reason": finish_reason}

    await send([choice({"role": "assistant", "content": ""})])
    for piece in re.findall(r"\s*\S+", text):
        await send([choice({"content": piece})])
        await asyncio.sleep(PIECE_S)
    await send([choice({}, "stop")])
    if usage is not None:
        await send([], usage=usage)
    await reply.write(b"data: [DONE]\n\n")
    await reply.write_eof()
    return reply


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=status, headers=HEADERS, content_type="application/json"
    )


def _error(status: int, message: str) -> web.Response:
    body = {"message": f"{LABEL} {message}", "type": "invalid_request_error", "param": None, "code": None}
    return _json({"error": body}, status)
