"""Whether what was calibrated still holds: each kind of outcome of a certified step is watched against its calibration.

An alarm stands until the calibration is another one: the step goes to the floor's model meanwhile, which teaches
nothing of the cheap one. It is kept in the store, so that all workers and the next start know of it.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from policies.facts import Watched
from policies.posteriors import Drift, drifted, watch
from policies.route import Floor, Route
from proxy.stores.base import Notes

log = logging.getLogger("tailrace")

RISK = 1e-4
"""False alarms: at most one in ten thousand outcomes of a step."""
MOST_ALARMS = 1000
_NOTE = "drift/"


@dataclass(frozen=True, slots=True)
class Alarm:
    """Which outcomes are worse than calibrated, and since when (Unix time)."""

    kind: str
    since_s: float


@dataclass(slots=True)
class _Route:
    """One route's calibration under watch."""

    floor: Floor
    seen: dict[tuple[str, Watched], Drift] = field(default_factory=dict)
    alarms: dict[str, Alarm] = field(default_factory=dict)
    drifted: frozenset[str] = frozenset()

    def raised(self, step: str, alarm: Alarm) -> None:
        self.alarms[step] = alarm
        self.drifted = frozenset(self.alarms)


class Drifts:
    """What is watched of every route. One object per app."""

    def __init__(self, told: Callable[[Mapping[str, int]], None] = lambda _: None) -> None:
        """`told` hears how many steps of each watched route have drifted, whenever that changes."""
        self._routes: dict[str, _Route] = {}
        self._told = told

    def begin(self, routes: Mapping[str, Route]) -> None:
        """Watch these routes' calibrations; what was seen of one that is still the same stays."""
        before, self._routes = self._routes, {}
        for name, route in routes.items():
            floor = route.floor
            if floor is not None and floor.calibration is not None and route.choose == "learned":
                known = before.get(name)
                same = known is not None and known.floor.calibration == floor.calibration
                self._routes[name] = known if known is not None and same else _Route(floor)
        self._tell()

    def of(self, route: Route) -> frozenset[str]:
        """The steps that no longer look like the calibration of `route`."""
        found = self._of(route)
        return frozenset() if found is None else found.drifted

    def saw(self, route: Route, step: str, model: str, kind: Watched, good: float) -> None:
        """An answer of `model` turned out `good` (0 to 1), as `kind` tells. Another model than the plan's says nothing."""
        found = self._of(route)
        if found is None:
            return
        plans = found.floor.plans
        name = step if step in plans else "*"
        plan = plans.get(name)
        if plan is None or plan.start != model or name in found.alarms or kind not in plan.expected:
            return
        now = watch(found.seen.get((name, kind), Drift(plan.expected[kind])), good=good)
        found.seen[name, kind] = now
        if drifted(now, RISK):
            found.raised(name, Alarm(kind, time.time()))
            self._tell()
            log.warning(
                "route %s, step %r: answers of %s are worse than calibrated (%s); it goes to %s until it is calibrated again",
                route.name,
                name,
                model,
                kind,
                found.floor.of,
            )

    def listed(self) -> list[dict[str, Any]]:
        """Every step that has drifted."""
        return [
            {
                "route": name,
                "step": step,
                "kind": alarm.kind,
                "expected": found.floor.plans[step].expected.get(_kind(alarm.kind)),
                "since": datetime.fromtimestamp(alarm.since_s, UTC).isoformat(timespec="seconds"),
            }
            for name, found in self._routes.items()
            for step, alarm in found.alarms.items()
            if step in found.floor.plans
        ]

    async def share(self, notes: Notes) -> None:
        """Take over the alarms that others have raised, and tell ours. Raises StoreError."""
        for name, found in self._routes.items():
            known = _alarms(await notes.note(_NOTE + name), found.floor.calibration)
            for step, alarm in known.items():
                if step in found.floor.plans and step not in found.alarms:
                    found.raised(step, alarm)
                    self._tell()
            if not found.alarms.keys() <= known.keys():
                alarms = {step: [alarm.kind, alarm.since_s] for step, alarm in found.alarms.items()}
                await notes.put_note(_NOTE + name, {"of": found.floor.calibration, "alarms": alarms})

    def _of(self, route: Route) -> _Route | None:
        """What is known of the calibration that `route` goes by: an exchange keeps the one it began with."""
        found = self._routes.get(route.name)
        same = (
            found is not None
            and route.floor is not None
            and found.floor.calibration == route.floor.calibration
        )
        return found if same else None

    def _tell(self) -> None:
        self._told({name: len(found.alarms) for name, found in self._routes.items()})


def _kind(name: str) -> Watched:
    return "valid" if name == "valid" else "comparison" if name == "comparison" else "feedback"


def _alarms(note: Any, calibration: str | None) -> dict[str, Alarm]:
    """The alarms in a note on this calibration; what cannot be read is forgotten."""
    found: dict[str, Alarm] = {}
    if isinstance(note, dict) and note.get("of") == calibration and isinstance(note.get("alarms"), dict):
        for step, alarm in list(note["alarms"].items())[:MOST_ALARMS]:
            if isinstance(alarm, list) and len(alarm) == 2 and isinstance(alarm[1], int | float):
                found[step] = Alarm(str(alarm[0]), float(alarm[1]))
    return found
