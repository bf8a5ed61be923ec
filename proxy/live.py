"""The ports of production: one `Live` per exchange, over the services of its app."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from policies.chat import Reply, Usage
from policies.contract import NO_VERDICT, Contract, Verdict, judge, judge_patch
from policies.ladder import Attempt
from policies.money import cost_nanousd
from policies.patching import Patch
from proxy.exchange import Order
from proxy.listener import Listener
from proxy.selection import Selected
from proxy.services import Services
from proxy.stores import base as stores
from proxy.upstreams.openai import ChatCall
from proxy.wire.ask import Ask
from proxy.wire.body import edit

INLINE_CHARS = 32_768
"""A reply of more characters is judged in a thread, so that the event loop goes on meanwhile."""
_NOTHING = Usage(reported=False)


class Live:
    """Calls upstreams, tells the listener, books attempts. Keeps what only this exchange knows."""

    def __init__(
        self,
        services: Services,
        ask: Ask,
        selected: Selected,
        *,
        exchange_id: str,
        key: str | None,
        passed: Sequence[tuple[str, str]],
        listener: Listener | None,
        keep_text: bool,
    ) -> None:
        self._services = services
        self._ready = services.ready
        self._ask = ask
        self._selected = selected
        self._id = exchange_id
        self._key = key
        self._passed = passed
        self._listener = listener
        self._keep_text = keep_text
        self.first_call: ChatCall | None = None
        self.last_call: ChatCall | None = None

    def now(self) -> float:
        return time.monotonic()

    async def wait(self, seconds: float) -> None:
        if seconds > 0:
            await asyncio.sleep(seconds)

    def call(self, order: Order) -> ChatCall:
        """The call for `order`; its intent is in the ledger before a byte goes out."""
        target = self._selected.target(order.model)
        provider = self._ready.snapshot.providers[target.card.provider]
        upstream_name = target.card.name or target.asked
        body = edit(self._ask.body, self._ask.doc, self._changes(order, upstream_name, provider.stream_usage))
        self._services.store.begin(
            stores.Attempt(
                f"{self._id}.{order.number}",
                self._id,
                time.time_ns(),
                self._selected.route.name,
                target.card.alias,
                upstream_name,
                provider.name,
                self._key,
                self._ask.controls.run,
                self._ask.controls.step,
                order.number,
                order.purpose,
                self._ask.stream,
            )
        )
        self.last_call = ChatCall(
            self._ready.upstreams[provider.name],
            self._ask.endpoint,
            body,
            self._passed,
            stream=self._ask.stream,
            keep_text=self._keep_text,
            ask_usage=self._ask.include_usage,
            model=order.model,
        )
        self.first_call = self.first_call or self.last_call
        return self.last_call

    def _changes(self, order: Order, upstream_name: str, stream_usage: bool) -> Mapping[str, Any]:
        """What of the client's body must differ upstream."""
        changes = dict(self._ask.own)
        if self._ask.model != upstream_name:
            changes["model"] = upstream_name
        if order.messages is not None:
            changes["messages"] = list(order.messages)
        if self._ask.stream and stream_usage and not self._ask.include_usage:
            changes["stream_options"] = (self._ask.doc.get("stream_options") or {}) | {"include_usage": True}
        return changes

    async def judge(self, reply: Reply, contract: Contract, patch: Patch | None) -> Verdict:
        if not contract.binds:
            return NO_VERDICT
        if _length(reply) > INLINE_CHARS:
            return await asyncio.to_thread(_judge, reply, contract, patch)
        return _judge(reply, contract, patch)

    async def tell(self, piece: bytes) -> None:
        assert self._listener is not None, "only streams have pieces"
        await self._listener.tell(piece)

    def account(self, attempt: Attempt) -> Attempt:
        target = self._selected.target(attempt.model)
        cost = None if attempt.usage is None else cost_nanousd(attempt.usage, target.card.price)
        if attempt.usage is None and target.card.price is not None:
            cost = 0
        attempt = replace(attempt, cost_nanousd=cost)
        failure = attempt.failure
        cancelled = attempt.purpose == "cancelled"
        self._services.store.settle(
            f"{self._id}.{attempt.number}",
            stores.Outcome(
                "cancelled" if cancelled else "failed" if failure else "ok",
                attempt.usage or _NOTHING,
                cost,
                "cancelled" if cancelled else None,
                verdict=attempt.verdict.kind,
                repairs=tuple(c.operation for c in attempt.verdict.changes),
                failure=failure.kind if failure else None,
                latency_ms=(attempt.ended_s - attempt.started_s) * 1000,
                ttft_ms=None
                if attempt.first_byte_s is None
                else (attempt.first_byte_s - attempt.started_s) * 1000,
            ),
        )
        self._services.telemetry.attempt_ended(self._selected.route.name, target.card.alias, attempt)
        return attempt


def _judge(reply: Reply, contract: Contract, patch: Patch | None) -> Verdict:
    return judge(reply, contract) if patch is None else judge_patch(reply, contract, patch)


def _length(reply: Reply) -> int:
    return sum(len(c.text or "") + sum(len(t.arguments) for t in c.tool_calls) for c in reply.choices)
