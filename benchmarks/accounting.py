"""What accounting adds to a request, in CPU time of a running proxy.

    .venv/bin/python benchmarks/accounting.py [--rounds 150] [--requests 256] [--interpreted]

One proxy in a process of its own, compiled from a copy of the sources in which accounting can be switched off (this
takes a minute and a half; `--interpreted` goes without), gets the same requests over and over, and is told before each round how it is to
account for them: `sqlite`, as always; `silent`, into a ledger that takes everything and keeps nothing; `none`,
neither reserved nor priced nor booked. The rounds are short and their order is drawn, so that all three share
whatever else the machine does. The event loop's thread is measured round by round; the ledger's own threads write
later, and their time is shared out over all requests that were booked. It takes Linux, for the threads' CPU time.
"""

import argparse
import asyncio
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import cast

import uvloop

ROOT = Path(__file__).parents[1]
MODES = ("sqlite", "silent", "none")
CONNECTIONS = 16
CONFIG = """
store: "memory:"
providers: {{up: {{base_url: "http://127.0.0.1:{port}/v1", api_key: sk-up}}}}
models: {{mini: {{provider: up, name: up-mini, price: {{input: 0.15, output: 0.6, cached_input: 0.075}}}}}}
routes: {{default: {{ladder: [mini]}}}}
keys: [{{name: team, key: sk-team}}]
"""
_ANSWER = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"up-mini","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Good morning to you."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":24,"completion_tokens":5,"total_tokens":29}}'
)
_REPLY = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_ANSWER)
    + _ANSWER
)
_BODY = (
    b'{"model":"mini","messages":[{"role":"user","content":"Say good morning to me, please, in one line."}]}'
)
_ASKED = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-team\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_BODY)
) + _BODY


_SWITCHES = (
    ("\n\nclass Live", '\n\nMODE = ["sqlite"]\n\n\nclass Live'),
    (
        "        controls = self._ask.controls\n        self._services.store.begin(",
        "        if MODE[0] == 'none':\n            return\n{}",
    ),
    ("reserved = self._holds.reserved(", "reserved = None if MODE[0] == 'none' else self._holds.reserved("),
    (
        "attempt = self._booked(attempt, card)",
        "attempt = attempt if MODE[0] == 'none' else self._booked(attempt, card)",
    ),
)
"""Where accounting begins in proxy/live.py, and how it is gone round."""


def switchable(folder: Path, *, compiled: bool) -> None:
    """A copy of the sources whose `proxy.live.MODE` says how a call is accounted for. Raises ValueError."""
    for package in ("proxy", "policies", "schemas"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "proxy" / "live.py"
    text = path.read_text()
    for before, after in _SWITCHES:
        if text.count(before) != 1:
            raise ValueError(f"proxy/live.py has changed: {before.strip()!r} is not there once")
        text = text.replace(before, after.replace("{}", before))
    path.write_text(text)
    if compiled:
        (folder / "tools").mkdir()
        shutil.copy(ROOT / "tools" / "compile.py", folder / "tools")
        build = [sys.executable, folder / "tools" / "compile.py", "--must", "--out", folder / "native"]
        subprocess.run(build, check=True)


async def serve(port: int, folder: Path) -> None:
    """Be the proxy until the end of the input; each line of it is a mode."""
    sys.path.insert(0, str(folder))
    from proxy import native  # noqa: PLC0415  the copy's

    native.use(folder / "native", folder)
    from proxy import live  # noqa: PLC0415
    from proxy.app import App  # noqa: PLC0415
    from proxy.commands.serve import settle  # noqa: PLC0415
    from proxy.config import loads  # noqa: PLC0415
    from proxy.stores.base import Attempt, Outcome, Store  # noqa: PLC0415
    from proxy.stores.sqlite import SqliteStore  # noqa: PLC0415

    mode: list[str] = vars(live)["MODE"]

    class Silent:
        """A ledger that takes everything and keeps nothing."""

        def begin(self, attempt: Attempt) -> None:
            pass

        def settle(self, attempt_id: str, outcome: Outcome) -> None:
            pass

    store, silent = SqliteStore(folder / "ledger.db"), Silent()
    app = App(
        loads(CONFIG.format(port=port), name="bench", environ={}, base_dir="."), environ={}, store=store
    )
    await app.start()
    _, bound = await app.listen("127.0.0.1", 0)
    print(bound, flush=True)
    settle()
    lines = asyncio.StreamReader()  # no thread of ours may count as the ledger's
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while told := (await lines.readline()).decode().strip():
        mode[0] = told
        app.services.store = cast("Store", silent) if told == "silent" else store
        print(told, flush=True)
    app.services.store = store
    await app.drain()
    await app.close()


class _Upstream(asyncio.Protocol):
    """Answers every request, which comes in one or two pieces, with the same reply."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._held = b""

    def data_received(self, data: bytes) -> None:
        self._held += data
        if self._held.endswith(b"}"):
            self._held = b""
            self._transport.write(_REPLY)


async def ask(port: int, requests: int) -> None:
    """Make the requests over kept connections."""

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(requests // CONNECTIONS):
            writer.write(_ASKED)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


def cpu_ns(pid: int) -> tuple[int, int]:
    """CPU time of a process: of its event loop's thread, and of its ledger's writer."""
    times = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        times[task.name] = int((task / "schedstat").read_text().split()[0])
    return times.pop(str(pid)), sum(times.values())


async def measure(rounds: int, requests: int, *, compiled: bool) -> tuple[dict[str, list[float]], float]:
    """CPU-us per request of the loop's thread in each mode, round by round; and of the other threads when booked."""
    loop = asyncio.get_running_loop()
    upstream = await loop.create_server(_Upstream, "127.0.0.1", 0)
    port = upstream.sockets[0].getsockname()[1]
    found: dict[str, list[float]] = {mode: [] for mode in MODES}
    requests = requests // CONNECTIONS * CONNECTIONS
    with tempfile.TemporaryDirectory() as folder:
        await asyncio.to_thread(switchable, Path(folder), compiled=compiled)
        command = [sys.executable, __file__, "--serve", folder, "--port", str(port)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220  nothing else goes on yet
        assert process.stdout is not None
        assert process.stdin is not None
        at = int(await asyncio.to_thread(process.stdout.readline))
        others = 0
        for turn in range(-1, rounds):
            for mode in random.sample(MODES, len(MODES)):
                print(mode, file=process.stdin, flush=True)
                process.stdout.readline()
                before = cpu_ns(process.pid)
                await ask(at, requests)
                if turn >= 0:
                    found[mode].append((cpu_ns(process.pid)[0] - before[0]) / requests / 1000)
            if turn < 0:
                others = cpu_ns(process.pid)[1]
        await asyncio.sleep(1)
        others = cpu_ns(process.pid)[1] - others
        process.communicate("\n")
    upstream.close()
    return found, others / (rounds * requests) / 1000


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--interpreted", action="store_true", help="the sources as they are, not compiled")
    parser.add_argument("--serve", metavar="FOLDER", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        await serve(chosen.port, chosen.serve)
        return
    found, writer = await measure(chosen.rounds, chosen.requests, compiled=not chosen.interpreted)
    for mode in MODES:
        quarter, half, _ = statistics.quantiles(found[mode], n=4)
        print(f"{mode:7} loop {half:6.1f} CPU-us per request, a quarter of the rounds below {quarter:.1f}")
    for mode in MODES[:2]:
        added = [a - b for a, b in zip(found[mode], found["none"], strict=True)]
        low, median, high = statistics.quantiles(added, n=4)
        print(f"{mode:7} adds {median:5.1f} CPU-us to the loop (quartiles {low:.1f}..{high:.1f})")
    print(f"the ledger's threads take {writer:.1f} CPU-us per booked request")


if __name__ == "__main__":
    uvloop.run(main())
