"""The ledger beside the invoice of a provider that keeps its own.

    .venv/bin/python benchmarks/invoice.py [--parts ledger,kills,overhead] [--requests 10000] [--kills 20] [--seed 1]

`ledger` asks a running proxy 10,000 times, with failures, retries, re-asks, escalations and clients that leave, and
compares the provider's own count with the ledger, call by call. Calls whose usage the provider told must agree to
the nano-dollar; the others are estimated, marked so, and listed by kind with what they are off. `kills` ends the
proxy with SIGKILL under load and starts it again, over and over. `overhead` is the CPU that accounting adds.
"""

import argparse
import asyncio
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import aiohttp

from benchmarks.billing.cases import CONFIG, Maker, Told, ask, play
from benchmarks.billing.compare import Account, Booked, compare, paired, rows_of, totals_of
from benchmarks.billing.upstream import Biller, Line

ROOT = Path(__file__).resolve().parents[1]
_READY = re.compile(r"http://127\.0\.0\.1:\d+")


class Proxy:
    """`python -m proxy serve` as a process."""

    def __init__(self, config: Path) -> None:
        command = [sys.executable, "-m", "proxy", "serve", "--config", str(config), "--port", "0"]
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for said in self.process.stderr:
            if (found := _READY.search(said)) is not None:
                self.url = found.group()
                return
        raise RuntimeError("the proxy did not start")

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send the signal and wait for the end."""
        self.process.send_signal(number)
        self.process.wait(60)
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def configured(upstream: str) -> Iterator[Path]:
    """A configuration in front of `upstream`, with its ledger in a folder that goes away."""
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "tailrace.yaml"
        store = f"sqlite:///{made}/ledger.db"
        path.write_text(CONFIG.format(url=upstream, store=store, server="", more=""))
        yield path


def show(account: Account) -> None:
    """The account as text."""
    print(f"calls the provider saw {account.calls}, rows in the ledger {account.rows}")
    print(f"lost {account.lost}, doubled {account.doubled}, wrong {len(account.wrong)}")
    print(f"usage told: {account.exact} calls, invoice {account.told}, ledger {account.read} nano-USD")
    print(
        f"refused: {account.free}; without a known cost: {account.unpriced}; kept answers: {account.kept}; ",
        end="",
    )
    print(f"asked again by the transport: {account.replayed}")
    print(f"client left before the provider began: {account.unmet}, booked {account.unmet_booked} nano-USD")
    print("by purpose: " + ", ".join(f"{name} {count}" for name, count in account.purposes.most_common()))
    print(f"everything: invoice {account.invoice}, ledger {account.ledger} nano-USD, ", end="")
    print(f"{account.ledger / max(1, account.invoice):.4%} booked")
    print(
        "\nusage not told, estimated       calls     billed     booked  prompt off  answer off (mean, worst)"
    )
    for kind, e in sorted(account.estimates.items()):
        off = f"{statistics.mean(e.prompt_off):7.2f} {max(e.prompt_off, key=abs):5d}"
        off += f"   {statistics.mean(e.output_off):7.2f} {max(e.output_off, key=abs):5d}"
        print(f"  {kind:28} {e.calls:6d} {e.billed:10d} {e.booked:10d}  {off}")
    for text in account.wrong[:20]:
        print(f"WRONG: {text}")


async def ledger(requests: int, seed: int) -> bool:
    """10,000 requests; whether everything agreed."""
    biller = Biller()
    with configured(await biller.start()) as config:
        proxy = Proxy(config)
        try:
            maker = Maker(random.Random(seed))
            began = time.monotonic()
            told = await play(biller, proxy.url, (maker.case() for _ in range(requests)))
            seconds = time.monotonic() - began
            await asyncio.sleep(0.5)
            account = compare(biller.lines, await rows_of(proxy.url), told)
            total, metric = await totals_of(proxy.url)
        finally:
            proxy.end()
            await biller.stop()
    print(f"{requests} requests in {seconds:.0f} s (seed {seed})")
    show(account)
    print(f"GET /v1/usage {total}, tailrace_cost_usd_total {metric} nano-USD")
    return (
        not account.wrong
        and account.lost == account.doubled == 0
        and total == metric == account.ledger + account.unmet_booked
    )


async def kills(count: int, seed: int) -> bool:
    """`count` times SIGKILL under load; whether every call is in the ledger once."""
    biller, dice = Biller(), random.Random(seed)
    told: list[Told] = []
    lost = doubled = wrong = unsettled = unpaid = 0
    with configured(await biller.start()) as config:
        maker = Maker(dice, pause_s=0.005)
        for _ in range(count):
            proxy = Proxy(config)
            load = asyncio.gather(*(_until_dead(biller, proxy, maker, told) for _ in range(48)))
            await asyncio.sleep(dice.uniform(0.3, 1.5))
            proxy.process.kill()
            await load
            proxy.end()
        proxy = Proxy(config)
        rows = await rows_of(proxy.url)
        proxy.end()
    await biller.stop()
    by_case = _by_case(rows)
    acknowledged = [t for t in told if t.whole and t.status == 200]
    for one in acknowledged:
        every = [row for row in by_case.get(one.case.name, []) if row.exchange == one.exchange]
        mine = [row for row in every if row.purpose != "route"]  # a shadow is asked after the answer was out
        lost += not mine
        settled = [row for row in mine if row.status not in ("open", "unsettled")]
        wrong += len(settled) < len(mine)
        if one.cost_usd not in (None, "unpriced") and settled:
            wrong += sum(row.cost or 0 for row in settled) != round(float(one.cost_usd) * 1e9)
    lines_of: dict[str, list[Line]] = {}
    for line in biller.lines:
        lines_of.setdefault(line.case, []).append(line)
    for case, lines in lines_of.items():
        mine = [
            row for row in sorted(by_case.get(case, []), key=lambda r: r.number) if row.provider != "cache"
        ]
        seen = paired(lines, mine)
        lost += max(0, len(seen) - len(mine))
        doubled += len({row.id for row in mine}) < len(mine)
        for line, row in zip(seen, mine, strict=False):
            if row.status == "unsettled":
                unsettled += 1
                unpaid += row.reserved is None or row.reserved < line.nanousd
    print(
        f"{count} x SIGKILL: {len(told)} requests, {len(acknowledged)} acknowledged, {len(biller.lines)} calls"
    )
    print(f"lost {lost}, doubled {doubled}, acknowledged but otherwise booked {wrong}")
    print(f"unsettled {unsettled}, of which reserved less than was billed {unpaid}")
    return lost == doubled == wrong == unpaid == 0


async def _until_dead(biller: Biller, proxy: Proxy, maker: Maker, told: list[Told]) -> None:
    async with aiohttp.ClientSession() as session:
        while proxy.process.poll() is None:
            case = maker.case()
            biller.plays[case.name] = case.plays
            told.append(await ask(session, proxy.url, case))


def _by_case(rows: Sequence[Booked]) -> dict[str, list[Booked]]:
    found: dict[str, list[Booked]] = {}
    for row in rows:
        found.setdefault(row.case, []).append(row)
    return found


async def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default="ledger,kills")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    fine = True
    for part in chosen.parts.split(","):
        print(f"-- {part}")
        if part == "ledger":
            fine = await ledger(chosen.requests, chosen.seed) and fine
        elif part == "kills":
            fine = await kills(chosen.kills, chosen.seed) and fine
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
