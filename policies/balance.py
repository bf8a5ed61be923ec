"""Which of several deployments takes the next call: the better of two drawn ones, by peak EWMA.

A deployment costs its smoothed latency times the calls it has in work. The latency jumps up with a slow
call and decays with time (peak EWMA, as in Twitter's Finagle), so that a deployment that slows down is left
at once and tried again later. A failure counts as slow: one that refuses at once must not look fast.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Load:
    """What is known of one deployment. `latency_s` is smoothed and was right at `stamp_s`."""

    latency_s: float = 0.0
    stamp_s: float = 0.0
    in_work: int = 0


DECAY_S = 10.0
"""After so long without a call, a peak has fallen to 37 %."""

FAILURE_S = 5.0
"""A failed call counts as at least this slow."""


def started(load: Load) -> Load:
    """One more call is in work."""
    return replace(load, in_work=load.in_work + 1)


def ended(load: Load, *, latency_s: float, ok: bool, now_s: float) -> Load:
    """A call is over. `latency_s` up to its first byte; a failure counts as slow, see FAILURE_S."""
    seen = latency_s if ok else max(latency_s, FAILURE_S)
    known = _latency(load, now_s)
    if seen < known:  # a peak comes at once and goes slowly
        weight = math.exp(-max(0.0, now_s - load.stamp_s) / DECAY_S)
        seen = load.latency_s * weight + seen * (1 - weight)
    return Load(seen, now_s, max(0, load.in_work - 1))


def expected_s(load: Load, now_s: float) -> float:
    """What a call would cost there: smoothed seconds times the calls that would be in work.

    A deployment that nothing is known of costs next to nothing, and the less the fewer calls it has.
    """
    return (_latency(load, now_s) + 1e-6) * (load.in_work + 1)


def pick(loads: Sequence[Load], first: float, second: float, now_s: float) -> int:
    """The index of the deployment that takes the call.

    `first` and `second` are drawn from [0, 1): they name the two candidates. Raises ValueError where
    there is no deployment.
    """
    if not loads:
        raise ValueError("no deployment to pick from")
    n = len(loads)
    if n == 1:
        return 0
    one = min(int(first * n), n - 1)
    other = min(int(second * (n - 1)), n - 2)
    other += other >= one
    return one if expected_s(loads[one], now_s) <= expected_s(loads[other], now_s) else other


def _latency(load: Load, now_s: float) -> float:
    return load.latency_s * math.exp(-max(0.0, now_s - load.stamp_s) / DECAY_S)
