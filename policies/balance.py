"""Which of several deployments takes the next call: the better of two drawn ones, by peak EWMA.

A deployment costs its smoothed latency times the calls it has in work, divided by its weight. The latency
jumps up with a slow call and decays with time (peak EWMA, as in Twitter's Finagle), so that a deployment that
slows down is left at once and tried again later. A failure counts as slow: one that refuses at once must not
look fast. Silence counts, too: one that hangs ends no call, and would look as fast as it was before.

`elect` goes by more than load: a deployment that failed this exchange already comes last, one that asked to be
left alone is left alone while there is another, and one whose breaker waits for a probe gets it.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from policies.breaker import counts
from policies.chat import Failure
from schemas.values import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """What is known of one deployment.

    `latency_s`, up to the first byte, is smoothed and was right at `stamp_s`. `in_work` calls have begun and
    not ended, `waiting` of them have no first byte yet, and none has got one since `stamp_s`.
    """

    latency_s: float = 0.0
    stamp_s: float = 0.0
    in_work: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How one deployment stands for the next call of an exchange.

    `refused`: its breaker is open. `due`: its breaker waits for a probe. `held_s`: it asked to be left alone
    for so long. `tried`: it has failed this exchange already.
    """

    load: Load = Load()
    weight: float = 1.0
    refused: bool = False
    due: bool = False
    held_s: float = 0.0
    tried: bool = False

    @property
    def fresh(self) -> bool:
        """Whether nothing speaks against a call now."""
        return not (self.refused or self.tried or self.held_s > 0)


DECAY_S = 10.0
"""After so long without a call, a peak has fallen to 37 %."""

FAILURE_S = 5.0
"""A failed call counts as at least this slow."""

_REFUSES = frozenset({401, 403, 404, 408, 429})
"""Statuses below 500 that say something of the deployment rather than of the request: its key, its name, its rate."""


def at_fault(failure: Failure) -> bool:
    """Whether `failure` speaks of the deployment, so that the same request may well succeed at another one."""
    return counts(failure) or (failure.kind == "status" and failure.status in _REFUSES)


def started(load: Load, now_s: float) -> Load:
    """One more call is in work."""
    if load.waiting:
        return Load(load.latency_s, load.stamp_s, load.in_work + 1, load.waiting + 1)
    return Load(_latency(load, now_s), now_s, load.in_work + 1, 1)


def answered(load: Load, *, latency_s: float, now_s: float) -> Load:
    """The first byte of a call has come, `latency_s` after its start."""
    return replace(_seen(load, latency_s, now_s), waiting=max(0, load.waiting - 1))


def ended(load: Load, *, waited: bool) -> Load:
    """A call is over. `waited`: it never had a first byte."""
    return replace(load, in_work=max(0, load.in_work - 1), waiting=max(0, load.waiting - waited))


def slowed(load: Load, *, latency_s: float, now_s: float) -> Load:
    """A call took `latency_s` or more: it failed (see FAILURE_S), or nobody waited for its end."""
    return _seen(load, latency_s, now_s)


def recovered(load: Load, *, latency_s: float, now_s: float) -> Load:
    """A probe went well: what was known from before it is forgotten, as its breaker does."""
    return replace(load, latency_s=latency_s, stamp_s=now_s)


def expected_s(load: Load, now_s: float) -> float:
    """What a call would cost there: smoothed seconds times the calls that would be in work.

    A deployment that nothing is known of costs next to nothing, and the less the fewer calls it has. Calls
    that wait make it at least as slow as they have seen no first byte among them.
    """
    known = _latency(load, now_s)
    if load.waiting:
        known = max(known, now_s - load.stamp_s)
    return (known + 1e-6) * (load.in_work + 1)


def elect(standings: Sequence[Standing], first: float, second: float, now_s: float) -> int | None:
    """The index of the deployment that takes the call; None where every breaker is open.

    `first` and `second` are drawn from [0, 1).
    """
    fresh = [i for i, one in enumerate(standings) if one.fresh]
    due = [i for i in fresh if standings[i].due]
    if due:
        return due[0]
    callable_ = [i for i, one in enumerate(standings) if not one.refused]
    free = fresh or [i for i in callable_ if standings[i].held_s <= 0]
    if free:
        loads, weights = [standings[i].load for i in free], [standings[i].weight for i in free]
        return free[pick(loads, first, second, now_s, weights)]
    return min(callable_, key=lambda i: standings[i].held_s, default=None)


def pick(
    loads: Sequence[Load], first: float, second: float, now_s: float, weights: Sequence[float] = ()
) -> int:
    """The index of the deployment that takes the call.

    `first` and `second` are drawn from [0, 1): they name the two candidates. A deployment of weight 3 is
    thought to bear three times the calls of one of weight 1; no `weights`: all bear the same. Raises
    ValueError where there is no deployment.
    """
    if not loads:
        raise ValueError("no deployment to pick from")
    n = len(loads)
    if n == 1:
        return 0
    one = min(int(first * n), n - 1)
    other = min(int(second * (n - 1)), n - 2)
    other += other >= one
    costs = [expected_s(loads[i], now_s) / (weights[i] if weights else 1.0) for i in (one, other)]
    return one if costs[0] <= costs[1] else other


def _seen(load: Load, seen: float, now_s: float) -> Load:
    """`load` after a latency was seen: a peak comes at once and goes slowly."""
    if seen < _latency(load, now_s):
        weight = math.exp(-max(0.0, now_s - load.stamp_s) / DECAY_S)
        seen = load.latency_s * weight + seen * (1 - weight)
    return replace(load, latency_s=seen, stamp_s=now_s)


def _latency(load: Load, now_s: float) -> float:
    return load.latency_s * math.exp(-max(0.0, now_s - load.stamp_s) / DECAY_S)
