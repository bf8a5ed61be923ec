"""Every other `/v1/*` path: handed to the provider as it is and back, both bodies streamed, usage booked.

The provider is that of the route (its first model), or of the model that a JSON body names. What is sent is
never read into memory unless it is JSON whose `model` must be translated.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Literal

from policies.cards import ModelCard
from policies.chat import Failure, Usage
from policies.ladder import Again, Attempt
from policies.limits import Granted
from policies.money import cost_nanousd, worst_cost_nanousd
from proxy import serving
from proxy.admission import Admission
from proxy.budgets import Rules, admit, asked_output, ceiling, hold, rules_of, with_bound
from proxy.edges import Visit, broken_body, check_length, late_body, read_body
from proxy.estimates import Estimate
from proxy.handlers.completions import read, serve
from proxy.live import edited
from proxy.planning import RESPONSES
from proxy.selection import Selected, select
from proxy.services import Services
from proxy.stores import base as stores
from proxy.upstreams.openai import MAX_REPLY_BYTES
from proxy.upstreams.transport import Response, TransportError
from proxy.wire import headers as wire_headers
from proxy.wire.ask import Ask, read_controls
from proxy.wire.errors import JSON, ApiError, from_failure, not_found, too_large
from proxy.wire.passing import Passing
from proxy.wire.responses import conversation, schema_of

_GONE = Failure("gone", "the client left")
NOT_OURS = frozenset({"content-type", "content-length", "content-disposition", "cache-control"})
"""Of the upstream's answer, beside the usual list: what describes the body."""
_MODELS_NOT_BY_TOKENS = frozenset({"audio", "images", "videos"})
"""Paths that call models which are billed by seconds, characters or pictures where they report no tokens."""

_STORES_NOTHING = frozenset({"audio", "images", "rerank"})
"""Paths that any deployment of a model may serve; what the others make is known to the provider that made it."""


async def passthrough(services: Services, visit: Visit) -> serving.Answer:
    """Relay one request. Raises ApiError where nothing was sent to the client yet."""
    ask, body = await _read(services, visit)
    if ask is not None and ask.endpoint == RESPONSES and not ask.stream and schema_of(ask.doc) is not None:
        return await serve(services, visit, ask)
    selected = _selected(services, visit, ask)
    if not selected.route.passthrough:
        message = f"The route '{selected.route.name}' does not pass /v1/{visit.path[:100]} on."
        raise not_found(message, code="unknown_url")
    once, each = rules_of(visit.key, selected.route, _control(visit, ask, "run"))
    if (refused := await admit(services.limiter, once)) is not None:
        raise from_failure(refused, retried=False)
    admission = Admission(services.health, selected, stored=_first(visit.path) not in _STORES_NOTHING)
    number = 0
    while True:
        number += 1
        admitted = admission.admit(number, selected.targets[0].asked)
        if isinstance(admitted, Failure):
            raise from_failure(admitted, retried=number > 1)
        relay = _Relay(services, visit, selected, admission, number, admitted[0], ask)
        answer = await relay.run(body, each)
        if answer is not None:
            return answer


async def _read(services: Services, visit: Visit) -> tuple[Ask | None, Any]:
    """The request as JSON where it is JSON, else its body as an iterator, or nothing."""
    request = visit.request
    server = services.ready.snapshot.server
    limit = int(server.max_body_mb * 1024 * 1024)
    if request.headers.get("content-type", "").startswith(JSON):
        body = await read_body(request, limit, server.body_timeout_s)
        if body:
            return await read(visit, body), body
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


@dataclass(frozen=True, slots=True)
class _Bill:
    """What can be said of a call's money before it is made.

    `spends`: a model is called; nothing else costs anything, whatever usage its answer repeats (a stored answer
    that is read again tells its own). `card` has a price only where the body names the model that it is of.
    """

    spends: bool
    card: ModelCard
    input_tokens: int
    output_tokens: int

    @classmethod
    def of(cls, visit: Visit, ask: Ask | None, card: ModelCard) -> "_Bill":
        named = ask is not None and ask.model is not None
        spends = visit.request.method == "POST" and (named or _first(visit.path) in _MODELS_NOT_BY_TOKENS)
        if ask is None or not named:
            return cls(spends, replace(card, price=None), 0, 0)
        return cls(spends, card, len(ask.body), asked_output(ask.doc, card))

    @property
    def worst_nanousd(self) -> int | None:
        """The most that the call can cost; None where that is not known."""
        if not self.spends:
            return 0
        return worst_cost_nanousd(self.input_tokens, self.output_tokens, self.card.price)


def _control(visit: Visit, ask: Ask | None, name: Literal["run", "step"]) -> str | None:
    """A control of the request; one whose body is no JSON says it in a header."""
    return visit.headers.get(f"x-tailrace-{name}") if ask is None else getattr(ask.controls, name)


def _first(path: str) -> str:
    return path.split("/", 1)[0]


class _Relay:
    """One passed-through call: relays the answer, finds its usage on the way, and books it."""

    def __init__(
        self,
        services: Services,
        visit: Visit,
        selected: Selected,
        admission: Admission,
        number: int,
        card: ModelCard,
        ask: Ask | None,
    ) -> None:
        """`card` is that of the place that is called, `number` counts the calls of this request from 1."""
        self._services = services
        self._visit = visit
        self._route = selected.route.name
        self._asked = selected.targets[0].asked
        self._admission = admission
        self._number = number
        self._bill = _Bill.of(visit, ask, card)
        self._card = card
        self._ask = ask
        self._granted: Granted | None = None
        self._passing: Passing | None = None
        self._failure: Failure | None = _GONE
        self._whole = False
        self._sent = True

    async def run(self, body: Any, rules: Rules) -> serving.Answer | None:
        """Make the call within `rules`; None where it failed and is to be made elsewhere.

        Raises ApiError where it failed otherwise, or a rule forbids it.
        """
        visit, upstream = self._visit, self._services.ready.upstreams[self._card.provider]
        try:
            most = await self._hold(rules)
            if self._ask is not None:
                body = await edited(self._ask, self._changes(self._ask, most))
            self._begin()
        except BaseException:  # no call is made, and what was held for it is free again
            self._admission.cancel(self._number)
            self._release(0, 0)
            raise
        self._admission.begins(self._number)
        started, estimate = time.monotonic(), self._estimate()
        headers = upstream.headers(
            wire_headers.to_upstream(visit.headers), visit.request.headers.get("content-type")
        )
        response: Response | None = None
        try:
            path, query = "/" + visit.path, visit.request.raw_query
            response = await upstream.send(visit.request.method, path, query, headers, body)
            refused = response.status >= 400
            self._failure = _refusal(response) if refused else _GONE
            if refused and self._moves(self._failure):
                response.abort()
                return None
            answer = await self._relay(response)
            self._whole = True
            self._failure = self._failure if refused else None
        except TransportError as error:
            self._failure, self._sent = Failure(error.kind, f"The upstream failed: {error}."), error.sent
            if self._moves(self._failure):
                return None
            raise from_failure(self._failure, retried=False) from None
        except BaseException:  # cancelled too: what the upstream did is still billed
            if response is not None:
                response.abort()
            raise
        finally:
            self._settle(started, estimate)
        await answer.write_eof()
        return answer

    def _moves(self, failure: Failure) -> bool:
        """Whether the call is made again at another deployment: it must not have begun to answer, and be known whole."""
        if not self._card.deployment or self._ask is None or self._passing is not None:
            return False
        failed = Attempt(self._number, self._asked, "answer", failure=failure)
        if not self._admission.elsewhere(failed):
            return False
        return self._admission.grant(Again(self._asked, "retry"), replace(failed, elsewhere=True))

    def _changes(self, ask: Ask, most: int | None) -> Mapping[str, Any]:
        changes: dict[str, Any] = dict(ask.own)
        if ask.model is not None and ask.model != self._card.name:
            changes["model"] = self._card.name
        if most is not None and most < self._bill.output_tokens:
            changes |= with_bound(ask.doc, ask.endpoint, most, newer=True)
        return changes

    async def _hold(self, rules: Rules) -> int | None:
        """Hold what the call may cost; the tokens its answer has to stop at. Raises ApiError (429)."""
        bill = self._bill
        if not rules or not bill.spends:
            return None
        boundable = self._ask is not None and self._ask.endpoint == RESPONSES
        tokens = bill.input_tokens, bill.output_tokens
        granted = await hold(self._services.limiter, rules, bill.card, *tokens, boundable=boundable)
        if isinstance(granted, Failure):
            raise from_failure(granted, retried=False)
        self._granted = granted
        return ceiling(granted, bill.card, *tokens)

    def _release(self, cost: int | None, tokens: int) -> None:
        if self._granted is not None:
            self._services.limiter.settle(self._granted, cost, tokens)

    def _begin(self) -> None:
        visit, ask = self._visit, self._ask
        self._services.store.begin(
            stores.Attempt(
                f"{visit.id}.{self._number}",
                visit.id,
                time.time_ns(),
                self._route,
                self._card.alias,
                self._card.name or "",
                self._card.provider,
                visit.key.name if visit.key else None,
                _control(visit, ask, "run"),
                _control(visit, ask, "step"),
                self._number,
                "answer" if self._number == 1 else "retry",
                ask is not None and ask.stream,
                reserved_nanousd=self._bill.worst_nanousd,
            )
        )

    async def _relay(self, response: Response) -> serving.StreamResponse:
        visit = self._visit
        kept = [(n, v) for n, v in response.headers if n in NOT_OURS]
        passed = wire_headers.from_upstream(response.headers)
        named = any(n == "x-request-id" for n, _ in passed)
        ours = [("x-tailrace-request-id", visit.id), ("x-tailrace-route", self._route)]
        headers = [*kept, *passed, *([] if named else [("x-request-id", visit.id)]), *ours]
        answer = serving.StreamResponse(status=response.status, headers=headers)
        await answer.prepare(visit.request)
        passing = self._passing = Passing(response.header("content-type") or "", MAX_REPLY_BYTES)
        async with aclosing(response.pieces()) as pieces:
            async for piece in pieces:
                passing.feed(piece)
                await answer.write(piece)
        if passing.large:
            await asyncio.to_thread(passing.end)
        else:
            passing.end()
        return answer

    def _estimate(self) -> Estimate:
        services, bill = self._services, self._bill
        doc: Mapping[str, Any] = {} if self._ask is None else self._ask.doc
        tools = doc.get("tools")
        return Estimate(
            services.counter,
            services.paces,
            bill.card.alias,
            bill.input_tokens,
            conversation(doc),
            tools if isinstance(tools, list) else (),
            most=bill.output_tokens,
        )

    def _spent(self, estimate: Estimate) -> tuple[Usage | None, int | None]:
        """The tokens that were used, and their cost: None where it is not known, 0 where nothing was spent."""
        passing, failure = self._passing, self._failure
        if not self._bill.spends or not self._sent:
            return None, 0
        usage = passing.usage if passing is not None else None
        if usage is None and failure is not None and failure.kind == "status":
            return None, 0
        unsaid = self._whole and passing is not None and not passing.streams
        if usage is None and (unsaid or _first(self._visit.path) in _MODELS_NOT_BY_TOKENS):
            return Usage(reported=False), None
        if usage is None:
            streams = self._ask is not None and self._ask.stream
            written = passing.deltas if streams and passing is not None else 0
            usage = Usage(estimate.prompt(), written if streams else estimate.unseen(), reported=False)
        return usage, cost_nanousd(usage, self._bill.card.price)

    def _settle(self, started: float, estimate: Estimate) -> None:
        services, visit, failure = self._services, self._visit, self._failure
        usage, cost = self._spent(estimate)
        gone = failure is _GONE
        ended_s = time.monotonic()
        services.store.settle(
            f"{visit.id}.{self._number}",
            stores.Outcome(
                "cancelled" if gone else "failed" if failure else "ok",
                usage or Usage(reported=False),
                cost,
                "cancelled" if gone else None,
                failure=failure.kind if failure else None,
                latency_ms=(ended_s - started) * 1000,
            ),
        )
        services.outbox.soon()
        self._release(cost, 0 if usage is None else usage.input_tokens + usage.output_tokens)
        ended = Attempt(
            self._number,
            self._asked,
            "cancelled" if gone else "answer" if self._number == 1 else "retry",
            failure=failure,
            usage=usage,
            cost_nanousd=cost,
            started_s=started,
            ended_s=ended_s,
        )
        self._admission.ended(ended)
        services.telemetry.attempt_ended(visit.id, self._route, self._card, "passthrough", ended)


def _refusal(response: Response) -> Failure:
    """An answer that is none; its body is relayed, or not read."""
    status = response.status
    after = wire_headers.retry_after_s(dict(response.headers), time.time())
    retryable = status in (408, 409, 429) or status >= 500
    return Failure("status", "", status, retryable=retryable, retry_after_s=after)
