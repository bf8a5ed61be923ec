"""Draw where time goes, from collapsed stacks (`py-spy record --format raw`), as a small SVG without scripts.

    py-spy record --pid PID --rate 500 --duration 20 --format raw --output stacks.txt
    .venv/bin/python tools/flame.py stacks.txt docs/flame.svg --root "Connection._serve" --us 240

Each box is a function, as wide as its share of the samples; what it called stands on it. Lines of one function are one
box, boxes narrower than half a per cent are left out. `--root` begins with the first function of that name and leaves
all other stacks out; `--us` is what the whole width stands for, so that boxes can tell microseconds.
"""

import argparse
import re
import zlib
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

WIDTH = 1100
ROW = 17
LEAST = 0.005
"""Share of the samples below which a box is not drawn."""
CHARACTER = 6.2
"""Pixels of a character of the labels."""


@dataclass(slots=True)
class Box:
    """A function on a stack: in how many samples it was, and what it called."""

    name: str
    samples: int = 0
    called: dict[str, "Box"] = field(default_factory=dict)

    def add(self, stack: list[str], samples: int) -> None:
        """Count samples of a stack that stands on this box."""
        self.samples += samples
        if stack:
            self.called.setdefault(stack[0], Box(stack[0])).add(stack[1:], samples)

    def depth(self, least: float) -> int:
        """Rows that it takes."""
        return 1 + max((b.depth(least) for b in self.called.values() if b.samples >= least), default=0)


def read(text: str, root: str | None) -> Box:
    """The stacks of a file in py-spy's raw format: frames joined by semicolons, a blank, a count."""
    whole = Box(root or "all")
    for line in text.splitlines():
        joined, _, count = line.rpartition(" ")
        stack = [re.sub(r":\d+\)$", ")", frame) for frame in joined.split(";")]
        if root is not None:
            at = next((n for n, frame in enumerate(stack) if frame.startswith(root)), None)
            if at is None:
                continue
            stack = stack[at + 1 :]
        whole.add(stack, int(count))
    return whole


def color(name: str) -> str:
    """Warm for ours, cool for what we use; the same name always has the same."""
    shade = zlib.crc32(name.encode()) % 40
    ours = re.search(r"\((proxy|policies|schemas)/", name)
    return (
        f"hsl({20 + shade // 2},75%,{66 + shade % 12}%)"
        if ours
        else f"hsl({190 + shade},35%,{72 + shade % 10}%)"
    )


def boxes(box: Box, left: float, row: int, scale: float, unit: float, least: float) -> list[str]:
    """The SVG of a box and of what stands on it; `scale` is pixels and `unit` microseconds per sample."""
    width = box.samples * scale
    name = box.name.replace("proxy/", "")
    label = f"{name} {box.samples * unit:.1f} us" if unit else name
    fits = int(width / CHARACTER)
    y = row * ROW
    drawn = [
        f'<g><title>{escape(label)}</title><rect x="{left:.1f}" y="{y}" width="{max(width - 0.5, 0.5):.1f}" '
        f'height="{ROW - 1}" fill="{color(box.name)}"/>'
        + (f'<text x="{left + 3:.1f}" y="{y + 12}">{escape(label[:fits])}</text>' if fits > 4 else "")
        + "</g>"
    ]
    for called in sorted(box.called.values(), key=lambda b: -b.samples):
        if called.samples >= least:
            drawn += boxes(called, left, row + 1, scale, unit, least)
        left += called.samples * scale
    return drawn


def draw(whole: Box, us: float) -> str:
    """The picture; the root stands on top."""
    least = whole.samples * LEAST
    drawn = boxes(whole, 0, 0, WIDTH / whole.samples, us / whole.samples, least)
    height = whole.depth(least) * ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="monospace" '
        f'font-size="10">\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stacks", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--root", help="the function that the picture begins with")
    parser.add_argument("--us", type=float, default=0.0, help="microseconds that the whole width stands for")
    chosen = parser.parse_args()
    whole = read(chosen.stacks.read_text(), chosen.root)
    if not whole.samples:
        parser.error(f"no stack holds {chosen.root!r}")
    chosen.picture.write_text(draw(whole, chosen.us))
    print(f"{whole.samples} samples, {chosen.picture.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
