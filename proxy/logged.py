"""The log of outcomes as `calibrate` reads it: one exchange each, and what both models' answers were worth and cost.

JSON Lines, as `proxy/outcomes` writes them:

    {"ts": 1.5, "id": "req_1", "route": "invoice", "step": "extract", "kept": "mini", "messages": [...], "tools": [...],
     "answers": {"mini": {"quality": 1.0, "cost_nanousd": 5200, "signals": {"valid": true, "calls": 1}},
                 "flagship": {"quality": 1.0, "cost_nanousd": 91000}}}
    {"ts": 9.0, "route": "invoice", "feedback": "req_1", "score": 1.0}

`quality` is null where nothing told it: nothing is promised of the answer. What a client says of the answer that it
got counts for more than a check or a comparison. Where only the cheap model answered and its client said how good
that was, the strong model's answer is taken to be right (`assumed`) and to cost what it does in the mean: the floor
is harder to keep then, never easier. What the rule has sent to the strong model, and nobody knows how the cheap one
would have done, counts as wrong for the cheap one.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from policies.suspicion import Signals

if TYPE_CHECKING:
    from policies.fitting import Sample

LEAST = 100
"""Exchanges below which nothing is fitted: no saving could be certified."""

Told = Literal["feedback", "comparison", "check", "unknown"]
"""How the cheap answer's quality is known: its client said so, the strong model's answer says the same or not, it is
valid or not; `unknown` counts as wrong."""


class LogRefused(Exception):
    """The log cannot be used; the message names the line and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange of the log. `assumed`: the strong model's quality is an upper bound, nobody knows it."""

    ts: float
    sample: "Sample"
    signals: Signals
    told: Told = "check"
    assumed: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    """A line that speaks of at least one of the two models. Costs are None where a model was not asked."""

    line: Mapping[str, Any]
    told: Told
    cheap: float
    strong: float | None
    cheap_nanousd: float | None
    strong_nanousd: float | None


def read(text: str, route: str, cheap: str, strong: str) -> list[Exchange]:
    """The exchanges of `route` of which it is known how the cheap model does, oldest first. Raises LogRefused."""
    rows, said = _lines(text, route)
    found: list[_Row] = []
    costs: dict[str, list[float]] = {cheap: [], strong: []}
    for number, line in rows:
        try:
            row = _row(line, said.get(str(line.get("id"))), cheap, strong)
            if row is not None:
                found.append(row)
            for model, seen in costs.items():
                if model in line["answers"]:
                    seen.append(_cost(line["answers"][model]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LogRefused(f"line {number}: {type(error).__name__} ({error})") from error
    if len(found) < LEAST:
        raise LogRefused(
            f"{len(found)} exchanges tell how {cheap} does beside {strong}, at least {LEAST} are needed: answers of both "
            "(`shadow`), or clients' feedback"
        )
    for model, seen in costs.items():
        if not seen:
            raise LogRefused(
                f"{model} never answered, so that its cost is not known: set `shadow` or `holdout`"
            )
    means = {model: sum(seen) / len(seen) for model, seen in costs.items()}
    try:
        exchanges = [_exchange(row, means[cheap], means[strong], cheap) for row in found]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LogRefused(f"a line of the log: {type(error).__name__} ({error})") from error
    return sorted(exchanges, key=lambda exchange: exchange.ts)


def _lines(text: str, route: str) -> tuple[list[tuple[int, Any]], dict[str, float]]:
    """(the route's exchanges with their line numbers, what clients said of them by id: the first word counts)."""
    rows: list[tuple[int, Any]] = []
    said: dict[str, float] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if row["route"] != route:
                continue
            if "feedback" in row:
                said.setdefault(row["feedback"], _quality(row["score"]))
            else:
                rows.append((number, row))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise LogRefused(f"line {number}: {type(error).__name__} ({error})") from error
    return rows, said


def _row(line: Mapping[str, Any], said: float | None, cheap: str, strong: str) -> _Row | None:
    """What the line says of the two models; None where it says nothing of the cheap one beside the strong one."""
    low, high = (line["answers"].get(model) for model in (cheap, strong))
    good, best = _told(low), _told(high)
    compared, kept = bool(line.get("compared")), line.get("kept")
    told: Told = "comparison" if compared else "check"
    if said is not None and kept == cheap and low is not None:
        told, good = "feedback", said
    elif good is not None and best is None:
        return None  # that an answer is valid says nothing of the other model's
    elif said is not None and kept == strong:
        best = said
        if good is None and not line.get("holdout"):
            told, good = "unknown", 0.0
        elif good == 1.0 and compared:
            good = said
    if good is None:
        return None
    costs = [None if answer is None else _cost(answer) for answer in (low, high)]
    return _Row(line, told, good, best, *costs)


def _told(answer: Any) -> float | None:
    return None if answer is None or answer["quality"] is None else _quality(answer["quality"])


def _quality(value: Any) -> float:
    if isinstance(value, bool) or not 0.0 <= value <= 1.0:
        raise ValueError(f"quality {value} is not in 0..1")
    return float(value)


def _cost(answer: Mapping[str, Any]) -> float:
    cost = float(answer["cost_nanousd"])
    if not 0.0 <= cost < math.inf:
        raise ValueError(f"cost {cost} is no cost")
    return cost


def _exchange(row: _Row, cheap_nanousd: float, strong_nanousd: float, cheap: str) -> Exchange:
    from policies.fitting import Sample  # noqa: PLC0415  numpy, which only `calibrate` needs

    line = row.line
    step = line.get("step")
    sample = Sample(
        messages=line.get("messages"),
        tools=line.get("tools"),
        step=None if step in (None, "*") else str(step),
        cheap=row.cheap,
        strong=1.0 if row.strong is None else row.strong,
        cheap_nanousd=cheap_nanousd if row.cheap_nanousd is None else row.cheap_nanousd,
        strong_nanousd=strong_nanousd if row.strong_nanousd is None else row.strong_nanousd,
    )
    signals = (line["answers"].get(cheap) or {}).get("signals", {})
    return Exchange(float(line["ts"]), sample, _signals(signals), row.told, row.strong is None)


def _signals(found: Mapping[str, Any]) -> Signals:
    """The signals of an answer; names that this version does not know are left out."""
    read: dict[str, Any] = {}
    for field in fields(Signals):
        if field.name in found:
            read[field.name] = (int if field.name in ("calls", "chars") else bool)(found[field.name])
    return Signals(**read)


def counted(exchanges: Sequence[Exchange]) -> dict[str, int]:
    """How many exchanges are known by what."""
    kinds = [exchange.told for exchange in exchanges]
    found: dict[str, int] = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    assumed = sum(exchange.assumed for exchange in exchanges)
    return found | {"strong_assumed_right": assumed} if assumed else found
