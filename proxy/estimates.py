"""What a call took whose upstream never told: counted where that is quick, guessed elsewhere, and always marked so."""

from collections.abc import Mapping, Sequence
from typing import Any

from proxy.clock import monotonic
from proxy.counters import Counter
from proxy.wire.chunks import CHARS_PER_TOKEN


class Paces:
    """How long the answers of models are and how long they take, by alias; the last twenty or so count most."""

    _FORGET = 0.9

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float, float]] = {}

    def learn(self, alias: str, tokens: int, seconds: float) -> None:
        """A whole answer of `tokens` took so long, the reading of its prompt included."""
        if tokens > 0 and seconds > 0:
            count, before_tokens, before_seconds = self._seen.get(alias, (0.0, 0.0, 0.0))
            keep = self._FORGET
            self._seen[alias] = (
                1 + keep * count,
                tokens + keep * before_tokens,
                seconds + keep * before_seconds,
            )

    def tokens(self, alias: str, seconds: float) -> int:
        """About how much of a usual answer is written after so long; 0 until something was learned."""
        count, tokens, usual_seconds = self._seen.get(alias, (0.0, 0.0, 0.0))
        if not count:
            return 0
        return round(tokens / count * min(1.0, seconds * count / usual_seconds))


class Estimate:
    """The estimates of one call: `messages` and `tools` are what it was sent, `most` bounds its answer."""

    __slots__ = ("_alias", "_bytes", "_counter", "_messages", "_most", "_paces", "_since_s", "_tools")

    def __init__(
        self,
        counter: Counter,
        paces: Paces,
        alias: str,
        body_bytes: int,
        messages: Sequence[Any],
        tools: Sequence[Any] = (),
        *,
        most: int,
    ) -> None:
        self._counter = counter
        self._paces = paces
        self._alias = alias
        self._bytes = body_bytes
        self._messages = messages
        self._tools = tools
        self._most = most
        self._since_s = monotonic()

    def prompt(self) -> int:
        """Tokens of the prompt; by the size of the request where it has no messages or they take long to count."""
        messages = [m for m in self._messages if isinstance(m, Mapping)]
        counted = self._counter.at_once(messages, self._tools) if messages else None
        return _tokens_of(self._bytes) if counted is None else self._in_theirs(counted)

    def texts(self, texts: Sequence[str]) -> int:
        """Tokens of an answer."""
        counted = self._counter.texts_at_once(texts)
        return _tokens_of(sum(map(len, texts))) if counted is None else self._in_theirs(counted)

    def _in_theirs(self, tokens: int) -> int:
        return round(tokens * self._counter.factor(self._alias))

    def unseen(self) -> int:
        """Tokens of an answer that was being written until now, none of which was shown."""
        return min(self._most, self._paces.tokens(self._alias, monotonic() - self._since_s))


def _tokens_of(characters: int) -> int:
    return -(-characters // CHARS_PER_TOKEN)
