"""Which headers cross the proxy, in each direction: lists of what may, so that all else does not."""

from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Final

TO_UPSTREAM: Final = frozenset(
    {"traceparent", "tracestate", "openai-beta", "x-client-request-id", "anthropic-beta", "anthropic-version"}
)
"""Of the client's. Never authorization, cookie, host or anything that names a destination."""

FROM_UPSTREAM: Final = frozenset(
    {
        "x-request-id",
        "request-id",
        "openai-processing-ms",
        "openai-version",
        "openai-model",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "traceparent",
    }
)
FROM_UPSTREAM_PREFIX: Final = ("x-ratelimit-",)

MAX_RETRY_AFTER_S: Final = 24 * 3600.0


def to_upstream(headers: dict[str, str]) -> list[tuple[str, str]]:
    """The client's headers that go upstream; names in lower case."""
    return [(n, v) for n, v in headers.items() if n in TO_UPSTREAM]


def from_upstream(headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The upstream's headers that go to the client; names in lower case."""
    return tuple((n, v) for n, v in headers if n in FROM_UPSTREAM or n.startswith(FROM_UPSTREAM_PREFIX))


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """How long the upstream asks to wait: retry-after-ms, else retry-after as seconds or as a date.

    `now` is wall-clock seconds. None where nothing was asked or it cannot be read.
    """
    ms = headers.get("retry-after-ms")
    if ms is not None and (wait := _number(ms)) is not None:
        return min(wait / 1000, MAX_RETRY_AFTER_S)
    value = headers.get("retry-after")
    if value is None:
        return None
    if (wait := _number(value)) is not None:
        return min(wait, MAX_RETRY_AFTER_S)
    try:
        return min(max(0.0, parsedate_to_datetime(value).timestamp() - now), MAX_RETRY_AFTER_S)
    except (ValueError, TypeError, OverflowError):
        return None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None
