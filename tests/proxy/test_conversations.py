"""Conversations are trimmed to what their question needs, within budget and window, in the light of the last turn."""

import csv
import io
import json

import aiohttp
import pytest

from policies.cards import ModelCard, Price
from policies.money import usd_text
from policies.route import ContextRule, Route
from proxy.conversations import Conversations, caching_of
from proxy.counters import Counter
from tests.proxy.scripted import Upstream, proxy

ROUTES = """
  memory: {ladder: [mini], context: {policy: relevant, budget_tokens: 400}}
  window: {ladder: [tiny], context: {policy: relevant}}
"""
MODELS = "  tiny: {provider: up, name: up-tiny, window_tokens: 600, price: {input: 1, output: 1}}"
FACTS = [
    "The invoice number is INV-7731.",
    "Anna's dog is called Rex.",
    "The meeting moved to Friday at nine.",
]


def history(turns):
    """A long talk in which each fact is said once, early."""
    messages = [{"role": "system", "content": "You remember."}]
    for n in range(turns):
        fact = (
            FACTS[n]
            if n < len(FACTS)
            else f"Remark {n}: the weather over the hills was changing all day long."
        )
        messages += [
            {"role": "user", "content": fact},
            {"role": "assistant", "content": f"Noted, number {n}."},
        ]
    return messages


@pytest.fixture
async def app():
    async with Upstream("ok").running() as upstream, proxy(upstream, routes=ROUTES, models=MODELS) as running:
        running.upstream = upstream
        yield running


async def ask(app, model, messages):
    raw = await app.client.chat.completions.with_raw_response.create(model=model, messages=messages)
    return raw.headers, app.upstream.seen[-1]["messages"]


async def test_what_the_question_needs_stays_and_the_budget_holds(app):
    question = {"role": "user", "content": "What is the invoice number?"}
    headers, sent = await ask(app, "memory", [*history(60), question])
    assert sent[0]["content"] == "You remember."
    assert sent[-1] == question
    assert "INV-7731" in json.dumps(sent)
    told = dict(part.split("=") for part in headers["x-tailrace-context"].split(";"))
    assert int(told["out"]) <= 400 < int(told["in"])
    assert int(told["dropped"]) > 0


async def test_a_window_bounds_the_prompt_without_a_budget(app):
    question = {"role": "user", "content": "How is Anna's dog called?"}
    headers, sent = await ask(app, "window", [*history(60), question])
    assert "Rex" in json.dumps(sent)
    assert int(headers["x-tailrace-context"].split(";")[1].removeprefix("out=")) < 600


async def test_short_conversations_go_as_they_came(app):
    messages = [{"role": "user", "content": "hi"}]
    headers, sent = await ask(app, "memory", messages)
    assert sent == messages
    assert "dropped=0" in headers.get("x-tailrace-context", "dropped=0")


CHEAP_CACHE = ModelCard("m", "p", "m", Price(1_000_000, 1_000_000, cached_input=100_000))
ROUTE = Route("r", ("m",), context=ContextRule("relevant", 1500))


async def test_the_next_turn_begins_with_what_was_sent_before():
    conversations = Conversations(Counter())
    talk = history(120)
    first = [*talk, {"role": "user", "content": "What is the invoice number?"}]
    one = await conversations.trim(ROUTE, None, first, 3, CHEAP_CACHE, None, 4000)
    second = [
        *first,
        {"role": "assistant", "content": "INV-7731."},
        {"role": "user", "content": "And Anna's dog?"},
    ]
    two = await conversations.trim(ROUTE, None, second, 3, CHEAP_CACHE, None, 4100)
    assert one.trimmed.fits
    assert two.trimmed.fits
    assert two.trimmed.messages[0] == one.trimmed.messages[0]


async def test_a_talk_without_instructions_is_known_again_at_its_second_turn():
    conversations = Conversations(Counter())
    first = history(120)[1:2]
    second = [
        *first,
        {"role": "assistant", "content": "Noted."},
        {"role": "user", "content": "Which number?"},
    ]
    for messages in (first, second):
        await conversations.trim(ROUTE, None, messages, 3, CHEAP_CACHE, None, 40)
    assert len(conversations._known) == 1


async def test_without_a_limit_there_is_nothing_to_do():
    free = Route("r", ("m",), context=ContextRule("relevant"))
    assert await Conversations(Counter()).trim(free, None, history(3), 3, CHEAP_CACHE, None, 100) is None


async def test_what_is_remembered_is_bounded():
    conversations = Conversations(Counter(), remembered_tokens=3000)
    for n in range(5):
        talk = [
            {"role": "system", "content": f"{n}"},
            *history(60),
            {"role": "user", "content": "Which dog?"},
        ]
        await conversations.trim(ROUTE, None, talk, 3, CHEAP_CACHE, None, 2000)
    assert conversations._known.currsize <= 3000
    conversations.learn(ROUTE, None, [{"role": "user", "content": "never seen"}], 5)


def test_caching_is_read_from_the_price():
    assert caching_of(CHEAP_CACHE).read == 0.1
    assert caching_of(ModelCard("m", "p", "m")).read == 1.0
    assert caching_of(ModelCard("m", "p", "m", Price(4, 4, cached_input=1, cache_write=5))).write == 1.25


async def test_what_would_have_been_cached_is_what_the_last_turn_had_in_common():
    conversations = Conversations(Counter())
    first = [*history(120), {"role": "user", "content": "What is the invoice number?"}]
    one = await conversations.trim(ROUTE, None, first, 3, CHEAP_CACHE, None, 4000)
    assert one.trimmed.cached_tokens_in == 0
    answer = {"role": "assistant", "content": "INV-7731."}
    second = [*first, answer, {"role": "user", "content": "And Anna's dog?"}]
    await conversations.least(ROUTE, None, second, 3)
    two = await conversations.trim(ROUTE, None, second, 3, CHEAP_CACHE, None, 4100)
    assert one.trimmed.tokens_in - 128 <= two.trimmed.cached_tokens_in <= one.trimmed.tokens_in


async def test_a_changed_message_is_not_sent_as_it_was_before():
    conversations = Conversations(Counter())
    first = [*history(120), {"role": "user", "content": "What is the invoice number?"}]
    await conversations.trim(ROUTE, None, first, 3, CHEAP_CACHE, None, 4000)
    second = [
        *first,
        {"role": "assistant", "content": "?"},
        {"role": "user", "content": "What is the invoice number?"},
    ]
    second[1] = {"role": "user", "content": "The invoice number is INV-1111."}
    second[3] = {"role": "user", "content": "Anna's dog is called Max."}
    await conversations.least(ROUTE, None, second, 3)
    two = await conversations.trim(ROUTE, None, second, 3, CHEAP_CACHE, None, 4100)
    assert "Rex" not in json.dumps(two.trimmed.messages)


async def test_what_was_weighed_is_told(app):
    first = [*history(60), {"role": "user", "content": "What is the invoice number?"}]
    headers, _ = await ask(app, "memory", first)
    told = dict(part.split("=") for part in headers["x-tailrace-context"].split(";"))
    assert int(told["net"]) > 0
    assert list(told) == ["in", "out", "dropped", "net"]


CACHED = "  cached: {provider: up, name: up-cached, price: {input: 2, output: 1, cached_input: 0.2}}"
WEIGHED = "  weighed: {ladder: [cached], context: {policy: relevant, budget_tokens: 2000}}"


async def test_what_trimming_is_thought_to_save_is_in_the_ledger_and_in_its_export():
    async with Upstream("ok").running() as upstream, proxy(upstream, routes=WEIGHED, models=CACHED) as app:
        app.upstream = upstream
        expected = []
        for turns in (
            3,
            60,
            300,
        ):  # nothing to weigh; all of it fits; trimmed, or not because that would cost more
            headers, _ = await ask(
                app, "weighed", [*history(turns), {"role": "user", "content": "Which dog?"}]
            )
            told = dict(part.split("=") for part in headers.get("x-tailrace-context", "net=").split(";"))
            expected.append(told.get("net") or None)
        await app.services.store.flush()
        rows = [row async for row in app.services.store.rows(0, 2**62)]
        async with aiohttp.request("GET", f"{app.url}/v1/usage?format=csv") as answer:
            export = list(csv.DictReader(io.StringIO(await answer.text())))
    assert expected[:2] == [None, None]
    assert expected[2] is not None
    booked = [row.expected_trimming for row in rows]
    assert booked[:2] == [None, None]
    assert booked[2] == pytest.approx(
        2_000 * int(expected[2]), abs=1_001
    )  # 2 USD a million: 2,000 nano-USD a token
    assert [line["expected_trimming_usd"] for line in export] == ["", "", usd_text(booked[2])]
