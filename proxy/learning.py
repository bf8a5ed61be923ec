"""What exchanges teach of models: counts per (route, step, model), kept in memory and as notes in the store.

One object per app. Each worker counts its own exchanges and writes that down under its own name every few seconds; what
the others wrote is read as often, and what all have counted is what is known. Old counts fade the same way wherever
they stand, so that sums over workers, and over earlier starts, are what one worker would have counted.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from typing import Any

from cachetools import LRUCache

from policies.facts import Evidence
from policies.ladder import Attempt
from policies.posteriors import Outcome, Tally, learn, pooled, together
from proxy.drift import Drifts
from proxy.stores.base import Notes, StoreError

MOST_STEPS = 500
"""Steps are named by clients: beyond so many (step, model) of a route the others count for the route as a whole."""
REMEMBERED = 65_536
"""Exchanges whose route, step and model are known without looking into the ledger, should there be feedback."""
FORGOTTEN = 0.01
"""A step that weighs less than this is forgotten when counts are read: no one has seen it for three months."""
SAVE_S = 5.0
_NOTE = "routing/"

Tallies = dict[tuple[str, str], Tally]


@dataclass(frozen=True, slots=True)
class Taught:
    """An exchange that feedback may speak of: whose it was, and which model answered which step."""

    key: str | None
    route: str
    step: str
    alias: str


class Known(Mapping[str, Mapping[str, Evidence]]):
    """Evidence of one route by step, worked out for the steps that are looked up."""

    def __init__(self, tallies: Tallies, aliases: Mapping[str, str]) -> None:
        self._tallies = tallies
        self._aliases = aliases

    def __getitem__(self, step: str) -> Mapping[str, Evidence]:
        if not self._tallies:
            raise KeyError(step)
        return {asked: pooled(self._tallies, step, alias) for asked, alias in self._aliases.items()}

    def __iter__(self) -> Iterator[str]:
        return iter({step for step, _ in self._tallies})

    def __len__(self) -> int:
        return len({step for step, _ in self._tallies})


class Learning:
    """Counts of every route. `load` at the start, `save` and `refresh` in between, `save` at the end."""

    def __init__(self, drifts: Drifts | None = None, worker: str = "0") -> None:
        """`worker` names what this process writes down; no other one that runs may have the same name."""
        self.drifts = drifts or Drifts()
        self._worker = worker
        self._own: dict[str, Tallies] = {}
        self._others: dict[str, Tallies] = {}
        self._routes: dict[str, Tallies] = {}
        """What all have counted."""
        self._changed: set[str] = set()
        self._counted: set[tuple[str, tuple[str, str]]] = set()
        """What was counted here since the sums over all were begun."""
        self._taught: LRUCache[str, Taught] = LRUCache(REMEMBERED)

    def of(self, route: str, aliases: Mapping[str, str]) -> Known:
        """What is known of these models; `aliases` are what they are called in the configuration."""
        return Known(self._routes.get(route, {}), aliases)

    def ended(self, exchange_id: str, taught: Taught, history: Sequence[tuple[str, Attempt]]) -> None:
        """An exchange is over: every model that replied, by alias, was good where its answer was the one kept.

        `taught.alias` is the model that was kept, empty where none was. Failures of the network teach nothing here.
        """
        now = time.time()
        models: dict[str, list[Attempt]] = {}
        for alias, attempt in history:
            if attempt.reply is not None:
                models.setdefault(alias, []).append(attempt)
        for alias, attempts in models.items():
            written = sum(a.usage.output_tokens for a in attempts if a.usage is not None)
            agreed = any(a.set_aside == "agreement" for a in attempts)
            good = alias == taught.alias or agreed
            self._learn(taught.route, taught.step, alias, Outcome(good, len(attempts), written), now)
        if taught.alias:
            self._taught[exchange_id] = taught

    def about(self, exchange_id: str) -> Taught | None:
        """The exchange of this id, while it is remembered here."""
        return self._taught.get(exchange_id)

    def feedback(self, taught: Taught, score: float) -> None:
        """The client says how good the answer was, 0 to 1."""
        now = time.time()
        for good, weight in ((True, score), (False, 1.0 - score)):
            if weight:
                outcome = Outcome(good, calls=0, weight=weight)
                self._learn(taught.route, taught.step, taught.alias, outcome, now)

    def _learn(self, route: str, step: str, alias: str, outcome: Outcome, now_s: float) -> None:
        own, place = self._own.setdefault(route, {}), (step, alias)
        if place not in own and len(own) >= MOST_STEPS:
            place = ("*", alias)
        own[place] = learn(own.get(place, Tally()), outcome, now_s)
        known = self._routes.setdefault(route, {})
        known[place] = learn(known.get(place, Tally()), outcome, now_s)
        self._changed.add(route)
        self._counted.add((route, place))

    async def load(self, notes: Notes) -> None:
        """Begin with what all workers have written down; what cannot be read is forgotten. Raises StoreError."""
        await self.drifts.share(notes)
        await self._read(notes, own=True)

    async def refresh(self, notes: Notes) -> None:
        """Know what the other workers have counted meanwhile. Raises StoreError."""
        await self._read(notes, own=False)

    async def _read(self, notes: Notes, *, own: bool) -> None:
        found = await notes.notes(_NOTE)
        mine, others = await asyncio.to_thread(_counts, found, self._worker, time.time())
        if own:
            self._own = mine
        self._others = others
        self._counted.clear()
        copies = {route: dict(tallies) for route, tallies in self._own.items()}
        routes = await asyncio.to_thread(_sums, copies, others)
        for route, place in self._counted:  # while the sums were made
            sums = (tallies[place] for tallies in self._both(route) if place in tallies)
            routes.setdefault(route, {})[place] = together(*sums)
        self._routes = routes

    def _both(self, route: str) -> tuple[Tallies, Tallies]:
        return self._own.get(route, {}), self._others.get(route, {})

    async def save(self, notes: Notes) -> None:
        """Write down what has changed here. A store that takes nothing now is tried again the next time."""
        changed, self._changed = self._changed, set()
        for route in changed:
            rows = await asyncio.to_thread(_rows, dict(self._own[route]))
            try:
                await notes.put_note(f"{_NOTE}{self._worker}/{route}", rows)
            except StoreError:
                self._changed.add(route)
        with suppress(StoreError):  # tried again the next time, too
            await self.drifts.share(notes)


def _rows(tallies: Tallies) -> list[Any]:
    names = [f.name for f in fields(Tally)]
    return [[*place, {n: getattr(tally, n) for n in names}] for place, tally in tallies.items()]


def _counts(
    notes: Mapping[str, Any], worker: str, now_s: float
) -> tuple[dict[str, Tallies], dict[str, Tallies]]:
    """(what this worker has written down, what all others have, summed), by route."""
    own: dict[str, Tallies] = {}
    others: dict[str, Tallies] = {}
    for name, rows in notes.items():
        writer, named, route = name.removeprefix(_NOTE).partition("/")
        if not named:  # written by a version that knew one worker
            writer, route = "", writer
        if isinstance(rows, list):
            found = dict(filter(None, map(_tally, rows[: 2 * MOST_STEPS])))
            fresh = {place: t for place, t in found.items() if _weight(t, now_s) >= FORGOTTEN}
            if writer == worker:
                own[route] = fresh
            else:
                others[route] = _sum(others.get(route, {}), fresh)
    return own, others


def _sums(own: Mapping[str, Tallies], others: Mapping[str, Tallies]) -> dict[str, Tallies]:
    return {route: _sum(own.get(route, {}), others.get(route, {})) for route in own.keys() | others.keys()}


def _sum(one: Tallies, other: Tallies) -> Tallies:
    """Both together; of more than MOST_STEPS the others count for the route as a whole."""
    summed = dict(one)
    for (step, alias), tally in other.items():
        place = (step, alias) if (step, alias) in summed or len(summed) < MOST_STEPS else ("*", alias)
        summed[place] = together(summed[place], tally) if place in summed else tally
    return summed


def _weight(tally: Tally, now_s: float) -> float:
    return together(tally, Tally(good=1e-9, stamp_s=now_s)).n


def _tally(row: Any) -> tuple[tuple[str, str], Tally] | None:
    try:
        step, alias, counts = row
        found = Tally(**{f.name: float(counts[f.name]) for f in fields(Tally)})
    except (TypeError, ValueError, KeyError):
        return None
    sane = all(0.0 <= value < 1e15 for value in astuple(found))
    return ((str(step), str(alias)), found) if sane else None
