"""A late call is made a second time, over HTTP: who answers, who is ended, what is booked."""

import asyncio
import contextlib
import time

import openai
import pytest
from aiohttp import web

from proxy.config import ConfigRefused
from tests.proxy.ledger_rows import all_rows
from tests.proxy.scripted import Upstream, chunks, reply
from tests.proxy.test_deployments import USER, deployed, status

AFTER_MS = 80
ROUTES = f"""
  late: {{ladder: [spread], hedge: {{after_ms: {AFTER_MS}}}}}
  one: {{ladder: [mini], hedge: {{after_ms: {AFTER_MS}}}}}
  usual: {{ladder: [mini], hedge: {{}}}}
  never: {{ladder: [mini]}}
  patient: {{ladder: [spread], hedge: {{after_ms: 5000}}}}
  twice: {{ladder: [mini], hedge: {{after_ms: 250}}, limits: {{attempts: 2}}, schema: age}}
"""


def answers(text, after_s=0.0):
    async def step(request, body):
        await asyncio.sleep(after_s)
        if body.get("stream"):
            return await Upstream.stream(request, chunks(text))
        return web.json_response(reply(text), headers={"x-request-id": f"up-{text}"})

    return step


HANGS = answers("never", 60)


@contextlib.asynccontextmanager
async def hedging(eu="fine", us="fine", **sections):
    """As `deployed`, with routes that hedge. The first call to `spread` goes to the first deployment, eu."""
    async with deployed(eu, us, routes=ROUTES, **sections) as app:
        app.services.health._chance = lambda: 0.0
        yield app


async def ask(app, route, **rest):
    """(the text, the headers, seconds)."""
    began = time.monotonic()
    raw = await app.client.chat.completions.with_raw_response.create(model=route, messages=USER, **rest)
    if rest.get("stream"):
        text = "".join([c.choices[0].delta.content or "" async for c in raw.parse() if c.choices])
    else:
        text = raw.parse().choices[0].message.content
    return text, raw.headers, time.monotonic() - began


async def booked(app):
    return [(r.number, r.provider, r.purpose, r.status) for r in await all_rows(app.services.store)]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_second_deployment_answers_for_one_that_hangs(stream):
    async with hedging(eu=HANGS) as app:
        text, headers, seconds = await ask(app, "late", stream=stream)
        assert text == "fine"
        assert AFTER_MS / 1000 <= seconds < 1
        await asyncio.wait_for(app.eu.left.wait(), 1)
        assert await booked(app) == [(1, "eu", "hedge_loser", "cancelled"), (2, "us", "answer", "ok")]
        assert headers["x-tailrace-model"] == "spread"
        assert headers.get("x-tailrace-attempts", "2") == "2"


async def test_what_the_loser_has_cost_is_in_the_bill():
    async with hedging(eu=HANGS) as app:
        _, headers, _ = await ask(app, "late")
        lost, won = await all_rows(app.services.store)
        assert lost.cost_nanousd > 0
        assert not lost.reported
        assert float(headers["x-tailrace-cost-usd"]) == pytest.approx(
            (lost.cost_nanousd + won.cost_nanousd) / 1e9
        )
        assert await _held(app) == 0


async def _held(app):
    return sum(load.in_work + load.waiting for load in app.services.health._loads.values())


async def test_the_first_wins_where_it_is_faster_after_all():
    async with hedging(eu=answers("first", 0.8), us=HANGS) as app:
        text, headers, _ = await ask(app, "late")
        assert (text, headers["x-request-id"]) == ("first", "up-first")
        await asyncio.wait_for(app.us.left.wait(), 1)
        assert sorted(await booked(app)) == [(1, "eu", "answer", "ok"), (2, "us", "hedge_loser", "cancelled")]


async def test_an_answer_in_time_is_asked_for_once():
    async with hedging() as app:
        await ask(app, "patient")
        assert await booked(app) == [(1, "eu", "answer", "ok")]


async def test_without_the_word_nothing_is_hedged():
    async with hedging(eu=answers("slow", 0.3)) as app:
        assert (await ask(app, "never"))[0] == "slow"
        assert len(app.eu.seen) == 1


async def test_a_model_with_one_place_is_asked_there_again():
    async with hedging() as app:
        app.eu.script = [HANGS, "fine"]
        assert (await ask(app, "one"))[0] == "fine"
        assert await booked(app) == [(1, "up", "hedge_loser", "cancelled"), (2, "up", "answer", "ok")]


async def test_a_second_call_that_fails_does_not_win():
    async with hedging(eu=answers("first", 0.8), us=status(500)) as app:
        assert (await ask(app, "late"))[0] == "first"
        assert sorted(await booked(app)) == [(1, "eu", "answer", "ok"), (2, "us", "hedge_loser", "failed")]


async def test_a_first_call_that_fails_late_is_answered_by_the_second():
    async def late(request, body):
        await asyncio.sleep(0.8)
        return web.Response(status=500)

    async with hedging(eu=late, us=answers("fine", 1.3)) as app:
        assert (await ask(app, "late"))[0] == "fine"
        assert await booked(app) == [(1, "eu", "hedge_loser", "failed"), (2, "us", "answer", "ok")]


async def test_where_both_fail_the_exchange_goes_on():
    async def late(request, body):
        await asyncio.sleep(0.8)
        return web.Response(status=500)

    async with hedging(eu=late, us=late) as app:
        with pytest.raises(openai.InternalServerError):
            await ask(app, "late")
        assert [status for *_, status in await booked(app)] == ["failed"] * len(await booked(app))
        assert len(await booked(app)) <= 4


async def test_a_stream_that_has_begun_is_not_asked_for_again():
    async def stalls(request, body):
        out = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await out.prepare(request)
        for n, event in enumerate(chunks("fine")):
            await out.write(b"data: " + web.json_response(event).body + b"\n\n")
            if n == 1:
                await asyncio.sleep(0.3)
        await out.write(b"data: [DONE]\n\n")
        return out

    async with hedging(eu=stalls) as app:
        assert (await ask(app, "late", stream=True))[0] == "fine"
        assert app.us.seen == []


async def test_a_client_that_leaves_ends_and_books_both():
    async with hedging(eu=HANGS, us=HANGS) as app:
        with pytest.raises(openai.APITimeoutError):
            await app.client.with_options(timeout=0.8).chat.completions.create(model="late", messages=USER)
        await asyncio.wait_for(app.eu.left.wait(), 1)
        await asyncio.wait_for(app.us.left.wait(), 1)
        assert sorted(await booked(app)) == [
            (1, "eu", "cancelled", "cancelled"),
            (2, "us", "hedge_loser", "cancelled"),
        ]
        assert await _held(app) == 0


async def test_the_routes_allowance_bounds_hedges():
    async with hedging() as app:
        app.eu.script = ["no", answers('{"age": 7}', 0.8)]
        assert (await ask(app, "twice"))[0] == '{"age": 7}'
        assert [number for number, *_ in await booked(app)] == [1, 2]


async def test_the_retry_budget_bounds_hedges():
    async with hedging(eu=answers("slow", 0.3)) as app:
        while app.services.health.may_repeat("models/spread", time.monotonic()):
            pass
        assert (await ask(app, "late"))[0] == "slow"
        assert app.us.seen == []


async def test_budgets_hold_for_both_calls():
    """The budget bears one worst case and not two: the first call goes on alone."""
    keys = "keys: [{name: a, key: sk-client-secret, budget: {usd: 0.0001, per: day}}]"
    async with hedging(eu=answers("slow", 0.3), more=keys) as app:
        text, _, _ = await ask(app, "late", max_tokens=40)
        assert (text, app.us.seen) == ("slow", [])


async def test_the_models_own_tail_is_hedged():
    async with hedging() as app:
        for _ in range(25):
            await ask(app, "usual")
        before = len(app.eu.seen)
        app.eu.script = [HANGS, "fine"]
        assert (await ask(app, "usual"))[2] < 1
        assert len(app.eu.seen) == before + 2


async def test_a_reask_after_a_hedge_has_a_number_of_its_own():
    routes = f"  ages: {{ladder: [spread], schema: age, hedge: {{after_ms: {AFTER_MS}}}}}"
    async with deployed(HANGS, us="no", routes=routes) as app:
        app.services.health._chance = lambda: 0.0
        app.us.script = ["no", '{"age": 7}']
        assert (await ask(app, "ages"))[0] == '{"age": 7}'
        assert [(n, p) for n, _, p, _ in await booked(app)] == [
            (1, "hedge_loser"),
            (2, "answer"),
            (3, "reask"),
        ]


async def test_a_hedge_that_could_never_be_made_is_refused():
    routes = "  off: {ladder: [mini], hedge: {after_ms: 5}, limits: {attempts: 1}}"
    with pytest.raises(ConfigRefused, match="too few for `hedge`"):
        async with deployed(routes=routes):
            pass
