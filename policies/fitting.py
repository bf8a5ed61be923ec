"""Fitting the content scorer from a route's log: ridge regressions, out of fold where one feeds another.

Needs numpy, and only `python -m proxy calibrate` and the benchmarks import it: the serving path never does.
Deterministic: folds follow the rows' own content, not a seed.
"""

import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.features import BUCKETS, Features, features
from policies.scorer import WEIGHTS, Row, Scorer, familiarity, head_values, step_chances, strangeness
from policies.suspicion import Doubter, Signals, evidence_row

Matrix = NDArray[np.float64]

FOLDS = 5
TELLING = 256
MAX_STEPS = 40
STRUCTURE_SHARE = 0.15
"""How loud a standardised structure feature is beside the grams of a request, whose squares sum to 1."""

HEAD_RIDGE = (8.0, 8.0, 4.0, 4.0)
STEP_RIDGE = 30.0
GAIN_RIDGE = 100.0
STEP_LOUDNESS = 2.0
DOUBT_RIDGE = 100.0
SURE = 1.645
FEW = 20
LEAST_SPREAD = 0.1
STRANGE = 0.03
UNFAMILIAR = 0.02
"""The shares of the log's own requests, seen from outside, that would count as unlike it: by structure, by grams."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One logged request that both models answered: quality 0..1 and cost of each, and its declared step."""

    messages: Any
    tools: Any
    step: str | None
    cheap: float
    strong: float
    cheap_nanousd: float
    strong_nanousd: float


@dataclass(frozen=True, slots=True, eq=False)
class _Grams:
    """The grams of some rows in one run: the bucket of each, the row that owns it, how much it weighs there."""

    places: NDArray[np.int64]
    owner: NDArray[np.int64]
    weight: Matrix


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Samples as numbers, one row each. `steps` are indices of `names`, -1 for a step too rare to be told apart."""

    found: tuple[Features, ...]
    grams: _Grams
    structure: Matrix
    targets: Matrix
    steps: NDArray[np.int64]
    names: tuple[str, ...]


def fit(samples: Sequence[Sample]) -> Scorer:
    """A scorer for traffic like `samples`. Raises ValueError for fewer than 20."""
    if len(samples) < 20:
        raise ValueError(f"{len(samples)} outcomes are too few to fit a scorer, 20 are the least")
    table = _tabled(samples)
    rows = np.arange(len(samples))
    fold = np.array([zlib.crc32(repr(sorted(f.grams)).encode()) % FOLDS for f in table.found])
    heads = np.zeros((len(samples), len(HEAD_RIDGE)))
    chances = np.zeros((len(samples), len(table.names)))
    familiar = np.ones(len(samples))
    for k in range(FOLDS):
        inside, outside = rows[fold != k], rows[fold == k]
        if len(outside) and len(inside):
            part = _fitted(table, inside)
            seen = _seen(table, inside)
            familiar[outside] = [familiarity(seen, table.found[i]) for i in outside]
            heads[outside], chances[outside] = _applied(part, table, outside)
    centre, scale = heads.mean(0), heads.std(0) + 1e-9
    said = np.clip((heads - centre) / scale, -4, 4)
    declared = (table.steps[:, None] == np.arange(len(table.names))).astype(float)
    whole = _fitted(table, rows)
    apart = np.zeros(len(samples))
    for k in range(FOLDS):
        inside = fold != k
        if inside.any() and not inside.all():
            weights = _last_layer(said[inside], chances[inside], table.targets[inside, 0])
            apart[~inside] = _layered(said[~inside], chances[~inside]) @ weights[1:] + weights[0]
    return replace(
        whole,
        skilled=_skilled(apart, table.targets[:, 0]),
        strange=_strange(whole, table),
        gain=_last_layer(said, chances, table.targets[:, 0]),
        declared_gain=_last_layer(said, declared, table.targets[:, 0]),
        head_centre=_row(centre),
        head_scale=_row(scale),
        seen=_seen(table, rows),
        familiar=float(np.quantile(familiar, UNFAMILIAR)),
    )


def fit_doubter(rows: Sequence[tuple[Signals, Features]], gains: Sequence[float]) -> Doubter:
    """Weights for what is seen of an answer; `gains` are the strong model's quality minus that of the answer."""
    x = np.array([evidence_row(signals, found) for signals, found in rows])
    centre, scale = x.mean(0), x.std(0) + 1e-6
    y = np.array(gains)
    solved = _ridge(np.clip((x - centre) / scale, -4, 4), (y - y.mean())[:, None], DOUBT_RIDGE)[:, 0]
    return Doubter((*_row(solved), float(y.mean())), _row(centre), _row(scale))


def _tabled(samples: Sequence[Sample]) -> _Table:
    found = tuple(features(sample.messages, sample.tools) for sample in samples)
    counts = np.array([len(f.grams) for f in found])
    places = np.fromiter((gram for f in found for gram in sorted(f.grams)), np.int64, int(counts.sum()))
    named = [sample.step or "*" for sample in samples]
    common = sorted(set(named), key=lambda name: (-named.count(name), name))[:MAX_STEPS]
    return _Table(
        found=found,
        grams=_Grams(
            places, np.repeat(np.arange(len(found)), counts), np.repeat((counts + 1.0) ** -0.5, counts)
        ),
        structure=np.array([f.structure for f in found]),
        targets=np.array(
            [
                (s.strong - s.cheap, s.cheap, np.log(s.cheap_nanousd + 1.0), np.log(s.strong_nanousd + 1.0))
                for s in samples
            ]
        ),
        steps=np.array([common.index(name) if name in common else -1 for name in named]),
        names=tuple(common),
    )


def _fitted(table: _Table, rows: NDArray[np.int64]) -> Scorer:
    """Heads and recognition, fitted on `rows`; the last layer is left empty."""
    centre, scale = table.structure[rows].mean(0), table.structure[rows].std(0) + 1e-6
    structure = np.clip((table.structure[rows] - centre) / scale, -4, 4)
    some = _of_rows(table.grams, rows)
    grams, dense = [], []
    for head, ridge in enumerate(HEAD_RIDGE):
        target = table.targets[rows, head]
        by_gram, by_structure = _sparse_ridge(
            some, structure * STRUCTURE_SHARE, target - target.mean(), ridge
        )
        grams.append(array("f", by_gram.astype(np.float32).tobytes()))
        dense.append((*_row(by_structure * STRUCTURE_SHARE), float(target.mean())))
    telling, step_structure = _recognition(table, rows, structure, some)
    usual, spread = _usual(structure, table.steps[rows], len(table.names))
    return Scorer(
        steps=table.names,
        grams=tuple(grams),
        structure=tuple(dense),
        telling=telling,
        step_structure=step_structure,
        gain=(),
        declared_gain=(),
        seen=b"",
        familiar=0.0,
        usual=usual,
        spread=spread,
        strange=0.0,
        skilled=False,
        mean=float(table.targets[rows, 0].mean()),
        centre=_row(centre),
        scale=_row(scale),
        head_centre=(),
        head_scale=(),
    )


def _of_rows(grams: _Grams, rows: NDArray[np.int64]) -> _Grams:
    """The grams of `rows`, which rise; their owners are places in `rows` now."""
    inside = np.isin(grams.owner, rows)
    return _Grams(grams.places[inside], np.searchsorted(rows, grams.owner[inside]), grams.weight[inside])


def _sparse_ridge(grams: _Grams, dense: Matrix, target: Matrix, ridge: float) -> tuple[Matrix, Matrix]:
    """Ridge weights (of the buckets, of the dense columns) by conjugate gradients on the normal equations."""
    n = len(dense)
    columns, places = np.unique(grams.places & (WEIGHTS - 1), return_inverse=True)
    owner, weight, width = grams.owner, grams.weight, len(columns)

    def forward(w: Matrix) -> Matrix:
        summed: Matrix = np.bincount(owner, weight * w[places], n) + dense @ w[width:]
        return summed

    def backward(residual: Matrix) -> Matrix:
        return np.concatenate([np.bincount(places, weight * residual[owner], width), dense.T @ residual])

    x = np.zeros(width + dense.shape[1])
    residual = backward(target)
    direction, size = residual.copy(), _square(residual)
    enough = size * 1e-6
    for _ in range(40):
        if size <= enough:
            break
        pushed = backward(forward(direction)) + ridge * direction
        step = size / float((direction * pushed).sum())
        x += step * direction
        residual -= step * pushed
        size, before = _square(residual), size
        direction = residual + (size / before) * direction
    by_gram = np.zeros(WEIGHTS)
    by_gram[columns] = x[:width]
    return by_gram, x[width:]


def _square(values: Matrix) -> float:
    """The sum of squares, without BLAS: its threads spin where other work keeps the cores busy."""
    return float((values * values).sum())


def _recognition(
    table: _Table, rows: NDArray[np.int64], structure: Matrix, grams: _Grams
) -> tuple[dict[int, Row], tuple[Row, ...]]:
    """(bucket -> weight per step, a row of structure weights per step) of least squares on one column per step."""
    kinds, places, owner = len(table.names), grams.places, grams.owner
    wanted = (table.steps[rows][:, None] == np.arange(kinds)).astype(float)
    n = len(rows)
    buckets, places = np.unique(places, return_inverse=True)
    by_step = np.array(
        [
            np.bincount(places, wanted[owner, k], len(buckets)) / max(1.0, wanted[:, k].sum())
            for k in range(kinds)
        ]
    )
    overall = np.bincount(places, minlength=len(buckets)) / n
    spread = (wanted.sum(0)[:, None] * (by_step - overall) ** 2).sum(0) / (overall * (1 - overall) + 0.02)
    best = np.sort(np.argsort(-spread, kind="stable")[:TELLING])
    column = np.full(len(buckets), -1)
    column[best] = np.arange(len(best))
    told = np.zeros((n, len(best)))
    hit = column[places] >= 0
    told[owner[hit], column[places[hit]]] = 1.0
    x = np.hstack([structure, told])
    mean, aim = x.mean(0), wanted.mean(0)
    solved = _ridge(x - mean, wanted - aim, STEP_RIDGE)
    constant = aim - mean @ solved
    width = structure.shape[1]
    telling = {int(buckets[place]): _row(solved[width + i]) for i, place in enumerate(best)}
    return telling, tuple((*_row(solved[:width, k]), float(constant[k])) for k in range(kinds))


def _usual(
    structure: Matrix, steps: NDArray[np.int64], kinds: int
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Mean and spread of each step's structure; a step of fewer than FEW rows is as spread as the whole log."""
    means, spreads = [], []
    for k in range(kinds):
        own = structure[steps == k]
        means.append(_row(own.mean(0) if len(own) else structure.mean(0)))
        spread = own.std(0) if len(own) >= FEW else structure.std(0)
        spreads.append(_row(np.maximum(spread, LEAST_SPREAD)))
    return tuple(means), tuple(spreads)


def _strange(scorer: Scorer, table: _Table) -> float:
    """The strangeness that all but a share STRANGE of the log's own requests stay below."""
    structure = np.clip((table.structure - scorer.centre) / scorer.scale, -4, 4)
    seen = []
    for found, numbers in zip(table.found, structure.tolist(), strict=True):
        seen.append(strangeness(scorer, numbers, step_chances(scorer, found, numbers, None)))
    return float(np.quantile(seen, 1 - STRANGE))


def _applied(part: Scorer, table: _Table, rows: NDArray[np.int64]) -> tuple[Matrix, Matrix]:
    """(head values, step chances) of `part` for `rows`."""
    structure = np.clip((table.structure[rows] - part.centre) / part.scale, -4, 4)
    heads, chances = [], []
    for i, numbers in zip(rows, structure, strict=True):
        found, values = table.found[i], numbers.tolist()
        heads.append(head_values(part, found, values))
        chances.append(step_chances(part, found, values, None))
    return np.array(heads), np.array(chances)


def _layered(heads: Matrix, chances: Matrix) -> Matrix:
    """The columns of the last layer: the heads, then for each step its chance and the heads where it is this step."""
    parts = [heads]
    for k in range(chances.shape[1]):
        parts += [chances[:, [k]], chances[:, [k]] * heads]
    return np.hstack(parts)


def _last_layer(heads: Matrix, chances: Matrix, gain: Matrix) -> Row:
    """Weights as `Scorer.gain` has them: the constant, then one per column of `_layered`."""
    x, width = _layered(heads, chances), heads.shape[1] + 1
    loud = np.ones(x.shape[1])
    loud[width - 1 :: width] = STEP_LOUDNESS
    x = x * loud
    mean = x.mean(0)
    solved = _ridge(x - mean, (gain - gain.mean())[:, None], GAIN_RIDGE)[:, 0]
    return _row(np.concatenate([[gain.mean() - mean @ solved], solved * loud]))


def _skilled(apart: Matrix, gain: Matrix) -> bool:
    """Whether gains told from outside go with the real ones beyond chance (one in twenty)."""
    if apart.std() < 1e-9 or gain.std() < 1e-9:
        return False
    return bool(np.corrcoef(apart, gain)[0, 1] * len(gain) ** 0.5 > SURE)


def _ridge(x: Matrix, y: Matrix, ridge: float) -> Matrix:
    return np.asarray(np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y), np.float64)


def _seen(table: _Table, rows: NDArray[np.int64]) -> bytes:
    """A 1 for each bucket that at least two of the rows have."""
    counts = np.bincount(_of_rows(table.grams, rows).places, minlength=BUCKETS)
    return (counts >= 2).astype(np.uint8).tobytes()


def _row(values: Matrix) -> Row:
    return tuple(values.tolist())
