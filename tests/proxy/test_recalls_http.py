"""The tool by which a model looks up what was left out of its prompt, end to end with the official client."""

import asyncio
import json

import openai
import pytest
from aiohttp import web

from tests.proxy.scripted import USAGE, Upstream, proxy, reply

ROUTE = (
    "  desk: {ladder: [able], stream: pass, context: {policy: recent, budget_tokens: 200, recall_tool: true}}\n"
    "  two: {ladder: [able, other], stream: pass, context: {policy: relevant, budget_tokens: 300, recall_tool: true}}\n"
    "  plain: {ladder: [mini], context: {policy: recent, budget_tokens: 200, recall_tool: true}}\n"
    "  once: {ladder: [able], context: {policy: recent, budget_tokens: 200, recall_tool: true}, limits: {attempts: 1}}\n"
    "  three: {ladder: [able], context: {policy: recent, budget_tokens: 200, recall_tool: true}, limits: {cost_usd: 0.00002}}\n"
    "  recent: {ladder: [tiny], context: {policy: recent, recall_tool: true}}\n"
    "  schema: {ladder: [shaped], schema: age, stream: checked, context: {policy: recent, budget_tokens: 200, recall_tool: true}}\n"
    "  forced: {ladder: [able], schema: age, context: {policy: recent, budget_tokens: 200, recall_tool: true}}\n"
    "  relevant: {ladder: [tiny], context: {policy: relevant, recall_tool: true}}\n"
    "  late: {ladder: [able], hedge: {after_ms: 50}, context: {policy: recent, budget_tokens: 200, recall_tool: true}}\n"
    "  last: {ladder: [able], hedge: {after_ms: 50}, limits: {attempts: 2}, context: {policy: recent, budget_tokens: 200, recall_tool: true}}\n"
)
MODELS = (
    "  shaped: {provider: up, name: up-shaped, price: {input: 1, output: 2}, window_tokens: 8000, can: [tools, json_schema]}\n"
    "  tiny: {provider: up, name: up-tiny, price: {input: 1, output: 2}, window_tokens: 400, max_output_tokens: 50, can: [tools]}\n"
    "  able: {provider: up, name: up-able, price: {input: 1, output: 2}, window_tokens: 8000, can: [tools]}\n"
    "  other: {provider: up, name: up-other, price: {input: 10, output: 20}, window_tokens: 8000, can: [tools]}\n"
)
CODE = "The code of the north gate is QX-4417."
TALK = [
    {"role": "user", "content": CODE},
    *(
        {
            "role": ("assistant", "user")[n % 2],
            "content": f"Small talk number {n} about the weather of the day.",
        }
        for n in range(40)
    ),
    {"role": "user", "content": "Which code opens the north gate?"},
]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
ANSWER = "It is QX-4417."


def call(name="recall_context", call_id="call_9", **arguments):
    arguments = arguments or {"query": "code north gate"}
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def asks(*calls, text=None, **rest):
    """A reply that calls tools, whole or streamed as it is asked for."""

    async def step(request, body):
        if not body.get("stream"):
            return web.json_response(reply(text, "tool_calls", tool_calls=list(calls or [call()]), **rest))
        return await Upstream.stream(request, streamed(*(calls or [call()]), text=text))

    return step


def streamed(*calls, text=None):
    base = {"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 1, "model": "up"}

    def event(delta, end=None):
        return base | {"choices": [{"index": 0, "delta": delta, "finish_reason": end}]}

    yield event({"role": "assistant", "content": None})
    for at in range(0, len(text or ""), 4):
        yield event({"content": text[at : at + 4]})
    for n, one in enumerate(calls):
        function = one["function"]
        yield event({"tool_calls": [one | {"index": n, "function": function | {"arguments": ""}}]})
        for at in range(0, len(function["arguments"]), 5):
            part = {"index": n, "function": {"arguments": function["arguments"][at : at + 5]}}
            yield event({"tool_calls": [part]})
    yield event({}, "tool_calls")
    yield base | {"choices": [], "usage": USAGE}


@pytest.fixture
async def upstream():
    async with Upstream(asks(), ANSWER).running() as running:
        yield running


@pytest.fixture
async def app(upstream):
    async with proxy(upstream, routes=ROUTE, models=MODELS) as running:
        yield running


async def ask(app, route="desk", messages=TALK, **rest):
    raw = await app.client.chat.completions.with_raw_response.create(model=route, messages=messages, **rest)
    return raw.headers, raw.parse()


async def listen(app, route="desk", messages=TALK, **rest):
    stream = await app.client.chat.completions.create(model=route, messages=messages, stream=True, **rest)
    return [c async for c in stream]


def said(received):
    return "".join(c.choices[0].delta.content or "" for c in received if c.choices)


def names(body):
    return [tool["function"]["name"] for tool in body.get("tools", ())]


async def ledger(app, exchange_id):
    await app.services.store.flush()
    return (await app.services.store.exchange(exchange_id)).attempts


async def test_what_was_left_out_is_looked_up_and_the_client_gets_the_answer_alone(app, upstream):
    headers, got = await ask(app)
    assert (got.choices[0].message.content, got.choices[0].message.tool_calls) == (ANSWER, None)
    first, second = upstream.seen
    assert CODE not in json.dumps(first)
    assert names(first) == names(second) == ["recall_context"]
    assert "tool_choice" not in first
    called, result = second["messages"][-2:]
    assert second["messages"][:-2] == first["messages"]
    assert called == {"role": "assistant", "content": None, "tool_calls": [call()]}
    assert (result["role"], result["tool_call_id"]) == ("tool", "call_9")
    assert json.loads(result["content"])["passages"][0] == {"message": 0, "role": "user", "text": CODE}
    assert headers["x-tailrace-recalls"] == "1"
    assert headers["x-tailrace-attempts"] == "2"


async def test_every_call_is_booked_and_the_usage_is_that_of_the_answer(app):
    headers, got = await ask(app)
    rows = await ledger(app, headers["x-tailrace-request-id"])
    assert [(r.number, r.purpose, r.status, r.cost_nanousd) for r in rows] == [
        (1, "answer", "ok", 20_000),
        (2, "recall", "ok", 20_000),
    ]
    assert got.usage.total_tokens == 15
    assert headers["x-tailrace-cost-usd"] == "0.00004"


async def test_a_stream_shows_nothing_of_it(app, upstream):
    received = await listen(app, stream_options={"include_usage": True})
    assert said(received) == ANSWER
    assert {c.id for c in received} == {"chatcmpl-1"}
    assert not any(c.choices and c.choices[0].delta.tool_calls for c in received)
    assert [c.choices[0].finish_reason for c in received if c.choices and c.choices[0].finish_reason] == [
        "stop"
    ]
    assert received[-1].tailrace["recalls"] == 1
    assert received[-1].usage.total_tokens == 15
    assert upstream.seen[1]["messages"][-2]["tool_calls"] == [call()]


async def test_a_stream_goes_on_after_what_was_said_before_the_look_up(app, upstream):
    upstream.script = [asks(text="Let me look that up."), ANSWER]
    received = await listen(app)
    assert said(received) == f"Let me look that up.\n\n{ANSWER}"
    assert {c.id for c in received} == {"chatcmpl-0"}
    assert sum(1 for c in received if c.choices[0].delta.role) == 1
    assert upstream.seen[1]["messages"][-2]["content"] == "Let me look that up."


async def test_the_clients_helper_puts_such_a_stream_together(app, upstream):
    upstream.script = [asks(text="Let me see."), ANSWER]
    async with app.client.chat.completions.stream(model="desk", messages=TALK) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == f"Let me see.\n\n{ANSWER}"
    assert final.choices[0].message.role == "assistant"


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("first", [True, False], ids=["ours-first", "ours-last"])
async def test_a_mixed_reply_is_the_clients_calls_alone(app, upstream, streams, first):
    both = [call(), call("weather", "call_1", city="Oslo")]
    upstream.script = [asks(*(both if first else both[::-1])), ANSWER]
    if streams:
        async with app.client.chat.completions.stream(model="desk", messages=TALK, tools=[WEATHER]) as stream:
            async for _ in stream:
                pass
            got = await stream.get_final_completion()
    else:
        _, got = await ask(app, tools=[WEATHER])
    choice = got.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert [(c.id, c.function.name, c.function.arguments) for c in choice.message.tool_calls] == [
        ("call_1", "weather", '{"city": "Oslo"}')
    ]
    assert len(upstream.seen) == 1
    assert names(upstream.seen[0]) == ["weather", "recall_context"]


async def test_after_the_last_round_the_tool_is_not_offered_any_more(app, upstream):
    upstream.script = [asks(), asks(call(query="weather number 7")), ANSWER]
    headers, got = await ask(app)
    assert got.choices[0].message.content == ANSWER
    assert headers["x-tailrace-recalls"] == "2"
    third = upstream.seen[2]
    assert third["tool_choice"] == "none"
    assert "answer now" in third["messages"][-1]["content"]
    assert json.loads(third["messages"][-1]["content"])["passages"]


async def test_after_the_last_round_only_the_clients_own_tools_are_offered(app, upstream):
    upstream.script = [asks(), asks(), ANSWER]
    await ask(app, tools=[WEATHER])
    assert [names(body) for body in upstream.seen] == [["weather", "recall_context"]] * 2 + [["weather"]]
    assert "tool_choice" not in upstream.seen[2]


async def test_a_model_that_goes_on_looking_things_up_is_given_up(app, upstream):
    upstream.script = [asks()]
    with pytest.raises(openai.APIStatusError) as error:
        await ask(app)
    assert error.value.status_code == 502
    assert len(upstream.seen) == 4
    assert "recall_context" not in str(error.value)


@pytest.mark.parametrize(
    "request_",
    [
        {"messages": TALK[-1:]},
        {"route": "plain"},
        {"route": "once"},
        {"n": 2},
        {"tools": [WEATHER], "tool_choice": "none"},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
        {"tools": [{"type": "function", "function": {"name": "recall_context"}}]},
        {"functions": [WEATHER["function"]]},
    ],
    ids=[
        "nothing-left-out",
        "model-takes-no-tools",
        "one-attempt",
        "several-answers",
        "no-tools-wanted",
        "one-tool-wanted",
        "tool-of-that-name",
        "legacy-functions",
    ],
)
async def test_the_tool_is_not_offered(app, upstream, request_):
    upstream.script = [ANSWER]
    await ask(app, **request_)
    (body,) = upstream.seen
    assert body.get("tools") == request_.get("tools")
    assert body.get("tool_choice") == request_.get("tool_choice")


async def test_a_clients_own_tool_of_that_name_is_the_clients(app, upstream):
    upstream.script = [asks()]
    _, got = await ask(app, tools=[{"type": "function", "function": {"name": "recall_context"}}])
    assert got.choices[0].message.tool_calls[0].function.name == "recall_context"


async def test_the_cost_limit_ends_the_look_ups_and_says_so(app, upstream):
    with pytest.raises(openai.APIStatusError) as error:
        await ask(app, "three")
    assert error.value.status_code == 502
    assert "limits.cost_usd" in str(error.value)
    assert len(upstream.seen) == 1


async def test_a_failed_round_is_repeated_with_what_was_found(app, upstream):
    upstream.script = [asks(), web.Response(status=503), ANSWER]
    headers, got = await ask(app)
    assert got.choices[0].message.content == ANSWER
    assert upstream.seen[2]["messages"] == upstream.seen[1]["messages"]
    rows = await ledger(app, headers["x-tailrace-request-id"])
    assert [r.purpose for r in rows] == ["answer", "recall", "retry"]


async def test_a_server_that_refuses_the_tool_is_asked_without_it_from_then_on(app, upstream):
    refusal = {"error": {"message": "tools is not supported", "type": "x", "param": None, "code": None}}
    upstream.script = [web.json_response(refusal, status=400), ANSWER]
    _, got = await ask(app)
    assert got.choices[0].message.content == ANSWER
    assert [names(body) for body in upstream.seen] == [["recall_context"], []]
    await ask(app)
    assert names(upstream.seen[2]) == []


async def test_the_prompt_with_the_tool_is_within_the_budget(app, upstream):
    upstream.script = [ANSWER]
    headers, _ = await ask(app)
    body = upstream.seen[0]
    counted = app.services.counter.count_messages(body["messages"], body["tools"]).total
    told = dict(part.split("=") for part in headers["x-tailrace-context"].split(";"))
    assert counted <= 200
    assert int(told["out"]) == counted
    assert int(told["in"]) == app.services.counter.count_messages(TALK).total


@pytest.mark.parametrize("route", ["recent", "relevant"])
async def test_where_the_window_is_full_something_else_goes_for_what_is_looked_up(app, upstream, route):
    talk = [*TALK[:-1], {"role": "user", "content": "And now?"}]
    _, got = await ask(app, route, talk)
    assert got.choices[0].message.content == ANSWER
    counter = app.services.counter
    first, second = (counter.count_messages(b["messages"], b["tools"]).total for b in upstream.seen)
    assert 300 < first <= 350
    assert 300 < second <= 350
    assert CODE not in str(upstream.seen[0]["messages"])
    assert CODE in upstream.seen[1]["messages"][-1]["content"]
    assert upstream.seen[1]["messages"][-3]["content"] == "And now?"


async def test_savings_are_against_the_whole_prompt_and_net_of_the_look_up(app, upstream):
    def used(prompt_tokens):
        return {"prompt_tokens": prompt_tokens, "completion_tokens": 10, "total_tokens": prompt_tokens + 10}

    talk = [*TALK[:-1], {"role": "user", "content": "And now?"}]
    upstream.script = [asks(usage=used(340)), reply(ANSWER, usage=used(345))]
    headers, _ = await ask(app, "recent", talk)
    counter = app.services.counter
    first = upstream.seen[0]
    dropped = (
        counter.count_messages(talk).total - counter.count_messages(first["messages"], first["tools"]).total
    )
    alone = (340 + dropped) * 1000 + 10 * 2000
    spent = (340 + 345) * 1000 + 2 * 10 * 2000
    assert float(headers["x-tailrace-saved-usd"]) == pytest.approx((alone - spent) / 1e9)


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_what_a_route_promises_holds_for_the_answer_alone(app, upstream, streams):
    upstream.script = [asks(text="Wait."), '{"age": "old"}', '```json\n{"age": 7}\n```']
    if streams:
        text = said(await listen(app, "schema"))
    else:
        headers, got = await ask(app, "schema")
        text = got.choices[0].message.content
        assert headers["x-tailrace-schema"] == "reasked"
    assert json.loads(text) == {"age": 7}
    assert [m["role"] for m in upstream.seen[2]["messages"][-4:]] == [
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert "response_format" in upstream.seen[2]


async def test_where_the_answer_is_a_forced_call_there_is_no_second_tool(app, upstream):
    upstream.script = [asks(call("give_answer", age=7))]
    _, got = await ask(app, "forced")
    assert json.loads(got.choices[0].message.content) == {"age": 7}
    assert names(upstream.seen[0]) == ["give_answer"]


async def test_a_late_call_is_made_twice_and_what_is_looked_up_is_found_once(app, upstream):
    async def slow(request, body):
        await asyncio.sleep(5)

    upstream.script = [slow, asks(), ANSWER]
    headers, got = await ask(app, "late")
    assert got.choices[0].message.content == ANSWER
    rows = await ledger(app, headers["x-tailrace-request-id"])
    assert [r.purpose for r in rows] == ["hedge_loser", "answer", "recall"]


async def test_the_attempt_for_the_answer_is_no_second_call(app, upstream):
    async def slow(request, body):
        await asyncio.sleep(0.3)
        return await asks()(request, body)

    upstream.script = [slow, ANSWER]
    headers, got = await ask(app, "last")
    assert got.choices[0].message.content == ANSWER
    assert headers["x-tailrace-attempts"] == "2"


async def test_a_long_conversation_by_relevance_keeps_its_prefix_with_the_tool(app, upstream):
    upstream.script = [asks(call(query="weather number 7")), ANSWER]
    _, got = await ask(app, "two")
    assert got.choices[0].message.content == ANSWER
    passages = json.loads(upstream.seen[1]["messages"][-1]["content"])["passages"]
    kept = [m["content"] for m in upstream.seen[0]["messages"]]
    assert passages
    assert not [p for p in passages if p["text"] in kept]


def test_the_scripted_stream_is_what_a_provider_sends():
    events = list(streamed(call()))
    assert "".join(
        e["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"]
        for e in events
        if e["choices"] and e["choices"][0]["delta"].get("tool_calls")
    ) == json.dumps({"query": "code north gate"})
