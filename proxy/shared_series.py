"""The metrics of several workers as one: each writes its own to a file now and then, and whoever is asked adds them up.

A folder of the supervisor's holds one file per worker, named by its place (`0.json`, `1.json`, ...), replaced as a
whole. A worker that takes the place of one that died goes on from its file, so that no counter ever falls. What the
asked worker says of the others is at most `EVERY_S` old.
"""

import asyncio
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson

from proxy.series import Family, Gauge, Told

EVERY_S = 1.0


class Share:
    """One worker's view of all workers' metrics."""

    def __init__(self, folder: Path, place: int) -> None:
        self.place = place
        self._folder = folder
        self._own = folder / f"{place}.json"
        self._before: dict[str, Told] = {}
        """What our place had counted before this process."""

    def resume(self, families: Iterable[Family]) -> None:
        """Go on from what was counted at this place; what is only true of a living worker is forgotten."""
        found = _read(self._own)
        lasting = {family.name for family in families if not isinstance(family, Gauge)}
        self._before = {name: told for name, told in found.items() if name in lasting}

    def others(self) -> list[Mapping[str, Told]]:
        """What all other workers have counted, and what ours had before us."""
        files = sorted(path for path in self._folder.glob("*.json") if path != self._own)
        return [self._before, *(_read(path) for path in files)]

    def write(self, families: Iterable[Family]) -> None:
        """Tell the others. Blocks for as long as writing a small file takes."""
        whole = {family.name: family.told_with([self._before.get(family.name, {})]) for family in families}
        fresh = self._own.with_suffix(".new")
        fresh.write_bytes(orjson.dumps(whole))
        os.replace(fresh, self._own)  # noqa: PTH105  the same, and Path.replace is no shorter

    def retire(self, families: Iterable[Family]) -> None:
        """The last figures of this worker: they stay, without what is only true of a living one. Blocks as `write`."""
        self.write([family for family in families if not isinstance(family, Gauge)])

    async def keep_writing(self, families: Iterable[Family]) -> None:
        """Tell the others every second, until cancelled."""
        while True:
            await asyncio.to_thread(self.write, families)
            await asyncio.sleep(EVERY_S)


def _read(path: Path) -> dict[str, Told]:
    """What a worker told; nothing where it has not told anything yet."""
    try:
        found: dict[str, Told] = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}
    return found
