"""How attempts and outcomes become values of a row.

Everything that a client or an upstream may have written is bounded here once more: a text with a lone
surrogate or a number of 64 bits would otherwise refuse a whole batch of rows.
"""

from collections.abc import Sequence
from typing import Any, Final

from policies.saved import Saved
from proxy.stores.base import Attempt, Outcome

_MAX_TEXT: Final = 512
_MAX_WHOLE: Final = 10**15
"""A million USD in nano-USD: no attempt costs or saves more; sums of rows stay far from 64 bits."""


class Rows:
    """What was queued, sorted into what one statement can write.

    The rows of a sort have the same columns: one that would be NULL is left out, because to bind NULL takes longer
    than anything else. A sort is a number whose lowest bit stands for the first column.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._begun: dict[str, Attempt] = {}
        self.whole: dict[int, list[Any]] = {}
        """By sort, one row's values after the other's: intents with their outcomes."""
        self.settled: list[tuple[Any, ...]] = []
        """Outcomes whose intents came before, and the id at the end."""
        self.credited: list[tuple[Any, ...]] = []
        """What was saved with a call that was settled before, and the id at the end."""

    def take(self, items: Sequence[Attempt | tuple[str, Outcome | Saved]]) -> None:
        """Sort these in, which were queued after those that were taken before."""
        begun, owner = self._begun, self._owner
        for item in items:
            if isinstance(item, Attempt):
                if item.id not in begun:
                    begun[item.id] = item
                continue
            attempt_id, outcome = item
            if isinstance(outcome, Saved):
                self.credited.append((*saved_values(outcome), text(attempt_id)))
                continue
            attempt = begun.pop(attempt_id, None)
            if attempt is None:
                self.settled.append((*outcome_values(outcome, None), text(attempt_id)))
            else:
                values = outcome_values(outcome, attempt.purpose)
                _sort_in(intent_values(attempt, owner)[:-1] + values, self.whole)

    def begun(self) -> dict[int, list[Any]]:
        """By sort, the values of intents that have no outcome yet."""
        sorts: dict[int, list[Any]] = {}
        for attempt in self._begun.values():
            _sort_in(intent_values(attempt, self._owner), sorts)
        return sorts


def _sort_in(values: tuple[Any, ...], sorts: dict[int, list[Any]]) -> None:
    sort, bit = 0, 1
    kept: list[Any] = []
    for value in values:
        if value is not None:
            sort |= bit
            kept.append(value)
        bit <<= 1
    rows = sorts.get(sort)
    if rows is None:
        sorts[sort] = kept
    else:
        rows.extend(kept)


def intent_values(attempt: Attempt, owner: str) -> tuple[Any, ...]:
    """What is known before a call, in the order of `Attempt`, but `purpose` last and behind the `owner`."""
    return (
        text(attempt.id),
        text(attempt.exchange),
        int(attempt.ts_ns),
        text(attempt.route),
        text(attempt.alias),
        text(attempt.model),
        text(attempt.provider),
        text(attempt.key),
        text(attempt.run),
        text(attempt.step),
        attempt.number,
        1 if attempt.stream else 0,
        _whole(attempt.reserved_nanousd),
        attempt.propensity,
        text(attempt.reason),
        owner,
        attempt.purpose,
    )


def outcome_values(outcome: Outcome, purpose: str | None) -> tuple[Any, ...]:
    """What became of a call; `purpose` is that of its intent, where it is at hand."""
    usage = outcome.usage
    return (
        outcome.purpose or purpose,
        outcome.status,
        _whole(usage.input_tokens),
        _whole(usage.output_tokens),
        _whole(usage.cached_tokens),
        _whole(usage.cache_write_tokens),
        _whole(usage.reasoning_tokens),
        1 if usage.reported else 0,
        _whole(outcome.cost_nanousd),
        *saved_values(outcome.saved),
        text(outcome.verdict),
        text(",".join(outcome.repairs)) if outcome.repairs else "",
        text(outcome.failure),
        outcome.latency_ms,
        outcome.ttft_ms,
        _whole(outcome.expected_trimming),
    )


def saved_values(saved: Saved | None) -> tuple[int | None, ...]:
    """By lever, in the order of `LEVERS`."""
    if saved is None:
        return None, None, None, None, None
    return tuple([_whole(nanousd) for nanousd in saved.levers])


def text(value: str | None) -> str | None:
    """As the ledger keeps it: no longer than _MAX_TEXT, and UTF-8."""
    if value is None or (len(value) <= _MAX_TEXT and value.isascii()):
        return value
    return value[:_MAX_TEXT].encode("utf-8", "replace").decode("utf-8")


def _whole(value: int | None) -> int | None:
    if value is None or -_MAX_WHOLE <= value <= _MAX_WHOLE:
        return value
    return _MAX_WHOLE if value > 0 else -_MAX_WHOLE
