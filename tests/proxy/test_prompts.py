"""No attempt sends more than its model's window holds: a model with less room gets less, or says which parts are too much."""

import asyncio
import json

import openai
import pytest
from aiohttp import web

from proxy.counters import Counter
from tests.proxy.scripted import Upstream, proxy, reply

MODELS = """
  wide: {provider: up, name: up-wide, window_tokens: 4000, price: {input: 1, output: 1}}
  narrow: {provider: up, name: up-narrow, window_tokens: 700, price: {input: 1, output: 1}}
"""
ROUTES = """
  climb: {ladder: [wide, narrow], context: {policy: relevant, budget_tokens: 3000}}
  checked: {ladder: [wide, narrow], schema: age, repair: {reask: 0}, context: {policy: relevant, budget_tokens: 3000}}
  asked: {ladder: [narrow], schema: age, context: {policy: relevant}}
  last: {ladder: [wide, narrow], context: {policy: recent}}
  alone: {ladder: [narrow], context: {policy: relevant}}
  first: {ladder: [narrow, wide], context: {policy: relevant}}
  whole: {ladder: [narrow]}
  whole-climb: {ladder: [wide, narrow]}
"""
FACT = "The invoice number is INV-7731."
QUESTION = {"role": "user", "content": "What is the invoice number?"}
COUNTER = Counter()
COUNTER.warm()  # not in the event loop


def talk(turns):
    """A long talk whose first turn holds the fact, about 30 tokens a turn."""
    messages = [{"role": "system", "content": "You remember."}]
    for n in range(turns):
        said = FACT if n == 0 else f"Remark {n}: the weather over the hills was changing all day long."
        messages += [
            {"role": "user", "content": said},
            {"role": "assistant", "content": f"Noted, number {n}."},
        ]
    return messages


def busy():
    return web.json_response({"error": {"message": "busy"}}, status=503)


@pytest.fixture
async def app():
    async with Upstream("ok").running() as upstream, proxy(upstream, routes=ROUTES, models=MODELS) as running:
        running.upstream = upstream
        yield running


def by_model(app):
    return {body["model"]: body for body in app.upstream.seen}


def tokens(body):
    return COUNTER.count_messages(body["messages"], body.get("tools") or ()).total


async def ask(app, route, messages, **more):
    return await app.client.chat.completions.with_raw_response.create(model=route, messages=messages, **more)


async def test_a_fallback_to_a_smaller_window_gets_its_own_trim(app):
    app.upstream.script = [busy(), busy(), "ok"]
    raw = await ask(app, "climb", [*talk(60), QUESTION])
    wide, narrow = by_model(app)["up-wide"], by_model(app)["up-narrow"]
    assert tokens(narrow) < 700 < tokens(wide)
    assert FACT in json.dumps(narrow["messages"])
    assert narrow["messages"][-1] == QUESTION
    told = dict(part.split("=") for part in raw.headers["x-tailrace-context"].split(";"))
    assert int(told["out"]) == tokens(narrow)


async def test_an_escalation_to_a_smaller_window_gets_its_own_trim(app):
    app.upstream.script = ["no json", '{"age": 7}']
    await ask(app, "checked", [*talk(60), QUESTION])
    assert tokens(by_model(app)["up-narrow"]) < 700


async def test_a_correction_that_makes_the_prompt_too_long_is_made_room_for(app):
    app.upstream.script = ["no json " * 60, '{"age": 7}']
    await ask(app, "asked", [*talk(60), QUESTION])
    corrected = app.upstream.seen[1]["messages"]
    assert tokens(app.upstream.seen[1]) < 700
    assert QUESTION in corrected
    assert "no json" in corrected[-2]["content"]
    assert corrected[-1]["role"] == "user"


async def test_the_last_messages_that_fit_where_the_route_says_recent(app):
    app.upstream.script = [busy(), busy(), "ok"]
    await ask(app, "last", [*talk(60), QUESTION])
    assert tokens(by_model(app)["up-narrow"]) < 700
    assert len(by_model(app)["up-wide"]["messages"]) == 122


async def test_tool_definitions_and_the_answers_bound_take_room(app):
    tools = [
        {
            "type": "function",
            "function": {"name": f"look_{n}", "description": "Look it up. " * 10, "parameters": {}},
        }
        for n in range(4)
    ]
    await ask(app, "alone", [*talk(60), QUESTION], tools=tools, max_tokens=200)
    assert tokens(app.upstream.seen[-1]) <= 500


LONG = {"role": "system", "content": "Always be kind. " * 250}


@pytest.mark.parametrize(
    ("route", "messages", "part"),
    [
        ("alone", [LONG, QUESTION], "instructions 1"),
        ("first", [LONG | {"content": "Always be kind. " * 1500}, QUESTION], "instructions 6"),
        ("whole", [*talk(60), QUESTION], "question 1"),
    ],
    ids=["one-model", "a-ladder", "a-route-that-drops-nothing"],
)
async def test_what_does_not_fit_is_named(app, route, messages, part):
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(app, route, messages)
    assert refused.value.code == "context_length_exceeded"
    assert part in refused.value.message
    assert app.upstream.seen == []


async def test_a_model_that_is_too_small_for_what_must_stay_is_passed_over(app):
    await ask(app, "first", [LONG, QUESTION])
    assert [body["model"] for body in app.upstream.seen] == ["up-wide"]


async def test_an_upstreams_own_failure_is_told_rather_than_that_the_next_model_is_small(app):
    app.upstream.script = [busy(), busy(), busy()]
    with pytest.raises(openai.InternalServerError) as failed:
        await ask(app, "whole-climb", [*talk(60), QUESTION])
    assert failed.value.status_code == 503
    assert {body["model"] for body in app.upstream.seen} == {"up-wide"}


async def test_a_budget_that_what_must_stay_exceeds_yields_to_the_window():
    routes = "  tight: {ladder: [narrow], context: {policy: relevant, budget_tokens: 60}}"
    async with Upstream("ok").running() as upstream, proxy(upstream, routes=routes, models=MODELS) as app:
        app.upstream = upstream
        rules = {"role": "system", "content": "Always be kind. " * 40}
        await ask(app, "tight", [rules, *talk(60)[1:], QUESTION])
        assert tokens(upstream.seen[0]) < 700
        assert upstream.seen[0]["messages"][0] == rules


async def test_a_model_whose_tokens_are_shorter_gets_fewer_of_ours(app):
    """A tokenizer that needs 30 % more: learned from usage of prompts that went as they came."""

    async def verbose(request, body):
        used = {"prompt_tokens": int(tokens(body) * 1.3), "completion_tokens": 1, "total_tokens": 1}
        return web.json_response(reply("ok") | {"usage": used})

    app.upstream.script = [verbose]
    await ask(app, "alone", [*talk(60), QUESTION])
    assert 1.3 * tokens(app.upstream.seen[-1]) > 700
    for n in range(20):
        await ask(app, "alone", talk(n + 3))
    assert app.services.counter.factor("narrow") == pytest.approx(1.3, rel=0.03)
    await ask(app, "alone", [*talk(60), QUESTION])
    assert 1.3 * tokens(app.upstream.seen[-1]) <= 700


async def test_the_vocabulary_is_loaded_before_the_first_request_where_a_route_trims(app):
    app.warm()
    async with asyncio.timeout(10):
        while "not loaded" in repr(app.services.counter):
            await asyncio.sleep(0.02)
