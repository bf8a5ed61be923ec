"""What a calibration found, as a YAML that a person reviews before a route learns from it, and the weights beside it."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from policies.certify import Certificate, share_interval
from policies.weights import dump
from proxy.calibrate import CERTIFY, FIT, Fitted, Way, best, rules_of
from proxy.logged import Exchange, counted

BY = {"step table": "start", "scorer": "score", "cascade": "suspicion"}
MOST_STEPS = 500
WATCHABLE = 30
"""Of fewer outcomes nothing is expected."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was to be calibrated: the route, the two models, how much quality to keep, and the log's SHA-256."""

    route: str
    cheap: str
    strong: str
    keep: float
    risk: float
    digest: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """The YAML's text, and the weights that its plan goes by, None where it needs none."""

    text: str
    weights: bytes | None


def sheet_of(asked: Asked, ways: Sequence[Way], exchanges: Sequence[Exchange], fitted: Fitted) -> Sheet:
    """The calibration of `asked`. The weights are those that the certificate was made with."""
    newest = exchanges[int(CERTIFY * len(exchanges)) :]
    found = best(ways)
    plan: dict[str, Any] = {"certified": False, "start": asked.strong}
    weights = None
    if found and found.certificate and found.reached:
        plan = _plan(asked, ways, found, found.certificate, exchanges, fitted)
        if plan["by"] != "start":
            weights = dump(fitted.scorer if plan["by"] == "score" else fitted.doubter, asked.digest)
            file = {"file": f"{asked.route}.weights", "sha256": hashlib.sha256(weights).hexdigest()}
            plan["weights"] = file
    intervals = {
        name: _interval([getattr(e.sample, side) for e in newest])
        for name, side in ((asked.cheap, "cheap"), (asked.strong, "strong"))
    }
    log = {"sha256": asked.digest, "n": len(exchanges), "from": exchanges[0].ts, "to": exchanges[-1].ts}
    sheet = {
        "route": asked.route,
        "floor": {"of": asked.strong, "keep": asked.keep, "risk": asked.risk},
        "log": {**log, "told_by": counted(exchanges)},
        "good_answers": intervals,
        "plan": plan,
    }
    return Sheet(yaml.safe_dump(sheet, sort_keys=False), weights)


def _plan(
    asked: Asked,
    ways: Sequence[Way],
    found: Way,
    proof: Certificate,
    exchanges: Sequence[Exchange],
    fitted: Fitted,
) -> dict[str, Any]:
    strong, reached = ways[0].line[0], found.reached
    assert reached is not None
    return {
        "certified": True,
        "by": BY[found.name],
        "start": asked.cheap,
        "threshold": proof.threshold if math.isfinite(proof.threshold) else None,
        "n": proof.n,
        "p": round(proof.p, 6),
        "measured": {
            "quality_kept": round(reached.quality / (strong.quality or 1.0), 4),
            "saved": round(1 - reached.cost_nanousd / (strong.cost_nanousd or 1.0), 4),
        },
        "steps": _steps(found.name, fitted, proof.threshold, exchanges),
        "expected": _expected(found.name, fitted, proof.threshold, exchanges),
    }


def _steps(way: str, fitted: Fitted, threshold: float, exchanges: Sequence[Exchange]) -> list[str]:
    """Steps that begin cheap: by the step table; with a scorer those where it abstains; in a cascade all of the log."""
    gains: Mapping[str | None, float] = fitted.gains
    if way == "cascade":
        return sorted({e.sample.step or "*" for e in exchanges})[:MOST_STEPS]
    if way == "scorer":
        named = (step for step, gain in gains.items() if step is not None and gain < threshold)
        return sorted(named)[:MOST_STEPS]
    steps = {e.sample.step for e in exchanges}
    return sorted(step or "*" for step in steps if gains.get(step, fitted.overall) < threshold)[:MOST_STEPS]


def _expected(
    way: str, fitted: Fitted, threshold: float, exchanges: Sequence[Exchange]
) -> dict[str, dict[str, float]]:
    """How often answers that the plan leaves to the cheap model were good, at least (95 %), by step and how it is known.

    Of what was not fitted on. A step of few outcomes is expected to do as the route does. A running proxy watches
    whether that still holds (`proxy/drift`).
    """
    rows = exchanges[int(FIT * len(exchanges)) :]
    scores = rules_of(fitted)[way](rows)
    below = [row for row, needy in zip(rows, scores, strict=True) if needy < threshold]
    begun = rows if way == "cascade" else below
    names = ["*"] if way == "scorer" else _steps(way, fitted, threshold, exchanges)
    whole = _rates(begun, below)
    found = {}
    for name in names:
        own = [[row for row in part if (row.sample.step or "*") == name] for part in (begun, below)]
        found[name] = whole if way == "scorer" else whole | _rates(*own)
    return found


def _rates(begun: Sequence[Exchange], below: Sequence[Exchange]) -> dict[str, float]:
    """By kind of outcome; `begun` are all that the cheap model answers, `below` those whose answers are believed."""
    known = {
        "valid": [float(row.signals.valid) for row in begun if row.told in ("check", "comparison")],
        "comparison": [row.sample.cheap for row in below if row.told == "comparison"],
        "feedback": [row.sample.cheap for row in below if row.told == "feedback"],
    }
    return {
        kind: round(share_interval(round(sum(good)), len(good)).low, 4)
        for kind, good in known.items()
        if len(good) >= WATCHABLE
    }


def _interval(qualities: Sequence[float]) -> dict[str, float]:
    """Share of answers that are at least half right, with its exact 95 % interval."""
    found = share_interval(sum(quality >= 0.5 for quality in qualities), len(qualities))
    return {
        "low": round(found.low, 4),
        "share": round(found.share, 4),
        "high": round(found.high, 4),
        "n": found.n,
    }
