"""What left a prompt is summarised in the background by a cheap model, booked, and taken up at the next trim."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from proxy import aftermath
from proxy.summaries import MOST_AT_ONCE, Summaries
from tests.proxy.scripted import Upstream, proxy, reply
from tests.proxy.test_conversations import history

ROUTES = """
  notes: {ladder: [big], context: {policy: relevant, budget_tokens: 400, summary: {model: mini, max_tokens: 60}}}
"""
NOTES = "Remarks 30 and 41 were about the weather, as were the others."
KEYS = "keys:\n  - {{name: team, key: sk-client-secret, admin: true, budget: {{usd: {usd}, per: day}}}}\n"


def answering(notes, *, seen=None):
    """The strong model says ok, the cheap one writes `notes`: a text, or an async function."""

    async def step(request, body):
        if body["model"] == "up-big":
            return web.json_response(reply("ok"))
        if seen is not None:
            seen.append(body)
        if callable(notes):
            return await notes(request, body)
        return web.json_response(reply(notes, usage={"prompt_tokens": 800, "completion_tokens": 20}))

    return step


async def ask(app, turns, question):
    messages = [*history(turns), {"role": "user", "content": question}]
    raw = await app.client.chat.completions.with_raw_response.create(model="notes", messages=messages)
    return raw.headers


async def booked(app, purpose="summary"):
    """The rows of this purpose, once there are some."""
    for _ in range(150):
        await app.services.store.flush()
        found = [row async for row in app.services.store.rows(0, 2**62) if row.purpose == purpose]
        if found and not app.services.summaries._writing:
            return found
        await asyncio.sleep(0.02)
    return []


def sent_to_big(upstream):
    return [body for body in upstream.seen if body["model"] == "up-big"][-1]["messages"]


async def test_notes_are_written_booked_and_stand_in_the_next_prompt():
    seen = []
    async with (
        Upstream(answering(NOTES, seen=seen)).running() as upstream,
        proxy(upstream, routes=ROUTES) as app,
    ):
        headers = await ask(app, 60, "How is the dog called?")
        (row,) = await booked(app)
        assert row.exchange == headers["x-tailrace-request-id"]
        assert (row.alias, row.route, row.status, row.verdict) == ("mini", "notes", "ok", "valid")
        assert row.cost_nanousd == 800 * 1_000 + 20 * 2_000
        assert row.saved_trimming == -row.cost_nanousd
        assert seen[0]["max_tokens"] == 60
        assert "Remark 30" in seen[0]["messages"][1]["content"]
        headers = await ask(app, 61, "What is the invoice number?")
        sent = sent_to_big(upstream)
        assert sent[1]["role"] == "user"
        assert sent[1]["content"].startswith("[Summary, written by a model, of ")
        assert sent[1]["content"].endswith(NOTES)
        told = dict(part.split("=") for part in headers["x-tailrace-context"].split(";"))
        assert int(told["out"]) <= 400


async def test_the_ledger_and_the_metrics_tell_what_summaries_cost():
    async with Upstream(answering(NOTES)).running() as upstream, proxy(upstream, routes=ROUTES) as app:
        await ask(app, 60, "How is the dog called?")
        await booked(app)
        async with aiohttp.ClientSession() as client:
            async with client.get(f"{app.url}/v1/usage?by=purpose") as answer:
                rows = {row["purpose"]: row for row in (await answer.json())["data"]}
            async with client.get(f"{app.url}/metrics") as answer:
                metrics = await answer.text()
            async with client.get(f"{app.url}/ui/data") as answer:
                (shown,) = (await answer.json())["recent"]
        assert rows["summary"]["cost_usd"] == "0.00084"
        assert 'purpose="summary",result="ok"' in metrics
        assert shown["outcome"] == "answered"
        assert shown["saved_by"]["trimming"] != "0"


async def test_notes_with_a_figure_of_their_own_are_refused_booked_and_not_asked_for_again():
    seen = []
    made_up = answering("The invoice is INV-7732.", seen=seen)
    async with Upstream(made_up).running() as upstream, proxy(upstream, routes=ROUTES) as app:
        await ask(app, 60, "How is the dog called?")
        (row,) = await booked(app)
        assert (row.status, row.verdict, row.cost_nanousd) == ("ok", "invalid", 840_000)
        await ask(app, 60, "How is the dog called?")
        await asyncio.sleep(0.1)
        assert not any("Summary" in m["content"] for m in sent_to_big(upstream))
        assert len(seen) == 1


async def test_the_same_span_is_summarised_once():
    seen = []
    async with (
        Upstream(answering(NOTES, seen=seen)).running() as upstream,
        proxy(upstream, routes=ROUTES) as app,
    ):
        await ask(app, 60, "How is the dog called?")
        await booked(app)
        app.services.conversations._summaries.clear()
        for _ in range(2):
            await ask(app, 60, "How is the dog called?")
            await asyncio.sleep(0.1)
        assert len(seen) == 1
        assert "Summary" in sent_to_big(upstream)[1]["content"]


async def hang(request, body):
    await asyncio.sleep(8)


async def test_a_summary_delays_nobody_and_there_is_one_at_a_time():
    seen, late = [], asyncio.Event()

    async def wait(request, body):
        await late.wait()
        return web.json_response(reply(NOTES))

    async with Upstream(answering(wait, seen=seen)).running() as upstream:
        patient = f'  patient: {{base_url: "{upstream.url}", timeouts: {{first_byte_s: 60}}}}'
        models = "  scribe: {provider: patient, name: up-mini, price: {input: 1, output: 2}}"
        routes = ROUTES.replace("model: mini", "model: scribe")
        async with proxy(upstream, routes=routes, models=models, providers=patient) as app:
            for turns in (60, 70, 80):
                await ask(app, turns, "How is the dog called?")  # answered, though no summary ever is
            assert len(seen) <= 1
            assert app.services.summaries._writing
            late.set()
            (row,) = await booked(app)
            assert row.status == "ok"


async def test_a_shutdown_ends_a_summary_and_books_it(monkeypatch):
    async with Upstream(answering(hang)).running() as upstream, proxy(upstream, routes=ROUTES) as app:
        await ask(app, 60, "How is the dog called?")
        while len(upstream.seen) < 2:
            await asyncio.sleep(0.01)
        await app.services.tasks.close()
        (row,) = await booked(app, "cancelled")
        assert (row.alias, row.status) == ("mini", "cancelled")
        assert row.input_tokens > 0


async def test_a_summary_has_its_time(monkeypatch):
    monkeypatch.setattr(aftermath, "SUMMARY_S", 0.1)
    async with Upstream(answering(hang)).running() as upstream, proxy(upstream, routes=ROUTES) as app:
        await ask(app, 60, "How is the dog called?")
        assert await booked(app, "cancelled")
        assert not app.services.summaries._writing


@pytest.mark.parametrize(("usd", "calls"), [("1", 1), ("0.0005", 0)], ids=["within", "beyond"])
async def test_a_summary_keeps_within_the_budget_of_the_key(usd, calls):
    seen = []

    async def step(request, body):
        return await answering(NOTES, seen=seen)(request, body)

    models = "  free: {provider: up, name: up-big, price: {input: 0, output: 0}}"
    routes = ROUTES.replace("[big]", "[free]")
    async with Upstream(step).running() as upstream:
        async with proxy(upstream, KEYS.format(usd=usd), routes=routes, models=models) as app:
            await ask(app, 60, "How is the dog called?")
            await booked(app) if calls else await asyncio.sleep(0.2)
    assert len(seen) == calls


async def test_without_the_rule_nothing_is_summarised():
    seen = []
    routes = "  notes: {ladder: [big], context: {policy: relevant, budget_tokens: 400}}"
    async with (
        Upstream(answering(NOTES, seen=seen)).running() as upstream,
        proxy(upstream, routes=routes) as app,
    ):
        await ask(app, 60, "How is the dog called?")
        await asyncio.sleep(0.1)
    assert seen == []


def test_summaries_under_way_are_bounded():
    summaries = Summaries()
    names = [bytes([n]) for n in range(MOST_AT_ONCE + 1)]
    assert [summaries.begin(name) for name in names] == [True] * MOST_AT_ONCE + [False]
    summaries.end(names[0])
    assert summaries.begin(names[-1])
    assert not summaries.begin(names[1])


def test_what_is_remembered_is_bounded():
    summaries = Summaries()
    for n in range(50):
        summaries.keep(bytes([n]), "x" * 200_000)
    assert summaries.of(b"\0") is None
    assert summaries.of(bytes([49])) is not None
