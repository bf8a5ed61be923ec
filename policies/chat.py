"""The words of one conversation with a model: what is asked, what came back, what it used."""

from collections.abc import Mapping
from typing import Any, Literal

from schemas.values import dataclass

Purpose = Literal[
    "answer", "retry", "reask", "patch", "recall", "escalate", "hedge_loser", "cancelled", "summary", "route"
]
"""Why an attempt was made. `cancelled` and `hedge_loser` replace the purpose of a call we ended ourselves."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one upstream call.

    `input_tokens` counts the whole prompt, the cached part included; `output_tokens` counts all that
    was generated, reasoning included. `reported` is False where the upstream sent no usage and these
    are our estimates.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    reported: bool = True


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function the model wants called; `arguments` is the text it wrote, JSON or not.

    `index` is its place among the calls of one answer.
    """

    id: str
    name: str
    arguments: str
    index: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the n answers of a reply. `text` is None where the message has no content (tool calls, refusals)."""

    index: int
    text: str | None
    finish_reason: str | None
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Recalls:
    """Calls of our own tool in a reply, and the model's message with nothing but these: it goes back to it as it came."""

    calls: tuple[ToolCall, ...]
    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered, whole."""

    choices: tuple[Choice, ...]
    usage: Usage | None
    original: Any = None
    """The reply as it came, for whoever sends it on; decisions do not look into it."""
    recalls: Recalls | None = None
    """What the model wants to look up of its prompt's left-out part; neither `choices` nor `original` have these calls."""

    @property
    def only_recalls(self) -> bool:
        """Whether the model waits for what it looks up: there is no call of the client's, and nothing was cut or refused."""
        return self.recalls is not None and not any(
            c.tool_calls or c.refusal or c.finish_reason in ("length", "content_filter") for c in self.choices
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call gave no reply.

    `status` is the upstream's HTTP status where it answered at all. `retryable` says that the same
    call may succeed later or elsewhere; `unsupported` is a refusal of something that we added to the
    request and can do without; `window` says that the prompt does not fit the model, which was
    not called. `retry_after_s` is the upstream's own wish. `body` is what the
    upstream said, as it said it (never logged).
    """

    kind: Literal[
        "status",
        "connect",
        "timeout",
        "broken",
        "too_large",
        "malformed",
        "breaker",
        "gone",
        "budget",
        "rate",
        "unsupported",
        "window",
    ]
    message: str
    status: int | None = None
    retryable: bool = False
    retry_after_s: float | None = None
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
