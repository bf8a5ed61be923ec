"""`GET /v1/context/{record}`: what trimming left out of a request, why, and the messages themselves."""

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any

from policies.trimming import Dropped
from policies.units import long_text
from proxy import serving
from proxy.edges import Visit
from proxy.services import Services
from proxy.stores.base import KeptContext, StoreError
from proxy.wire.body import dump
from proxy.wire.errors import JSON, method_not_allowed, not_found

FORGET_EVERY_S = 60.0
_ID = re.compile(r"[A-Za-z0-9_]{1,64}")


async def context(services: Services, visit: Visit) -> serving.Answer:
    """The record, for the key that made the request or an administrator. Raises ApiError (404, 405)."""
    if visit.request.method != "GET":
        raise method_not_allowed(visit.request.method, "/v1/context/{record}", "GET")
    record_id = visit.path.removeprefix("context").strip("/")
    kept = await services.store.context(record_id, time.time_ns()) if _ID.fullmatch(record_id) else None
    if kept is None or not _may_read(visit, kept):
        message = "There is no such record: none was made, its time has come, or another key made it."
        raise not_found(message, code="context_not_found", param="record")
    return serving.Response(body=await asyncio.to_thread(_told, kept), headers={"content-type": JSON})


def _may_read(visit: Visit, kept: KeptContext) -> bool:
    own = visit.key is not None and visit.key.name == kept.record.key
    return own or visit.admin


def _told(kept: KeptContext) -> bytes:
    record = kept.record
    told: dict[str, Any] = {
        "object": "context",
        "id": record.id,
        "route": record.route,
        "created": record.ts_ns // 10**9,
        "expires": record.until_ns // 10**9,
        "tokens_in": record.tokens_in,
        "tokens_out": record.tokens_out,
        "net_tokens": None if record.net_tokens is None else round(record.net_tokens),
        "note": record.note,
        "dropped": [_piece(gone, kept.messages) for gone in record.dropped],
        "messages": kept.messages,
    }
    return dump(told)


def _piece(gone: Dropped, messages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    piece = {
        "index": gone.index,
        "hash": gone.hash,
        "span": gone.span,
        "tokens": gone.tokens,
        "score": gone.score,
        "reason": gone.reason,
    }
    if gone.span is not None and gone.hash in messages:
        piece["text"] = long_text(messages[gone.hash])[gone.span[0] : gone.span[1]]
    return piece


async def keep_forgetting(services: Services) -> None:
    """What has had its time goes from the store within a minute or so, until cancelled."""
    while True:
        await asyncio.sleep(FORGET_EVERY_S)
        try:
            gone = 1
            while gone:  # a little at a time: the ledger's rows come between
                gone = await services.store.forget_contexts(time.time_ns())
        except StoreError:
            continue  # the disk refuses: the store says so itself, and it is tried again
