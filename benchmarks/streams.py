"""Many streams held at once through the proxy, and what of its memory comes back.

    nice .venv/bin/python benchmarks/streams.py [--streams 1000] [--waves 3] [--events 10] [--interval 1.0]

A wave opens all streams within two seconds; each says `--events` events, one in `--interval` seconds, so that
for some seconds all are open. `KiB per stream` is what a wave adds to the memory before it: the first wave shows
what a stream takes, the later ones that its memory is used again. The proxy runs as users run it (`python -m proxy serve`, key checked, calls priced,
ledger in SQLite); its upstream and the clients are in other processes. RSS is that of the proxy's process, in MiB.
"""

import argparse
import asyncio
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEY = "sk-bench"
BODY = b'{"model":"bench","stream":true,"messages":[{"role":"user","content":"' + b"word " * 60 + b'"}]}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
USAGE = '{"id":"c","object":"chat.completion.chunk","created":1,"model":"up","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":9,"total_tokens":14}}'
"""Providers send it when they are asked; without it the proxy counts by itself, and loads its vocabulary for that."""
EVENT = '{{"id":"c","object":"chat.completion.chunk","created":1,"model":"up","choices":[{{"index":0,"delta":{{"content":" word-{}"}},"finish_reason":{}}}]}}'
CONFIG = """\
store: sqlite:///{folder}/bench.db
providers:
  up: {{base_url: "http://127.0.0.1:{port}/v1"}}
models:
  bench: {{provider: up, price: {{input: 1, output: 2}}}}
routes:
  default: {{ladder: [bench]}}
keys:
  - {{name: bench, key: {key}}}
"""


def sse(data: str) -> bytes:
    """One event as one HTTP chunk."""
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


async def upstream(says: Connection, events: int, interval_s: float) -> None:
    """A model that writes one event in `interval_s`; tells its port and serves until it is killed."""
    written = [sse(EVENT.format(i, "null")) for i in range(events)] + [sse(EVENT.format("end", '"stop"'))]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                writer.write(HEAD)
                for event in written:
                    writer.write(event)
                    await writer.drain()
                    await asyncio.sleep(interval_s)
                writer.write(sse(USAGE) + sse("[DONE]") + b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    says.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def run_upstream(says: Connection, events: int, interval_s: float) -> None:
    asyncio.run(upstream(says, events, interval_s))


@contextmanager
def proxy(events: int, interval_s: float) -> Iterator[tuple[int, int]]:
    """The proxy in front of an upstream, each a process of its own: its process id and its port."""
    ours, theirs = multiprocessing.Pipe()
    model = multiprocessing.get_context("spawn").Process(
        target=run_upstream, args=(theirs, events, interval_s), daemon=True
    )
    model.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder, "bench.yaml")
            config.write_text(CONFIG.format(folder=folder, port=ours.recv(), key=KEY))
            command = [sys.executable, "-m", "proxy", "serve", "--config", str(config), "--port", "0"]
            process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
            try:
                assert process.stderr is not None
                line = next((line for line in process.stderr if "listens at" in line), "")
                assert line, "the proxy did not start"
                yield process.pid, int(line.partition("127.0.0.1:")[2].partition("/")[0])
            finally:
                process.terminate()
                process.wait(30)
                process.stderr.close()
    finally:
        model.kill()
        model.join()


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Wave:
    """What one wave of streams came to. `held`: the most that were open at once, each with its first event read."""

    streams: int
    events: int
    done: int = 0
    held: int = 0
    open: int = 0
    wrong: list[str] = field(default_factory=list)
    before_mib: float = 0.0
    peak_mib: float = 0.0
    after_mib: float = 0.0
    cpu_us_per_event: float = 0.0

    @property
    def kib_per_stream(self) -> float:
        return (self.peak_mib - self.before_mib) * 1024 / self.streams


async def wave(pid: int, port: int, *, streams: int, events: int, ramp_s: float, settle_s: float) -> Wave:
    """Open `streams` streams, read them to their ends, and look at the memory before, meanwhile and after."""
    found = Wave(streams, events, before_mib=rss_mib(pid))
    used = cpu_s(pid)
    reading = asyncio.gather(*(read_stream(port, found, i / streams * ramp_s) for i in range(streams)))
    while not reading.done():
        found.peak_mib = max(found.peak_mib, rss_mib(pid))
        await asyncio.sleep(0.05)
    await reading
    found.cpu_us_per_event = (cpu_s(pid) - used) * 1e6 / (streams * (events + 1))
    await asyncio.sleep(settle_s)
    found.after_mib = rss_mib(pid)
    return found


async def read_stream(port: int, found: Wave, wait_s: float) -> None:
    """Read one stream as a client; counts it as done when every event came, in order, and then `[DONE]`."""
    await asyncio.sleep(wait_s)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    read = b""
    try:
        writer.write(head.encode() + BODY)
        async with asyncio.timeout(120):
            while b"data: " not in read:
                read += await _some(reader)
            found.open += 1
            found.held = max(found.held, found.open)
            while b"0\r\n\r\n" not in read[-16:]:
                read += await _some(reader)
        found.open -= 1
    except (OSError, TimeoutError) as error:
        found.wrong.append(f"{type(error).__name__}: {read[:200]!r}")
    finally:
        writer.close()
    places = [read.find(b" word-%d" % i) for i in range(found.events)] + [read.find(b"data: [DONE]")]
    if read.startswith(b"HTTP/1.1 200 ") and -1 not in places and places == sorted(places):
        found.done += 1
    else:
        found.wrong.append(repr(read[-200:]))


async def _some(reader: asyncio.StreamReader) -> bytes:
    piece = await reader.read(65536)
    if not piece:
        raise ConnectionError("the stream was cut")
    return piece


def measure(
    *, streams: int, waves: int, events: int, interval_s: float, ramp_s: float = 2.0, settle_s: float = 1.0
) -> list[Wave]:
    """`waves` waves through one proxy that has served a stream before: nothing is loaded for the first time."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with proxy(events, interval_s) as (pid, port):
        asyncio.run(wave(pid, port, streams=1, events=events, ramp_s=0, settle_s=0))
        return [
            asyncio.run(wave(pid, port, streams=streams, events=events, ramp_s=ramp_s, settle_s=settle_s))
            for _ in range(waves)
        ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--waves", type=int, default=3)
    parser.add_argument("--events", type=int, default=10)
    parser.add_argument("--interval", type=float, default=1.0)
    chosen = parser.parse_args()
    began = time.monotonic()
    print("| wave | done | held at once | RSS before | at peak | after | KiB per stream | CPU-us per event |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    found = measure(
        streams=chosen.streams, waves=chosen.waves, events=chosen.events, interval_s=chosen.interval
    )
    for number, w in enumerate(found, 1):
        print(
            f"| {number} | {w.done}/{w.streams} | {w.held} | {w.before_mib:.1f} | {w.peak_mib:.1f} | "
            f"{w.after_mib:.1f} | {w.kib_per_stream:.1f} | {w.cpu_us_per_event:.0f} |"
        )
        for wrong in w.wrong[:3]:
            print(f"    {wrong}")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
