"""The process: what signals, a kill, a full disk and a broken configuration do to it."""

import asyncio
import contextlib
import json
import os
import pathlib
import resource
import signal
import sqlite3
import sys

import aiohttp
import pytest

from tests.proxy.scripted import Upstream, chunks, config_text

ROOT = pathlib.Path(__file__).parents[2]
USER = [{"role": "user", "content": "How old?"}]


class Process:
    """`python -m proxy serve` on a port of its own."""

    def __init__(self, config, **limits):
        self.config = config
        self.limits = limits
        self.lines: list[str] = []
        self.url = ""

    async def __aenter__(self):
        def limit():
            for name, value in self.limits.items():
                resource.setrlimit(getattr(resource, name), (value, value))

        self.running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "serve", "--config", self.config, "--port", "0"),
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=limit if self.limits else None,
        )
        async with asyncio.timeout(30):
            while not self.url:
                line = (await self.running.stderr.readline()).decode()
                assert line, self.lines
                self.lines.append(line)
                if "listens at " in line:
                    self.url = line.split("listens at ")[1].split("/v1")[0]
        self.reading = asyncio.get_running_loop().create_task(self._read())
        self.session = aiohttp.ClientSession()
        return self

    async def _read(self):
        while line := (await self.running.stderr.readline()).decode():
            self.lines.append(line)

    async def __aexit__(self, *_):
        await self.session.close()
        with contextlib.suppress(ProcessLookupError):
            self.running.kill()
        await self.running.wait()
        await self.reading

    def signal(self, number):
        self.running.send_signal(number)

    async def ended(self, within_s=10):
        async with asyncio.timeout(within_s):
            return await self.running.wait()

    async def ask(self, **body):
        document = {"model": "mini", "messages": USER} | body
        async with self.session.post(self.url + "/v1/chat/completions", json=document) as r:
            return r.status, await r.text()

    async def get(self, path):
        async with self.session.get(self.url + path) as r:
            return r.status, await r.text()


def slow_stream(pause_s, count=12):
    events = list(chunks("x" * count, size=1))

    async def answer(request, _):
        from aiohttp import web

        out = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await out.prepare(request)
        for event in events:
            await out.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            await asyncio.sleep(pause_s)
        await out.write(b"data: [DONE]\n\n")
        return out

    return answer


@pytest.fixture
async def upstream():
    async with Upstream("hello").running() as running:
        yield running


@pytest.fixture
def config(upstream, tmp_path):
    path = tmp_path / "tailrace.yaml"
    text = config_text(upstream.url).replace('"memory:"', f"sqlite:///{tmp_path}/ledger.db")
    path.write_text(text)
    return path


async def started_stream(process):
    document = {"model": "mini", "messages": USER, "stream": True}
    response = await process.session.post(process.url + "/v1/chat/completions", json=document)
    await response.content.readline()
    return response


async def test_sigterm_lets_a_stream_end_and_takes_no_new_connection(upstream, config):
    upstream.script = [slow_stream(0.08)]
    async with Process(config) as process:
        response = await started_stream(process)
        process.signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        with pytest.raises(aiohttp.ClientConnectionError):
            async with aiohttp.ClientSession() as other, other.get(process.url + "/readyz"):
                pass
        assert "[DONE]" in (await response.read()).decode()
        assert await process.ended() == 0


async def test_a_stream_that_outlasts_the_drain_ends_with_an_error(upstream, config):
    config.write_text(config.read_text().replace("drain_s: 2", "drain_s: 0.3"))
    upstream.script = [slow_stream(0.2, 100)]
    async with Process(config) as process:
        response = await started_stream(process)
        process.signal(signal.SIGTERM)
        text = (await response.read()).decode()
        assert '"shutting_down"' in text
        assert "[DONE]" not in text
        assert await process.ended() == 0
    rows = sqlite3.connect(config.parent / "ledger.db").execute("SELECT status FROM attempts").fetchall()
    assert rows == [("cancelled",)]


async def test_a_second_signal_ends_at_once(upstream, config):
    upstream.script = [slow_stream(0.2, 100)]
    async with Process(config) as process:
        await started_stream(process)
        process.signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        process.signal(signal.SIGTERM)
        assert await process.ended(within_s=1) != 0


async def test_a_kill_loses_nothing_that_was_answered(upstream, config):
    async with Process(config) as process:
        answered = [await process.ask() for _ in range(20)]
        process.signal(signal.SIGKILL)
        await process.ended()
    assert [status for status, _ in answered] == [200] * 20
    async with Process(config) as process:
        _, text = await process.get("/v1/usage")
        assert json.loads(text)["total"]["attempts"] == 20


async def test_a_kill_amid_many_requests_loses_no_call_and_no_answer(upstream, config):
    """What leaves in one turn of the event loop is recorded by one write before it."""
    answered = []

    async def ask_on(process):
        with contextlib.suppress(aiohttp.ClientError):
            while True:
                answered.append((await process.ask())[0])

    async with Process(config) as process:
        asking = [asyncio.create_task(ask_on(process)) for _ in range(16)]
        async with asyncio.timeout(20):
            while len(answered) < 100:
                await asyncio.sleep(0.01)
        process.signal(signal.SIGKILL)
        await asyncio.gather(*asking)
        await process.ended()
    assert set(answered) == {200}
    async with Process(config) as process:
        total = json.loads((await process.get("/v1/usage"))[1])["total"]
    assert total["attempts"] >= len(upstream.seen)
    assert total["attempts"] - total["unsettled"] >= len(answered)


async def test_a_full_disk_is_told_and_nothing_is_answered_unbooked(upstream, config):
    async with Process(config, RLIMIT_FSIZE=300_000) as process:
        statuses = []
        async with asyncio.timeout(20):
            while (ready := await process.get("/readyz"))[0] == 200:
                statuses += [s for s, _ in await asyncio.gather(*[process.ask() for _ in range(25)])]
        assert (ready[0], "store" in ready[1]) == (503, True)
        statuses += [s for s, _ in await asyncio.gather(*[process.ask() for _ in range(25)])]
        assert set(statuses) == {200, 503}
        assert (await process.get("/healthz"))[0] == 200
        process.signal(signal.SIGTERM)
        code = await process.ended()
    # At the end the ledger may find room again in what it has written before.
    assert code == 0 or process.lines[-1].startswith("stopped; the ledger is not whole: ")
    assert not any("Traceback" in line for line in process.lines)
    async with Process(config) as process:
        _, text = await process.get("/v1/usage")
        assert json.loads(text)["total"]["attempts"] >= statuses.count(200)


@pytest.mark.skipif(os.geteuid() == 0, reason="NOT RUN: root may write everywhere")
async def test_a_read_only_folder_refuses_the_start(config):
    config.parent.chmod(0o500)
    try:
        with pytest.raises(AssertionError, match="cannot start"):
            async with Process(config):
                pass
    finally:
        config.parent.chmod(0o700)


async def test_a_broken_file_at_reload_keeps_the_old_configuration(config):
    async with Process(config) as process:
        config.write_text("providers: [")
        process.signal(signal.SIGHUP)
        await asyncio.sleep(0.3)
        assert (await process.ask())[0] == 200
        assert any("Not reloaded" in line for line in process.lines)
