"""`python -m proxy usage`: the ledger as a table or as CSV."""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from policies.money import usd_text
from proxy.config import ConfigRefused, load, render_problems
from proxy.stores import open_store
from proxy.stores.base import GROUPS, Figures, Store, StoreError, UsageReport
from proxy.stores.export import csv_lines

DAY_NS = 86_400 * 10**9
_COLUMNS = ("requests", "attempts", "input", "cached", "output", "cost USD", "saved USD", "unpriced")


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "usage",
        help="what was used and what it cost, from the ledger",
        description="Print the ledger's sums as a table, or every attempt as CSV. The proxy may run meanwhile.",
    )
    command.add_argument("--config", type=Path, metavar="FILE", help="the configuration that names the store")
    command.add_argument("--store", metavar="URL", help="the store itself (default: sqlite:///tailrace.db)")
    command.add_argument("--by", default="route,model", help=f"any of {','.join(GROUPS)} (%(default)s)")
    command.add_argument("--days", type=float, default=30, help="how far back (%(default)s)")
    command.add_argument("--csv", action="store_true", help="every attempt as CSV")
    command.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Print the ledger; the exit status."""
    by = [name for name in chosen.by.split(",") if name]
    if not set(by) <= set(GROUPS):
        print(f"--by takes {', '.join(GROUPS)}, separated by commas", file=sys.stderr)
        return 2
    try:
        url = chosen.store or (
            load(chosen.config, os.environ).store if chosen.config else "sqlite:///tailrace.db"
        )
        file = Path(url.removeprefix("sqlite:///"))
        if url.startswith("sqlite:///") and not file.exists():
            print(f"there is no ledger at {file} yet; --config or --store names another", file=sys.stderr)
            return 1
        asyncio.run(_print(open_store(url), by, chosen))
    except ConfigRefused as refused:
        print(render_problems(refused.problems), file=sys.stderr)
        return 1
    except StoreError as error:
        print(f"cannot read the ledger: {error}", file=sys.stderr)
        return 1
    return 0


async def _print(store: Store, by: Sequence[Any], chosen: argparse.Namespace) -> None:
    now = time.time_ns()
    since = now - int(chosen.days * DAY_NS)
    try:
        if chosen.csv:
            async for line in csv_lines(store.rows(since, now)):
                sys.stdout.write(line)
            return
        print(table(await store.usage(since, now, by)))
    finally:
        await store.close()


def table(report: UsageReport) -> str:
    """The report with aligned columns and a total."""
    head = (*report.by, *_COLUMNS)
    rows = [
        tuple(str(of[name] or "-") for name in report.by) + _cells(figures) for of, figures in report.rows
    ]
    total = ("total", *[""] * (len(report.by) - 1))[: len(report.by)] + _cells(report.total)
    lines = [head, *rows, total]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    left = len(report.by)

    def aligned(line: Sequence[str]) -> str:
        cells = [
            c.ljust(w) if n < left else c.rjust(w) for n, (c, w) in enumerate(zip(line, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return "\n".join(aligned(line) for line in lines)


def _cells(figures: Figures) -> tuple[str, ...]:
    return (
        str(figures.requests),
        str(figures.attempts),
        str(figures.input_tokens),
        str(figures.cached_tokens),
        str(figures.output_tokens),
        usd_text(figures.cost_nanousd),
        usd_text(figures.saved_nanousd),
        str(figures.unpriced),
    )
