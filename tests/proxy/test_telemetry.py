"""What the proxy counts of real traffic, and that clients cannot make series."""

import asyncio
import json
import pathlib
import re
from dataclasses import replace

import aiohttp
import openai
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from policies.cards import ModelCard, Price
from policies.chat import Usage
from policies.ladder import Attempt
from policies.saved import Saved
from proxy.app import App
from proxy.config import loads
from proxy.families import Families
from proxy.shared_series import Share
from proxy.telemetry import Telemetry
from tests.proxy.scripted import Upstream, chunks, config_text, proxy, reply

USER = [{"role": "user", "content": "How old?"}]
VALID, FENCED, INVALID = '{"age": 7}', '```json\n{"age": 7}\n```', '{"age": "old"}'


@pytest.fixture
async def upstream():
    async with Upstream("hello").running() as running:
        yield running


@pytest.fixture
async def app(upstream):
    budget = "\nkeys:\n  - {name: team, key: sk-client-secret, budget: {usd: 5}}\n"
    async with proxy(upstream, more=budget, models="  free: {provider: up, name: up-free}") as running:
        yield running


@pytest.fixture
async def plain(upstream):
    async with proxy(upstream) as running:
        yield running


async def ask(app, model, **rest):
    return await app.client.chat.completions.create(model=model, messages=USER, **rest)


KEY = {"authorization": "Bearer sk-client-secret"}


async def scraped(app):
    """Every sample of /metrics: {(name, labels as text): value}."""
    async with aiohttp.ClientSession() as session, session.get(f"{app.url}/metrics", headers=KEY) as r:
        text = await r.text()
    return samples(text)


def samples(text):
    order = {family.name.removesuffix("_total"): family.labels for family in Families()}
    return {
        (s.name, ",".join(s.labels[n] for n in (*order[family.name], "le") if n in s.labels)): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


async def test_the_way_of_a_request_up_the_ladder_is_counted(app, upstream):
    upstream.script = [INVALID, '{"years": 7}', FENCED]
    await ask(app, "age")
    got = await scraped(app)
    assert got["tailrace_attempts_total", "age,mini,answer,ok"] == 1
    assert got["tailrace_attempts_total", "age,mini,reask,ok"] == 1
    assert got["tailrace_attempts_total", "age,big,escalate,ok"] == 1
    assert got["tailrace_verdicts_total", "age,mini,invalid"] == 2
    assert got["tailrace_verdicts_total", "age,big,repaired"] == 1
    assert got["tailrace_answers_total", "age,big,escalated"] == 1
    assert any(name == "tailrace_repairs_total" and labels.startswith("big,") for name, labels in got)
    assert got["tailrace_tokens_total", "mini,input"] == 20
    assert got["tailrace_cost_usd_total", "age,big,escalate"] == 0.0002
    assert got["tailrace_lost_usd_total", "age,routing"] == 0.00004
    assert got["tailrace_requests_total", "age,200"] == 1


async def test_a_cheap_answer_is_a_saving(app, upstream):
    upstream.script = [VALID]
    await ask(app, "age")
    got = await scraped(app)
    assert got["tailrace_saved_usd_total", "age,routing"] == pytest.approx(0.00018)
    assert ("tailrace_lost_usd_total", "age,routing") not in got


async def test_metrics_and_ledger_come_to_the_same_cost_and_saving(app, upstream):
    upstream.script = [INVALID, '{"years": 7}', VALID, VALID, FENCED, INVALID, VALID, "hello"]
    for model in ("age", "age", "age", "age", "open"):
        await ask(app, model)
    upstream.script = [INVALID]
    with pytest.raises(openai.UnprocessableEntityError):
        await ask(app, "age")
    assert (await ask(app, "raw")).choices[0].message.content == INVALID
    await app.services.store.flush()
    total = (await app.services.store.usage(0, 2**62)).total
    got = await scraped(app)

    def summed(name):
        return round(sum(value for (n, _), value in got.items() if n == name) * 10**9)

    assert summed("tailrace_cost_usd_total") == total.cost_nanousd > 0
    net = summed("tailrace_saved_usd_total") - summed("tailrace_lost_usd_total")
    assert net == total.saved_nanousd != 0


async def test_opentelemetrys_names_tell_the_same(app, upstream):
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    upstream.script = [reply("hello", usage=usage)]
    await ask(app, "mini")
    got = await scraped(app)
    called = "chat,up,up-mini"
    prefix = "gen_ai_client_inference_usage"
    assert got[f"{prefix}_input_tokens_total", f"{called},unknown"] == 10
    assert got[f"{prefix}_output_tokens_total", f"{called},unknown"] == 5
    assert got[f"{prefix}_cache_read_input_tokens_total", f"{called},unknown"] == 4
    assert got[f"{prefix}_reasoning_output_tokens_total", f"{called},unknown"] == 2
    assert got["gen_ai_client_token_usage_sum", f"{called},input"] == 10
    assert got["gen_ai_client_operation_duration_seconds_count", f"{called},"] == 1


async def test_unpriced_calls_are_counted_apart_and_cost_nothing_known(app, upstream):
    before = await scraped(app)
    assert before["tailrace_unpriced_attempts_total", "free"] == 0
    open_ = app.services.ready.snapshot.models["free"]
    assert open_.price is None
    app.services.telemetry.attempt_ended(
        "x", "default", open_, "chat/completions", Attempt(1, "free", "answer", usage=Usage(1, 1))
    )
    got = await scraped(app)
    assert got["tailrace_unpriced_attempts_total", "free"] == 1
    assert got["tailrace_cost_usd_total", "default,free,answer"] == 0


async def test_waiting_for_the_upstream_is_not_our_overhead(plain, upstream):
    async def slow(request, body):
        await asyncio.sleep(0.3)
        return web.json_response(reply("hello"))

    async def slow_stream(request, body):
        out = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await out.prepare(request)
        for text in ("a", "b"):
            await asyncio.sleep(0.15)
            event = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
            await out.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        await out.write(b"data: " + json.dumps(end).encode() + b"\n\ndata: [DONE]\n\n")
        return out

    upstream.script = [slow]
    await ask(plain, "mini")
    upstream.script = [slow_stream]
    async for _ in await ask(plain, "open", stream=True):
        pass
    got = await scraped(plain)
    for route in ("default", "open"):
        assert got["tailrace_request_seconds_sum", route] >= 0.3
        assert got["tailrace_overhead_seconds_count", route] == 1
        upstream_s = got["tailrace_request_seconds_sum", route] - got["tailrace_overhead_seconds_sum", route]
        assert upstream_s >= 0.29
    first, whole = (
        got["tailrace_first_token_seconds_sum", "open"],
        got["tailrace_request_seconds_sum", "open"],
    )
    assert 0.14 <= first <= whole - 0.14


async def test_a_client_that_leaves_is_counted_under_its_route(app, upstream):
    async def never(request, body):
        await asyncio.sleep(30)

    upstream.script = [never]
    leaving = asyncio.create_task(ask(app, "age"))
    while not upstream.seen:
        await asyncio.sleep(0.01)
    leaving.cancel()
    for _ in range(100):
        got = await scraped(app)
        if ("tailrace_requests_total", "age,499") in got:
            break
        await asyncio.sleep(0.05)
    assert got["tailrace_requests_total", "age,499"] == 1
    assert got["tailrace_attempts_total", "age,mini,cancelled,gone"] == 1
    assert got["tailrace_requests_in_flight", ""] == 1  # the scrape itself


async def test_a_stream_that_fails_after_its_status_counts_as_that_failure(app, upstream):
    async def cut(request, body):
        return await Upstream.stream(request, list(chunks("hello there"))[:3], b"")

    upstream.script = [cut]
    with pytest.raises(openai.APIError, match="ended before"):
        async for _ in await ask(app, "open", stream=True):
            pass
    got = await scraped(app)
    assert got["tailrace_requests_total", "open,502"] == 1
    assert ("tailrace_requests_total", "open,200") not in got


async def test_a_stream_that_the_end_of_the_process_cut_counts_as_unavailable(plain, upstream):
    async def endless(request, body):
        await Upstream.stream(request, list(chunks("hello there"))[:3], b"")
        await asyncio.sleep(30)

    upstream.script = [endless]
    plain.reload(
        replace(snapshot := plain.services.ready.snapshot, server=replace(snapshot.server, drain_s=0.1))
    )
    stream = await ask(plain, "open", stream=True)
    await anext(stream)
    await plain.drain()
    with pytest.raises(openai.APIError, match="shutting down"):
        async for _ in stream:
            pass
    for _ in range(100):
        got = samples(plain.services.telemetry.render().decode())
        if not got["tailrace_requests_in_flight", ""]:
            break
        await asyncio.sleep(0.02)
    assert got["tailrace_requests_total", "open,503"] == 1


async def test_budgets_are_shown_with_what_is_spent(app):
    await ask(app, "mini")
    got = await scraped(app)
    assert got["tailrace_budget_limit_usd", "key,team,day"] == 5
    assert got["tailrace_budget_spent_usd", "key,team,day"] == pytest.approx(0.00002)
    assert got["tailrace_budget_reset_timestamp_seconds", "key,team,day"] % 86400 == 0


async def test_a_budget_that_is_gone_from_the_configuration_is_gone_from_the_metrics(app):
    assert ("tailrace_budget_limit_usd", "key,team,day") in await scraped(app)
    snapshot = app.services.ready.snapshot
    app.reload(
        loads(
            config_text("http://127.0.0.1:1"),
            name="t",
            environ={},
            base_dir=".",
        )
    )
    assert ("tailrace_budget_limit_usd", "key,team,day") not in await scraped(app)
    app.reload(snapshot)


async def test_a_breaker_is_closed_until_told_otherwise(app):
    assert (await scraped(app))["tailrace_breaker_state", "mini,closed"] == 1
    app.services.telemetry.breaker("mini", "open")
    got = await scraped(app)
    assert (got["tailrace_breaker_state", "mini,closed"], got["tailrace_breaker_state", "mini,open"]) == (
        0,
        1,
    )
    app.reload(app.services.ready.snapshot)
    assert (await scraped(app))["tailrace_breaker_state", "mini,open"] == 1


async def test_ten_thousand_invented_names_make_no_series(plain, upstream):
    """Models, routes, users, paths and endpoints: what of them can be asked over HTTP, then what reaches the counters."""

    async def invented(name):
        headers = {"authorization": "Bearer sk-client-secret", "x-tailrace-run": name}
        body = {"messages": USER, "user": name}
        async with aiohttp.ClientSession(headers=headers) as session:
            for model in (f"fx-{name}", name, f"up/{name}"):
                async with session.post(
                    f"{plain.url}/v1/chat/completions", json=body | {"model": model}
                ) as r:
                    await r.read()
            for path in (f"/r/{name}/v1/chat/completions", f"/v1/{name}", f"/{name}"):
                async with session.post(plain.url + path, json=body) as r:
                    await r.read()

    await invented("first")
    await scraped(plain)
    before = (await scraped(plain)).keys()
    for n in range(10):
        await invented(f"other-{n}")
    telemetry, snapshot = plain.services.telemetry, plain.services.ready.snapshot
    for n in range(10_000):
        for name in (f"fx-{n}", f"up/m{n}"):
            card = snapshot.card_for(name)
            attempt = Attempt(1, name, "answer", usage=Usage(1, 1), cost_nanousd=1)
            telemetry.attempt_ended("x", "default", card, "chat/completions", attempt)
    assert (await scraped(plain)).keys() == before


async def test_secrets_and_prompts_are_in_no_metric(app, upstream):
    upstream.script = [VALID]
    await ask(app, "age")
    async with aiohttp.ClientSession() as session, session.get(f"{app.url}/metrics", headers=KEY) as r:
        text = await r.text()
    assert not re.search(r"secret|How old|127\.0\.0\.1", text)


async def test_two_workers_tell_the_same_sum(upstream, tmp_path):
    text = config_text(upstream.url)
    apps = [
        App(loads(text, name="t", environ={}, base_dir="."), environ={}, share=Share(tmp_path, place))
        for place in (0, 1)
    ]
    try:
        for app in apps:
            await app.start()
            host, port = await app.listen("127.0.0.1", 0)
            app.url = f"http://{host}:{port}"
        async with aiohttp.ClientSession() as session:
            for app, times in zip(apps, (1, 2), strict=True):
                for _ in range(times):
                    body = {"model": "mini", "messages": USER}
                    async with session.post(f"{app.url}/v1/chat/completions", json=body) as r:
                        assert r.status == 200
        for app in apps:
            for _ in range(60):
                if (await scraped(app))["tailrace_requests_total", "default,200"] == 3:
                    break
                await asyncio.sleep(0.05)
            assert (await scraped(app))["tailrace_requests_total", "default,200"] == 3
    finally:
        for app in apps:
            await app.drain()
            await app.close()


def test_every_family_is_described_on_its_page_with_kind_and_labels():
    page = (pathlib.Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    described = {r[0].strip("`"): (r[1], tuple(re.findall(r"`(\w+)`", r[2]))) for r in rows}
    assert described == {family.name: (family.kind, family.labels) for family in Families()}


def test_every_sign_of_a_lever_has_its_counter():
    telemetry = Telemetry()
    telemetry.exchange_ended("r", "m", "valid", Saved(routing=-3 * 10**9, trimming=2 * 10**9))
    telemetry.exchange_ended("r", "m", "valid", Saved(routing=5 * 10**9))
    got = samples(telemetry.render().decode())
    assert got["tailrace_saved_usd_total", "r,routing"] == 5
    assert got["tailrace_lost_usd_total", "r,routing"] == 3
    assert got["tailrace_saved_usd_total", "r,trimming"] == 2


def test_two_apps_do_not_see_each_other():
    one, other = Telemetry(), Telemetry()
    card = ModelCard("mini", "up", "m", Price(1, 1))
    one.attempt_ended("x", "r", card, "completions", Attempt(1, "mini", "answer", usage=Usage(1, 1)))
    assert b'route="r"' in one.render()
    assert b'route="r"' not in other.render()
