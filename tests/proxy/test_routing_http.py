"""Routing over HTTP: what the words of a route do to live traffic."""

import openai
import pytest
from aiohttp import web

from tests.proxy.scripted import Upstream, chunks, proxy, reply

USER = [{"role": "user", "content": "How old?"}]


def by_model(**answers):
    """A step that answers each model as told: a text, a status, or an async function of (request, body)."""

    async def step(request, body):
        said = answers[body["model"].removeprefix("up-")]
        if callable(said):
            return await said(request, body)
        if isinstance(said, int):
            return web.Response(status=said, text="no")
        if body.get("stream"):
            return await Upstream.stream(request, chunks(said))
        return web.json_response(reply(said))

    return step


async def ask(app, model, **rest):
    """(the text, the headers, what was explained)."""
    raw = await app.client.chat.completions.with_raw_response.create(
        model=model, messages=USER, extra_headers={"x-tailrace-explain": "1"}, **rest
    )
    answer = raw.parse()
    return answer.choices[0].message.content, raw.headers, answer.model_extra["tailrace"]


async def streamed(app, model, **rest):
    stream = await app.client.chat.completions.create(model=model, messages=USER, stream=True, **rest)
    return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])


def models_of(upstream):
    return [body["model"].removeprefix("up-") for body in upstream.seen]


async def test_a_ladder_begins_at_its_first_healthy_model():
    async with Upstream(by_model(mini=500, big="fine")).running() as upstream, proxy(upstream) as app:
        for _ in range(5):
            await ask(app, "open")
        upstream.seen.clear()
        text, headers, told = await ask(app, "open")
        assert text == "fine"
        assert models_of(upstream) == ["big"]
        assert headers["x-tailrace-attempts"] == "1"
        assert any(r["fact"] == "health" and "mini" in r["says"] for r in told["decision"])


async def test_a_pattern_has_a_breaker_for_each_of_its_names():
    answers = {"fx-a": 500, "fx-b": "fine"}
    async with Upstream(by_model(**answers)).running() as upstream, proxy(upstream) as app:
        for _ in range(5):
            with pytest.raises(openai.APIStatusError):
                await ask(app, "fx-a")
        assert (await ask(app, "fx-b"))[0] == "fine"


async def test_where_no_model_is_healthy_the_client_is_told_when_to_come_again():
    async with Upstream(by_model(mini=500)).running() as upstream, proxy(upstream) as app:
        for _ in range(5):
            with pytest.raises(openai.APIStatusError):
                await ask(app, "default")
        upstream.seen.clear()
        with pytest.raises(openai.InternalServerError) as caught:
            await ask(app, "default")
        assert caught.value.status_code == 503
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 5
        assert upstream.seen == []
