"""Counters, gauges and histograms that cost a tenth of a microsecond: plain cells, summed up only when somebody asks.

A family holds one cell per combination of label values. Whoever counts keeps the cell and adds to it; the event
loop is the only one that writes, so there is no lock. A family can be told as plain values and take in another's,
which is how several workers are summed; prometheus_client writes the text.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

MAX_CELLS: Final = 10_000
"""Combinations of label values in one family; all further ones share a cell. The labels are words of the
configuration, so that this is only reached where one of them is not what we think."""
OTHER: Final = "other"

Labels = tuple[str, ...]
Told = dict[str, Any]
"""A family's cells as JSON knows it: labels joined by a control character -> what the cell's `tell` gave."""
_JOINT: Final = "\x1f"


class Cell:
    """One number. Integers stay exact; `value` is scaled only when it is shown."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: int | float = 0

    def tell(self) -> float:
        return self.value


class Buckets:
    """One distribution: how many observations fell in each bucket, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = [float(bound) for bound in bounds]
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count `value`; bounds are inclusive, as Prometheus has them."""
        bounds = self.bounds
        first, last = 0, len(bounds)
        while first < last:  # `bisect` of the library takes ten times as long as this does compiled
            middle = (first + last) >> 1
            if bounds[middle] < value:
                first = middle + 1
            else:
                last = middle
        self.counts[first] += 1
        self.sum += value

    def tell(self) -> list[float]:
        return [self.sum, *self.counts]


class _Family:
    """What all kinds share: a name, labels, and cells by label values."""

    kind: Literal["counter", "gauge", "histogram"]

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        """`name` as it is shown; a counter's ends in `_total`."""
        self.name = name
        self.text = text
        self.labels = tuple(labels)
        self.cells: dict[Labels, Any] = {}

    def _made(self) -> Any:
        raise NotImplementedError

    def cell(self, *values: str) -> Any:
        """The cell of these label values, to be kept by whoever adds to it."""
        found = self.cells.get(values)
        if found is None:
            assert len(values) == len(self.labels), (self.name, values)
            if len(self.cells) >= MAX_CELLS:
                values = (OTHER,) * len(self.labels)
            found = self.cells.setdefault(values, self._made())
        return found

    def told_with(self, others: Iterable[Told]) -> Told:
        """All cells as plain values, those of others added to ours. May run in a thread."""
        told = {_JOINT.join(values): cell.tell() for values, cell in list(self.cells.items())}
        for other in others:
            for labels, value in other.items():
                told[labels] = self._merged(told[labels], value) if labels in told else value
        return told

    def values_with(self, others: Iterable[Told]) -> Iterable[tuple[Labels, Any]]:
        """Label values and what was counted, those of others added to ours."""
        return [(tuple(self._values(labels)), told) for labels, told in self.told_with(others).items()]

    def shown(self, told: Mapping[str, Any]) -> Metric:
        """What `told_with` gave, as prometheus_client knows it."""
        raise NotImplementedError

    def _merged(self, one: Any, other: Any) -> Any:
        return one + other

    def _values(self, labels: str) -> Sequence[str]:
        return labels.split(_JOINT) if self.labels else ()


class Counter(_Family):
    """Counts up. `unit`: how many of what is counted make one of what is shown (10**9 for nano-dollars)."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), unit: int = 1) -> None:
        super().__init__(name, text, labels)
        self.unit = unit

    def _made(self) -> Cell:
        return Cell()

    def shown(self, told: Mapping[str, Any]) -> Metric:
        shown = CounterMetricFamily(self.name.removesuffix("_total"), self.text, labels=self.labels)
        for labels, value in told.items():
            shown.add_metric(self._values(labels), value / self.unit)
        return shown


class Gauge(_Family):
    """Goes up and down. Workers are summed, or where all of them know the same thing, the `highest` counts."""

    kind = "gauge"

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), *, highest: bool = False) -> None:
        super().__init__(name, text, labels)
        self.highest = highest

    def _made(self) -> Cell:
        return Cell()

    def _merged(self, one: Any, other: Any) -> Any:
        return max(one, other) if self.highest else one + other

    def shown(self, told: Mapping[str, Any]) -> Metric:
        shown = GaugeMetricFamily(self.name, self.text, labels=self.labels)
        for labels, value in told.items():
            shown.add_metric(self._values(labels), value)
        return shown


class Histogram(_Family):
    """A distribution over fixed buckets."""

    kind = "histogram"

    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        super().__init__(name, text, labels)
        self.bounds = tuple(bounds)
        self._names = [f"{float(bound):g}" for bound in bounds] + ["+Inf"]

    def _made(self) -> Buckets:
        return Buckets(self.bounds)

    def _merged(self, one: Any, other: Any) -> Any:
        return [a + b for a, b in zip(one, other, strict=True)]

    def shown(self, told: Mapping[str, Any]) -> Metric:
        shown = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        for labels, (total, *counts) in told.items():
            upto = 0
            buckets = []
            for bound, count in zip(self._names, counts, strict=True):
                upto += count
                buckets.append((bound, upto))
            shown.add_metric(self._values(labels), buckets, sum_value=total)
        return shown


Family = Counter | Gauge | Histogram
