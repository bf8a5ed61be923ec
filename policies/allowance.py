"""What one exchange may spend: attempts, money and time are one allowance."""

from schemas.values import dataclass


@dataclass(frozen=True, slots=True)
class Allowance:
    """`deadline_s` is a reading of the exchange's monotonic clock, `cost_nanousd` bounds all attempts together."""

    attempts: int = 4
    cost_nanousd: int | None = None
    deadline_s: float | None = None


def spent_up(allowance: Allowance, attempts: int, cost_nanousd: int, now_s: float) -> str:
    """What is used up, in words that name the setting; empty while one more attempt is allowed."""
    if attempts >= allowance.attempts:
        return f"all {allowance.attempts} attempts are used up (limits.attempts)"
    if allowance.cost_nanousd is not None and cost_nanousd >= allowance.cost_nanousd:
        return "the cost limit is reached (limits.cost_usd)"
    if allowance.deadline_s is not None and now_s >= allowance.deadline_s:
        return "the deadline has passed (limits.deadline_s)"
    return ""
