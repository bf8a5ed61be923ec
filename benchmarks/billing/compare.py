"""The invoice beside the ledger: call by call, to the nano-dollar."""

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

import aiohttp

from benchmarks.billing.cases import Told
from benchmarks.billing.upstream import Line

_COST = re.compile(r"^tailrace_cost_usd_total\{.*\} (\S+)$", re.MULTILINE)
_NANO = 10**9


@dataclass(frozen=True, slots=True)
class Booked:
    """One row of the ledger, as its export has it. Amounts are nano-dollars, None where unknown."""

    id: str
    exchange: str
    case: str
    number: int
    model: str
    provider: str
    purpose: str
    status: str
    reported: bool
    input_tokens: int
    output_tokens: int
    cost: int | None
    reserved: int | None

    @classmethod
    def of(cls, row: Mapping[str, str]) -> "Booked":
        return cls(
            row["id"],
            row["exchange"],
            row["step"],
            int(row["number"]),
            row["model"],
            row["provider"],
            row["purpose"],
            row["status"],
            row["reported"] == "1",
            int(row["input_tokens"]),
            int(row["output_tokens"]),
            _nano(row["cost_usd"]),
            _nano(row["reserved_usd"]),
        )


def _nano(usd: str) -> int | None:
    return int(Decimal(usd) * _NANO) if usd else None


@dataclass(slots=True)
class Estimates:
    """Calls of one kind whose usage nobody told: what was billed, what we booked, how far off in tokens."""

    calls: int = 0
    billed: int = 0
    booked: int = 0
    prompt_off: list[int] = field(default_factory=list)
    output_off: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Account:
    """The outcome. Everything in `wrong` is a finding. Amounts are nano-dollars."""

    calls: int = 0
    rows: int = 0
    exact: int = 0
    free: int = 0
    unpriced: int = 0
    kept: int = 0
    replayed: int = 0
    """Calls that the provider dropped on a kept connection, asked again within the same attempt."""
    unmet: int = 0
    """Attempts whose client left before the provider had begun: nothing tells, and the prompt is booked."""
    unmet_booked: int = 0
    invoice: int = 0
    ledger: int = 0
    told: int = 0
    """Billed by calls that told their usage, in nano-dollars."""
    read: int = 0
    """Booked for the same calls."""
    lost: int = 0
    doubled: int = 0
    purposes: Counter[str] = field(default_factory=Counter)
    estimates: dict[str, Estimates] = field(default_factory=lambda: defaultdict(Estimates))
    wrong: list[str] = field(default_factory=list)


async def rows_of(url: str, headers: Mapping[str, str] = MappingProxyType({})) -> list[Booked]:
    """The ledger as `GET /v1/usage?format=csv` gives it."""
    asked = f"{url}/v1/usage?format=csv"
    async with aiohttp.ClientSession() as session, session.get(asked, headers=headers) as response:
        return [Booked.of(row) for row in csv.DictReader(io.StringIO(await response.text()))]


async def totals_of(url: str) -> tuple[int, int]:
    """Nano-dollars: what `GET /v1/usage` says in all, and what the metrics say."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/v1/usage") as response:
            total = (await response.json())["total"]["cost_usd"]
        async with session.get(f"{url}/metrics") as response:
            costs = _COST.findall(await response.text())
    return int(Decimal(total) * _NANO), sum(round(Decimal(cost) * _NANO) for cost in costs)


def compare(lines: Sequence[Line], rows: Sequence[Booked], told: Iterable[Told]) -> Account:
    """Every line of the invoice has its row in the ledger, and every row its line."""
    account = Account(len(lines), len(rows))
    told_of = {t.case.name: t for t in told}
    account.doubled += sum(count - 1 for count in Counter(row.id for row in rows).values())
    lines_of: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        lines_of[line.case].append(line)
    rows_of_case: dict[str, list[Booked]] = defaultdict(list)
    for row in rows:
        if row.provider == "cache":
            account.kept += 1
            if row.cost != 0:
                account.wrong.append(f"a kept answer cost {row.cost}")
        else:
            rows_of_case[row.case].append(row)
    for case in lines_of.keys() | rows_of_case.keys():
        ordered = sorted(rows_of_case[case], key=lambda row: row.number)
        _compare_case(account, told_of[case], lines_of[case], ordered)
    return account


def _compare_case(account: Account, told: Told, lines: Sequence[Line], rows: Sequence[Booked]) -> None:
    seen = paired(lines, rows)
    account.replayed += len(lines) - len(seen)
    account.lost += max(0, len(seen) - len(rows))
    lines = seen
    unmet = rows[len(lines) :]  # calls that were given up before they reached the provider
    account.unmet += len(unmet)
    account.unmet_booked += sum(row.cost or 0 for row in unmet)
    account.doubled += sum(1 for row in unmet if row.reported or (told.whole and row.cost))
    for line, row in zip(lines, rows, strict=False):
        _compare_call(account, told, line, row)
    booked = sum(row.cost or 0 for row in rows if row.purpose != "route")  # asked after the answer was out
    if told.whole and told.cost_usd is not None and told.cost_usd != "unpriced":
        said = _nano(told.cost_usd)
        if said != booked:
            account.wrong.append(f"{told.case.kind}: told {said}, booked {booked}")


def paired(lines: Sequence[Line], rows: Sequence[Booked]) -> list[Line]:
    """The lines as the rows of the case go: two models that are asked at once may arrive in any order.

    A call that was dropped on a kept connection and made again by the transport is left out: it is the same attempt.
    """
    left = list(lines)
    for line in lines:
        if line.how == "drop" and len(left) > len(rows):
            left.remove(line)
    found = []
    for row in rows:
        match = next((line for line in left if line.model == row.model), left[0] if left else None)
        if match is not None:
            left.remove(match)
            found.append(match)
    return found + left


def _compare_call(account: Account, told: Told, line: Line, row: Booked) -> None:
    kind = told.case.kind
    account.purposes[row.purpose] += 1
    if row.status in ("open", "unsettled"):
        account.wrong.append(f"{kind}: a row is {row.status}")
    elif told.case.path == "audio/speech":
        account.unpriced += 1
        if row.cost is not None:
            account.wrong.append(f"{kind}: unknown, but booked as {row.cost}")
    elif row.model != line.model or row.cost is None:
        account.wrong.append(f"{kind}: {row.model} booked for {line.model} at {row.cost}")
    else:
        account.invoice += line.nanousd
        account.ledger += row.cost
        _compare_cost(account, told, line, row, row.cost)


def _compare_cost(account: Account, told: Told, line: Line, row: Booked, cost: int) -> None:
    kind = told.case.kind
    if line.free and line.how == "refuse":
        account.free += 1
        if cost:
            account.wrong.append(f"{kind}: a refusal is booked as {cost}")
    elif row.reported:
        account.exact += 1
        account.told += line.nanousd
        account.read += cost
        if cost != line.nanousd:
            account.wrong.append(f"{kind}: billed {line.nanousd}, booked {cost}")
    else:
        found = account.estimates[kind]
        found.calls += 1
        found.billed += line.nanousd
        found.booked += cost
        found.prompt_off.append(row.input_tokens - line.prompt)
        found.output_off.append(row.output_tokens - line.output)
        if line.told and told.whole:
            account.wrong.append(f"{kind}: its usage was told and not read")
