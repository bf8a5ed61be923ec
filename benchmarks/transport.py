"""What a transport costs: CPU per call and per event of a stream, and memory per connection.

    nice .venv/bin/python benchmarks/transport.py [--calls 20000] [--concurrent 32] [--rounds 3] [--loop uvloop]

Three clients talk to the same small server in another process, in turns, so that a noisy machine is noisy for
all: `floor` is a bare protocol that trusts every byte (one write, one future, one read: what asyncio itself
costs), `pool` is what the proxy uses, `session` is the way through proxies of the environment.
CPU is that of the client's process, the loop and the calling coroutine included.
"""

import argparse
import asyncio
import gc
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop

from proxy.snapshot import Timeouts
from proxy.upstreams.client_session import ClientSessionTransport
from proxy.upstreams.pool import Pool
from proxy.upstreams.transport import Target, Transport

EVENTS = 100
"""Events in each stream."""
PACE_S = 0.01
"""Between two events of one stream, so that each comes in a read of its own."""
HEADERS = [
    ("authorization", "Bearer sk-0123456789012345678901234567890123456789"),
    ("content-type", "application/json"),
    ("accept", "application/json"),
    ("accept-encoding", "identity"),
    ("user-agent", "tailrace/0"),
    ("x-request-id", "req_0123456789abcdef0123456789abcdef"),
]
BODY = b'{"model":"m","messages":[{"role":"user","content":"' + b"word " * 150 + b'"}]}'
REPLY_HEAD = (
    b"HTTP/1.1 200 OK\r\nDate: Sun, 01 Nov 2026 10:00:00 GMT\r\nContent-Type: %b\r\nConnection: keep-alive\r\n"
    b"access-control-expose-headers: X-Request-ID\r\nopenai-organization: org\r\nopenai-processing-ms: 312\r\n"
    b"openai-version: 2020-10-01\r\nx-ratelimit-limit-requests: 10000\r\nx-ratelimit-limit-tokens: 2000000\r\n"
    b"x-ratelimit-remaining-requests: 9999\r\nx-ratelimit-remaining-tokens: 1999000\r\n"
    b"x-ratelimit-reset-requests: 6ms\r\nx-request-id: req_0123456789abcdef\r\nServer: cloudflare\r\n"
)
REPLY = (
    REPLY_HEAD % b"application/json"
    + b"Content-Length: 900\r\n\r\n"
    + b'{"choices":[{"message":{"content":"'.ljust(897, b"w")
    + b'"}]'[:3]
)
EVENT = (
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'.ljust(
        180
    )
)
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)


class Server(asyncio.Protocol):
    """Answers each request head-and-body of the known length: a reply, or a paced stream for `/stream`."""

    def connection_made(self, transport):
        self.transport = transport
        self.got = b""

    def data_received(self, data):
        self.got += data
        while (end := self.got.find(b"\r\n\r\n")) >= 0 and len(self.got) >= end + 4 + len(BODY):
            stream = self.got.startswith(b"POST /stream")
            self.got = self.got[end + 4 + len(BODY) :]
            if stream:
                self.transport.write(
                    REPLY_HEAD % b"text/event-stream" + b"Transfer-Encoding: chunked\r\n\r\n"
                )
                self.event(EVENTS)
            else:
                self.transport.write(REPLY)

    def event(self, left):
        if self.transport.is_closing():
            return
        self.transport.write(CHUNK if left else b"0\r\n\r\n")
        if left:
            asyncio.get_running_loop().call_later(PACE_S, self.event, left - 1)


class Floor(asyncio.Protocol):
    """The least a client can do: no framing, no time-out, no error."""

    def connection_made(self, transport):
        self.transport = transport
        self.waiter = None
        self.tail = b""

    def data_received(self, data):
        self.tail = data
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.set_result(None)

    async def more(self):
        self.waiter = asyncio.get_running_loop().create_future()
        await self.waiter
        return self.tail


def serve(pipe, loop_name):
    async def main():
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=4096)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)

    run(main(), loop_name)


def run(main, loop_name):
    if loop_name == "uvloop":
        return uvloop.run(main)
    return asyncio.run(main)


class Transported:
    """Calls through a transport of the proxy."""

    def __init__(self, transport: Transport, target: Target) -> None:
        self.transport, self.target, self.timeouts = transport, target, Timeouts()

    async def call(self):
        response = await self.transport.send(
            self.target, "POST", "/v1/chat/completions", HEADERS, BODY, self.timeouts
        )
        assert len(await response.read(1 << 20)) == 900

    async def stream(self):
        response = await self.transport.send(self.target, "POST", "/stream", HEADERS, BODY, self.timeouts)
        size = 0
        async for piece in response.pieces():
            size += len(piece)
        assert size == EVENTS * len(EVENT)

    async def close(self):
        await self.transport.close()


class Bare:
    """Calls over `Floor`."""

    def __init__(self, target: Target) -> None:
        self.target, self.idle = target, []
        head = "".join(f"{n}: {v}\r\n" for n, v in [("host", target.host_header), *HEADERS])
        self.rest = f" HTTP/1.1\r\n{head}content-length: {len(BODY)}\r\n\r\n".encode() + BODY

    async def open(self, path):
        if self.idle:
            protocol = self.idle.pop()
        else:
            _, protocol = await asyncio.get_running_loop().create_connection(
                Floor, self.target.host, self.target.port
            )
        protocol.transport.write(b"POST " + path + self.rest)
        return protocol

    async def call(self):
        protocol = await self.open(b"/v1/chat/completions")
        await protocol.more()
        self.idle.append(protocol)

    async def stream(self):
        protocol = await self.open(b"/stream")
        while not (await protocol.more()).endswith(b"0\r\n\r\n"):
            pass
        self.idle.append(protocol)

    async def close(self):
        for protocol in self.idle:
            protocol.transport.abort()


@asynccontextmanager
async def clients(target: Target) -> AsyncIterator[dict[str, Bare | Transported]]:
    made = {
        "floor": Bare(target),
        "pool": Transported(Pool(), target),
        "session": Transported(ClientSessionTransport({}), target),
    }
    yield made
    for client in made.values():
        await client.close()


async def cpu_us(work: Callable[[], Awaitable[None]], count: int, concurrent: int) -> float:
    """CPU-us per `work`, `concurrent` of them at a time."""

    async def one(times):
        for _ in range(times):
            await work()

    began = time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrent):
            group.create_task(one(count // concurrent))
    return (time.process_time() - began) * 1e6 / (count // concurrent * concurrent)


def resident_kib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


async def memory_kib(client: Bare | Transported, streams: int) -> tuple[float, float]:
    """KiB per running stream (its task included), and per idle connection afterwards."""
    gc.collect()
    before = resident_kib()
    async with asyncio.TaskGroup() as group:
        for _ in range(streams):
            group.create_task(client.stream())
        await asyncio.sleep(EVENTS * PACE_S * 0.8)
        busy = resident_kib()
    gc.collect()
    return (busy - before) / streams, (resident_kib() - before) / streams


async def measure(arguments, port: int) -> None:
    target = Target.parse(f"http://127.0.0.1:{port}")
    calls: dict[str, list[float]] = {}
    events: dict[str, list[float]] = {}
    async with clients(target) as made:
        for client in made.values():
            await cpu_us(client.call, arguments.concurrent * 20, arguments.concurrent)
        for _ in range(arguments.rounds):
            for name, client in made.items():
                calls.setdefault(name, []).append(
                    await cpu_us(client.call, arguments.calls, arguments.concurrent)
                )
                streams = 4 * arguments.concurrent
                cost = await cpu_us(client.stream, streams, streams)
                events.setdefault(name, []).append(cost / EVENTS)
    print(f"{'':10}{'CPU-us/call':>12}{'x floor':>9}{'CPU-us/event':>14}{'x floor':>9}")
    floor, floor_event = statistics.median(calls["floor"]), statistics.median(events["floor"])
    for name, figures in calls.items():
        call, event = statistics.median(figures), statistics.median(events[name])
        print(f"{name:10}{call:12.1f}{call / floor:9.2f}{event:14.1f}{event / floor_event:9.2f}")
    async with clients(target) as made:
        client = made[arguments.memory]
        busy, idle = await memory_kib(client, 1000)
    print(
        f"{arguments.memory}: 1000 streams held, {busy:.1f} KiB each; {idle:.1f} KiB per idle connection after"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--concurrent", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    parser.add_argument("--memory", choices=["floor", "pool", "session"], default="pool")
    arguments = parser.parse_args()
    pipe, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, arguments.loop))
    server.start()
    try:
        run(measure(arguments, pipe.recv()), arguments.loop)
    finally:
        pipe.send(None)
        server.join(5)
        server.kill()


if __name__ == "__main__":
    main()
