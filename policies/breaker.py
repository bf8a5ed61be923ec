"""The circuit breaker of one (upstream, model), as a table of (state, event) -> state.

    closed ----- 5 failures in a row, or half of 20 calls in 10 s -----> open
    open ------- its time is over, the next call is the probe ---------> half open
    half open -- the probe succeeds -----------------------------------> closed
    half open -- the probe fails: open again, for twice as long -------> open
    half open -- the probe tells nothing within its time: another one -> half open

While it is open no call is made: the caller answers at once with the seconds to wait. One call that
began before it opened and ends after it says nothing about now, so only the probe's result counts then.
"""

from dataclasses import replace
from typing import Final, Literal

from policies.chat import Failure
from policies.window import Window, add, totals
from schemas.values import dataclass


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """When to open, and for how long. Seconds; `share` of at least `calls` calls within `span_s`."""

    in_a_row: int = 5
    calls: int = 20
    share: float = 0.5
    span_s: int = 10
    open_s: float = 5.0
    longest_open_s: float = 60.0
    probe_s: float = 30.0
    """A probe that told nothing for so long is given up, and the next call probes."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is remembered of the calls to one (upstream, model)."""

    state: Literal["closed", "open", "half_open"] = "closed"
    in_a_row: int = 0
    window: Window = ()
    until_s: float = 0.0
    """Open: when a probe may go. Half open: when the probe counts as lost."""
    open_s: float = 0.0
    """How long the present opening lasts; it doubles with each failed probe."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a call may be made now. `probe` must come back to `record` with the call's result."""

    breaker: Breaker
    allowed: bool
    probe: bool = False
    retry_after_s: float | None = None


CLOSED: Final = Breaker()
STANDARD: Final = BreakerRule()


def counts(failure: Failure) -> bool:
    """Whether `failure` speaks against the upstream's health.

    A 4xx is about the request (429 about its rate): it never counts. What we ended ourselves does not either.
    """
    if failure.kind == "status":
        return failure.status is None or failure.status >= 500
    return failure.kind in ("connect", "timeout", "broken", "malformed")


def is_open(breaker: Breaker, now_s: float) -> bool:
    """Whether a call would be refused now; changes nothing, for those who only want to know."""
    return breaker.state != "closed" and now_s < breaker.until_s


def admit(breaker: Breaker, now_s: float, rule: BreakerRule = STANDARD) -> Admission:
    """Ask before each call: goes through when closed, and as the one probe when its time has come."""
    if breaker.state == "closed":
        return Admission(breaker, allowed=True)
    if now_s < breaker.until_s:
        return Admission(breaker, allowed=False, retry_after_s=breaker.until_s - now_s)
    probing = replace(breaker, state="half_open", until_s=now_s + rule.probe_s)
    return Admission(probing, allowed=True, probe=True)


def record(
    breaker: Breaker, *, ok: bool, now_s: float, probe: bool = False, rule: BreakerRule = STANDARD
) -> Breaker:
    """Tell the result of an admitted call: `ok` False only where `counts(failure)` is true."""
    if breaker.state == "closed":
        return _record_closed(breaker, ok=ok, now_s=now_s, rule=rule)
    if not probe:
        return breaker
    return CLOSED if ok else _opened(min(breaker.open_s * 2, rule.longest_open_s), now_s)


def release(breaker: Breaker, *, now_s: float, probe: bool) -> Breaker:
    """The call ended without saying anything of the upstream (the client left): a probe may be made again at once."""
    return replace(breaker, until_s=now_s) if probe and breaker.state == "half_open" else breaker


def _record_closed(breaker: Breaker, *, ok: bool, now_s: float, rule: BreakerRule) -> Breaker:
    window = add(breaker.window, now_s, rule.span_s, all=1, marked=0 if ok else 1)
    in_a_row = 0 if ok else breaker.in_a_row + 1
    if not ok:
        calls, failed = totals(window, now_s, rule.span_s)
        if in_a_row >= rule.in_a_row or (calls >= rule.calls and failed >= rule.share * calls):
            return _opened(rule.open_s, now_s)
    return Breaker("closed", in_a_row, window)


def _opened(open_s: float, now_s: float) -> Breaker:
    return Breaker("open", until_s=now_s + open_s, open_s=open_s)
