"""Proof that a cheaper way keeps its quality: exact tests, no normal approximation, no "mean minus an error".

Learn-then-Test (Angelopoulos, Bates, Candes, Jordan, Lei, 2021) with a fixed sequence: settings are ordered from
the safest to the boldest before the data is seen; each is tested against "it breaks the floor", and the walk ends at
the first that cannot be refuted. So the risk that the certified setting breaks the floor is at most `risk`, however
many settings there are. The p-values hold for every sample size: a betting martingale for means of bounded values
(Waudby-Smith, Ramdas, "Estimating means of bounded random variables by betting", 2020), the binomial tail for shares.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """An exact two-sided confidence interval of a share, with the share itself and its n."""

    low: float
    share: float
    high: float
    n: int


def margins(kept: Sequence[float], strong: Sequence[float], keep: float) -> list[float]:
    """By how much each outcome is above the floor: quality of the way under test minus `keep` x the strong model's.

    Qualities are in [0, 1], so margins are in [-keep, 1]; the floor holds where their mean is not negative.
    """
    return [k - keep * s for k, s in zip(kept, strong, strict=True)]


def betting_p(values: Iterable[float], lowest: float) -> float:
    """The p-value of "the mean of `values` is not above 0", exact for every n; every value is at least `lowest` < 0.

    The values must be in an order that does not depend on them. Wealth is multiplied by 1 + bet x value, the bet
    chosen from the values before; under the hypothesis it exceeds 1/p with probability p at most (Ville).
    """
    most = 0.9 / -lowest
    wealth = best = 0.0
    total, square, n = 0.0, -lowest * 0.05, 1.0
    for value in values:
        mean, variance = total / n, square / n
        bet = min(most, max(0.0, mean / (variance + mean * mean)))
        wealth += math.log1p(bet * value)
        best = max(best, wealth)
        n += 1
        total += value
        square += (value - total / n) ** 2
    return math.exp(-best)


def binomial_tail(hits: int, n: int, share: float) -> float:
    """P(at least `hits` of `n`) where each hits with probability `share`: the exact p-value of "not above `share`"."""
    if hits <= 0:
        return 1.0
    if share <= 0 or hits > n:
        return 0.0
    if share >= 1:
        return 1.0
    fixed, log_share, log_rest = math.lgamma(n + 1), math.log(share), math.log1p(-share)
    terms = (
        math.exp(fixed - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_share + (n - k) * log_rest)
        for k in range(hits, n + 1)
    )
    return min(1.0, math.fsum(terms))


def share_interval(hits: int, n: int, risk: float = 0.05) -> Interval:
    """The Clopper-Pearson interval of a share: it misses the truth with probability `risk` at most."""
    if n == 0:
        return Interval(0.0, 0.0, 1.0, 0)
    low = _root(lambda share: binomial_tail(hits, n, share) - risk / 2) if hits else 0.0
    high = _root(lambda share: binomial_tail(hits + 1, n, share) - (1.0 - risk / 2)) if hits < n else 1.0
    return Interval(low, hits / n, high, n)


@dataclass(frozen=True, slots=True)
class Trial:
    """One logged exchange with both answers: how good each was (0..1), what each cost, how needy it was scored.

    `assumed`: `strong` is an upper bound, nobody knows the strong answer's quality.
    """

    score: float
    cheap: float
    strong: float
    cheap_nanousd: float = 0.0
    strong_nanousd: float = 0.0
    assumed: bool = False


@dataclass(frozen=True, slots=True)
class Certificate:
    """What may be done: exchanges that score `threshold` or more go to the strong model, the others stay cheap.

    `certified` False: no saving is certified, everything goes to the strong model (a cascade whose cheap calls cost
    more than they save is none either). `quality` is the way's
    mean quality over the strong model's, `saved` the share of the strong model's cost, both on the `n` trials
    the certificate rests on; `p` is the p-value of its setting.
    """

    threshold: float
    certified: bool
    n: int
    p: float
    quality: float
    saved: float
    to_strong: float


STEPS = 40
"""Settings of the fixed sequence: shares of the traffic that stay cheap, 1/40 apart."""

STARTS = (4, 12, 20, 28, 36)
"""Where the walk begins, five times with a fifth of the risk each, where strong answers are assumed: nothing can be
refuted there of a setting that leaves next to nothing cheap, because what goes up proves nothing."""


def certify(trials: Sequence[Trial], *, keep: float, risk: float, cascade: bool = False) -> Certificate:
    """The boldest threshold whose quality is certified to be at least `keep` x the strong model's.

    `trials` are held-out ones, in an order that does not depend on their outcomes. With `cascade` the cheap call
    is paid for where the strong one follows. The settings come from the scores alone.
    """
    starts = STARTS if any(trial.assumed for trial in trials) else (1,)
    best = _walked(trials, starts[0], keep, risk / len(starts), cascade=cascade)
    for start in starts[1:]:
        found = _walked(trials, start, keep, risk / len(starts), cascade=cascade)
        best = found if found.threshold > best.threshold else best
    return best


def _walked(trials: Sequence[Trial], start: int, keep: float, risk: float, *, cascade: bool) -> Certificate:
    """The last setting from `start` on before the first one that cannot be refuted."""
    ranked = sorted(trial.score for trial in trials)
    n = len(ranked)
    best = Certificate(-math.inf, certified=False, n=n, p=1.0, quality=1.0, saved=0.0, to_strong=1.0)
    strong = [trial.strong for trial in trials]
    for step in range(start, STEPS + 1):
        place = step * n // STEPS
        threshold = ranked[place] if place < n else math.inf
        if threshold <= best.threshold:
            continue
        kept = [_least(t, keep) if t.score >= threshold else t.cheap for t in trials]
        p = betting_p(margins(kept, strong, keep), -keep)
        if p > risk:
            break
        best = _certificate(trials, kept, threshold, p, cascade=cascade)
    return best


def _least(trial: Trial, keep: float) -> float:
    """What the strong model's answer counts. Where its quality q is only assumed, its margin q - keep x q counts as 0."""
    return keep * trial.strong if trial.assumed else trial.strong


def _certificate(
    trials: Sequence[Trial], kept: Sequence[float], threshold: float, p: float, *, cascade: bool
) -> Certificate:
    n, climbs = len(trials), [trial.score >= threshold for trial in trials]
    dear = sum(trial.strong_nanousd for trial in trials)
    spent = sum(
        (t.strong_nanousd if up else 0.0) + (t.cheap_nanousd if cascade or not up else 0.0)
        for t, up in zip(trials, climbs, strict=True)
    )
    best = sum(trial.strong for trial in trials)
    return Certificate(
        threshold=threshold,
        certified=not all(climbs) and (dear == 0 or spent < dear),
        n=n,
        p=p,
        quality=sum(kept) / best if best else 1.0,
        saved=1.0 - spent / dear if dear else 0.0,
        to_strong=sum(climbs) / n,
    )


def _root(rising: Callable[[float], float]) -> float:
    """Where a function that rises from below 0 on [0, 1] crosses it, to 1e-9."""
    low, high = 0.0, 1.0
    for _ in range(32):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
