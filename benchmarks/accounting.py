"""What accounting adds to a request, in CPU time of a running proxy.

    .venv/bin/python benchmarks/accounting.py [--rounds 150] [--requests 256]

One proxy in a process of its own gets the same requests over and over, and is told before each round how it is to
account for them: `sqlite`, as always; `silent`, into a ledger that takes everything and keeps nothing; `none`,
neither reserved nor priced nor booked. The rounds are short and their order is drawn, so that all three share
whatever else the machine does. The event loop's thread is measured round by round; the ledger's own threads write
later, and their time is shared out over all requests that were booked. It takes Linux, for the threads' CPU time.
"""

import argparse
import asyncio
import gc
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop

from policies.ladder import Attempt
from proxy import live
from proxy.app import App
from proxy.config import loads
from proxy.handlers import completions
from proxy.stores.base import Attempt as Intent
from proxy.stores.base import Outcome
from proxy.stores.sqlite import SqliteStore

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


class Switched(SqliteStore):
    """A ledger that can be told to keep nothing."""

    mode = "sqlite"

    def begin(self, attempt: Intent) -> None:
        if self.mode == "sqlite":
            super().begin(attempt)

    def settle(self, attempt_id: str, outcome: Outcome) -> None:
        if self.mode == "sqlite":
            super().settle(attempt_id, outcome)


class _Nothing:
    """Holds nothing and knows no worst case."""

    rules = None

    def reserved(self, *_: object) -> None:
        return None

    def release(self, *_: object) -> None:
        return None


class _Bare(live.Live):
    """Calls without accounting; health and metrics go on."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._holds: Any = _Nothing()

    def _begin(self, *_: object) -> None:
        pass

    def account(self, attempt: Attempt) -> Attempt:
        card = self._admission.ended(attempt)
        self._services.telemetry.attempt_ended(
            self._id,
            self._selected.route.name,
            card,
            self._ask.endpoint,
            attempt,
            self._waited_s(attempt),
        )
        return attempt


async def serve(port: int, folder: str) -> None:
    """Be the proxy until the end of the input; each line of it is a mode."""
    store = Switched(Path(folder) / "ledger.db")

    def made(*args: Any, **named: Any) -> live.Live:
        return (_Bare if store.mode == "none" else live.Live)(*args, **named)

    completions.Live = made  # type: ignore[misc,assignment]
    app = App(
        loads(CONFIG.format(port=port), name="bench", environ={}, base_dir="."), environ={}, store=store
    )
    await app.start()
    _, bound = await app.listen("127.0.0.1", 0)
    print(bound, flush=True)
    gc.collect()
    gc.freeze()
    while mode := (await asyncio.to_thread(sys.stdin.readline)).strip():
        store.mode = mode
        print(mode, flush=True)
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


async def measure(rounds: int, requests: int) -> tuple[dict[str, list[float]], float]:
    """CPU-us per request of the loop's thread in each mode, round by round; and of the other threads when booked."""
    loop = asyncio.get_running_loop()
    upstream = await loop.create_server(_Upstream, "127.0.0.1", 0)
    port = upstream.sockets[0].getsockname()[1]
    found: dict[str, list[float]] = {mode: [] for mode in MODES}
    requests = requests // CONNECTIONS * CONNECTIONS
    with tempfile.TemporaryDirectory() as folder:
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
    parser.add_argument("--serve", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        await serve(chosen.port, chosen.serve)
        return
    found, writer = await measure(chosen.rounds, chosen.requests)
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
