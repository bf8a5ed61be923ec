"""The ledger as CSV, for spreadsheets and invoices."""

import csv
import io
from collections.abc import AsyncIterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from policies.money import usd_text
from policies.saved import LEVERS
from proxy.stores.base import Row

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONEY = {name: f"{name.removesuffix('_nanousd')}_usd" for name in ("reserved_nanousd", "cost_nanousd")}
_MONEY["expected_trimming"] = "expected_trimming_usd"
_MONEY |= {f"saved_{lever}": f"saved_{lever}_usd" for lever in LEVERS}
_COLUMNS = tuple(field.name for field in fields(Row))
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the start of a formula (OWASP, "CSV Injection")."""


async def csv_lines(rows: AsyncIterator[Row]) -> AsyncIterator[str]:
    """A line of column names, then one per attempt; amounts are USD, times UTC, what is not known is empty."""
    yield _line(["time" if name == "ts_ns" else _MONEY.get(name, name) for name in _COLUMNS])
    async for row in rows:
        yield _line([_cell(name, getattr(row, name)) for name in _COLUMNS])


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "ts_ns":
        return f"{_EPOCH + timedelta(microseconds=value // 1000):%Y-%m-%dT%H:%M:%S.%f}Z"
    if name in _MONEY:
        return usd_text(value)
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return str(int(value) if isinstance(value, bool) else value)


def _line(cells: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
