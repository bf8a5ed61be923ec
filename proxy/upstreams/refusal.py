"""Calls that came to nothing, as failures: what the upstream said against them, or what the network did."""

import time
from collections.abc import Sequence

from policies.chat import Failure, Usage
from policies.money import usage_of
from proxy.upstreams.transport import Response, TransportError
from proxy.wire import headers as wire_headers
from proxy.wire.chat import Unreadable, read_object
from proxy.wire.errors import complete_error_body

MAX_ERROR_BYTES = 64 * 1024


async def refusal(
    response: Response, headers: tuple[tuple[str, str], ...], added: Sequence[str] = ()
) -> tuple[Failure, Usage | None]:
    """An answer that is not 200, as a failure that keeps what the upstream said; and what it says it billed.

    `added` are members that we put into the request: a refusal that names one is `unsupported`.
    """
    status = response.status
    body = await response.read(MAX_ERROR_BYTES)
    if status < 400:  # a redirect followed with a key would hand it to a stranger
        return Failure("malformed", f"The upstream answered {status}, which is not followed."), None
    usage = _usage_in(body) if b'"usage"' in body else None
    message, whole = complete_error_body(body, status)
    if status in (400, 422) and any(name in message for name in added):
        return Failure("unsupported", message, status, True, 0.0, body=whole or b"", headers=headers), usage
    said = dict(headers)
    wish = said.get("x-should-retry")
    retryable = wish != "false" and (status in (408, 409, 429) or status >= 500)
    after = wire_headers.retry_after_s(said, time.time())
    return Failure("status", message, status, retryable, after, whole or b"", headers=headers), usage


def _usage_in(body: bytes) -> Usage | None:
    try:
        return usage_of(read_object(body).get("usage"))
    except Unreadable:
        return None


def transport_failure(error: TransportError) -> Failure:
    """A call that no answer came of."""
    text = str(error) or type(error).__name__
    return Failure(
        error.kind, f"The upstream could not be reached or did not answer: {text}.", retryable=error.retryable
    )
