"""What a request through the proxy costs, beside a minimal aiohttp pass-through in the same minutes.

    .venv/bin/python benchmarks/proxy.py [--full] [--rounds 3] [--phases start,sat,lat,stream,many,leak] [--streams 1000]

It runs the shared harness (../shared/harness/perf, with Debian's wrk) against `python -m proxy serve`: key check, prices,
metrics and the ledger in SQLite are on, as they always are. `--full` asks a route with a schema, so that every whole
reply is validated, too. The proxy has one core, its upstream and the load the other; each round measures the
reference (`aio-min`) and then us. Trust the ratio of CPU per request; all else depends on how busy the machine is.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HARNESS = ROOT.parent / "shared" / "harness" / "perf"
PORT = 27090
UPSTREAM = "http://127.0.0.1:27001/v1"
CLIENT_KEY = "sk-test"
"""The harness's own port and key."""
CONFIG = {
    "providers": {"mock": {"base_url": UPSTREAM, "api_key": "sk-upstream"}},
    "models": {
        "mock": {"provider": "mock", "price": {"input": "0.15", "output": "0.6"}},
        "mock-*": {"provider": "mock", "price": {"input": "0.15", "output": "0.6"}},
    },
    "schemas": {"order": "order.json"},
    "routes": {"default": {"ladder": ["mock"]}, "order": {"ladder": ["mock"], "schema": "order"}},
    "keys": [{"name": "bench", "key": CLIENT_KEY}],
}
STREAMED = frozenset({"stream", "many"})
"""Phases whose replies are no JSON: with `--full` they too ask the route without a schema."""


def missing() -> str | None:
    """What this measurement lacks here, and how to get it."""
    if not HARNESS.is_dir():
        return f"the harness is not here: {HARNESS} (the folder shared/ beside this checkout)"
    for tool, package in (("wrk", "wrk"), ("taskset", "util-linux")):
        if shutil.which(tool) is None:
            return f"{tool} is not installed: apt-get install {package}"
    if len(os.sched_getaffinity(0)) < 2:
        return "it takes two cores: one for the proxy, one for the load"
    return None


def reply_schema() -> Any:
    """The schema of the harness's replies, as the harness has it."""
    spec = importlib.util.spec_from_file_location("mock", HARNESS / "mock.py")
    assert spec is not None
    assert spec.loader is not None
    mock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mock)
    return mock.SCHEMA


def target(folder: Path, path: str) -> dict[str, Any]:
    """How the harness starts and asks us. A JSON file is a YAML file."""
    config = folder / "bench.yaml"
    config.write_text(json.dumps(CONFIG | {"store": f"sqlite:///{folder}/bench.db"}))
    (folder / "order.json").write_text(json.dumps(reply_schema()))
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(config), "--port", str(PORT)]
    return {"cmd": command, "port": PORT, "health": "/healthz", "cwd": str(ROOT), "path": path}


def run(phases: list[str], path: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """One run of the harness over `phases`; its result for us."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "targets.json").write_text(json.dumps({"tailrace": target(folder, path)}))
        command = [sys.executable, str(HARNESS / "bench.py"), "all", "--targets", "tailrace"]
        command += ["--phases", ",".join(phases), "--reps", str(chosen.rounds), "--many", str(chosen.streams)]
        command += ["--out", str(folder / "result.json")]
        environ = os.environ | {"BENCH_TARGETS": str(folder / "targets.json")}
        subprocess.run(command, env=environ, check=True, timeout=1200)
        found: dict[str, Any] = json.loads((folder / "result.json").read_text())["R"]["tailrace"]
    if "error" in found or "exc" in found:
        sys.exit(f"the measurement failed: {found.get('error') or found.get('exc')}")
    return found


def rows(found: dict[str, Any], streams: int) -> list[tuple[str, str]]:
    """The figures that were measured, named as in docs/performance.md."""
    told: list[tuple[str, str]] = []
    if "start_cpu_s" in found:
        told.append(("start, CPU seconds", f"{found['start_cpu_s']:.2f}"))
        told.append(("memory when idle, MiB", f"{found['rss_idle']:.0f}"))
    if sat := found.get("sat"):
        told.append(("CPU per request, us (aio-min)", f"{sat['cpu_us']:.0f} ({found['ref_cpu_us']:.0f})"))
        told.append(("CPU per request, times aio-min", f"{found['ratio_cpu']:.2f}"))
        told.append(("requests per second on one core", f"{sat['rps']:.0f}"))
        told.append(("failed requests", f"{sat['bad']:.0f}"))
    for name in ("lat10", "lat100"):
        if lat := found.get(name):
            added = "/".join(f"{lat[f'add_{q}_ms']:.2f}" for q in ("p50", "p99"))
            told.append((f"added latency at {name[3:]} concurrent, p50/p99 ms", added))
    if stream := found.get("stream"):
        cost, reference = stream["cpu_us_chunk"], stream["ref_cpu_us_chunk"]
        told.append(("CPU per event of a stream, us (aio-min)", f"{cost:.1f} ({reference:.1f})"))
        told.append(("CPU per event, times aio-min", f"{cost / reference:.2f}"))
    if many := found.get(f"many{streams}"):
        told.append((f"streams held at once, of {streams}", f"{many['peak_live']} ({many['done']} complete)"))
        told.append(("memory per stream, KiB", f"{many['kib_per_stream']:.1f}"))
    if leak := found.get("leak"):
        told.append(("memory growth per 1000 requests, KiB", f"{leak['kib_per_1k']:.1f} (of {leak['n']})"))
    return told


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="a schema on the route, whole replies validated")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of measurements (default 3)")
    parser.add_argument("--phases", default="start,sat,lat,stream,many,leak")
    parser.add_argument("--streams", type=int, default=1000, help="held at once in the phase `many`")
    chosen = parser.parse_args()
    if (lacking := missing()) is not None:
        print(f"NOT MEASURED: {lacking}")
        return
    phases = chosen.phases.split(",")
    if chosen.full:
        whole = [p for p in phases if p not in STREAMED]
        streamed = [p for p in phases if p in STREAMED]
        found = run(whole, "/r/order/v1/chat/completions", chosen) if whole else {}
        found = (run(streamed, "/v1/chat/completions", chosen) if streamed else {}) | found
    else:
        found = run(phases, "/v1/chat/completions", chosen)
    print(f"\n| figure{' (a schema on the route)' if chosen.full else ''} | measured |\n|---|--:|")
    for name, value in rows(found, chosen.streams):
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
