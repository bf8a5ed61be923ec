"""Counts over the last seconds, in one slot per second: what the breaker and the retry budget look back on.

A window is as long as its span in seconds, whatever the rate of calls; it forgets in steps of one second.
"""

from schemas.values import dataclass


@dataclass(frozen=True, slots=True)
class Slot:
    """What happened in one second: `all` of a thing, and how many of these were `marked`."""

    second: int
    all: int
    marked: int


Window = tuple[Slot, ...]
"""Slots with rising seconds, at most one per second of the span."""


def add(window: Window, now_s: float, span_s: int, *, all: int = 0, marked: int = 0) -> Window:  # noqa: A002 -- names the slot's field
    """`window` with these counts at `now_s` and without what is older than `span_s`.

    A clock that went back counts into the newest slot: nothing is lost and nothing counted twice.
    """
    second = int(now_s)
    if window and window[-1].second >= second:
        last = window[-1]
        return (*window[:-1], Slot(last.second, last.all + all, last.marked + marked))
    first = second - span_s
    return (*(slot for slot in window if slot.second > first), Slot(second, all, marked))


def totals(window: Window, now_s: float, span_s: int) -> tuple[int, int]:
    """(all, marked) of the last `span_s` seconds."""
    first = int(now_s) - span_s
    live = [slot for slot in window if slot.second > first]
    return sum(slot.all for slot in live), sum(slot.marked for slot in live)
