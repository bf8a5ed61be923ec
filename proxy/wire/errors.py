"""Failures in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`, always all four.

This is the only module that knows which status a failure gets.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import orjson

from policies.chat import Failure
from policies.routing import Choice

JSON = "application/json"
NO_RETRY = (("x-should-retry", "false"),)
MAX_UPSTREAM_MESSAGE = 2000


@dataclass(eq=False)
class ApiError(Exception):
    """An answer that is an error. `extra` are members beside the four standard ones.

    Not frozen: Python itself sets attributes of an exception on its way up.
    """

    status: int
    message: str
    code: str | None
    type: str = "invalid_request_error"
    param: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: tuple[tuple[str, str], ...] = ()
    raw: bytes | None = None
    """The upstream's own error body, sent on as it was."""

    def body(self) -> bytes:
        """The JSON body."""
        if self.raw is not None:
            return self.raw
        return orjson.dumps({"error": self._members()}, default=str)

    def event(self) -> bytes:
        """The same as one SSE frame; every official client raises it."""
        raw = self.raw
        if raw is not None and raw.startswith(b"{") and b"\n" not in raw and b"\r" not in raw:
            return b"data: " + raw + b"\n\n"
        return b"data: " + orjson.dumps({"error": self._members()}, default=str) + b"\n\n"

    def _members(self) -> dict[str, Any]:
        named = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return named | dict(self.extra)


def bad_request(message: str, *, param: str | None = None, code: str = "invalid_request") -> ApiError:
    """400: the request is at fault, the same request will fail again."""
    return ApiError(400, message, code, param=param, headers=NO_RETRY)


def not_found(message: str, *, code: str, param: str | None = None) -> ApiError:
    """404: what was named does not exist."""
    return ApiError(404, message, code, param=param, headers=NO_RETRY)


def method_not_allowed(method: str, path: str, allowed: str) -> ApiError:
    """405, with the methods that are allowed."""
    message = f"{method} is not allowed on {path}; allowed: {allowed}."
    return ApiError(405, message, "method_not_allowed", headers=(("allow", allowed), *NO_RETRY))


def too_large(limit_bytes: int) -> ApiError:
    """413, naming the limit and where it is set."""
    message = f"The request body is larger than {limit_bytes} bytes (server.max_body_mb)."
    return ApiError(413, message, "request_too_large", headers=NO_RETRY)


def overloaded(message: str, retry_after_s: int = 1) -> ApiError:
    """503: nothing was started; the client may come again."""
    return ApiError(
        503, message, "overloaded", type="server_error", headers=(("retry-after", str(retry_after_s)),)
    )


def internal() -> ApiError:
    """500: our own fault; what it was is in the log, not in the answer."""
    return ApiError(
        500, "Tailrace failed on this request; the log has the reason.", "internal_error", type="server_error"
    )


def from_failure(failure: Failure, *, retried: bool) -> ApiError:
    """What a client hears of an upstream that gave no reply.

    An upstream's own 4xx and 5xx keep status and body. `retried`: we tried again ourselves, so the
    client should not multiply that (official clients retry 408, 409, 429 and 5xx on their own).
    """
    if failure.kind in ("budget", "rate"):
        return _limited(failure)
    if failure.kind == "window":
        return bad_request(failure.message, param="messages", code="context_length_exceeded")
    again = () if not retried or any(n == "x-should-retry" for n, _ in failure.headers) else NO_RETRY
    headers = failure.headers + again
    if failure.status is not None:
        raw = failure.body if _is_error_body(failure.body) else None
        kind = "invalid_request_error" if failure.status < 500 else "upstream_error"
        return ApiError(
            failure.status, failure.message, "upstream_error", type=kind, headers=headers, raw=raw
        )
    status, code = {
        "timeout": (504, "upstream_timeout"),
        "connect": (502, "upstream_unavailable"),
        "breaker": (503, "upstream_unavailable"),
    }.get(failure.kind, (502, "upstream_error"))
    if failure.retry_after_s is not None and not any(n == "retry-after" for n, _ in headers):
        headers = (*headers, ("retry-after", str(max(1, round(failure.retry_after_s)))))
    return ApiError(status, failure.message, code, type="upstream_error", headers=headers)


def nobody(choice: Choice, parts: Mapping[str, int] = MappingProxyType({})) -> ApiError:
    """No model of the ladder may be asked; says why of each. `parts` of the prompt have to stay, in tokens."""
    why = "; ".join(f"{gone.model}: {gone.says}" for gone in choice.excluded)
    message = f"No model of the route may be asked: {why}."
    kinds = {gone.why for gone in choice.excluded}
    if "health" in kinds:
        wait = max(1, math.ceil(choice.retry_after_s or 1))
        headers = (("retry-after", str(wait)),)
        return ApiError(503, message, "upstream_unavailable", type="server_error", headers=headers)
    if "window" in kinds:
        if parts:
            message += f" What must stay: {', '.join(f'{name} {n}' for name, n in parts.items())} tokens."
        return bad_request(message, param="messages", code="context_length_exceeded")
    if "price" in kinds:
        return ApiError(429, message, "insufficient_quota", type="insufficient_quota", headers=NO_RETRY)
    return bad_request(message, param="model", code="no_able_model")


def _limited(failure: Failure) -> ApiError:
    """429: a budget of ours is spent, which no retry helps, or a rate is reached, which time does."""
    after = failure.retry_after_s
    wait = NO_RETRY if after is None else (("retry-after", str(max(1, math.ceil(after)))),)
    if failure.kind == "budget":
        return ApiError(429, failure.message, "insufficient_quota", type="insufficient_quota", headers=wait)
    return ApiError(429, failure.message, "rate_limit_exceeded", type="rate_limit_error", headers=wait)


def _is_error_body(body: bytes) -> bool:
    """Whether an upstream's body already has OpenAI's shape, all four members included."""
    try:
        doc = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    error = doc.get("error") if isinstance(doc, dict) else None
    return isinstance(error, dict) and {"message", "type", "param", "code"} <= error.keys()


def complete_error_body(body: bytes, status: int) -> tuple[str, bytes | None]:
    """An upstream's error as (message, body in OpenAI's shape), whatever shape it came in.

    llama.cpp sends a numeric code, others leave members out, some send plain text: missing members
    are added, what is there stays. The message is capped.
    """
    fallback = f"The upstream answered {status}."
    try:
        doc = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body[:MAX_UPSTREAM_MESSAGE].decode("utf-8", "replace").strip()
        plain = bool(text) and "<" not in text[:200]
        return (text if plain else fallback), None
    error = doc.get("error") if isinstance(doc, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        nearest = doc.get("message") or doc.get("detail") if isinstance(doc, dict) else None
        error = {"message": nearest if isinstance(nearest, str) else fallback}
    if not isinstance(error.get("message"), str):
        error["message"] = fallback
    error["message"] = error["message"][:MAX_UPSTREAM_MESSAGE]
    code = error.get("code")
    if code is not None and not isinstance(code, str):
        error["code"] = str(code)
    whole = {"type": "upstream_error", "param": None, "code": None} | error
    return error["message"], orjson.dumps({"error": whole})
