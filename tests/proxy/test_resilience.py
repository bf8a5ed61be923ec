"""One of two upstreams fails, on real sockets: every request is answered, soon, and without a storm of calls.

Each fault is played twice: by one of two deployments of a model, and by the foot of a ladder of two providers.
"""

import asyncio
import contextlib
import json
import math
import time

import aiohttp
import pytest

from policies.breaker import BreakerRule
from proxy.app import App
from proxy.config import loads
from proxy.health import Health
from tests.proxy.hostile_server import Visit, chunked, whole
from tests.proxy.ledger_rows import all_rows
from tests.proxy.scripted import chunks, reply

FIRST_BYTE_S, OPEN_S = 0.4, 0.5
BACKOFF_S = 0.25
SLACK_S = 1.5
"""What a busy machine may add."""
AGE = '{"age": 7}'
WHOLE = whole(json.dumps(reply(AGE)).encode(), "Content-Type: application/json")
EVENTS = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in chunks(AGE)] + [b"data: [DONE]\n\n"]
STREAM = chunked(*EVENTS).replace(b"200 OK\r\n", b"200 OK\r\nContent-Type: text/event-stream\r\n")
ERROR = b'{"error": {"message": "no", "type": "x", "param": null, "code": null}}'
CONFIG = """
store: "memory:"
providers:
  faulty: {{base_url: "http://127.0.0.1:{faulty}/v1", timeouts: {{first_byte_s: {first_byte_s}, idle_s: {first_byte_s}}}}}
  steady: {{base_url: "http://127.0.0.1:{steady}/v1"}}
models:
  low: {{provider: faulty, price: {{input: 1, output: 2}}}}
  high: {{provider: steady, price: {{input: 1, output: 2}}}}
  both: {{deployments: [{{provider: faulty}}, {{provider: steady}}], price: {{input: 1, output: 2}}}}
schemas:
  age: {{type: object, properties: {{age: {{type: integer}}}}, required: [age]}}
routes:
  deployments: {{ladder: [both], schema: age}}
  ladder: {{ladder: [low, high], schema: age}}
  hedged: {{ladder: [both], schema: age, hedge: {{after_ms: 60}}}}
"""


class Upstream:
    """A server that is well until its `fault` is set to the name of one of its methods, or to `refuse`."""

    def __init__(self):
        self.fault = "well"
        self.port = 0
        self._server = None
        self._tasks = set()

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def turn(self, fault):
        """From now on it does this."""
        if fault == "refuse":
            await self.stop()
        elif self.fault == "refuse":
            await self.start()
        self.fault = fault

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        visit = Visit(reader, writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await visit.request():
                stream = b'"stream":true' in visit.bodies.pop().replace(b" ", b"")
                await getattr(self, self.fault)(visit, stream)
        writer.close()

    async def well(self, visit, stream):
        await visit.say(STREAM if stream else WHOLE)

    async def hang(self, visit, stream):
        await visit.hang()
        raise ConnectionResetError

    async def reset(self, visit, stream):
        visit.reset()
        raise ConnectionResetError

    async def error(self, visit, stream):
        await visit.say(whole(ERROR, "Content-Type: application/json", status="500 No"))

    async def busy(self, visit, stream):
        await visit.say(whole(ERROR, "Content-Type: application/json", status="429 No"))

    async def busy_for_long(self, visit, stream):
        await visit.say(whole(ERROR, "Content-Type: application/json", "Retry-After: 30", status="429 No"))

    async def breaks(self, visit, stream):
        said = STREAM if stream else WHOLE
        await visit.say(said[: len(said) * 2 // 3])
        raise ConnectionResetError


@contextlib.asynccontextmanager
async def served(first_byte_s=FIRST_BYTE_S):
    """A proxy in front of two upstreams, `app.faulty` and `app.steady`; breakers stay open for a shorter time than usual."""
    faulty, steady = Upstream(), Upstream()
    await faulty.start()
    await steady.start()
    text = CONFIG.format(faulty=faulty.port, steady=steady.port, first_byte_s=first_byte_s)
    app = App(loads(text, name="test", environ={}, base_dir="."), environ={})
    await app.start()
    app.services.health = Health(app.services.telemetry.breaker, rule=BreakerRule(open_s=OPEN_S))
    host, port = await app.listen("127.0.0.1", 0)
    app.url, app.faulty, app.steady = f"http://{host}:{port}", faulty, steady
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as app.session:
            yield app
    finally:
        await app.drain()
        await app.close()
        if faulty.fault != "refuse":
            await faulty.stop()
        await steady.stop()


async def ask(app, route, *, stream=False):
    """(whether it was answered, seconds)."""
    began = time.monotonic()
    body = {"model": route, "messages": [{"role": "user", "content": "How old?"}], "stream": stream}
    async with app.session.post(app.url + "/v1/chat/completions", json=body) as got:
        said = await got.read()
    if stream:
        events = [json.loads(line[6:]) for line in said.splitlines() if line.startswith(b"data: {")]
        text = "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e.get("choices"))
        good = b"[DONE]" in said
    else:
        text = json.loads(said)["choices"][0]["message"]["content"] if got.status == 200 else ""
        good = True
    return got.status == 200 and good and text == AGE, time.monotonic() - began


async def load(app, route, requests, *, at_once=8, stream=False):
    """Ask so often: (requests that were answered, their seconds, upstream calls that it took)."""
    before = len(await all_rows(app.services.store))
    left = iter(range(requests))
    found = []

    async def asking():
        for _ in left:
            found.append(await ask(app, route, stream=stream))

    await asyncio.gather(*(asking() for _ in range(at_once)))
    calls = len(await all_rows(app.services.store)) - before
    return sum(good for good, _ in found), [seconds for _, seconds in found], calls


async def until_closed(app, route):
    """Ask now and then until no breaker is open; how many of these requests were not answered."""
    failed = 0
    for _ in range(100):
        failed += not (await ask(app, route))[0]
        if not app.services.health._ill:
            return failed
        await asyncio.sleep(0.05)
    raise AssertionError("the breaker did not close")


STATUS_FAULTS = ["busy", "busy_for_long"]
FAULTS = ["refuse", "hang", "reset", "error", "breaks", *STATUS_FAULTS]


@pytest.mark.parametrize("route", ["deployments", "ladder"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_every_request_is_answered_while_one_is_well(fault, route):
    async with served() as app:
        answered, _, calls = await load(app, route, 30)
        assert (answered, calls) == (30, 30)
        await app.faulty.turn(fault)

        answered, seconds, _ = await load(app, route, 40)
        assert answered == 40
        waits = 1 if route == "deployments" else 2  # a ladder asks the same model a second time first
        late = waits * FIRST_BYTE_S if fault == "hang" else 0.0
        assert max(seconds) < late + (waits - 1) * BACKOFF_S + SLACK_S

        answered, seconds, calls = await load(app, route, 120)
        assert answered == 120
        assert calls <= 1.2 * 120
        usual = sorted(seconds)[math.ceil(0.9 * len(seconds)) - 1]
        assert usual < SLACK_S / 2
        if fault not in STATUS_FAULTS and route == "ladder":
            assert app.services.health._ill

        await app.faulty.turn("well")
        assert await until_closed(app, route) == 0


@pytest.mark.parametrize("fault", ["error", "breaks", "hang"])
@pytest.mark.parametrize("route", ["deployments", "ladder"])
async def test_streams_that_break_before_a_word_is_out_are_taken_over(fault, route):
    async with served() as app:
        await app.faulty.turn(fault)
        answered, _, _ = await load(app, route, 40, stream=True)
        assert answered == 40
        answered, _, calls = await load(app, route, 100, stream=True)
        assert answered == 100
        assert calls <= 1.2 * 100


@pytest.mark.parametrize("fault", ["refuse", "reset", "error"])
async def test_the_breaker_of_a_deployment_opens_under_load_and_closes_when_it_is_well_again(fault):
    async with served() as app:
        await app.faulty.turn(fault)
        answered, _, _ = await load(app, "deployments", 64, at_once=64)
        assert answered == 64
        assert [alias for alias, _ in app.services.health._ill.values()] == ["both"]
        await app.faulty.turn("well")
        assert await until_closed(app, "deployments") == 0
        rows = await all_rows(app.services.store)
        await load(app, "deployments", 60)
        later = [r.provider for r in (await all_rows(app.services.store))[len(rows) :]]
        assert "faulty" in later


async def test_a_hedge_bounds_what_a_hanging_deployment_adds():
    async with served(first_byte_s=9) as app:
        await load(app, "hedged", 40)
        await app.faulty.turn("hang")
        answered, seconds, _ = await load(app, "hedged", 200)
        assert answered == 200
        assert max(seconds) < 2 * SLACK_S
        rows = await all_rows(app.services.store)
        assert any(row.purpose == "hedge_loser" for row in rows)
        assert len(rows) <= 1.2 * 240


async def test_where_both_fail_calls_stay_within_the_retry_budget():
    async with served() as app:
        await app.faulty.turn("error")
        await app.steady.turn("error")
        answered, _, calls = await load(app, "deployments", 200)
        assert answered == 0
        assert calls <= 1.2 * 200 + 10
