"""What exchanges teach of models: counts per (route, step, model), kept in memory and as notes in the store.

One object per app. Several workers learn each from its own exchanges, and begin with what was saved last.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any

from cachetools import LRUCache

from policies.facts import Evidence
from policies.ladder import Attempt
from policies.posteriors import Outcome, Tally, learn, pooled
from proxy.drift import Drifts
from proxy.stores.base import Notes, StoreError

MOST_STEPS = 500
"""Steps are named by clients: beyond so many (step, model) of a route the others count for the route as a whole."""
REMEMBERED = 65_536
"""Exchanges that feedback may still be given on."""
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
    """Counts of every route. `load` at the start, `save` in between and at the end."""

    def __init__(self, drifts: Drifts | None = None) -> None:
        self.drifts = drifts or Drifts()
        self._routes: dict[str, Tallies] = {}
        self._changed: set[str] = set()
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
        """The exchange of this id, while it is remembered and nobody gave feedback on it."""
        return self._taught.get(exchange_id)

    def feedback(self, exchange_id: str, score: float) -> bool:
        """The client says how good the answer was, 0 to 1; False where that was said before or nothing is known."""
        taught = self._taught.pop(exchange_id, None)
        if taught is None:
            return False
        now = time.time()
        for good, weight in ((True, score), (False, 1.0 - score)):
            if weight:
                outcome = Outcome(good, calls=0, weight=weight)
                self._learn(taught.route, taught.step, taught.alias, outcome, now)
        return True

    def _learn(self, route: str, step: str, alias: str, outcome: Outcome, now_s: float) -> None:
        tallies = self._routes.setdefault(route, {})
        place = (step, alias)
        if place not in tallies and len(tallies) >= MOST_STEPS:
            place = ("*", alias)
        tallies[place] = learn(tallies.get(place, Tally()), outcome, now_s)
        self._changed.add(route)

    async def load(self, notes: Notes, routes: Sequence[str]) -> None:
        """Begin with what was saved of these routes; what cannot be read is forgotten."""
        await self.drifts.share(notes)
        for route in routes:
            rows = await notes.note(_NOTE + route)
            if isinstance(rows, list):
                self._routes[route] = dict(filter(None, map(_tally, rows[: 2 * MOST_STEPS])))

    async def save(self, notes: Notes) -> None:
        """Write down what has changed. A store that takes nothing now is tried again the next time."""
        changed, self._changed = self._changed, set()
        for route in changed:
            rows = [[*place, asdict(tally)] for place, tally in self._routes[route].items()]
            try:
                await notes.put_note(_NOTE + route, rows)
            except StoreError:
                self._changed.add(route)
        with suppress(StoreError):  # tried again the next time, too
            await self.drifts.share(notes)


def _tally(row: Any) -> tuple[tuple[str, str], Tally] | None:
    try:
        step, alias, counts = row
        return (str(step), str(alias)), Tally(**{f.name: float(counts[f.name]) for f in fields(Tally)})
    except (TypeError, ValueError, KeyError):
        return None
