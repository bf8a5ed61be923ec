"""How many more requests two workers serve than one, on a machine of two cores.

    .venv/bin/python benchmarks/workers.py [--rounds 3] [--seconds 4]

The load and the upstream run on the same two cores and are not pinned, so that two workers cannot reach twice as much:
what they may take is what those two leave. Beside the ratio of requests, the ratio of CPU per request is told: what
sharing a ledger and limits costs. Both workers and the load must find idle cores, else all figures are of the others.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.proxy import CLIENT_KEY, CONFIG, HARNESS, ROOT, missing, reply_schema

PORT = 27095
PATH = "/r/order/v1/chat/completions"


def cpu_s(process: int) -> float:
    """On-CPU seconds of a process, its threads and its children."""
    total = 0.0
    for thread in Path(f"/proc/{process}/task").iterdir():
        total += int((thread / "schedstat").read_text().split()[0]) / 1e9
        total += sum(cpu_s(int(child)) for child in (thread / "children").read_text().split())
    return total


def wait_for(url: str) -> None:
    """Until something answers at `url`, at most 20 s."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing answers at {url}")


def load(seconds: int, environ: dict[str, str]) -> int:
    """Requests answered in `seconds`."""
    command = ["wrk", "-t1", "-c64", f"-d{seconds}s", "--timeout", "30s", "-s", str(HARNESS / "post.lua")]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{PORT}{PATH}"], env=environ, capture_output=True, text=True, check=True
    )
    result = next(line for line in done.stdout.splitlines() if line.startswith("RESULT")).split()
    if int(result[3]) + int(result[4]):
        sys.exit(f"requests failed: {result}")
    return int(result[1])


def measure(workers: int, seconds: int, folder: Path) -> tuple[float, float]:
    """Requests per second, and CPU microseconds per request, with so many workers."""
    config = folder / f"bench-{workers}.yaml"
    server = {"server": {"workers": workers}, "store": f"sqlite:///{folder}/bench-{workers}.db"}
    config.write_text(json.dumps(CONFIG | server))
    (folder / "order.json").write_text(json.dumps(reply_schema()))
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(config), "--port", str(PORT)]
    environ = os.environ | {"WRK_BODY": str(HARNESS / "body.json"), "WRK_KEY": CLIENT_KEY}
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{PORT}/healthz")
        load(1, environ)
        before = cpu_s(process.pid)
        answered = load(seconds, environ)
        return answered / seconds, (cpu_s(process.pid) - before) * 1e6 / answered
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    chosen = parser.parse_args()
    if (lacking := missing()) is not None:
        print(f"NOT MEASURED: {lacking}")
        return
    mock = subprocess.Popen([sys.executable, str(HARNESS / "mock.py"), "--port", "27001"])
    try:
        wait_for("http://127.0.0.1:27001/v1/models")
        with tempfile.TemporaryDirectory() as made:
            pairs = [[measure(n, chosen.seconds, Path(made)) for n in (1, 2)] for _ in range(chosen.rounds)]
    finally:
        mock.terminate()
        mock.wait(10)
    print("| figure (a schema on the route) | one worker | two workers | ratio |\n|---|--:|--:|--:|")
    for place, name in enumerate(("requests per second", "CPU per request, us")):
        one, two = (statistics.median(pair[n][place] for pair in pairs) for n in (0, 1))
        ratio = statistics.median(pair[1][place] / pair[0][place] for pair in pairs)
        print(f"| {name} | {one:.0f} | {two:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
