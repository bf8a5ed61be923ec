"""What the log teaches: per (step, model) how often an exchange ends there validly, what it takes, and whether that still holds.

Old outcomes fade with a half-life. A step with few outcomes leans on what the model does on the route as a
whole (partial pooling): the prior is a Beta round the model's mean, as strong as the steps are alike. A change
for the worse raises an alarm, whose false ones are bounded however long it watches.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from policies.facts import Evidence


@dataclass(frozen=True, slots=True)
class Tally:
    """Faded counts of one (step, model): exchanges that ended well and badly, their calls, the tokens written."""

    good: float = 0.0
    bad: float = 0.0
    calls: float = 0.0
    output_tokens: float = 0.0
    stamp_s: float = 0.0

    @property
    def n(self) -> float:
        """The weight of all outcomes."""
        return self.good + self.bad


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one exchange went at one rung. `weight` is below 1 where the outcome is only thought to be so.

    `good` means validated and kept there; a client's feedback comes as an outcome with no calls of its own.
    """

    good: bool
    calls: int = 1
    output_tokens: int = 0
    weight: float = 1.0


HALF_LIFE_S = 14 * 86_400.0
"""After two weeks an outcome counts half."""

USUAL_OUTPUT_TOKENS = 256.0
"""What a call writes where no call was seen yet."""

WEAKEST, STRONGEST = 2.0, 50.0
"""Bounds of the prior's strength, in outcomes."""


def learn(tally: Tally, outcome: Outcome, now_s: float, half_life_s: float = HALF_LIFE_S) -> Tally:
    """`tally` with what was known faded to `now_s`, and `outcome` counted in full."""
    keep = 0.5 ** (max(0.0, now_s - tally.stamp_s) / half_life_s) if tally.n else 0.0
    w = outcome.weight
    return Tally(
        good=tally.good * keep + (w if outcome.good else 0.0),
        bad=tally.bad * keep + (0.0 if outcome.good else w),
        calls=tally.calls * keep + outcome.calls * w,
        output_tokens=tally.output_tokens * keep + outcome.output_tokens * w,
        stamp_s=max(now_s, tally.stamp_s),
    )


def together(*tallies: Tally, half_life_s: float = HALF_LIFE_S) -> Tally:
    """What several have counted apart, as one would have counted it: fading is linear, so that nothing is lost."""
    latest = max((tally.stamp_s for tally in tallies if tally.n), default=0.0)
    good = bad = calls = output = 0.0
    for tally in tallies:
        keep = 0.5 ** ((latest - tally.stamp_s) / half_life_s) if tally.n else 0.0
        good += tally.good * keep
        bad += tally.bad * keep
        calls += tally.calls * keep
        output += tally.output_tokens * keep
    return Tally(good, bad, calls, output, latest)


def pooled(tallies: Mapping[tuple[str, str], Tally], step: str, model: str) -> Evidence:
    """What is to be expected of `model` at `step`, leaning on the model's other steps where its own are few."""
    own = tallies.get((step, model), Tally())
    others = [tally for (s, m), tally in tallies.items() if m == model and s != step and tally.n > 0]
    mean, strength = _prior(others)
    success = (own.good + mean * strength) / (own.n + strength)
    all_calls = own.calls + sum(t.calls for t in others)
    all_n = own.n + sum(t.n for t in others)
    calls = _lean(own.calls, own.n, all_calls / all_n if all_n else 1.0)
    tokens = sum(t.output_tokens for t in others) + own.output_tokens
    output = _lean(own.output_tokens, own.calls, tokens / all_calls if all_calls else USUAL_OUTPUT_TOKENS)
    return Evidence(success=success, calls=max(1.0, calls), output_tokens=output, n=own.n)


def _prior(others: list[Tally]) -> tuple[float, float]:
    """(mean, strength) of the Beta prior that a step gets from the model's other steps.

    Moments of a beta-binomial: the more the steps differ beyond their sampling noise, the weaker the prior.
    """
    n = sum(tally.n for tally in others)
    if not n:
        return 0.5, WEAKEST
    mean = (sum(tally.good for tally in others) + 0.5) / (n + 1)
    if len(others) < 2:
        return mean, WEAKEST
    noise = mean * (1 - mean)
    spread = sum(tally.n * (tally.good / tally.n - mean) ** 2 for tally in others) / n
    between = spread - noise * len(others) / n
    if between <= 0:
        return mean, STRONGEST
    return mean, min(STRONGEST, max(WEAKEST, noise / between - 1))


def _lean(total: float, n: float, prior: float) -> float:
    return (total + WEAKEST * prior) / (n + WEAKEST)


@dataclass(frozen=True, slots=True)
class Drift:
    """An e-process against "successes are as frequent as calibrated": `evidence` multiplies with each outcome.

    Where the claim holds its mean never grows, so that alarms come at most once in 1/risk outcomes in the
    mean, however often one looks (CUSUM on e-values; Shin, Ramdas, Rinaldo, "E-detectors", 2022).
    """

    expected: float
    evidence: float = 1.0


NOTICED = 0.1
"""The fall of the success rate that an alarm is made to notice soon."""


def watch(drift: Drift, *, good: float) -> Drift:
    """`drift` after one more outcome, 0 to 1 good: linear in it, so that the mean alone decides."""
    p = min(max(drift.expected, 0.01), 0.99)
    fallen = max(p - NOTICED, p / 2)
    factor = good * fallen / p + (1 - good) * (1 - fallen) / (1 - p)
    return replace(drift, evidence=max(1.0, drift.evidence) * factor)


def drifted(drift: Drift, risk: float) -> bool:
    """Whether the outcomes speak against the calibration: once in 1/`risk` outcomes by chance alone, at most."""
    return drift.evidence * risk >= 1.0
