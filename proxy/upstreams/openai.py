"""The `openai` dialect: OpenAI itself and the many servers that speak alike.

Azure-style deployments (a query and an `api-key` header), vLLM, Ollama, llama.cpp, OpenRouter, Groq, Mistral,
DeepSeek, and Gemini's and Anthropic's compatible endpoints differ in base URL, headers and manners, not in format.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from policies.chat import Failure, Recalls, Reply, Usage
from policies.ladder import Attempt
from proxy.clock import monotonic
from proxy.estimates import Estimate
from proxy.snapshot import Provider, Timeouts
from proxy.upstreams.answer import Answer
from proxy.upstreams.refusal import refusal, transport_failure
from proxy.upstreams.transport import (
    SLOWEST_BYTES_S,
    IdleTimeout,
    Pieces,
    Response,
    Target,
    Transport,
    TransportError,
)
from proxy.wire import headers as wire_headers
from proxy.wire.body import LARGE_BYTES, dump
from proxy.wire.chat import (
    Piece,
    Unreadable,
    Whole,
    as_events,
    read_object,
    read_reply,
)
from proxy.wire.chunks import Accumulator, Chunk
from proxy.wire.errors import complete_error_body
from proxy.wire.recalls import GoingOn, RecallFilter
from proxy.wire.responses import read_response
from proxy.wire.sse import DONE, Splitter, TooLong, frame
from proxy.wire.untool import untool
from schemas.families import FamilyName

MAX_REPLY_BYTES: Final = 32 * 1024 * 1024
MAX_EVENT_BYTES: Final = 8 * 1024 * 1024
"""Of one event of a stream: an image in base64 fits, what only fills memory does not."""
_GIVEN_UP: Final = Failure("broken", "the call was given up")
_WITH_CHOICES: Final = frozenset({"chat/completions", "completions"})
_HEAD: Final = ("id", "object", "created", "model", "system_fingerprint", "service_tier")


class OpenAIUpstream:
    """One provider, ready to be called: where it is, and the headers that go with every call."""

    def __init__(self, provider: Provider, transport: Transport) -> None:
        self.provider = provider
        self.transport = transport
        query = urlencode(dict(provider.query))
        self.target = Target.parse(provider.base_url + (f"?{query}" if query else ""))
        own = [("accept-encoding", "identity"), ("user-agent", "tailrace")]
        own += [(name.lower(), value.reveal()) for name, value in provider.headers.items()]
        if provider.api_key is not None:
            own.append(_credential(provider.api_key_header, provider.api_key.reveal()))
        self.family = family_of(self.target.host)
        self._own = own
        self._names = frozenset(name for name, _ in own)
        self._json = [("content-type", "application/json"), *own]

    def headers(self, client: Sequence[tuple[str, str]], content_type: str | None) -> list[tuple[str, str]]:
        """The headers of a call: ours, and those of the client that may pass. Its key never does."""
        base = self._json if content_type == "application/json" else self._own
        passed = [(n, v) for n, v in client if n not in self._names]
        if content_type is not None and base is not self._json:
            passed.append(("content-type", content_type))
        return [*base, *passed]

    def send(
        self, method: str, path: str, query: str, headers: list[tuple[str, str]], body: Any
    ) -> Awaitable[Response]:
        """One request; `path` is below the base URL. Raises TransportError."""
        return self.transport.send(
            self.target, method, self.target.path(path, query), headers, body, self.provider.timeouts
        )


def _credential(header: str, key: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {key}") if header.lower() == "authorization" else (header.lower(), key)


def family_of(host: str) -> FamilyName:
    """Which words of JSON Schema a provider's structured output understands, by where it lives."""
    if host == "api.openai.com" or host.endswith((".openai.azure.com", ".cognitiveservices.azure.com")):
        return "openai-strict"
    if host.endswith("anthropic.com"):
        return "anthropic"
    return "gemini" if host.endswith("googleapis.com") else "grammar"


class _Events:
    """The events of one stream, and how long it may go without one."""

    __slots__ = ("_heard_s", "_patience_s", "_silent_bytes", "_splitter", "_times")

    def __init__(self, times: Timeouts, waited_s: float) -> None:
        self._splitter = Splitter(MAX_EVENT_BYTES)
        self._times = times
        self._patience_s = max(times.first_byte_s, times.idle_s)
        self._heard_s = waited_s
        self._silent_bytes = 0

    @property
    def rest(self) -> bool:
        """Whether bytes of an unfinished event remain."""
        return self._splitter.rest

    def feed(self, data: bytes, waited_s: float) -> list[bytes]:
        """The events that `data` completes; `waited_s` was waited in all. Raises IdleTimeout and TooLong."""
        events = self._splitter.feed(data)
        if events:
            self._patience_s, self._heard_s, self._silent_bytes = self._times.idle_s, waited_s, 0
        else:  # comments and drips are no events: they do not put off what is late
            self._silent_bytes += len(data)
            if waited_s - self._heard_s > self._patience_s + self._silent_bytes / SLOWEST_BYTES_S:
                raise IdleTimeout("no event came in time")
        return events


class ChatCall:
    """One call to `/chat/completions` or `/completions`; see `proxy.ports.Call`."""

    beside: Sequence[Attempt] = ()

    def __init__(
        self,
        upstream: OpenAIUpstream,
        endpoint: str,
        body: bytes,
        headers: Sequence[tuple[str, str]],
        *,
        stream: bool,
        keep_text: bool,
        ask_usage: bool,
        model: str,
        number: int,
        as_tool: bool = False,
        added: Sequence[str] = (),
        ceiling: int | None = None,
        recalls: RecallFilter | None = None,
        going_on: GoingOn | None = None,
        estimate: Estimate,
    ) -> None:
        """`recalls` takes out what is ours of the answer, `going_on` makes it one with what the client was told."""
        self._upstream = upstream
        self._endpoint = endpoint
        self._body = body
        self._headers = headers
        self._stream = stream
        self._ask_usage = ask_usage
        self._as_tool = as_tool
        self._added = added
        self._ceiling = ceiling
        self._recalls = recalls
        self._going_on = going_on
        self._estimate = estimate
        self.model = model
        self.number = number
        self._gathered = Accumulator(keep_text=keep_text or recalls is not None)
        self._response: Response | None = None
        self._received: Pieces | None = None
        self._events: _Events | None = None
        self._ended = False
        """The result stands."""
        self._onward: Callable[[bytes], bool] | None = None
        self._end_read: Chunk | None = None
        self._unread: list[bytes] = []
        self._push_failed: Exception | None = None
        self._result: Reply | Failure = _GIVEN_UP
        self._sent = False
        """Whether the upstream may have begun to work, and so may bill."""
        self._waited_s = 0.0
        self._waits_since_s: float | None = None
        self.first_byte_s: float | None = None
        self.reply_headers: tuple[tuple[str, str], ...] = ()
        self.last_event: bytes | None = None
        """The event that finishes the answer; kept back, so that what the exchange came to can go before it."""
        self.usage_event: bytes | None = None
        self.cut = False
        """Whether we ended the stream because its budget was used up."""
        self.head: Mapping[str, Any] | None = None if going_on is None else going_on.head
        """What all events of a stream share: id and the like."""
        self.on_answer: Callable[[float], None] | None = None
        """Is told when the first byte of an answer has come."""

    async def more(self) -> Sequence[Piece] | None:
        """The next parts of a streamed answer; None at its end. The first time makes the call.

        Failures of the network and of the dialect become the result.
        """
        if self._ended:
            return None
        try:
            if self._received is None:
                response = await self._begin()
                if response.status != 200 or not _is_stream(response):
                    self._ended = True
                    return await self._whole(response)
                self._events = _Events(self._upstream.provider.timeouts, self._waited_s)
                self._received = response.pieces()
            return await self._next(self._received)
        except TransportError as error:
            self.abort()  # it may be only for us that it is too late
            self._sent = self._sent and error.sent
            # A stream that has said its finish_reason is whole, however its connection ended.
            whole = self._gathered.finished
            self._result = self._gathered.reply(None) if whole else transport_failure(error)
        except (Unreadable, TooLong) as error:
            self.abort()
            self._result = Failure(
                "malformed", f"The upstream's answer cannot be read: {error}.", retryable=True
            )
        self._ended = True
        return None

    def flow(self, onward: Callable[[bytes], bool]) -> None:
        """See `proxy.ports.Call`."""
        self._onward = onward

    async def _begin(self) -> Response:
        """The call is made, and the head of its answer is here. Raises TransportError."""
        self._sent = True
        self._waits()
        upstream = self._upstream
        response = self._response = await upstream.send(
            "POST",
            "/" + self._endpoint,
            "",
            upstream.headers(self._headers, "application/json"),
            self._body,
        )
        self.first_byte_s = self._goes_on()
        self.reply_headers = wire_headers.from_upstream(response.headers)
        if self.on_answer is not None and response.status == 200:
            self.on_answer(self.first_byte_s)
        return response

    async def _whole(self, response: Response) -> Sequence[Piece] | None:
        """Read an answer that is no stream; gives it as one where one was asked for."""
        if response.status != 200:
            self._sent = False
            self._result, self._gathered.usage = await refusal(response, self.reply_headers, self._added)
            return None
        self._waits()
        body = await response.read(MAX_REPLY_BYTES)
        self._goes_on()
        if len(body) <= LARGE_BYTES:
            self._result = self._read_whole(body)
        else:
            self._result = await asyncio.to_thread(self._read_whole, body)
        return self._replayed(self._result) if self._stream and isinstance(self._result, Reply) else None

    async def _next(self, received: Pieces) -> Sequence[Piece] | None:
        """What the next events of the stream hold; nothing where the client has to be waited for."""
        response, events = self._response, self._events
        assert response is not None
        assert events is not None
        while True:
            self._waits()
            if self._onward is not None and isinstance(received, Answer):
                more = await received.pushed(self._push)
                if self._push_failed is not None:
                    raise self._push_failed
                found, last = self._unread, self._end_read
                self._unread = []
            else:
                data = await anext(received, None)
                self._goes_on()
                more, last = data is not None, None
                found = events.feed(data, self._waited_s) if data is not None else []
            pieces: list[Piece] = []
            if found and len(found[0]) > LARGE_BYTES:  # it came in pieces: no other event is before it
                pieces, last = await asyncio.to_thread(self._read, found)
            elif found:
                pieces, last = self._read(found)
            if last is not None or self._over:
                self._ended = True
                await self._end(response, last)
                return pieces or None
            if not more:
                self._ended = True
                self._goes_on()
                self._stopped(whole=not events.rest)
                return None
            if pieces or self._onward is not None:
                return pieces

    def _push(self, data: bytes) -> bool:
        """One piece of the body, in the moment it came; False where that is no longer the way."""
        events, onward = self._events, self._onward
        assert events is not None
        assert onward is not None
        self._goes_on()
        try:
            found = events.feed(data, self._waited_s)
            if found and len(found[0]) > LARGE_BYTES:  # it is read in a thread
                self._unread = found
                return False
            pieces, self._end_read = self._read(found)
            goes_on = not pieces or onward(b"".join([piece.data for piece in pieces]))
        except Exception as error:  # noqa: BLE001  raised again in `more`: here the event loop would get it
            self._push_failed = error
            return False
        if self._end_read is not None or self._over:
            return False
        if goes_on:  # else it is the client who is waited for
            self._waits()
        return goes_on

    def _read_whole(self, body: bytes) -> Reply | Failure:
        """The reply in a body with status 200. Some servers say their errors there, too. Raises Unreadable."""
        read = read_response if self._endpoint == "responses" else read_reply
        if self._recalls is not None:
            body = self._without_recalls(body)
        reply = read(dump(untool(read_object(body))) if self._as_tool else body)
        assert isinstance(reply.original, Whole)
        self._gathered.usage = reply.usage
        if not reply.choices and reply.original.doc.get("error") is not None:
            message, error = complete_error_body(body, 502)
            return Failure("status", message, 502, retryable=True, body=error or b"")
        if not reply.choices and self._endpoint in _WITH_CHOICES:
            return Failure("malformed", "The upstream's answer holds no choices.", retryable=True)
        return reply

    def _without_recalls(self, body: bytes) -> bytes:
        """A whole answer without the calls that are ours; byte for byte as it came where it has none."""
        assert self._recalls is not None
        doc = self._recalls.whole(read_object(body))
        return body if self._recalls.found is None else dump(doc)

    def _stopped(self, *, whole: bool) -> None:
        """The upstream's stream ended without its end marker."""
        if self._gathered.finished and whole:
            self._result = self._gathered.reply(None)
        else:
            self._result = Failure(
                "broken", "The upstream's stream ended before the answer did.", retryable=True
            )

    def _read(self, events: list[bytes]) -> tuple[list[Piece], Chunk | None]:
        """The pieces in `events`, and the event that ends the stream where there is one."""
        pieces: list[Piece] = []
        for data in events:
            if self._as_tool and data.startswith(b"{"):
                data = dump(untool(read_object(data)))  # noqa: PLW2901  as the client asked for it
            if self._recalls is not None and data.strip() != DONE:
                kept = self._recalls.event(read_object(data))
                if kept is None:
                    continue
                data = dump(kept)  # noqa: PLW2901  what is ours is not the client's to see
            chunk = self._gathered.feed(data)
            if self.head is None and chunk.doc is not None:
                self.head = {k: chunk.doc[k] for k in _HEAD if k in chunk.doc}
            if chunk.error or chunk.done:
                return pieces, chunk
            if self._going_on is not None:
                data = dump(self._going_on.event(read_object(data)))  # noqa: PLW2901  one answer for the client
            if chunk.usage_only:
                self.usage_event = data  # sent last, with what the exchange cost, if the client asked for it
                continue
            shown = data if self._ask_usage else _without_null_usage(data)
            if self.last_event is not None:  # it was not the last after all
                pieces.append(Piece(frame(self.last_event), speaks=True))
                self.last_event = None
            if self._gathered.finished:
                self.last_event = shown
            else:
                pieces.append(Piece(frame(shown), chunk.speaks, chunk.text, chunk.calls))
                if self._over:
                    break
        return pieces, None

    @property
    def _over(self) -> bool:
        """Whether the answer is longer than its budget allows."""
        return self._ceiling is not None and self._gathered.tokens_at_least > self._ceiling

    def _cut(self, response: Response) -> None:
        """End a stream that has used up what its budget had left, and say so in OpenAI's words: `length`."""
        response.abort()
        choice = {"index": 0, "delta": {}, "finish_reason": "length"}
        data = dump({**(self.head or {}), "choices": [choice]})
        self._gathered.feed(data)
        self.last_event = data
        self.cut = True
        self._result = self._gathered.reply(None)

    async def _end(self, response: Response, last: Chunk | None) -> None:
        """The end of the stream: its marker, an error in it, or (None) that of its budget."""
        if last is None:
            self._cut(response)
            return
        if last.done:
            await response.close()
            self._result = self._gathered.reply(None)
            if not self._gathered.finished:
                self._result = Failure(
                    "broken", "The upstream's stream said no finish_reason before its end.", retryable=True
                )
            return
        response.abort()
        message, body = complete_error_body(last.data, 502)
        self._result = Failure("status", message, retryable=True, body=body or b"", status=502)

    def _replayed(self, reply: Reply) -> list[Piece]:
        """A whole reply as the stream that was asked for."""
        assert isinstance(reply.original, Whole)
        pieces, _ = self._read(as_events(reply.original))
        self._result = self._gathered.reply(None)
        return pieces

    def result(self) -> Reply | Failure:
        """What came of the call."""
        if self._recalls is None or isinstance(self._result, Failure):
            return self._result
        return replace(self._result, recalls=self._found)

    def so_far(self) -> Reply:
        """What was gathered until now."""
        return self._gathered.reply(None)

    @property
    def _found(self) -> Recalls | None:
        """What the model wants to look up so far."""
        return None if self._recalls is None else self._recalls.found

    def usage(self) -> Usage | None:
        """Tokens spent: reported, else estimated, also of what failed or was given up. None where none were."""
        found = self._gathered.spent
        if found is not None or not self._sent:
            return found
        return Usage(self._estimate.prompt(), self._written(), reported=False)

    def _written(self) -> int:
        """About how many tokens the upstream wrote."""
        gathered, result = self._gathered, self._result
        if isinstance(result, Reply) and not gathered.by_token:
            calls = [call.arguments for choice in result.choices for call in choice.tool_calls]
            calls += [call.arguments for call in found.calls] if (found := self._found) else []
            texts = [*(choice.text for choice in result.choices if choice.text), *calls]
            if any(texts):
                return self._estimate.texts(texts)
        if not self._stream and (result is _GIVEN_UP or getattr(result, "kind", "") == "timeout"):
            return self._estimate.unseen()
        return gathered.tokens

    @property
    def waited_s(self) -> float:
        """Seconds in which nothing could be done but wait for the upstream."""
        since = self._waits_since_s
        return self._waited_s + (0.0 if since is None else monotonic() - since)

    def _waits(self) -> None:
        self._waits_since_s = monotonic()

    def _goes_on(self) -> float:
        """The waiting is over; the time now."""
        now = monotonic()
        if self._waits_since_s is not None:
            self._waited_s += now - self._waits_since_s
            self._waits_since_s = None
        return now

    def abort(self) -> None:
        """Close the connection now: the upstream stops writing what nobody will read."""
        if self._response is not None:
            self._response.abort()


def _is_stream(response: Response) -> bool:
    return (response.header("content-type") or "").startswith("text/event-stream")


def _without_null_usage(data: bytes) -> bytes:
    """Take out the `"usage": null` that providers add to every chunk when usage was asked for by us."""
    if b'"usage"' not in data:
        return data
    return data.replace(b',"usage":null', b"", 1).replace(b', "usage": null', b"", 1)
