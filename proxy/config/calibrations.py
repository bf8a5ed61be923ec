"""The reviewed calibrations of routes: the YAML that `python -m proxy calibrate` wrote, as plans by step."""

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from policies.facts import Plan
from proxy.config import tree as yaml_tree
from proxy.config.checks import Findings
from proxy.config.environ import Expansion, read_bounded, reason
from proxy.config.problems import Path, shortened

MAX_CALIBRATION_BYTES = 256 * 1024
Plans = Mapping[str, Plan]


def read_calibrations(routes: Any, found: Findings, expansion: Expansion, base: FilePath) -> dict[str, Plans]:
    """The plans of every route whose floor names a calibration, by route; `found` holds what is wrong with the others."""
    plans: dict[str, Plans] = {}
    for name, route in routes.items() if isinstance(routes, dict) else ():
        floor = route.get("floor") if isinstance(route, dict) else None
        path = ("routes", name, "floor", "calibration")
        if (
            isinstance(floor, dict)
            and isinstance(floor.get("calibration"), str)
            and path not in expansion.failed
        ):
            sheet = _sheet(path, base / floor["calibration"], found)
            wrong = None if sheet is None else _mistake(sheet, name, route, floor)
            if wrong is not None:
                found.refuse(path, wrong)
            elif sheet is not None:
                plans[name] = _plans(sheet["plan"])
    return plans


def _sheet(path: Path, file: FilePath, found: Findings) -> Any:
    try:
        text = read_bounded(file, MAX_CALIBRATION_BYTES).decode()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else "not UTF-8, or no file has such a name"
        found.refuse(path, f"cannot read the calibration: {why}")
        return None
    tree, problems = yaml_tree.read(text, shortened(file.name))
    if problems or not isinstance(tree.value, dict):
        found.refuse(path, f"no calibration: {problems[0].message if problems else 'not a mapping'}")
        return None
    return tree.value


def _mistake(
    sheet: Mapping[str, Any], name: str, route: Mapping[str, Any], floor: Mapping[str, Any]
) -> str | None:
    """Why this calibration proves nothing for this route; None where it does."""
    proven, plan = sheet.get("floor"), sheet.get("plan")
    if not isinstance(proven, dict) or not isinstance(plan, dict):
        return "no calibration: `floor` or `plan` is missing"
    if sheet.get("route") != name:
        return f"it is the calibration of another route, '{shortened(str(sheet.get('route')))}'"
    for word, usual in (("of", None), ("keep", 0.98), ("risk", 0.05)):
        if proven.get(word) != floor.get(word, usual):
            return f"it is certified for another floor: `{word}` is {shortened(str(proven.get(word)))} there"
    if plan.get("certified") is not True:
        return None
    if plan.get("by") != "start":
        return "its plan goes by what requests or answers look like, whose weights are not kept: only plans `by: start` can be used"
    steps = plan.get("steps")
    if plan.get("start") not in route.get("ladder", ()):
        return "it begins at a model that is not in the ladder"
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        return "no calibration: `plan.steps` is not a list of names"
    return None


def _plans(plan: Mapping[str, Any]) -> Plans:
    """A step that is not named stays with the strong model, and so does the route where nothing is certified."""
    if plan.get("certified") is not True:
        return {}
    n = plan.get("n")
    outcomes = n if isinstance(n, int) else 0
    return {step: Plan(plan["start"], certified=True, n=outcomes) for step in plan["steps"]}
