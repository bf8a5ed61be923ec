"""Quality against cost: what sending the neediest requests to the strong model buys, as numbers, text and SVG."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from policies.certify import Trial


@dataclass(frozen=True, slots=True)
class Point:
    """One setting: the share of strong calls, the mean quality, the mean cost of an exchange with all its calls."""

    strong: float
    quality: float
    cost_nanousd: float


def curve(trials: Sequence[Trial], *, cascade: bool = False) -> list[Point]:
    """Every setting of a threshold, from always cheap to always strong; equal scores are one setting's worth apart.

    With `cascade` the cheap call is paid for where the strong one follows.
    """
    n = len(trials)
    quality = sum(t.cheap for t in trials) / n
    cost = sum(t.cheap_nanousd for t in trials) / n
    points = [Point(0.0, quality, cost)]
    groups: dict[float, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.score, []).append(trial)
    done = 0
    for needy in sorted(groups, reverse=True):
        group = groups[needy]
        quality += sum(t.strong - t.cheap for t in group) / n
        cost += sum(t.strong_nanousd - (0.0 if cascade else t.cheap_nanousd) for t in group) / n
        done += len(group)
        points.append(Point(done / n, quality, cost))
    return points


def apgr(points: Sequence[Point]) -> float:
    """Average performance gap recovered: 0.5 is random, 1 would have all of the strong model's gain at once.

    RouteLLM, arXiv 2406.18665: mean over shares of strong calls of (quality - cheap) / (strong - cheap), 11 shares.
    """
    low, high = points[0].quality, points[-1].quality
    if abs(high - low) < 1e-12:
        return 0.5
    gains = [(_at(points, share / 10) - low) / (high - low) for share in range(11)]
    return sum((a + b) / 20 for a, b in itertools.pairwise(gains))


def _at(points: Sequence[Point], share: float) -> float:
    for left, right in itertools.pairwise(points):
        if share <= right.strong:
            part = (share - left.strong) / (right.strong - left.strong)
            return left.quality + part * (right.quality - left.quality)
    return points[-1].quality


def cheapest(points: Sequence[Point], least_quality: float) -> Point | None:
    """The cheapest setting that reaches this quality on these very trials (a look back, not a promise)."""
    good = [point for point in points if point.quality >= least_quality - 1e-12]
    return min(good, key=lambda point: point.cost_nanousd) if good else None


Line = Sequence[Point]
_WIDTH, _HEIGHT = 64, 16
_MARKS = "abcdefgh"


def as_text(lines: Mapping[str, Line]) -> str:
    """The curves as a plot of characters, the first line's mark on top where they meet."""
    x, y = _scales(lines, _WIDTH - 1, _HEIGHT - 1)
    grid = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    for mark, points in reversed(list(zip(_MARKS, lines.values(), strict=False))):
        for point in points:
            grid[_HEIGHT - 1 - round(y(point.quality))][round(x(point.cost_nanousd))] = mark
    legend = [f"  {mark}  {name}" for mark, name in zip(_MARKS, lines, strict=False)]
    body = ["|" + "".join(row).rstrip() for row in grid]
    return "\n".join(["quality", *body, "+" + "-" * _WIDTH + " cost", *legend])


_COLOURS = ("#1b6ca8", "#c1440e", "#2e7d32", "#6a1b9a", "#9e7700", "#455a64", "#ad1457", "#00838f")


def as_svg(lines: Mapping[str, Line]) -> str:
    """The curves as an SVG picture of 720 x 440 points, readable without anything else."""
    x, y = _scales(lines, 560, 340)
    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 440" font-family="sans-serif" font-size="12">',
        '<rect width="720" height="440" fill="white"/>',
        '<path d="M60 20V380H640" fill="none" stroke="#333"/>',
        '<text x="350" y="410" text-anchor="middle">cost of an exchange, all calls</text>',
        '<text x="20" y="200" text-anchor="middle" transform="rotate(-90 20 200)">quality</text>',
    ]
    for i, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        places = [f"{70 + x(p.cost_nanousd):.1f},{370 - y(p.quality):.1f}" for p in points]
        if len(places) == 1:
            cx, cy = places[0].split(",")
            out.append(f'<circle cx="{cx}" cy="{cy}" r="5" fill="{colour}"/>')
        else:
            out.append(
                f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="2"/>'
            )
        out.append(f'<text x="470" y="{250 + 16 * i}" fill="{colour}">{_escaped(name)}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def _scales(
    lines: Mapping[str, Line], width: float, height: float
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    points = [point for line in lines.values() for point in line]
    lows = min(p.cost_nanousd for p in points), min(p.quality for p in points)
    spans = (
        max(p.cost_nanousd for p in points) - lows[0] or 1.0,
        max(p.quality for p in points) - lows[1] or 1.0,
    )
    return (lambda cost: (cost - lows[0]) / spans[0] * width), (lambda q: (q - lows[1]) / spans[1] * height)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
