"""A scripted upstream on a real socket, and a proxy in front of it, started as `python -m proxy` does."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from aiohttp import web
from blockbuster import blockbuster_ctx
from openai import AsyncOpenAI

from proxy.app import App
from proxy.config import loads

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def reply(text, finish="stop", usage=USAGE, **message):
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "up"}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": finish,
    }
    return body | {"choices": [choice]} | ({"usage": usage} if usage else {})


def chunks(text, finish="stop", size=3, usage=USAGE):
    """The events of a streamed reply, as dicts."""
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "up"}

    def event(delta, end=None):
        return base | {"choices": [{"index": 0, "delta": delta, "finish_reason": end}]}

    yield event({"role": "assistant", "content": ""})
    for at in range(0, len(text), size):
        yield event({"content": text[at : at + size]})
    yield event({}, finish)
    if usage:
        yield base | {"choices": [], "usage": usage}


class Upstream:
    """Answers each request with the next of `script`; the last one again when it is used up.

    A step is a text (a reply of it, streamed if asked), a dict (a JSON body), a web.Response, or an async
    function of (request, body).
    """

    def __init__(self, *script):
        self.script = list(script)
        self.seen: list[dict] = []
        self.headers: list[dict] = []
        self.paths: list[str] = []
        self.left = asyncio.Event()
        self.url = ""

    async def handle(self, request):
        raw = await request.read()
        body = json.loads(raw) if raw and request.content_type == "application/json" else raw
        self.seen.append(body)
        self.headers.append({k.lower(): v for k, v in request.headers.items()})
        self.paths.append(request.path_qs)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        try:
            if callable(step):
                return await step(request, body)
            if isinstance(step, web.Response):
                return step
            if isinstance(step, dict):
                return web.json_response(step)
            if isinstance(body, dict) and body.get("stream"):
                return await self.stream(request, chunks(step))
            return web.json_response(reply(step))
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise

    @staticmethod
    async def stream(request, events, end=b"data: [DONE]\n\n"):
        out = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await out.prepare(request)
        for event in events:
            await out.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        await out.write(end)
        return out

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Upstream"]:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            await runner.cleanup()


CONFIG = """
server: {{hold_status_s: 0.3, keepalive_s: 0.2, drain_s: 2, max_body_mb: {body_mb}{server}}}
store: "memory:"
providers:
  up: {{base_url: "{url}", api_key: sk-upstream-secret, timeouts: {{connect_s: 2, first_byte_s: 3, idle_s: 2, total_s: 10}}}}
{providers}
models:
  mini: {{provider: up, name: up-mini, price: {{input: 1, output: 2}}}}
  big: {{provider: up, name: up-big, price: {{input: 10, output: 20}}}}
  "fx-*": {{provider: up}}
{models}
schemas:
  age: {{type: object, properties: {{age: {{type: integer}}}}, required: [age], additionalProperties: false}}
{schemas}
routes:
  default: {{ladder: [mini]}}
  age: {{ladder: [mini, big], schema: age}}
  raw: {{ladder: [mini], schema: age, repair: {{reask: 0, give_up: raw}}}}
  open: {{ladder: [mini, big], stream: pass}}
  short: {{ladder: [mini], context: {{policy: recent, budget_tokens: 40}}}}
  closed: {{ladder: [mini], passthrough: false}}
{routes}
{more}
"""


def config_text(url, more="", routes="", models="", schemas="", providers="", server="", body_mb=1):
    """The configuration of a proxy in front of `url`; the rest is added to its sections, `more` at the end."""
    return CONFIG.format(
        url=url,
        more=more,
        routes=routes,
        models=models,
        schemas=schemas,
        providers=providers,
        server=server,
        body_mb=body_mb,
    )


@contextlib.asynccontextmanager
async def proxy(upstream: Upstream, more="", **sections) -> AsyncIterator[App]:
    """A proxy in front of `upstream`; `app.url` is where it listens, `app.client` an official client of it."""
    text = config_text(upstream.url, more, **sections)
    app = App(loads(text, name="test", environ={}, base_dir="."), environ={})
    await app.start()
    host, port = await app.listen("127.0.0.1", 0)
    app.url = f"http://{host}:{port}"
    app.client = AsyncOpenAI(base_url=f"{app.url}/v1", api_key="sk-client-secret", max_retries=0, timeout=10)
    try:
        with blockbuster_ctx(
            "proxy"
        ):  # a call of ours that waits for a disk or a lock in the event loop raises
            yield app
    finally:
        await app.client.close()
        await app.drain()
        await app.close()
