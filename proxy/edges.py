"""What every request passes before its handler: who sends it, how large it is, where it may come from."""

import asyncio
import hashlib
import hmac
import secrets
from typing import Final

from proxy import serving
from proxy.clock import time_ns
from proxy.services import Ready
from proxy.serving.connection import UNIX
from proxy.snapshot import Key
from proxy.wire.errors import NO_RETRY, ApiError, bad_request, overloaded, too_large
from schemas.values import dataclass

UNCOUNTED_BYTES: Final = 16 * 1024
"""Smaller bodies are bounded by the number of requests (server.max_requests)."""
_MAX_SHOWN: Final = 1024
_MAX_SHOWN_CHARS: Final = 512
"""Headers that are known to show a key, and how long one may be; what is beyond is looked up each time. Blanks around a
key count for nothing, so that whoever has one can write it in as many and as long ways as he likes."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})


_LOOPBACK_NAMES: Final = _LOOPBACK | {"localhost"}


@dataclass(frozen=True, slots=True)
class Visit:
    """One request at our door. `path` is what follows `/v1`, without the route's prefix; `id` is our request id."""

    request: serving.Request
    id: str
    path: str
    route_in_path: str | None
    key: Key | None
    headers: dict[str, str]

    @property
    def admin(self) -> bool:
        """Whether administration is allowed: a key with `admin: true`, or loopback while the proxy is open."""
        if self.key is not None:
            return self.key.admin
        # The name that was asked for counts as well: else a page of another site whose name leads to this
        # machine, or everybody behind a reverse proxy on it, would be an administrator.
        if self.request.remote == UNIX:
            return True  # the file system lets only our own user in
        return self.request.remote in _LOOPBACK and _host_of(self.request) in _LOOPBACK_NAMES


def _host_of(request: serving.Request) -> str:
    """The host that the client asked for, without its port."""
    host = request.host
    return host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host


def admin_only(visit: Visit) -> None:
    """Raises ApiError (403) unless the request may administer the proxy."""
    if not visit.admin:
        message = "This needs a key with 'admin: true', or loopback while the proxy is open."
        raise ApiError(403, message, "admin_only", type="permission_error", headers=NO_RETRY)


class RequestIds:
    """Gives ids, unguessable and unique. They grow with time, so that the ledger's index grows at its end."""

    __slots__ = ("_at", "_begins", "_random", "_tick")

    def __init__(self) -> None:
        self._random = ""
        self._at = 0
        self._tick = 0
        self._begins = ""

    def __call__(self) -> str:
        """A new id; the system is asked for randomness once in 64 times."""
        at = self._at
        if at >= len(self._random):
            self._random = secrets.token_hex(64 * 8)
            at = 0
        self._at = at + 16
        tick = time_ns() >> 20
        if tick != self._tick:
            self._tick = tick
            self._begins = "req_0" + hex(tick)[2:]  # noqa: FURB116  ten times as fast; 11 digits until 2554
        return self._begins + self._random[at : at + 16]


def authenticate(ready: Ready, headers: dict[str, str]) -> Key | None:
    """The key that a request shows, None while the proxy is open. Raises ApiError (401).

    The key is looked up by its digest, so that no comparison of secrets can be timed. What was found is kept by the
    very text of the header: a dict compares texts only where their hashes are equal, and those are salted.
    """
    if ready.keys is None:
        return None
    sent = headers.get("authorization")
    if sent is not None and (known := ready.shown.get(sent)) is not None:
        return known
    shown = _shown(headers)
    if not shown:
        message = "No API key was sent. Send it as 'Authorization: Bearer KEY'."
        raise ApiError(401, message, "invalid_api_key", headers=NO_RETRY)
    digest = hashlib.sha256(shown.encode("utf-8", "surrogateescape")).digest()
    key = ready.keys.get(digest)
    if key is None or not hmac.compare_digest(key.digest, digest):
        message = "The API key is not one of this proxy's (configuration: keys)."
        raise ApiError(401, message, "invalid_api_key", headers=NO_RETRY)
    short = sent is not None and len(sent) <= _MAX_SHOWN_CHARS and len(ready.shown) < _MAX_SHOWN
    if sent is not None and short and _token_of(sent):
        ready.shown[sent] = key
    return key


def may_read_metrics(ready: Ready, headers: dict[str, str]) -> None:
    """Raises ApiError (401, 403) unless these are the headers of one who may see the figures of all clients."""
    if ready.snapshot.server.open_metrics:
        return
    key = authenticate(ready, headers)
    if key is not None and key.routes is not None and not key.admin:
        message = (
            "This key is bound to routes; metrics are about all of them (configuration: server.open_metrics)."
        )
        raise ApiError(403, message, "admin_only", type="permission_error", headers=NO_RETRY)


def _shown(headers: dict[str, str]) -> str:
    token = _token_of(headers.get("authorization", ""))
    return token or headers.get("x-api-key") or headers.get("api-key") or ""


def _token_of(sent: str) -> str:
    """The key in an `authorization` header; empty where there is none."""
    scheme, _, token = sent.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def check_length(request: serving.Request, limit: int) -> None:
    """Refuse by the announced length, before a byte is read. Raises ApiError (413, 415)."""
    coding = request.headers.get("content-encoding")
    if coding is not None and coding.lower() != "identity":
        message = f"Content-Encoding '{coding[:40]}' is not supported: send the body as it is."
        raise ApiError(415, message, "unsupported_encoding", headers=NO_RETRY)
    if request.content_length is not None and request.content_length > limit:
        raise too_large(limit)


def body_at_hand(request: serving.Request, limit: int) -> bytes | None:
    """The whole body where it came with the head, as it nearly always does; else None. Raises as `read_body` does."""
    check_length(request, limit)
    if not request.whole or request.size > limit:
        return None
    if request.size > UNCOUNTED_BYTES and not request.hold(request.size):
        raise no_room()
    return request.take()


async def read_body(request: serving.Request, limit: int, timeout_s: float) -> bytes:
    """The whole body, bounded in size and in time. Raises ApiError (408, 413, 503).

    503: all bodies in memory are too much together. What counts is what has come, not what is announced: else
    whoever announces much and sends nothing would keep all others out.
    """
    if (whole := body_at_hand(request, limit)) is not None:
        return whole
    if not request.connection.has_room_for(max(request.size, request.content_length or 0)):
        raise no_room()
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            while part := await request.receive():
                size += len(part)
                if size > limit:
                    raise too_large(limit)
                if not request.hold(len(part)):
                    raise no_room()
                parts.append(part)
    except TimeoutError:
        raise late_body(timeout_s) from None
    except serving.BodyBroken:
        raise broken_body() from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def no_room() -> ApiError:
    """503."""
    return overloaded("The bodies of the requests in work take too much memory (server.max_held_mb).")


def late_body(timeout_s: float) -> ApiError:
    """408."""
    message = f"The request body did not arrive within {timeout_s:g} s (server.body_timeout_s)."
    return ApiError(408, message, "request_timeout")


def broken_body() -> ApiError:
    """400."""
    return bad_request("The request body ended early or its framing is broken.")


def cors(ready: Ready, headers: dict[str, str]) -> list[tuple[str, str]]:
    """The headers that let a browser's page of an allowed origin read the answer; none unless configured."""
    allowed = ready.snapshot.server.cors_origins
    origin = headers.get("origin")
    if not allowed or origin is None or not ("*" in allowed or origin in allowed):
        return []
    return [
        ("access-control-allow-origin", origin),
        ("vary", "origin"),
        ("access-control-expose-headers", "*"),
    ]


def preflight(ready: Ready, headers: dict[str, str]) -> serving.Response:
    """The answer to a browser's OPTIONS. Without CORS it allows nothing."""
    grant = cors(ready, headers)
    if grant:
        asked = headers.get("access-control-request-headers", "authorization, content-type")
        grant += [
            ("access-control-allow-methods", "GET, POST, PUT, DELETE"),
            ("access-control-allow-headers", asked),
            ("access-control-max-age", "600"),
        ]
    return serving.Response(status=204, headers=grant)
