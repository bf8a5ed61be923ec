"""What a calibration found, as a YAML that a person reviews before a route learns from it, and the weights beside it."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from policies.certify import Certificate, share_interval
from policies.weights import dump
from proxy.calibrate import CERTIFY, Fitted, Way, best
from proxy.logged import Exchange, counted

BY = {"step table": "start", "scorer": "score", "cascade": "suspicion"}
MOST_STEPS = 500


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
    }


def _steps(way: str, fitted: Fitted, threshold: float, exchanges: Sequence[Exchange]) -> list[str]:
    """Steps that begin cheap: by the step table; with a scorer those where it abstains; in a cascade all of the log."""
    gains: Mapping[str | None, float] = fitted.gains
    if way == "cascade":
        return sorted({e.sample.step or "*" for e in exchanges})[:MOST_STEPS]
    if way == "scorer":
        return sorted(step for step, gain in gains.items() if step is not None and gain < threshold)
    steps = {e.sample.step for e in exchanges}
    return sorted(step or "*" for step in steps if gains.get(step, fitted.overall) < threshold)[:MOST_STEPS]


def _interval(qualities: Sequence[float]) -> dict[str, float]:
    """Share of answers that are at least half right, with its exact 95 % interval."""
    found = share_interval(sum(quality >= 0.5 for quality in qualities), len(qualities))
    return {
        "low": round(found.low, 4),
        "share": round(found.share, 4),
        "high": round(found.high, 4),
        "n": found.n,
    }
