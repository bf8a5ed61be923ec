"""Kept answers: the very same request of the same key is answered again, and asked upstream once."""

import asyncio

import aiohttp
import openai
import pytest
from aiohttp import web

from policies.cards import ModelCard
from policies.chat import Usage
from policies.route import Cache
from proxy.cache import Answer, Responses, key_of
from tests.proxy.scripted import Upstream, proxy, reply

USER = [{"role": "user", "content": "hi"}]
ROUTES = """  kept: {ladder: [mini, big], cache: {ttl_s: 60, max_mb: 1}}
  kept-age: {ladder: [mini], schema: age, cache: {}}
"""
KEYS = "keys:\n  - {name: a, key: sk-client-secret}\n  - {name: b, key: sk-b}\n"


@pytest.fixture
async def upstream():
    async with Upstream("hello").running() as running:
        yield running


@pytest.fixture
async def app(upstream):
    async with proxy(upstream, routes=ROUTES) as running:
        yield running


async def ask(app, content="hi", model="kept", **rest):
    messages = [{"role": "user", "content": content}]
    raw = await app.client.chat.completions.with_raw_response.create(model=model, messages=messages, **rest)
    return raw.parse().choices[0].message.content, raw.headers


async def test_the_same_request_is_answered_again_for_nothing(app, upstream):
    _, first = await ask(app)
    text, second = await ask(app)
    assert text == "hello"
    assert "x-tailrace-cache" not in first
    assert (second["x-tailrace-cache"], second["x-tailrace-cost-usd"], second["x-tailrace-attempts"]) == (
        "hit",
        "0",
        "0",
    )
    assert second["x-tailrace-saved-usd"] == "0.0002"
    assert len(upstream.seen) == 1
    await app.services.store.flush()
    report = await app.services.store.usage(0, 2**62)
    assert (report.total.cost_nanousd, report.total.requests) == (20_000, 2)
    rows = [e.attempts[0] for e in await app.services.store.recent(5)]
    assert sorted(r.saved_caching for r in rows) == [0, 200_000]


async def test_another_request_is_another_answer(app, upstream):
    await ask(app)
    await ask(app, "ho")
    await ask(app, temperature=1)
    assert len(upstream.seen) == 3


async def test_fifty_identical_requests_together_are_one_call(app, upstream):
    async def slow(request, body):
        await asyncio.sleep(0.2)
        return web.json_response(reply("once"))

    upstream.script = [slow]
    answers = await asyncio.gather(*(ask(app) for _ in range(50)))
    assert {text for text, _ in answers} == {"once"}
    assert len(upstream.seen) == 1


async def test_a_failed_leader_is_followed_by_the_next(app, upstream):
    async def slowly_refused(request, body):
        await asyncio.sleep(0.1)
        return web.json_response({"error": {"message": "no"}}, status=400)

    upstream.script = [slowly_refused, "hello"]
    answers = await asyncio.gather(*(ask(app) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(a, openai.BadRequestError) for a in answers) == 1
    assert len(upstream.seen) == 2


async def test_errors_are_not_kept(app, upstream):
    upstream.script = ["no json"]
    for _ in range(2):
        with pytest.raises(openai.UnprocessableEntityError):
            await ask(app, model="kept-age")
    assert len(upstream.seen) == 4


async def test_streams_are_kept_too(app, upstream):
    texts = []
    for _ in range(2):
        stream = await app.client.chat.completions.create(model="kept", messages=USER, stream=True)
        texts.append("".join([c.choices[0].delta.content or "" async for c in stream]))
    assert texts == ["hello", "hello"]
    assert len(upstream.seen) == 1
    body = {"model": "kept", "messages": USER, "stream": True}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{app.url}/v1/chat/completions", json=body) as r,
    ):
        assert (await r.text()).count("data: [DONE]") == 1


async def test_one_tenant_never_gets_anothers_answer(upstream):
    async with proxy(upstream, KEYS, routes=ROUTES) as app:
        await ask(app)
        other = app.client.with_options(api_key="sk-b")
        await other.chat.completions.create(model="kept", messages=USER)
        assert len(upstream.seen) == 2


def test_keys_tell_tenants_and_parts_apart():
    keys = {
        key_of(None, "a", b"b"),
        key_of("", "a", b"b"),
        key_of("x", "a", b"b"),
        key_of(None, "ab", b""),
        key_of(None, "", b"ab"),
    }
    assert len(keys) == 5


ANSWER = Answer(
    b"x" * 1000, stream=False, model="m", card=ModelCard("m", "p", "m"), schema="none", usage=Usage()
)


async def turns(responses, *keys):
    kept = []
    for key in keys:
        async with responses.ask(key) as turn:
            kept.append(turn.found is not None)
            if turn.found is None:
                turn.keep(ANSWER)
    return kept


async def test_answers_expire():
    now = [0.0]
    responses = Responses(Cache(ttl_s=10), clock=lambda: now[0])
    assert await turns(responses, b"k", b"k") == [False, True]
    now[0] = 11.0
    assert await turns(responses, b"k") == [False]


async def test_memory_is_bounded_and_what_is_too_large_is_not_kept():
    responses = Responses(Cache(max_mb=0.002))
    assert await turns(responses, b"a", b"b", b"a") == [False, False, False]
    assert await turns(Responses(Cache(max_mb=0.0001)), b"a", b"a") == [False, False]


async def test_a_leader_that_is_cancelled_leaves_its_place():
    responses = Responses(Cache())
    leading = asyncio.Event()

    async def lead():
        async with responses.ask(b"k"):
            leading.set()
            await asyncio.sleep(10)

    task = asyncio.create_task(lead())
    await leading.wait()
    following = asyncio.create_task(turns(responses, b"k"))
    await asyncio.sleep(0)
    task.cancel()
    assert await asyncio.wait_for(following, 1) == [False]
