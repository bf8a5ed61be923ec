"""`python -m proxy calibrate --route R`: what a route's log proves, as a comparison of the ways to route.

`proxy/logged` reads the log, `proxy/sheet` writes what was found as a YAML to review. The oldest 40 % fit, the next
40 % certify, the newest 20 % are what the report is measured on: nothing is judged by what it was fitted on, and the
future never explains the past. Every cost is net of all calls.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from policies.certify import Certificate, Trial, certify
from policies.curve import Point, apgr, as_text, curve
from policies.features import features
from policies.scorer import Scorer, score
from policies.suspicion import Doubter, learned_doubt
from proxy.logged import Exchange, counted

FIT, CERTIFY = 0.4, 0.8
"""Up to which part of the log is fitted on, and up to which is certified on."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to route, on the newest part: its scores there, its curve, and what was certified for it before."""

    name: str
    line: tuple[Point, ...]
    certificate: Certificate | None = None
    reached: Point | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """What the oldest part of the log came to. `gains` is the step table, None stands for no declared step."""

    gains: Mapping[str | None, float]
    overall: float
    scorer: Scorer
    doubter: Doubter


def compare(
    exchanges: Sequence[Exchange], keep: float, risk: float, fitted: Fitted | None = None
) -> list[Way]:
    """All ways on the newest part of the log; thresholds certified on the part before, fits made on the oldest.

    The best of three certificates is taken, so each is held to a third of the risk.
    """
    n = len(exchanges)
    newest = exchanges[int(CERTIFY * n) :]
    middle = exchanges[int(FIT * n) : int(CERTIFY * n)]
    ends = curve(_trials(newest, [0.0] * len(newest)))
    ways = [
        Way("always strong", (ends[-1],)),
        Way("always cheap", (ends[0],)),
        Way("random at equal cost", tuple(ends)),
    ]
    rules = rules_of(fitted or fit_oldest(exchanges))
    for name, rule in rules.items():
        cascade = name == "cascade"
        proof = certify(_trials(middle, rule(middle)), keep=keep, risk=risk / len(rules), cascade=cascade)
        trials = _trials(newest, rule(newest))
        line = tuple(curve(trials, cascade=cascade))
        ways.append(Way(name, line, proof, _reached(trials, proof.threshold, cascade=cascade)))
    chosen = best(ways)
    if chosen and chosen.reached:
        ways[2] = Way(
            ways[2].name, ways[2].line, reached=_mixed(ends[0], ends[-1], chosen.reached.cost_nanousd)
        )
    perfect = [exchange.sample.strong - exchange.sample.cheap for exchange in newest]
    return [*ways, Way("oracle", tuple(curve(_trials(newest, perfect))))]


Rule = Callable[[Sequence[Exchange]], list[float]]
"""Scores exchanges: the higher, the more they need the strong model."""


def fit_oldest(exchanges: Sequence[Exchange]) -> Fitted:
    """The step table, the scorer and the doubter of the oldest part of the log."""
    from policies.fitting import fit, fit_doubter  # noqa: PLC0415  numpy, which only this command needs

    oldest = exchanges[: int(FIT * len(exchanges))]
    gains: dict[str | None, list[float]] = {}
    for exchange in oldest:
        gains.setdefault(exchange.sample.step, []).append(exchange.sample.strong - exchange.sample.cheap)
    overall = sum(map(sum, gains.values())) / len(oldest)
    seen = [(e.signals, features(e.sample.messages, e.sample.tools)) for e in oldest]
    return Fitted(
        gains={step: (sum(of) + 2 * overall) / (len(of) + 2) for step, of in gains.items()},
        overall=overall,
        scorer=fit([exchange.sample for exchange in oldest]),
        doubter=fit_doubter(seen, [e.sample.strong - e.sample.cheap for e in oldest]),
    )


def rules_of(fitted: Fitted) -> dict[str, Rule]:
    """The rules as a running proxy follows them (`policies/routing`)."""

    def by_step(exchange: Exchange) -> float:
        return fitted.gains.get(exchange.sample.step, fitted.overall)

    def by_content(exchange: Exchange) -> float:
        sample = exchange.sample
        gain = score(fitted.scorer, sample.messages, sample.tools, sample.step)
        if gain is not None:
            return gain
        return math.inf if sample.step is None else fitted.gains.get(sample.step, math.inf)

    def by_doubt(exchange: Exchange) -> float:
        if not exchange.signals.valid:
            return math.inf
        found = features(exchange.sample.messages, exchange.sample.tools)
        return learned_doubt(fitted.doubter, exchange.signals, found)

    return {
        "step table": lambda rows: [by_step(row) for row in rows],
        "scorer": lambda rows: [by_content(row) for row in rows],
        "cascade": lambda rows: [by_doubt(row) for row in rows],
    }


def _trials(exchanges: Sequence[Exchange], scores: Sequence[float]) -> list[Trial]:
    return [
        Trial(
            needy, e.sample.cheap, e.sample.strong, e.sample.cheap_nanousd, e.sample.strong_nanousd, e.assumed
        )
        for e, needy in zip(exchanges, scores, strict=True)
    ]


def _reached(trials: Sequence[Trial], threshold: float, *, cascade: bool) -> Point:
    """What the certified threshold comes to on trials it has not seen."""
    n = len(trials)
    up = [trial for trial in trials if trial.score >= threshold]
    stay = [trial for trial in trials if trial.score < threshold]
    quality = sum(t.strong for t in up) + sum(t.cheap for t in stay)
    tried = trials if cascade and threshold > -math.inf else stay
    cost = sum(t.strong_nanousd for t in up) + sum(t.cheap_nanousd for t in tried)
    return Point(len(up) / n, quality / n, cost / n)


def _mixed(cheap: Point, strong: Point, cost_nanousd: float) -> Point:
    """What tossing a coin between the two models comes to at this cost."""
    part = (cost_nanousd - cheap.cost_nanousd) / ((strong.cost_nanousd - cheap.cost_nanousd) or 1.0)
    part = min(1.0, max(0.0, part))
    quality = cheap.quality + part * (strong.quality - cheap.quality)
    return Point(part, quality, cheap.cost_nanousd + part * (strong.cost_nanousd - cheap.cost_nanousd))


def best(ways: Sequence[Way]) -> Way | None:
    """The way whose certificate saves most; None where no saving is certified."""
    proven = [
        way for way in ways if way.certificate and way.certificate.certified and way.certificate.saved > 0
    ]
    return max(proven, key=lambda way: way.certificate.saved if way.certificate else 0.0, default=None)


def report(ways: Sequence[Way], exchanges: Sequence[Exchange]) -> str:
    """The comparison as text: a table, the curve, and the answer."""
    strong = ways[0].line[0]
    lines = [
        f"{len(exchanges)} exchanges; measured on the newest {len(exchanges) - int(CERTIFY * len(exchanges))}",
        f"what the cheap answer was worth is known by: {', '.join(f'{k} {n}' for k, n in counted(exchanges).items())}",
        "",
    ]
    lines.append(f"{'way':22}{'APGR':>7}{'certified':>11}{'quality kept':>14}{'saved':>8}{'to strong':>11}")
    for way in ways:
        area = f"{apgr(way.line):.3f}" if len(way.line) > 1 else ""
        sure = "" if way.certificate is None else "yes" if way.certificate.certified else "no"
        point = way.reached or (way.line[0] if len(way.line) == 1 else None)
        figures = "" if point is None else _figures(point, strong)
        lines.append(f"{way.name:22}{area:>7}{sure:>11}{figures}")
    chosen = best(ways)
    answer = "no saving certified: everything goes to the strong model"
    if chosen and chosen.certificate:
        answer = (
            f"certified: {chosen.name}, p = {chosen.certificate.p:.2g} on {chosen.certificate.n} exchanges"
        )
    shown = {way.name: way.line for way in ways if way.name in ("step table", "scorer", "cascade", "oracle")}
    return "\n".join([*lines, "", as_text(shown), "", answer])


def _figures(point: Point, strong: Point) -> str:
    kept = point.quality / strong.quality if strong.quality else 1.0
    saved = 1 - point.cost_nanousd / strong.cost_nanousd if strong.cost_nanousd else 0.0
    return f"{kept:>14.2%}{saved:>8.1%}{point.strong:>11.1%}"
