"""What one of two upstreams costs the clients while it fails, on real sockets: answers, calls, latency.

    .venv/bin/python benchmarks/faults.py [--requests 1000] [--at-once 16] [--routes deployments,ladder,hedged]

The upstreams, faults and routes are those of tests/proxy/test_resilience.py: time-outs of the faulty one are 0.4 s, its
breaker opens for 0.5 s, the hedge is made after 60 ms. "Onset" are the first hundred requests after the fault begins.
"""

import argparse
import asyncio
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.proxy.test_resilience import FAULTS, load, served, until_closed

ROUTES = "deployments,ladder,hedged"


def quantile_ms(seconds, q):
    return 1000 * sorted(seconds)[math.ceil(q * len(seconds)) - 1]


async def play(route, fault, requests, at_once):
    async with served() as app:
        await load(app, route, 100, at_once=at_once)
        await app.faulty.turn(fault)
        first, seconds, calls = await load(app, route, 100, at_once=at_once)
        told = f"{route:12} {fault:14} {first:4}/100 {calls:5} {1000 * max(seconds):6.0f}"
        answered, seconds, calls = await load(app, route, requests, at_once=at_once)
        told += f" | {answered:5}/{requests} {calls / requests:7.3f}"
        told += "".join(f" {quantile_ms(seconds, q):6.0f}" for q in (0.5, 0.99, 1.0))
        told += f" | {'open' if app.services.health._ill else '-':6}"
        await app.faulty.turn("well")
        print(told, await until_closed(app, route), flush=True)


async def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--routes", default=ROUTES)
    args = parser.parse_args()
    print(
        "route        fault          onset  calls max ms | answered  calls/1  p50 ms    p99    max | breaker, failed after it was well"
    )
    for route in args.routes.split(","):
        for fault in FAULTS:
            await play(route, fault, args.requests, args.at_once)


if __name__ == "__main__":
    asyncio.run(main())
