"""Every other `/v1/*` path: handed to the provider as it is and back, both bodies streamed, usage booked.

The provider is that of the route (its first model), or of the model that a JSON body names. What is sent is
never read into memory unless it is JSON whose `model` must be translated.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import orjson

from policies.cards import ModelCard
from policies.chat import Failure, Usage
from policies.ladder import Attempt
from policies.money import cost_nanousd, usage_of
from proxy import serving
from proxy.edges import Visit, broken_body, check_length, late_body, read_body
from proxy.handlers.completions import serve
from proxy.planning import RESPONSES
from proxy.selection import Selected, select
from proxy.services import Services
from proxy.stores import base as stores
from proxy.upstreams.openai import MAX_REPLY_BYTES, OpenAIUpstream
from proxy.upstreams.transport import Response, TransportError
from proxy.wire import headers as wire_headers
from proxy.wire.ask import Ask, read_ask, read_controls
from proxy.wire.body import edit
from proxy.wire.errors import JSON, ApiError, from_failure, not_found, too_large
from proxy.wire.responses import schema_of
from proxy.wire.sse import Splitter, TooLong

_GONE = Failure("gone", "the client left")
NOT_OURS = frozenset({"content-type", "content-length", "content-disposition", "cache-control"})
"""Of the upstream's answer, beside the usual list: what describes the body."""


async def passthrough(services: Services, visit: Visit) -> serving.Answer:
    """Relay one request. Raises ApiError where nothing was sent to the client yet."""
    ask, body = await _read(services, visit)
    if ask is not None and ask.endpoint == RESPONSES and not ask.stream and schema_of(ask.doc) is not None:
        return await serve(services, visit, ask)
    selected = _selected(services, visit, ask)
    if not selected.route.passthrough:
        message = f"The route '{selected.route.name}' does not pass /v1/{visit.path[:100]} on."
        raise not_found(message, code="unknown_url")
    card = selected.targets[0].card
    upstream = services.ready.upstreams[card.provider]
    if ask is not None:
        changes: dict[str, Any] = dict(ask.own)
        if ask.model is not None and ask.model != card.name:
            changes["model"] = card.name
        body = edit(ask.body, ask.doc, changes)
    ticket = services.health.admit(card, card.name or selected.targets[0].asked, time.monotonic())
    if isinstance(ticket, Failure):
        raise from_failure(ticket, retried=False)
    services.health.called(card.provider, time.monotonic())
    relay = _Relay(services, visit, selected, card, stream=ask is not None and ask.stream)
    failure: Failure | None = _GONE
    try:
        answer = await relay.run(upstream, body)
        failure = None if answer.status < 500 else Failure("status", "", answer.status)
    except TransportError as error:
        failure = Failure(error.kind, f"The upstream failed: {error}.")
        raise from_failure(failure, retried=False) from None
    finally:
        services.health.ended(ticket, failure, time.monotonic())
    return answer


async def _read(services: Services, visit: Visit) -> tuple[Ask | None, Any]:
    """The request as JSON where it is JSON, else its body as an iterator, or nothing."""
    request = visit.request
    server = services.ready.snapshot.server
    limit = int(server.max_body_mb * 1024 * 1024)
    if request.headers.get("content-type", "").startswith(JSON):
        body = await read_body(request, limit, server.body_timeout_s)
        if body:
            return read_ask(visit.path, body, visit.headers, visit.route_in_path), body
        return None, body
    check_length(request, limit)
    if not request.body_exists:
        return None, None
    return None, _bounded(request, limit, server.body_timeout_s)


async def _bounded(request: serving.Request, limit: int, timeout_s: float) -> AsyncIterator[bytes]:
    """The body as it comes. Raises ApiError (400, 408, 413), which ends the call."""
    size = 0
    due = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            async with asyncio.timeout_at(due):
                part = await request.receive()
        except TimeoutError:
            raise late_body(timeout_s) from None
        except serving.BodyBroken:
            raise broken_body() from None
        if not part:
            return
        size += len(part)
        if size > limit:
            raise too_large(limit)
        yield part


def _selected(services: Services, visit: Visit, ask: Ask | None) -> Selected:
    """The route and its models. A model that only the provider knows goes to the route's provider."""
    ready = services.ready
    if ask is None:
        controls = read_controls({}, visit.headers, visit.route_in_path, {})
        ask = Ask(visit.path, b"", {}, controls, {}, None, stream=False, include_usage=False)
    try:
        return select(ready.snapshot, ready.routes, ask, visit.key)
    except ApiError as error:
        only = next(iter(ready.snapshot.providers), None)
        if (
            error.code != "model_not_found"
            or ask.model is not None
            or only is None
            or len(ready.upstreams) > 1
        ):
            raise
        return select(ready.snapshot, ready.routes, _named(ask, f"{only}/*"), visit.key)


def _named(ask: Ask, model: str) -> Ask:
    return Ask(ask.endpoint, ask.body, ask.doc, ask.controls, ask.own, model, ask.stream, ask.include_usage)


class _Relay:
    """One passed-through call: relays the answer and finds its usage on the way."""

    def __init__(
        self, services: Services, visit: Visit, selected: Selected, card: ModelCard, *, stream: bool
    ) -> None:
        self._services = services
        self._visit = visit
        self._route = selected.route.name
        self._card = card
        self._stream = stream
        self._usage: Usage | None = None
        self._status = 0

    async def run(self, upstream: OpenAIUpstream, body: Any) -> serving.Answer:
        visit = self._visit
        request = visit.request
        started = time.monotonic()
        attempt_id = f"{visit.id}.1"
        key = visit.key.name if visit.key else None
        self._services.store.begin(
            stores.Attempt(
                attempt_id,
                visit.id,
                time.time_ns(),
                self._route,
                self._card.alias,
                self._card.name or "",
                self._card.provider,
                key,
                stream=self._stream,
            )
        )
        headers = upstream.headers(
            wire_headers.to_upstream(visit.headers.items()), request.headers.get("content-type")
        )
        status = "failed"
        response: Response | None = None
        try:
            path, query = "/" + visit.path, request.raw_query
            response = await upstream.send(request.method, path, query, headers, body)
            answer = await self._relay(response)
            status = "ok" if response.status < 400 else "failed"
        except BaseException:  # cancelled too: what the upstream did is still billed
            if response is not None:
                response.abort()
            raise
        finally:
            self._settle(attempt_id, status, started)
        return answer

    async def _relay(self, response: Response) -> serving.Answer:
        visit = self._visit
        kept = [(n, v) for n, v in response.headers if n in NOT_OURS]
        passed = wire_headers.from_upstream(response.headers)
        named = any(n == "x-request-id" for n, _ in passed)
        ours = [("x-tailrace-request-id", visit.id), ("x-tailrace-route", self._route)]
        headers = [*kept, *passed, *([] if named else [("x-request-id", visit.id)]), *ours]
        answer = serving.StreamResponse(status=response.status, headers=headers)
        await answer.prepare(visit.request)
        content_type = response.header("content-type") or ""
        reader = _UsageReader(content_type)
        async with aclosing(response.pieces()) as pieces:
            async for piece in pieces:
                reader.feed(piece)
                await answer.write(piece)
        self._usage = reader.usage()
        await answer.write_eof()
        return answer

    def _settle(self, attempt_id: str, status: Any, started: float) -> None:
        usage = self._usage or Usage(reported=False)
        cost = cost_nanousd(usage, self._card.price)
        latency = (time.monotonic() - started) * 1000
        outcome = stores.Outcome(status, usage, cost, latency_ms=latency)
        self._services.store.settle(attempt_id, outcome)
        failure = None if status == "ok" else Failure("status", "")
        ended = Attempt(1, self._card.alias, "answer", None, failure, usage=self._usage, cost_nanousd=cost)
        ended = replace(ended, started_s=started, ended_s=time.monotonic())
        self._services.telemetry.attempt_ended(self._visit.id, self._route, self._card, "passthrough", ended)


class _UsageReader:
    """Finds `usage` in an answer that only passes by: a JSON body, or the events of a stream."""

    def __init__(self, content_type: str) -> None:
        self._splitter = Splitter(MAX_REPLY_BYTES) if content_type.startswith("text/event-stream") else None
        self._json: list[bytes] | None = [] if content_type.startswith(JSON) else None
        self._size = 0
        self._found: Usage | None = None

    def feed(self, piece: bytes) -> None:
        if self._splitter is not None:
            self._read_events(piece)
        elif self._json is not None:
            self._size += len(piece)
            self._json.append(piece)
            if self._size > MAX_REPLY_BYTES:
                self._json = None

    def _read_events(self, piece: bytes) -> None:
        assert self._splitter is not None
        try:
            events = self._splitter.feed(piece)
        except TooLong:
            self._splitter = None
            return
        for data in events:
            if b'"usage"' in data:
                self._found = _usage_in(data) or self._found

    def usage(self) -> Usage | None:
        """What was reported, once all has passed."""
        if self._json:
            return _usage_in(b"".join(self._json))
        return self._found


def _usage_in(data: bytes) -> Usage | None:
    try:
        doc = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(doc, Mapping):
        return None
    inner = doc.get("response")
    return usage_of(doc.get("usage")) or (
        usage_of(inner.get("usage")) if isinstance(inner, Mapping) else None
    )
