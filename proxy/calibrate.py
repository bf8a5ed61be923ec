"""`python -m proxy calibrate --route R`: what a route's log proves, as a report, a curve and a YAML to review.

The log is JSON Lines, one exchange each, both answers known (a shadow call, or the holdout beside it):

    {"ts": 1.5, "route": "invoice", "step": "extract", "messages": [...], "tools": [...],
     "answers": {"mini": {"quality": 1.0, "cost_nanousd": 5200, "signals": {"valid": true, "calls": 1}},
                 "flagship": {"quality": 1.0, "cost_nanousd": 91000}}}

The oldest 40 % fit, the next 40 % certify, the newest 20 % are what the report is measured on: nothing is judged
by what it was fitted on, and the future never explains the past. Every cost is net of all calls.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import yaml

from policies.certify import Certificate, Trial, certify, share_interval
from policies.curve import Point, apgr, as_text, curve
from policies.features import features
from policies.scorer import score
from policies.suspicion import Signals, learned_doubt

if TYPE_CHECKING:
    from policies.fitting import Sample

FIT, CERTIFY = 0.4, 0.8
"""Up to which part of the log is fitted on, and up to which is certified on."""

LEAST = 100
"""Exchanges below which nothing is fitted: no saving could be certified."""


class LogRefused(Exception):
    """The log cannot be used; the message names the line and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One line of the log: the request, and what both answers were worth and cost."""

    ts: float
    sample: "Sample"
    signals: Signals


@dataclass(frozen=True, slots=True)
class Way:
    """One way to route, on the newest part: its scores there, its curve, and what was certified for it before."""

    name: str
    line: tuple[Point, ...]
    certificate: Certificate | None = None
    reached: Point | None = None


def read(text: str, route: str, cheap: str, strong: str) -> list[Exchange]:
    """The exchanges of `route` that both models answered, oldest first. Raises LogRefused."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if row["route"] == route and {cheap, strong} <= row["answers"].keys():
                found.append(_exchange(row, cheap, strong))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LogRefused(f"line {number}: {type(error).__name__} ({error})") from error
    if len(found) < LEAST:
        raise LogRefused(
            f"{len(found)} exchanges with answers of {cheap} and {strong}, at least {LEAST} are needed"
        )
    return sorted(found, key=lambda exchange: exchange.ts)


def _exchange(row: Any, cheap: str, strong: str) -> Exchange:
    from policies.fitting import Sample  # noqa: PLC0415  numpy, which only this command needs

    low, high = row["answers"][cheap], row["answers"][strong]
    for answer in (low, high):
        if not 0.0 <= answer["quality"] <= 1.0:
            raise ValueError(f"quality {answer['quality']} is not in 0..1")
    known = {field.name for field in fields(Signals)}
    signals = Signals(**{name: value for name, value in low.get("signals", {}).items() if name in known})
    sample = Sample(
        messages=row.get("messages"),
        tools=row.get("tools"),
        step=row.get("step"),
        cheap=float(low["quality"]),
        strong=float(high["quality"]),
        cheap_nanousd=float(low["cost_nanousd"]),
        strong_nanousd=float(high["cost_nanousd"]),
    )
    return Exchange(float(row["ts"]), sample, signals)


def compare(exchanges: Sequence[Exchange], keep: float, risk: float) -> list[Way]:
    """All ways on the newest part of the log; thresholds certified on the part before, fits made on the oldest.

    The best of three certificates is taken, so each is held to a third of the risk.
    """
    n = len(exchanges)
    oldest, newest = exchanges[: int(FIT * n)], exchanges[int(CERTIFY * n) :]
    middle = exchanges[int(FIT * n) : int(CERTIFY * n)]
    ends = curve(_trials(newest, [0.0] * len(newest)))
    ways = [
        Way("always strong", (ends[-1],)),
        Way("always cheap", (ends[0],)),
        Way("random at equal cost", tuple(ends)),
    ]
    rules = _fit(oldest)
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


def _fit(oldest: Sequence[Exchange]) -> dict[str, Rule]:
    from policies.fitting import fit, fit_doubter  # noqa: PLC0415  numpy, as above

    gains: dict[str | None, list[float]] = {}
    for exchange in oldest:
        gains.setdefault(exchange.sample.step, []).append(exchange.sample.strong - exchange.sample.cheap)
    overall = sum(map(sum, gains.values())) / len(oldest)
    known = {step: (sum(of) + 2 * overall) / (len(of) + 2) for step, of in gains.items()}
    scorer = fit([exchange.sample for exchange in oldest])
    seen = [(e.signals, features(e.sample.messages, e.sample.tools)) for e in oldest]
    doubter = fit_doubter(seen, [e.sample.strong - e.sample.cheap for e in oldest])

    def by_step(exchange: Exchange) -> float:
        return known.get(exchange.sample.step, overall)

    def by_content(exchange: Exchange) -> float:
        sample = exchange.sample
        gain = score(scorer, sample.messages, sample.tools, sample.step)
        return by_step(exchange) if gain is None else gain

    def by_doubt(exchange: Exchange) -> float:
        if not exchange.signals.valid:
            return math.inf
        found = features(exchange.sample.messages, exchange.sample.tools)
        return learned_doubt(doubter, exchange.signals, found)

    return {
        "step table": lambda rows: [by_step(row) for row in rows],
        "scorer": lambda rows: [by_content(row) for row in rows],
        "cascade": lambda rows: [by_doubt(row) for row in rows],
    }


def _trials(exchanges: Sequence[Exchange], scores: Sequence[float]) -> list[Trial]:
    return [
        Trial(needy, e.sample.cheap, e.sample.strong, e.sample.cheap_nanousd, e.sample.strong_nanousd)
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


@dataclass(frozen=True, slots=True)
class Asked:
    """What was to be calibrated: the route, the two models, how much quality to keep, and the log's SHA-256."""

    route: str
    cheap: str
    strong: str
    keep: float
    risk: float
    digest: str


def as_yaml(asked: Asked, ways: Sequence[Way], exchanges: Sequence[Exchange]) -> str:
    """The calibration as YAML that a person reviews before a route learns from it."""
    newest = exchanges[int(CERTIFY * len(exchanges)) :]
    strong, found = ways[0].line[0], best(ways)
    plan: dict[str, Any] = {"certified": False, "start": asked.strong}
    if found and found.certificate and found.reached:
        proof = found.certificate
        plan = {
            "certified": True,
            "by": {"step table": "start", "scorer": "score", "cascade": "suspicion"}[found.name],
            "start": asked.cheap,
            "threshold": round(proof.threshold, 6) if math.isfinite(proof.threshold) else None,
            "n": proof.n,
            "p": round(proof.p, 6),
            "measured": {
                "quality_kept": round(found.reached.quality / (strong.quality or 1.0), 4),
                "saved": round(1 - found.reached.cost_nanousd / (strong.cost_nanousd or 1.0), 4),
            },
        }
        if found.name == "step table":
            plan["steps"] = _cheap_steps(exchanges, proof.threshold)
    intervals = {
        name: _interval([getattr(e.sample, side) for e in newest])
        for name, side in ((asked.cheap, "cheap"), (asked.strong, "strong"))
    }
    sheet = {
        "route": asked.route,
        "floor": {"of": asked.strong, "keep": asked.keep, "risk": asked.risk},
        "log": {"sha256": asked.digest, "n": len(exchanges), "from": exchanges[0].ts, "to": exchanges[-1].ts},
        "good_answers": intervals,
        "plan": plan,
    }
    return yaml.safe_dump(sheet, sort_keys=False)


def _cheap_steps(exchanges: Sequence[Exchange], threshold: float) -> list[str]:
    """The steps that stay cheap under a certified step table, as the oldest part of the log tells their gains."""
    rule = _fit(exchanges[: int(FIT * len(exchanges))])["step table"]
    named = {e.sample.step: e for e in exchanges}
    return sorted(str(step or "*") for step, e in named.items() if rule([e])[0] < threshold)


def _interval(qualities: Sequence[float]) -> dict[str, float]:
    """Share of answers that are at least half right, with its exact 95 % interval."""
    found = share_interval(sum(quality >= 0.5 for quality in qualities), len(qualities))
    return {
        "low": round(found.low, 4),
        "share": round(found.share, 4),
        "high": round(found.high, 4),
        "n": found.n,
    }
