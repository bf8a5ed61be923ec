"""The reviewed calibrations of routes: what `python -m proxy calibrate` wrote, as plans by step and their weights.

The YAML says what may be done, and how sure that is. Where it goes by what requests or answers look like, it names
a file of weights in its own folder and that file's SHA-256, so that no other weights are used than those it was
certified with. Both files may come from anywhere: they are bounded, and whatever is wrong with them is told.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, get_args

from policies.facts import Plan, Watched
from policies.scorer import Scorer
from policies.suspicion import Doubter
from policies.weights import MAX_BYTES as MAX_WEIGHTS_BYTES
from policies.weights import Weights, WeightsRefused, load
from proxy.config import tree as yaml_tree
from proxy.config.checks import Findings
from proxy.config.environ import Expansion, read_bounded, reason
from proxy.config.problems import Path, shortened

MAX_CALIBRATION_BYTES = 256 * 1024
MAX_NAME = 255
_KINDS: Mapping[str, type[Weights] | None] = {"start": None, "score": Scorer, "suspicion": Doubter}


@dataclass(frozen=True, slots=True)
class Calibration:
    """What one route may do: plans by step, and the weights that they go by."""

    plans: Mapping[str, Plan] = field(default_factory=dict)
    scorer: Scorer | None = None
    doubter: Doubter | None = None
    digest: str | None = None
    """SHA-256 of the YAML."""


class _Refused(Exception):
    """The calibration proves nothing for this route; the message says why."""


def read_calibrations(
    routes: Any, found: Findings, expansion: Expansion, base: FilePath
) -> dict[str, Calibration]:
    """Of every route whose floor names a calibration, by route; `found` holds what is wrong with the others."""
    read: dict[str, Calibration] = {}
    for name, route in routes.items() if isinstance(routes, dict) else ():
        floor = route.get("floor") if isinstance(route, dict) else None
        path = ("routes", name, "floor", "calibration")
        if (
            isinstance(floor, dict)
            and isinstance(floor.get("calibration"), str)
            and path not in expansion.failed
        ):
            file = base / floor["calibration"]
            sheet = _sheet(path, file, found)
            try:
                if sheet is not None:
                    _belongs(sheet[0], name, floor)
                    read[name] = replace(_calibration(sheet[0], route, file.parent), digest=sheet[1])
            except _Refused as refused:
                found.refuse(path, str(refused))
    return read


def _sheet(path: Path, file: FilePath, found: Findings) -> tuple[Any, str] | None:
    """The calibration, and the SHA-256 of its text."""
    try:
        raw = read_bounded(file, MAX_CALIBRATION_BYTES)
        text = raw.decode()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else "not UTF-8, or no file has such a name"
        found.refuse(path, f"cannot read the calibration: {why}")
        return None
    tree, problems = yaml_tree.read(text, shortened(file.name))
    if problems or not isinstance(tree.value, dict):
        found.refuse(path, f"no calibration: {problems[0].message if problems else 'not a mapping'}")
        return None
    return tree.value, hashlib.sha256(raw).hexdigest()


def _belongs(sheet: Mapping[str, Any], name: str, floor: Mapping[str, Any]) -> None:
    """Raises _Refused where the calibration is another route's, or certified for another floor."""
    proven = sheet.get("floor")
    if not isinstance(proven, dict) or not isinstance(sheet.get("plan"), dict):
        raise _Refused("no calibration: `floor` or `plan` is missing")
    if sheet.get("route") != name:
        raise _Refused(f"it is the calibration of another route, '{shortened(str(sheet.get('route')))}'")
    for word, usual in (("of", None), ("keep", 0.98), ("risk", 0.05)):
        if proven.get(word) != floor.get(word, usual):
            raise _Refused(
                f"it is certified for another floor: `{word}` is {shortened(str(proven.get(word)))} there"
            )


def _calibration(sheet: Mapping[str, Any], route: Mapping[str, Any], folder: FilePath) -> Calibration:
    """A step that is not named stays with the strong model, and so does the route where nothing is certified."""
    plan = sheet["plan"]
    if plan.get("certified") is not True:
        return Calibration()
    by, start, steps = plan.get("by"), plan.get("start"), plan.get("steps")
    if not isinstance(by, str) or by not in _KINDS:
        raise _Refused("no calibration: `plan.by` is neither start, score nor suspicion")
    if start not in route.get("ladder", ()):
        raise _Refused("it begins at a model that is not in the ladder")
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise _Refused("no calibration: `plan.steps` is not a list of names")
    n = plan.get("n")
    outcomes = n if isinstance(n, int) else 0
    expected = _expected(plan)
    if by == "start":
        return Calibration(
            {s: Plan(start, certified=True, n=outcomes, expected=expected.get(s, {})) for s in steps}
        )
    weights = _weights(sheet, plan, folder, by)
    sure = Plan(start, threshold=_threshold(plan), certified=True, n=outcomes)
    if isinstance(weights, Scorer):
        whole = expected.get("*", {})
        every = replace(sure, by="score", abstaining=frozenset(steps), expected=whole)
        return Calibration({"*": every}, scorer=weights)
    doubtful = {s: replace(sure, by="suspicion", expected=expected.get(s, {})) for s in steps}
    return Calibration(doubtful, doubter=weights)


def _expected(plan: Mapping[str, Any]) -> dict[str, dict[Watched, float]]:
    """What is expected of each step's answers; nothing where the calibration does not say."""
    said = plan.get("expected", {})
    if not isinstance(said, dict) or not all(isinstance(shares, dict) for shares in said.values()):
        raise _Refused("no calibration: `plan.expected` is not a mapping of steps")
    found: dict[str, dict[Watched, float]] = {}
    for step, shares in said.items():
        own = found.setdefault(str(step), {})
        for kind in get_args(Watched):
            share = shares.get(kind)
            if share is None:
                continue
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise _Refused("no calibration: `plan.expected` holds something else than shares from 0 to 1")
            own[kind] = float(share)
    return found


def _threshold(plan: Mapping[str, Any]) -> float:
    """From which score on the strong model is asked; null stands for "never"."""
    found = plan.get("threshold")
    if found is None:
        return float("inf")
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < float("inf"):
        raise _Refused("no calibration: `plan.threshold` is not a number")
    return float(found)


def _weights(sheet: Mapping[str, Any], plan: Mapping[str, Any], folder: FilePath, by: str) -> Weights:
    """The weights that the plan was certified with, from the calibration's folder."""
    said, log = plan.get("weights"), sheet.get("log")
    if not isinstance(said, dict) or not isinstance(log, dict):
        raise _Refused("its plan goes by weights, and it names none: `plan.weights` or `log` is missing")
    name = said.get("file")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or FilePath(name).name != name:
        raise _Refused("`plan.weights.file` is not the name of a file beside the calibration")
    try:
        raw = read_bounded(folder / name, MAX_WEIGHTS_BYTES)
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else "no file has such a name, or it is too large"
        raise _Refused(f"cannot read its weights, {shortened(name)}: {why}") from None
    if hashlib.sha256(raw).hexdigest() != said.get("sha256"):
        raise _Refused(f"its weights, {shortened(name)}, are not those that it was certified with (sha256)")
    try:
        weights = load(raw, str(log.get("sha256")))
    except WeightsRefused as refused:
        raise _Refused(f"its weights, {shortened(name)}, cannot be used: {refused}") from None
    wanted = _KINDS[by]
    if wanted is None or not isinstance(weights, wanted):
        raise _Refused(f"its weights, {shortened(name)}, are of another kind than `by: {by}`")
    return weights
