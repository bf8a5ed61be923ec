"""`python -m proxy calibrate`: what a route's log proves, printed, drawn, and written for review."""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any

from policies.curve import as_svg


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "calibrate",
        help="what cheaper models may answer, proven on a route's log",
        description="Read a log of outcomes, compare the ways to route, certify the floor, and write a YAML to review.",
    )
    command.add_argument("--route", required=True, help="the route whose lines of the log are read")
    command.add_argument("--log", type=Path, required=True, metavar="FILE", help="outcomes, JSON Lines")
    command.add_argument("--cheap", required=True, metavar="MODEL", help="where the ladder begins")
    command.add_argument("--strong", required=True, metavar="MODEL", help="the model whose quality is kept")
    command.add_argument(
        "--keep", type=float, default=0.98, help="of the strong model's quality (%(default)s)"
    )
    command.add_argument("--risk", type=float, default=0.05, help="that the floor is broken (%(default)s)")
    command.add_argument(
        "--out", type=Path, default=Path("calibration"), help="folder to write to (%(default)s)"
    )
    command.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Calibrate one route; the exit status: 0 done (also when no saving is certified), 1 the log cannot be used."""
    from proxy.calibrate import compare, fit_oldest, report  # noqa: PLC0415  heavy
    from proxy.logged import LogRefused, read  # noqa: PLC0415
    from proxy.sheet import Asked, sheet_of  # noqa: PLC0415

    try:
        raw = chosen.log.read_bytes()
        exchanges = read(raw.decode(), chosen.route, chosen.cheap, chosen.strong)
        fitted = fit_oldest(exchanges)
        ways = compare(exchanges, chosen.keep, chosen.risk, fitted)
    except (OSError, UnicodeDecodeError, LogRefused, ImportError) as error:
        print(f"cannot calibrate: {error}", file=sys.stderr)
        return 1
    digest = hashlib.sha256(raw).hexdigest()
    asked = Asked(chosen.route, chosen.cheap, chosen.strong, chosen.keep, chosen.risk, digest)
    chosen.out.mkdir(parents=True, exist_ok=True)
    sheet = sheet_of(asked, ways, exchanges, fitted)
    weights = chosen.out / f"{chosen.route}.weights"
    if sheet.weights is None:
        weights.unlink(missing_ok=True)  # of an earlier calibration
    else:
        weights.write_bytes(sheet.weights)
    (chosen.out / f"{chosen.route}.yaml").write_text(sheet.text)
    (chosen.out / f"{chosen.route}.svg").write_text(as_svg({way.name: way.line for way in ways}))
    print(report(ways, exchanges))
    beside = "" if sheet.weights is None else f", {weights} (goes with it)"
    print(f"\nwritten: {chosen.out / chosen.route}.yaml (review it){beside}, {chosen.out / chosen.route}.svg")
    return 0
