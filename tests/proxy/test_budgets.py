"""Budgets and rates over HTTP: held before a call, settled after, never overshot."""

import asyncio
import json

import openai
import pytest

from policies.cards import ModelCard, Price
from policies.limits import BudgetRule, Granted, RateRule, Refused
from proxy.budgets import UNKNOWN_MAX_OUTPUT, asked_output, ceiling, refusal_of, rules_of, with_bound
from proxy.wire.errors import from_failure
from tests.proxy.scripted import Upstream, chunks, proxy, reply

USER = [{"role": "user", "content": "hi"}]
CARD = ModelCard("m", "p", "m", Price(1_000_000, 2_000_000), max_output_tokens=100)


def keys(**limits):
    fields = ", ".join(f"{k}: {v}" for k, v in limits.items())
    return f"keys:\n  - {{name: team, key: sk-client-secret, {fields}}}\n"


async def ask(app, model="mini", **rest):
    return await app.client.chat.completions.create(model=model, messages=USER, **rest)


async def test_parallel_requests_cannot_overshoot_a_budget():
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}

    async def slow(request, body):
        await asyncio.sleep(0.3)
        from aiohttp import web

        return web.json_response(reply("hi", usage=usage))

    # Each call may cost at most 9 prompt tokens + 5 answer tokens; the budget holds ten of those.
    async with Upstream(slow).running() as upstream:
        async with proxy(upstream, keys(budget="{usd: 0.0002, per: day}")) as app:
            results = await asyncio.gather(
                *(ask(app, max_tokens=6) for _ in range(64)), return_exceptions=True
            )
            passed = [r for r in results if not isinstance(r, Exception)]
            assert all(isinstance(r, openai.RateLimitError) for r in results if isinstance(r, Exception))
            assert len(passed) == len(upstream.seen)
            await app.services.store.flush()
            report = await app.services.store.usage(0, 2**62)
            assert 0 < report.total.cost_nanousd <= 200_000
            assert len(passed) == 10


async def test_a_spent_budget_is_insufficient_quota_without_retry():
    async with Upstream("hi").running() as upstream, proxy(upstream, keys(budget="{usd: 0.00002}")) as app:
        await ask(app, max_tokens=5)
        with pytest.raises(openai.RateLimitError) as caught:
            await ask(app, max_tokens=5)
        assert caught.value.code == "insufficient_quota"
        assert "team" in caught.value.message
        assert caught.value.response.headers["x-should-retry"] == "false"


async def test_a_rate_is_a_429_that_tells_when():
    async with Upstream("hi").running() as upstream, proxy(upstream, keys(rpm=2)) as app:
        await ask(app)
        await ask(app)
        with pytest.raises(openai.RateLimitError) as caught:
            await ask(app)
        assert caught.value.code == "rate_limit_exceeded"
        assert int(caught.value.response.headers["retry-after"]) >= 1
        assert len(upstream.seen) == 2


async def test_an_unpriced_model_is_refused_where_a_budget_depends_on_it():
    async with Upstream("hi").running() as upstream, proxy(upstream, keys(budget="{usd: 1}")) as app:
        with pytest.raises(openai.RateLimitError, match="price is unknown"):
            await ask(app, "fx-free")
        assert upstream.seen == []


async def test_a_stream_is_cut_within_a_chunk_of_its_ceiling():
    async def endless(request, body):
        return await Upstream.stream(request, chunks("abc" * 5000, size=3))

    async with Upstream(endless).running() as upstream:
        async with proxy(upstream, keys(budget="{usd: 0.0002}")) as app:
            stream = await ask(app, stream=True)
            received = [c async for c in stream]
            await app.services.store.flush()
            report = await app.services.store.usage(0, 2**62)
    spoken = [c for c in received if c.choices[0].delta.content]
    assert received[-1].choices[0].finish_reason == "length"
    limit = upstream.seen[0]["max_tokens"]
    assert limit <= len(spoken) <= limit + 1
    assert report.total.cost_nanousd <= 200_000


async def test_a_failed_call_gives_back_what_it_held():
    from aiohttp import web

    refused = web.json_response({"error": {"message": "no"}}, status=400)
    async with Upstream(refused, "hi").running() as upstream:
        async with proxy(upstream, keys(budget="{usd: 0.00003}")) as app:
            with pytest.raises(openai.BadRequestError):
                await ask(app, max_tokens=8)
            await ask(app, max_tokens=8)


async def test_routes_and_runs_have_budgets():
    routes = "  tight: {ladder: [mini], budget: {usd: 0.00002}, run_budget: {usd: 0.00001}}"
    async with Upstream("hi").running() as upstream, proxy(upstream, routes=routes) as app:
        with pytest.raises(openai.RateLimitError, match="run 'r1'"):
            await ask(app, "tight", max_tokens=5, extra_headers={"X-Tailrace-Run": "r1"})
        await ask(app, "tight", max_tokens=5)
        with pytest.raises(openai.RateLimitError, match="route 'tight'"):
            await ask(app, "tight", max_tokens=5)


async def test_what_was_saved_is_told_and_booked():
    invalid = '{"age": "x"}'
    async with Upstream('{"age": 1}').running() as upstream, proxy(upstream) as app:
        raw = await app.client.chat.completions.with_raw_response.create(model="age", messages=USER)
        assert raw.headers["x-tailrace-saved-usd"] == "0.00018"  # big would have cost ten times as much
        upstream.script = [invalid, invalid, '{"age": 1}']
        raw = await app.client.chat.completions.with_raw_response.create(model="age", messages=USER)
        assert raw.headers["x-tailrace-saved-usd"] == "-0.00004"  # two calls in vain
        upstream.script = [invalid]
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            await ask(app, "age")
        assert caught.value.response.headers["x-tailrace-saved-usd"] == "-0.00044"
        raw = await app.client.chat.completions.with_raw_response.create(model="raw", messages=USER)
        assert raw.headers["x-tailrace-saved-usd"] == "0"  # what a client without us would have got, and paid
        await app.services.store.flush()
        report = await app.services.store.usage(0, 2**62)
        assert report.total.saved_nanousd == 180_000 - 40_000 - 440_000


OUTPUTS = [
    ({}, 100),
    ({"max_tokens": 7}, 7),
    ({"max_completion_tokens": 9, "max_tokens": 7}, 9),
    ({"max_tokens": 7, "n": 3}, 21),
    ({"max_tokens": "x", "n": True}, 100),
    ({"max_completion_tokens": None, "max_tokens": 7}, 7),
    ({"max_tokens": 7, "n": 2, "best_of": 5}, 35),
    ({"max_output_tokens": 11}, 11),
]


@pytest.mark.parametrize(("doc", "tokens"), OUTPUTS, ids=[json.dumps(o[0]) for o in OUTPUTS])
def test_the_most_an_answer_can_have(doc, tokens):
    assert asked_output(doc, CARD) == tokens


def test_embeddings_write_nothing():
    assert asked_output({}, CARD, "embeddings") == 0


BOUNDS = [
    ({}, "chat/completions", False, {"max_tokens": 12}),
    ({}, "chat/completions", True, {"max_completion_tokens": 12}),
    ({"max_completion_tokens": 50}, "chat/completions", False, {"max_completion_tokens": 12}),
    ({"n": 3}, "chat/completions", False, {"max_tokens": 4}),
    ({"n": 100}, "chat/completions", False, {"max_tokens": 1}),
    ({}, "responses", True, {"max_output_tokens": 12}),
]


@pytest.mark.parametrize(("doc", "endpoint", "newer", "change"), BOUNDS, ids=[str(b[3]) for b in BOUNDS])
def test_a_bound_is_said_in_the_requests_own_words_and_for_each_choice(doc, endpoint, newer, change):
    assert with_bound(doc, endpoint, 12, newer=newer) == change


async def test_choices_share_what_a_budget_leaves():
    async with Upstream("hi").running() as upstream, proxy(upstream, keys(budget="{usd: 0.0002}")) as app:
        await ask(app, n=3)
    [sent] = upstream.seen
    assert 3 * sent["max_tokens"] * 2_000 <= 200_000


async def test_an_embedding_under_a_budget_is_asked_as_it_came():
    upstream = Upstream({"object": "list", "data": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}})
    async with upstream.running(), proxy(upstream, keys(budget="{usd: 0.0002}")) as app:
        await app.client.embeddings.create(model="mini", input="x", encoding_format="float")
    assert "max_tokens" not in upstream.seen[0]


async def test_a_stream_that_ignores_its_own_limit_is_cut_there():
    async def endless(request, body):
        return await Upstream.stream(request, chunks("abc" * 5000, size=3))

    async with Upstream(endless).running() as upstream, proxy(upstream, keys(budget="{usd: 1}")) as app:
        received = [c async for c in await ask(app, stream=True, max_tokens=20)]
    assert received[-1].choices[0].finish_reason == "length"
    assert len([c for c in received if c.choices[0].delta.content]) <= 21


def test_an_unknown_model_may_write_much():
    assert asked_output({}, ModelCard("m", "p", "m")) == UNKNOWN_MAX_OUTPUT


def test_a_ceiling_is_what_the_grant_leaves_after_the_prompt_and_one_token_to_see_it_passed():
    assert ceiling(Granted(30_000), CARD, 10, 100) == 9
    assert ceiling(Granted(10**9), CARD, 10, 100) == 100
    assert ceiling(Granted(210_000), CARD, 10, 100) == 100
    assert ceiling(Granted(None), CARD, 10, 100) is None


def test_without_limits_there_are_no_rules():
    from policies.route import Route

    assert rules_of(None, Route("r", ("m",)), "run") == ((), ())


REFUSALS = [
    (Refused("spent", BudgetRule("key", "k", 10**9), None), "insufficient_quota", "x-should-retry"),
    (Refused("spent", BudgetRule("key", "k", 10**9), 3600.0), "insufficient_quota", "x-should-retry"),
    (Refused("held", BudgetRule("key", "k", 10**9), 1.0), "insufficient_quota", "retry-after"),
    (Refused("tokens", RateRule("key", "k", "tokens", 5), 0.2), "rate_limit_exceeded", "retry-after"),
]


@pytest.mark.parametrize(("refused", "code", "header"), REFUSALS, ids=["spent", "next-day", "held", "rate"])
def test_refusals_in_openais_words(refused, code, header):
    error = from_failure(refusal_of(refused), retried=False)
    assert (error.status, error.code) == (429, code)
    assert header in dict(error.headers)
    assert "'k'" in error.message
