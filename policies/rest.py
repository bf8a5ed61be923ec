"""How long an upstream that refuses for its rate is left alone, where another one can be asked instead.

It says so itself (Retry-After), else it is a guess that doubles while it goes on refusing. Nothing is refused to
a client because of a rest: with nobody else to ask the call is made, and the upstream gives its own answer.
"""

from policies.chat import Failure
from schemas.values import dataclass

FIRST_GUESS_S = 1.0
LONGEST_S = 60.0
"""A longer Retry-After is not believed for longer than that: limits are lifted meanwhile."""


@dataclass(frozen=True, slots=True)
class Rest:
    """It is left alone until `until_s`; `guess_s` is what the last guess was, 0 where there was none."""

    until_s: float
    guess_s: float = 0.0


def asks_for_rest(failure: Failure) -> bool:
    """Whether `failure` is a wish to be left alone: a 429, or another status with a Retry-After."""
    if failure.kind != "status" or not failure.retryable:
        return False
    return failure.status == 429 or bool(failure.retry_after_s)


def rested(before: Rest | None, failure: Failure, now_s: float) -> Rest:
    """The rest after `failure`. Refusals that come together are one: only a later one doubles the guess."""
    if failure.retry_after_s is not None:
        until = now_s + min(failure.retry_after_s, LONGEST_S)
        return Rest(until if before is None else max(until, before.until_s))
    if before is None:
        return Rest(now_s + FIRST_GUESS_S, FIRST_GUESS_S)
    if now_s < before.until_s:
        return before
    guess = min(LONGEST_S, max(FIRST_GUESS_S, 2 * before.guess_s))
    return Rest(now_s + guess, guess)
