"""What is booked when a call does not go as calls should: an auditor's look at the running proxy."""

import asyncio
import json

import aiohttp
import openai
import pytest
from aiohttp import web

from proxy.counters import Counter
from tests.proxy.scripted import Upstream, proxy, reply

USER = [{"role": "user", "content": "hi"}]
PROMPT = 8
"""Tokens of USER as the counter has it: 3 + 1 for the message, 1 for its text, 3 that open the reply."""
MINI = (1_000, 2_000)
"""Nano-USD per token of the model `mini`, prompt and answer."""


@pytest.fixture
async def upstream():
    async with Upstream("hello").running() as running:
        yield running


@pytest.fixture(scope="module")
def counter():
    counter = Counter()
    counter.warm()
    return counter


@pytest.fixture
async def app(upstream, counter):
    async with proxy(upstream) as running:
        running.services.counter = counter
        yield running


ONCE = {"x-stainless-retry-count": "1"}
"""The client retries by itself, so that the proxy does not."""


async def ask(app, model="mini", **rest):
    return await app.client.chat.completions.create(model=model, messages=USER, extra_headers=ONCE, **rest)


async def read(app, model="mini", **rest):
    return [c async for c in await ask(app, model, stream=True, **rest)]


async def post(app, path, **kwargs):
    async with aiohttp.ClientSession() as session, session.post(app.url + path, **kwargs) as r:
        return r.status, await r.read()


async def booked(app):
    """Every attempt in the ledger, once none is open any more."""
    for _ in range(200):
        rows = [row async for row in app.services.store.rows(0, 2**62)]
        if all(row.status != "open" for row in rows):
            return rows
        await asyncio.sleep(0.01)
    raise AssertionError("an attempt stays open")


def tokens(row):
    return row.input_tokens, row.output_tokens, row.reported


def event(delta=None, finish=None, index=0, **top):
    return {"choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}], **top}


def streaming(*events, end=b"data: [DONE]\n\n"):
    async def step(request, body):
        return await Upstream.stream(request, events, end)

    return step


SAYS = [event({"content": word}) for word in ("one", " two", " three")]
STOP = event({}, "stop")
FULL = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}

STREAMS = [
    ("without-usage-each-event-is-a-token", [*SAYS, STOP], (PROMPT, 3, False)),
    ("usage-with-an-error-event", [*SAYS, {"error": {"message": "m"}, "usage": FULL}], (100, 50, True)),
    ("an-error-after-three-tokens", [*SAYS, {"error": {"message": "overloaded"}}], (PROMPT, 3, False)),
    ("an-early-usage-is-not-the-last-word", [SAYS[0] | {"usage": FULL}, *SAYS, STOP], (100, 50, True)),
    (
        "what-was-written-after-the-last-usage-counts",
        [event({"content": ""}, usage={"prompt_tokens": 9, "completion_tokens": 0}), *SAYS, STOP],
        (9, 3, False),
    ),
    (
        "usage-on-every-event-the-last-one-counts",
        [e | {"usage": {"prompt_tokens": 9, "completion_tokens": n}} for n, e in enumerate([*SAYS, STOP])],
        (9, 3, True),
    ),
    (
        "choices-are-counted-one-by-one",
        [event({"content": "a"}, index=n) for n in range(3)] + [event({}, "stop", n) for n in range(3)],
        (PROMPT, 3, False),
    ),
    ("long-events-hold-several-tokens", [event({"content": "x" * 40}), STOP], (PROMPT, 10, False)),
    (
        "arguments-of-calls-are-tokens",
        [event({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}), event({}, "tool_calls")],
        (PROMPT, 1, False),
    ),
]


@pytest.mark.parametrize(("events", "expected"), [r[1:] for r in STREAMS], ids=[r[0] for r in STREAMS])
async def test_a_stream_is_booked(app, upstream, events, expected):
    upstream.script = [streaming(*events)]
    try:
        await read(app)
    except openai.APIError:
        assert "error" in events[-1]
    rows = await booked(app)
    assert {tokens(row) for row in rows} == {expected}
    assert all(r.cost_nanousd == expected[0] * MINI[0] + expected[1] * MINI[1] for r in rows)


def refused(status, **body):
    return web.json_response({"error": {"message": "no"}} | body, status=status)


WHOLE = [
    ("a-refusal-costs-nothing", refused(400), (0, 0, False)),
    ("a-redirect-costs-nothing", web.Response(status=302, headers={"location": "/x"}), (0, 0, False)),
    ("usage-in-a-refusal-is-billed", refused(422, usage=FULL), (100, 50, True)),
    ("usage-without-choices-is-billed", {"choices": [], "usage": FULL}, (100, 50, True)),
    ("usage-with-an-error-in-a-200", {"error": {"message": "m"}, "usage": FULL}, (100, 50, True)),
    ("without-usage-texts-are-counted", reply("one two three four", usage=None), (PROMPT, 4, False)),
    (
        "negative-counts-are-none",
        reply("x", usage={"prompt_tokens": -5, "completion_tokens": -1}),
        (0, 0, True),
    ),
    ("usage-that-is-no-usage", reply("xxxx", usage={"prompt_tokens": "many"}), (PROMPT, 1, False)),
]


@pytest.mark.parametrize(("answer", "expected"), [r[1:] for r in WHOLE], ids=[r[0] for r in WHOLE])
async def test_a_whole_answer_is_booked(app, upstream, answer, expected):
    upstream.script = [answer]
    if isinstance(answer, web.Response):  # one that can be sent more than once
        body, status, headers = answer.body, answer.status, dict(answer.headers)

        async def again(request, _):
            return web.Response(body=body, status=status, headers=headers)

        upstream.script = [again]
    status, _ = await post(
        app, "/v1/chat/completions", json={"model": "mini", "messages": USER}, headers=ONCE
    )
    rows = await booked(app)
    assert {tokens(row) for row in rows} == {expected}
    assert all(r.cost_nanousd == expected[0] * MINI[0] + expected[1] * MINI[1] for r in rows)


async def test_an_absurd_usage_is_bounded(app, upstream):
    usage = {"prompt_tokens": 10**30, "completion_tokens": 1e300}
    upstream.script = [reply("x", usage=usage)]
    await ask(app)
    [row] = await booked(app)
    assert (row.input_tokens, row.output_tokens) == (10**8, 10**8)


async def test_reasoning_and_cached_tokens_have_their_prices(upstream):
    models = (
        "  dear: {provider: up, name: d, price: {input: 3, output: 15, cached_input: 0.3, cache_write: 3.75}}"
    )
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 70,
        "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 100},
        "completion_tokens_details": {"reasoning_tokens": 64},
    }
    upstream.script = [reply("x", usage=usage)]
    async with proxy(upstream, models=models) as app:
        await ask(app, "dear")
        [row] = await booked(app)
    assert row.cost_nanousd == 300 * 3_000 + 600 * 300 + 100 * 3_750 + 70 * 15_000
    assert (row.cached_tokens, row.cache_write_tokens, row.reasoning_tokens) == (600, 100, 64)


async def test_a_refusal_of_an_unpriced_model_is_no_unpriced_traffic(app, upstream):
    upstream.script = [refused(400)]
    with pytest.raises(openai.BadRequestError):
        await ask(app, "fx-any")
    [row] = await booked(app)
    assert row.cost_nanousd == 0
    assert (await app.services.store.usage(0, 2**62)).total.unpriced == 0


async def test_every_attempt_reserves_its_worst_case(app, upstream):
    await ask(app, max_tokens=7)
    await ask(app, max_tokens=7, n=3)
    await ask(app, "fx-any")
    rows = await booked(app)
    body = len(json.dumps(upstream.seen[0], separators=(",", ":")))
    assert rows[0].reserved_nanousd >= PROMPT * MINI[0] + 7 * MINI[1]
    assert rows[0].reserved_nanousd <= 2 * body * MINI[0] + 7 * MINI[1]
    assert rows[1].reserved_nanousd - rows[0].reserved_nanousd > 13 * MINI[1]
    assert rows[2].reserved_nanousd is None


async def test_a_call_that_the_ledger_refuses_gives_back_what_it_held(upstream):
    keys = "keys:\n  - {name: team, key: sk-client-secret, budget: {usd: 0.00007}}\n"
    async with proxy(upstream, keys) as app:
        app.client = app.client.with_options(api_key="sk-client-secret")
        begin, app.services.store.begin = app.services.store.begin, _full
        with pytest.raises(openai.InternalServerError):
            await ask(app, max_tokens=20)
        app.services.store.begin = begin
        await ask(app, max_tokens=20)


def _full(_):
    from proxy.stores.base import StoreFull

    raise StoreFull("full")


async def test_a_call_that_never_left_costs_nothing(upstream):
    upstream.url = "http://127.0.0.1:9/v1"  # nobody listens at the port that discards
    async with proxy(upstream) as app:
        with pytest.raises(openai.APIStatusError):
            await ask(app)
        rows = await booked(app)
    assert {(r.failure, r.cost_nanousd, r.input_tokens) for r in rows} == {("connect", 0, 0)}


PASSED = [
    ("a-get-never-spends", "GET", "responses/r1", None, {"usage": FULL}, (0, 0, False), 0),
    ("a-file-is-no-model-call", "POST", "files", {"purpose": "batch"}, {"id": "f"}, (0, 0, False), 0),
    (
        "reported",
        "POST",
        "responses",
        {"model": "mini", "input": "hi"},
        {"usage": {"input_tokens": 9, "output_tokens": 4}},
        (9, 4, True),
        17_000,
    ),
    (
        "reported-of-an-unpriced-model",
        "POST",
        "responses",
        {"model": "fx-any", "input": "hi"},
        {"usage": {"input_tokens": 9, "output_tokens": 4}},
        (9, 4, True),
        None,
    ),
    ("refused", "POST", "responses", {"model": "mini"}, 400, (0, 0, False), 0),
    ("refused-by-an-unpriced-model", "POST", "responses", {"model": "fx-any"}, 429, (0, 0, False), 0),
    (
        "unknown-is-not-free",
        "POST",
        "images/generations",
        {"model": "mini"},
        {"data": []},
        (0, 0, False),
        None,
    ),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "answer", "expected", "cost"),
    [r[1:] for r in PASSED],
    ids=[r[0] for r in PASSED],
)
async def test_what_passes_through_is_booked(app, upstream, method, path, body, answer, expected, cost):
    async def step(request, _):
        if isinstance(answer, int):
            return web.json_response({"error": {"message": "no"}}, status=answer)
        return web.json_response(answer)

    upstream.script = [step]
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{app.url}/v1/{path}", json=body) as r,
    ):
        await r.read()
    [row] = await booked(app)
    assert (tokens(row), row.cost_nanousd) == (expected, cost)
    assert (await app.services.store.usage(0, 2**62)).total.unpriced == (cost is None)
    assert (row.reserved_nanousd is None) == (body is not None and body.get("model") == "fx-any")


async def test_a_body_that_is_no_json_names_a_model_whose_price_is_not_ours_to_say(app, upstream):
    upstream.script = [{"text": "hi", "usage": {"type": "tokens", "input_tokens": 20, "output_tokens": 2}}]
    form = aiohttp.FormData({"model": "some-transcriber"})
    form.add_field("file", b"RIFF", filename="a.wav")
    status, _ = await post(app, "/v1/audio/transcriptions", data=form)
    [row] = await booked(app)
    assert (status, tokens(row), row.cost_nanousd) == (200, (20, 2, True), None)


async def test_a_client_that_leaves_a_passing_stream_is_billed_for_what_was_written(app, upstream):
    async def endless(request, body):
        out = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await out.prepare(request)
        for _ in range(5):
            await out.write(b'event: e\ndata: {"type":"response.output_text.delta","delta":" word"}\n\n')
        while True:
            await asyncio.sleep(0.02)
            await out.write(b": alive\n\n")

    upstream.script = [endless]
    asked = {"model": "mini", "input": "hi", "stream": True}
    async with aiohttp.ClientSession() as session:
        r = await session.post(f"{app.url}/v1/responses", json=asked)
        while b"word" not in await r.content.readline():
            pass
        r.close()
    await asyncio.wait_for(upstream.left.wait(), 2)
    [row] = await booked(app)
    assert (row.status, row.purpose, row.failure) == ("cancelled", "cancelled", "gone")
    assert (row.output_tokens, row.reported) == (5, False)
    assert row.cost_nanousd == row.input_tokens * MINI[0] + 5 * MINI[1] > 0


TEAM = "keys:\n  - {{name: team, key: sk-client-secret, {}}}\n"
BEARER = {"authorization": "Bearer sk-client-secret"}


async def test_budgets_hold_for_what_passes_through(upstream):
    upstream.script = [{"usage": {"input_tokens": 10, "output_tokens": 20}}]
    asked = {"model": "mini", "input": "hi"}
    async with proxy(upstream, TEAM.format("budget: {usd: 0.00012}")) as app:
        told = [await post(app, "/v1/responses", json=asked, headers=BEARER) for _ in range(3)]
        assert [status for status, _ in told] == [200, 200, 429]  # 50,000 nano-USD each
        assert json.loads(told[2][1])["error"]["code"] == "insufficient_quota"
        for path in ("images/generations", "responses"):
            status, text = await post(app, f"/v1/{path}", json={"model": "fx-any"}, headers=BEARER)
            assert (status, b"price is unknown" in text) == (429, True)
        status, _ = await post(app, "/v1/files", json={"purpose": "x"}, headers=BEARER)
        assert status == 200
    assert upstream.seen[0]["max_output_tokens"] * MINI[1] <= 120_000
    assert len(upstream.seen) == 3


async def test_rates_hold_for_what_passes_through(upstream):
    upstream.script = [{"usage": {"input_tokens": 10, "output_tokens": 20}}]
    async with proxy(upstream, TEAM.format("rpm: 2")) as app:
        told = [await post(app, "/v1/responses", json={"model": "mini"}, headers=BEARER) for _ in range(3)]
    assert [status for status, _ in told] == [200, 200, 429]


async def test_a_whole_answer_that_is_given_up_is_billed_as_far_as_a_usual_one_has_come_by_then(
    app, upstream
):
    async def usual(request, body):
        await asyncio.sleep(0.2)
        return web.json_response(reply("x", usage={"prompt_tokens": 8, "completion_tokens": 100}))

    async def never(request, body):
        await asyncio.sleep(30)

    upstream.script = [usual]
    await ask(app)
    upstream.script = [never]
    with pytest.raises(openai.APITimeoutError):
        await app.client.with_options(timeout=0.1).chat.completions.create(model="mini", messages=USER)
    await asyncio.wait_for(upstream.left.wait(), 1)
    row = (await booked(app))[-1]
    assert (row.purpose, row.input_tokens, row.reported) == ("cancelled", PROMPT, False)
    assert 30 <= row.output_tokens <= 70


async def test_odd_input_items_of_a_given_up_call_do_not_hinder_its_booking(app, upstream):
    async def never(request, body):
        await asyncio.sleep(30)

    upstream.script = [never]
    asked = {"model": "mini", "input": ["x", 5, {"content": [7, {"text": 3}], "role": 1}], "tools": [1, {}]}
    async with aiohttp.ClientSession() as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await session.post(f"{app.url}/v1/responses", json=asked)
    await asyncio.wait_for(upstream.left.wait(), 1)
    [row] = await booked(app)
    assert (row.purpose, row.reported) == ("cancelled", False)
    assert row.cost_nanousd > 0
