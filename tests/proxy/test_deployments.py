"""Several deployments behind one alias, over HTTP: where calls go, and what is told of it."""

import asyncio
import contextlib
import pathlib
import time

import aiohttp
import openai
import pytest
from aiohttp import web

from policies.route import Hedge
from proxy.config import ConfigRefused, loads, render_check
from tests.proxy.ledger_rows import all_rows
from tests.proxy.scripted import Upstream, proxy

USER = [{"role": "user", "content": "How old?"}]
PROVIDER = (
    '  {name}: {{base_url: "{url}", timeouts: {{connect_s: 5, first_byte_s: 9, idle_s: 9, total_s: 20}}}}\n'
)
MODELS = """
  spread: {deployments: [{provider: eu, name: gpt-eu}, {provider: us}], price: {input: 1, output: 2}}
"""


def status(number, **headers):
    async def step(request, body):
        return web.json_response({"error": {"message": "no"}}, status=number, headers=headers)

    return step


@contextlib.asynccontextmanager
async def deployed(eu="fine", us="fine", **sections):
    """A proxy whose model `spread` is served by two upstreams, `app.eu` and `app.us`."""
    async with contextlib.AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(Upstream(step).running()) for step in (eu, us)]
        providers = PROVIDER.format(name="eu", url=one.url) + PROVIDER.format(name="us", url=two.url)
        models = sections.pop("models", "") + MODELS
        app = await stack.enter_async_context(proxy(one, providers=providers, models=models, **sections))
        app.eu, app.us = one, two
        yield app


async def ask(app, model="spread", **rest):
    """(the text, what was explained)."""
    answer = await app.client.chat.completions.create(
        model=model, messages=USER, extra_headers={"x-tailrace-explain": "1"}, **rest
    )
    return answer.choices[0].message.content, answer.model_extra["tailrace"]


async def scraped(app, family):
    async with aiohttp.ClientSession() as session, session.get(app.url + "/metrics") as got:
        lines = (await got.text()).splitlines()
    return {
        line.split(" ")[0].removeprefix(family): float(line.split(" ")[1])
        for line in lines
        if line.startswith(family + "{")
    }


async def test_calls_go_to_both_and_each_is_asked_by_its_own_name():
    async with deployed() as app:
        for _ in range(20):
            await ask(app)
        assert {body["model"] for body in app.eu.seen} == {"gpt-eu"}
        assert {body["model"] for body in app.us.seen} == {"spread"}
        assert len(app.eu.seen) + len(app.us.seen) == 20


async def test_ledger_metrics_and_explanation_name_the_deployment_that_answered():
    async with deployed(us=status(500)) as app:
        while not app.us.seen:
            text, told = await ask(app)
        assert text == "fine"
        assert [(a["deployment"], a.get("failure", {}).get("status")) for a in told["attempts"]] == [
            ("us/spread", 500),
            ("eu/gpt-eu", None),
        ]
        booked = [
            (r.alias, r.provider, r.model, r.purpose, r.status)
            for r in (await all_rows(app.services.store))[-2:]
        ]
        assert booked == [
            ("spread", "us", "spread", "answer", "failed"),
            ("spread", "eu", "gpt-eu", "retry", "ok"),
        ]
        counted = await scraped(app, "tailrace_deployment_attempts_total")
        assert counted['{deployment="us/spread",model="spread",result="status"}'] == 1
        assert counted['{deployment="eu/gpt-eu",model="spread",result="ok"}'] >= 1


@pytest.mark.parametrize("broken", [500, 429, 401, 404], ids=str)
async def test_what_one_refuses_another_answers_at_once(broken):
    async with deployed(us=status(broken, **{"retry-after": "30"})) as app:
        while not app.us.seen:
            began = time.monotonic()
            assert (await ask(app))[0] == "fine"
        assert time.monotonic() - began < 5  # and not the 30 s that it asked for


async def test_a_request_that_is_wrong_is_refused_once():
    async with deployed(eu=status(400), us=status(400)) as app:
        with pytest.raises(openai.BadRequestError):
            await ask(app)
        assert len(app.eu.seen) + len(app.us.seen) == 1


async def test_where_all_refuse_the_client_is_told_the_last_refusal():
    async with deployed(eu=status(500), us=status(503)) as app:
        with pytest.raises(openai.InternalServerError):
            await ask(app)
        assert (len(app.eu.seen), len(app.us.seen)) == (1, 1)


async def test_retry_after_of_one_holds_for_it_alone_and_as_long_as_it_says():
    async with deployed(us=status(429, **{"retry-after": "1"})) as app:
        while not app.us.seen:
            await ask(app)
        for _ in range(20):
            await ask(app)
        assert len(app.us.seen) == 1
        assert (await scraped(app, "tailrace_breaker_state"))['{model="spread",state="closed"}'] == 1


async def test_each_has_a_breaker_of_its_own():
    async with deployed(us=status(500)) as app:
        answers = await asyncio.gather(*(ask(app) for _ in range(40)))
        assert {text for text, _ in answers} == {"fine"}
        states = await scraped(app, "tailrace_deployment_breaker_state")
        assert states['{deployment="us/spread",model="spread",state="open"}'] == 1
        assert states['{deployment="eu/gpt-eu",model="spread",state="closed"}'] == 1
        assert (await scraped(app, "tailrace_breaker_state"))['{model="spread",state="closed"}'] == 1
        assert (await ask(app))[1]["attempts"][0]["deployment"] == "eu/gpt-eu"


async def test_a_provider_and_a_name_pin_one_of_them():
    async with deployed() as app:
        for _ in range(5):
            assert (await ask(app, "us/spread"))[0] == "fine"
        assert (len(app.eu.seen), len(app.us.seen)) == (0, 5)


async def test_a_pinned_one_is_within_its_models_retry_budget():
    async with deployed(us=status(500)) as app:
        while app.services.health.may_repeat("models/spread", time.monotonic()):
            pass
        with pytest.raises(openai.InternalServerError):
            await ask(app, "us/spread")
        assert len(app.us.seen) == 1


async def test_what_a_provider_stores_stays_at_the_first_and_the_rest_is_spread():
    async with (
        deployed(eu={"object": "x"}, us={"object": "x"}) as app,
        aiohttp.ClientSession() as session,
    ):

        async def post(path):
            async with session.post(f"{app.url}/v1/{path}", json={"model": "spread", "input": "hi"}) as got:
                assert got.status == 200

        for _ in range(20):
            await post("responses")
        assert app.eu.paths.count("/v1/responses") == 20
        for path in ("embeddings", "images/generations"):
            while f"/v1/{path}" not in app.us.paths or f"/v1/{path}" not in app.eu.paths:
                await post(path)


@pytest.mark.parametrize("broken", [500, 429, 401], ids=str)
async def test_pictures_that_one_refuses_another_makes(broken):
    async with deployed(eu={"object": "list"}, us=status(broken)) as app, aiohttp.ClientSession() as session:
        while not app.us.seen:
            body = {"model": "spread", "prompt": "hi"}
            async with session.post(f"{app.url}/v1/images/generations", json=body) as got:
                assert (got.status, (await got.json())["object"]) == (200, "list")
        last = (await all_rows(app.services.store))[-2:]
        assert [(r.number, r.provider, r.purpose, r.status) for r in last] == [
            (1, "us", "answer", "failed"),
            (2, "eu", "retry", "ok"),
        ]
        assert not any(load.in_work for load in app.services.health._loads.values())


async def test_a_refusal_of_every_deployment_passes_through():
    async with deployed(eu=status(500), us=status(500)) as app, aiohttp.ClientSession() as session:
        body = {"model": "spread", "prompt": "hi"}
        async with session.post(f"{app.url}/v1/images/generations", json=body) as got:
            assert (got.status, await got.json()) == (500, {"error": {"message": "no"}})
        assert (len(app.eu.seen), len(app.us.seen)) == (1, 1)


async def test_what_is_stored_is_not_made_elsewhere():
    async with deployed(eu=status(500), us={"object": "response"}) as app, aiohttp.ClientSession() as session:
        body = {"model": "spread", "input": "hi"}
        async with session.post(f"{app.url}/v1/responses", json=body) as got:
            assert got.status == 500
        assert app.us.seen == []


async def test_an_invalid_answer_is_asked_again_whichever_answers():
    routes = "  ages: {ladder: [spread], schema: age}"
    async with deployed(eu="no", us="no", routes=routes) as app:
        app.eu.script = app.us.script = ["no", '{"age": 7}']
        text, told = await ask(app, "ages")
        assert text == '{"age": 7}'
        assert [a["purpose"] for a in told["attempts"]] == ["answer", "reask"]


async def test_a_stream_that_breaks_before_it_speaks_is_taken_over():
    async def silent(request, body):
        out = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await out.prepare(request)
        request.transport.close()
        return out

    async with deployed(us=silent) as app:
        texts = []
        while not app.us.seen:
            stream = await app.client.chat.completions.create(model="spread", messages=USER, stream=True)
            texts.append("".join([c.choices[0].delta.content or "" async for c in stream if c.choices]))
        assert set(texts) == {"fine"}


async def test_budgets_hold_at_every_deployment():
    keys = "keys: [{name: a, key: sk-client-secret, budget: {usd: 0.000001, per: day}}]"
    async with deployed(us=status(500), more=keys) as app:
        with pytest.raises(openai.RateLimitError):
            await ask(app)
        assert app.eu.seen == app.us.seen == []


CONFIG = """
providers:
  a: {{base_url: "https://api.openai.com/v1"}}
  b: {{base_url: "http://127.0.0.1:9/v1"}}
models:
  m: {{{model}}}
routes: {{default: {{ladder: [m]}}}}
"""


def configured(model):
    return loads(CONFIG.format(model=model), name="t.yaml", environ={}, base_dir=".")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        pytest.param("name: x", "models.m.provider: is missing", id="neither"),
        pytest.param("provider: a, deployments: [{provider: b}]", "keep one of the two", id="both"),
        pytest.param("deployments: []", "models.m.deployments: is empty", id="none"),
        pytest.param("deployments: [{name: x}]", "deployments[0].provider: is missing", id="nowhere"),
        pytest.param("deployments: [{provider: c}]", "no provider of this name, got 'c'", id="unknown"),
        pytest.param(
            "deployments: [{provider: a}, {provider: a, name: m}]",
            "deployments[1]: the same place as deployments[0]",
            id="twice",
        ),
        pytest.param("deployments: [{provider: a, weight: 0}]", "weight: out of range", id="no-weight"),
    ],
)
def test_deployments_that_make_no_sense_are_refused(model, says):
    with pytest.raises(ConfigRefused) as refused:
        configured(model)
    assert says in str(refused.value)


def test_a_pattern_has_one_provider():
    with pytest.raises(ConfigRefused, match="lives at one `provider`"):
        loads(
            CONFIG.format(model="provider: a").replace(
                "models:", 'models:\n  "f-*": {deployments: [{provider: a}]}'
            ),
            name="t",
            environ={},
            base_dir=".",
        )


def test_prices_and_windows_are_those_of_the_first_that_the_book_knows():
    card = configured("name: gpt-4o, deployments: [{provider: b, weight: 2}, {provider: a}]").models["m"]
    assert (card.provider, card.price.input, card.window_tokens) == ("b", 2_500_000, 128_000)
    assert [(d.card.deployment, d.weight, d.card.price) for d in card.deployments] == [
        ("b/gpt-4o", 2, card.price),
        ("a/gpt-4o", 1, card.price),
    ]


def test_check_shows_the_deployments_and_warns_of_other_prices():
    text = render_check(
        configured(
            "name: gpt-4o, price: {input: 1, output: 1}, deployments: [{provider: b, weight: 2}, {provider: a}]"
        )
    )
    assert "m      b         gpt-4o  2" in text
    assert "model m: a/gpt-4o costs otherwise by the price book" in text


def test_the_example_of_the_docs_is_a_configuration():
    page = (pathlib.Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    example = page[page.index("## Several places for one model") :].split("```yaml\n")[1].split("```")[0]
    snapshot = loads(example, name="docs", environ={}, base_dir=".")
    assert [d.card.deployment for d in snapshot.models["big"].deployments] == ["eu/gpt-4o-eu", "us/gpt-4o"]
    assert snapshot.routes["default"].hedge == Hedge(2.0)
