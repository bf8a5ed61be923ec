"""The schema contract over HTTP: official client, scripted upstream, whole and streamed."""

import asyncio
import json

import openai
import pydantic
import pytest
from aiohttp import web

from tests.proxy.scripted import USAGE, Upstream, chunks, proxy, reply

USER = [{"role": "user", "content": "Who?"}]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
GOOD = {"name": "Ann Example of Paris", "age": 31}
TEXT = json.dumps(GOOD)
MORE = """
  person: {ladder: [mini, big], schema: person}
  live: {ladder: [mini, big], schema: person, stream: checked}
  native: {ladder: [able], schema: person}
  tooled: {ladder: [tooled], schema: person}
  wordy: {ladder: [wordy], schema: person}
"""
MODELS = """
  able: {provider: up, name: up-able, can: [json_schema]}
  tooled: {provider: up, name: up-tooled, can: [tools]}
  wordy: {provider: up, name: up-wordy, can: []}
"""
FORMAT = {"type": "json_schema", "json_schema": {"name": "p", "strict": True, "schema": PERSON}}


@pytest.fixture
async def upstream():
    async with Upstream(TEXT).running() as running:
        yield running


@pytest.fixture
async def app(upstream):
    async with proxy(
        upstream, routes=MORE, models=MODELS, schemas=f"  person: {json.dumps(PERSON)}"
    ) as running:
        yield running


async def whole(app, model="person", **rest):
    raw = await app.client.chat.completions.with_raw_response.create(model=model, messages=USER, **rest)
    return raw.parse().choices[0].message, raw.headers


async def streamed(app, model="person", **rest):
    stream = await app.client.chat.completions.create(model=model, messages=USER, stream=True, **rest)
    return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])


ONE_CALL = [
    ("fence", f"```json\n{TEXT}\n```"),
    ("prose", f"Here you are: {TEXT} Anything else?"),
    ("trailing-comma", TEXT[:-1] + ",}"),
    ("single-quotes", "{'name': 'Ann Example of Paris', 'age': 31}"),
    ("truncated-brace", TEXT[:-1]),
    ("think-prefix", f'<think>maybe {{"name": 1}}</think>\n{TEXT}'),
]
TWO_CALLS = [
    ("wrong-type", '{"name": "Ann Example of Paris", "age": "unknown"}'),
    ("missing-key", '{"name": "Ann Example of Paris"}'),
    ("extra-key", '{"name": "Ann Example of Paris", "age": 31, "mood": "good"}'),
    ("not-json", "I cannot say."),
]


@pytest.mark.parametrize("model", ["person", "live"])
@pytest.mark.parametrize("text", [r[1] for r in ONE_CALL], ids=[r[0] for r in ONE_CALL])
async def test_broken_syntax_is_valid_with_one_call(app, upstream, model, text):
    upstream.script = [text]
    message, headers = await whole(app, model)
    assert json.loads(message.content) == GOOD
    assert headers["x-tailrace-schema"] == "repaired"
    assert len(upstream.seen) == 1
    assert json.loads(await streamed(app, "person")) == GOOD
    assert len(upstream.seen) == 2


@pytest.mark.parametrize("text", [r[1] for r in ONE_CALL], ids=[r[0] for r in ONE_CALL])
async def test_a_checked_stream_is_valid_with_two_calls_at_most(app, upstream, text):
    upstream.script = [text, TEXT]
    assert json.loads(await streamed(app, "live")) == GOOD
    assert len(upstream.seen) <= 2


@pytest.mark.parametrize("model", ["person", "live"])
@pytest.mark.parametrize("text", [r[1] for r in TWO_CALLS], ids=[r[0] for r in TWO_CALLS])
async def test_wrong_content_is_valid_with_two_calls(app, upstream, model, text):
    upstream.script = [text, TEXT]
    message, headers = await whole(app, model)
    assert json.loads(message.content) == GOOD
    assert (headers["x-tailrace-schema"], len(upstream.seen)) == ("reasked", 2)


@pytest.mark.parametrize("text", [r[1] for r in TWO_CALLS], ids=[r[0] for r in TWO_CALLS])
async def test_wrong_content_is_valid_with_two_calls_streamed(app, upstream, text):
    upstream.script = [text, TEXT]
    assert json.loads(await streamed(app)) == GOOD
    assert len(upstream.seen) == 2


async def test_only_the_failing_part_is_asked_for_and_merged(app, upstream):
    upstream.script = ['{"name": "Ann Example of Paris", "age": "unknown"}', '{"/age": 31}']
    message, headers = await whole(app)
    assert json.loads(message.content) == GOOD
    assert headers["x-tailrace-schema"] == "reasked"
    asked = upstream.seen[1]["messages"][-1]["content"]
    assert '"/age":{"type":"integer"}' in asked
    await app.services.store.flush()
    (exchange,) = await app.services.store.recent(1)
    assert [a.purpose for a in exchange.attempts] == ["answer", "patch"]


async def test_a_patch_of_an_inline_schema_is_asked_for_by_its_own_schema(app, upstream):
    upstream.script = ['{"name": "Ann Example of Paris", "age": "unknown"}', '{"/age": 31}']
    message, _ = await whole(app, "mini", response_format=FORMAT)
    assert json.loads(message.content) == GOOD
    assert upstream.seen[0]["response_format"] == FORMAT
    assert "/age" in upstream.seen[1]["response_format"]["json_schema"]["schema"]["properties"]


class Person(pydantic.BaseModel):
    name: str
    age: int


async def test_parse_with_pydantic_models_works(app, upstream):
    upstream.script = [f"```\n{TEXT}\n```"]
    got = await app.client.chat.completions.parse(model="mini", messages=USER, response_format=Person)
    assert got.choices[0].message.parsed == Person(**GOOD)


async def test_parallel_choices_are_each_judged(app, upstream):
    def two(first, second):
        both = reply(first)
        both["choices"].append(reply(second)["choices"][0] | {"index": 1})
        return both

    upstream.script = [two(TEXT, "nothing"), two(TEXT, f"```{TEXT}```")]
    raw = await app.client.chat.completions.create(model="person", messages=USER, n=2)
    assert [json.loads(c.message.content) for c in raw.choices] == [GOOD, GOOD]
    assert len(upstream.seen) == 2


async def test_a_checked_stream_goes_out_before_it_ends(app, upstream):
    release = asyncio.Event()

    async def slow(request, body):
        events = list(chunks(TEXT))

        out = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await out.prepare(request)
        for event in events[:14]:
            await out.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        await release.wait()
        for event in events[14:]:
            await out.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        await out.write(b"data: [DONE]\n\n")
        return out

    upstream.script = [slow]
    stream = await app.client.chat.completions.create(model="live", messages=USER, stream=True)
    text = ""
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        if len(text) > 20:
            release.set()
    assert text == TEXT


async def test_a_checked_stream_hangs_up_and_goes_on_from_the_good_prefix(app, upstream):
    async def endless(request, body):
        bad = '{"name": "Ann Example of Paris", "age": "'
        await Upstream.stream(request, list(chunks(bad))[:-2], b"")
        await asyncio.sleep(30)

    upstream.script = [endless, TEXT]
    text = await asyncio.wait_for(streamed(app, "live"), 5)
    assert json.loads(text) == GOOD
    await asyncio.wait_for(upstream.left.wait(), 1)
    assert len(upstream.seen) == 2


async def test_a_checked_stream_that_cannot_be_gone_on_with_ends_in_an_error(app, upstream):
    upstream.script = ['{"name": "Bob Example of Rome", "age": "x"}', TEXT]
    with pytest.raises(openai.APIError, match="contradicts"):
        await streamed(app, "live")
    families = app.services.telemetry.families
    assert families.requests.cell("live", "422").value == 1
    assert families.answers.cell("live", "mini", "failed").value == 1
    await app.services.store.flush()
    total = (await app.services.store.usage(0, 2**62)).total
    assert total.saved_nanousd == -total.cost_nanousd < 0


async def test_a_model_that_can_is_asked_natively(app, upstream):
    await whole(app, "native")
    assert upstream.seen[0]["response_format"]["json_schema"]["schema"]["required"] == ["name", "age"]


async def test_a_model_with_tools_alone_answers_by_a_tool_and_the_client_gets_text(app, upstream):
    def called(arguments):
        call = {"id": "c", "type": "function", "function": {"name": "give_answer", "arguments": arguments}}
        return reply(None, "tool_calls", tool_calls=[call])

    upstream.script = [called(TEXT)]
    message, _ = await whole(app, "tooled")
    assert (json.loads(message.content), message.tool_calls) == (GOOD, None)
    assert upstream.seen[0]["tool_choice"]["function"]["name"] == "give_answer"
    assert json.loads(await streamed(app, "tooled")) == GOOD


async def test_a_model_that_can_nothing_is_told_in_words(app, upstream):
    await whole(app, "wordy")
    assert "JSON Schema" in upstream.seen[0]["messages"][-1]["content"]
    assert "response_format" not in upstream.seen[0]


async def test_a_backend_that_refuses_response_format_is_asked_otherwise_and_remembered(app, upstream):
    refused = web.json_response({"error": {"message": "response_format is not supported"}}, status=400)
    upstream.script = [refused, TEXT]
    await whole(app, "native")
    assert [b.get("response_format", {}).get("type") for b in upstream.seen] == ["json_schema", "json_object"]
    await whole(app, "native")
    assert upstream.seen[2]["response_format"] == {"type": "json_object"}


async def test_a_backend_that_ignores_schemas_is_found_out(app, upstream):
    upstream.script = ["no", "no", TEXT]
    await_errors = 0
    for _ in range(3):
        try:
            await whole(app, "native")
        except openai.UnprocessableEntityError:
            await_errors += 1
        upstream.script = ["no"]
    assert await_errors
    upstream.script = [TEXT]
    await whole(app, "native")
    assert upstream.seen[-1]["response_format"] == {"type": "json_object"}


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]},
    },
}


def calling(arguments, name="weather"):
    call = {"id": "call_9", "type": "function", "function": {"name": name, "arguments": arguments}}
    return reply(None, "tool_calls", tool_calls=[call])


TOOL_CALLS = [
    ("mended", [calling("{days: 2,}")], 1),
    ("wrong-type", [calling('{"days": "many"}'), calling('{"days": 2}')], 2),
    ("unknown-name", [calling("{}", "wether"), calling('{"days": 2}')], 2),
    ("not-json", [calling("tomorrow"), calling('{"days": 2}')], 2),
]


@pytest.mark.parametrize(("script", "calls"), [r[1:] for r in TOOL_CALLS], ids=[r[0] for r in TOOL_CALLS])
async def test_tool_arguments_are_held_to_their_schema(app, upstream, script, calls):
    upstream.script = list(script)
    message, _ = await whole(app, "mini", tools=[WEATHER])
    assert json.loads(message.tool_calls[0].function.arguments) == {"days": 2}
    assert message.tool_calls[0].id == "call_9"
    assert len(upstream.seen) == calls


@pytest.mark.parametrize(("script", "calls"), [r[1:] for r in TOOL_CALLS], ids=[r[0] for r in TOOL_CALLS])
async def test_streamed_tool_arguments_too(app, upstream, script, calls):
    upstream.script = list(script)
    stream = await app.client.chat.completions.create(
        model="mini", messages=USER, tools=[WEATHER], stream=True
    )
    parts = [
        c.choices[0].delta.tool_calls[0] async for c in stream if c.choices and c.choices[0].delta.tool_calls
    ]
    assert json.loads("".join(p.function.arguments or "" for p in parts)) == {"days": 2}
    assert parts[0].id == "call_9"
    assert len(upstream.seen) == calls


async def test_a_tool_that_stays_wrong_is_a_422_and_never_an_empty_object(app, upstream):
    upstream.script = [calling("soon")]
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        await whole(app, "mini", tools=[WEATHER])
    assert caught.value.body["problems"][0]["pointer"].startswith("/tool_calls/0/function/arguments")


async def test_an_answer_that_nobody_wanted_cut_is_asked_again(app, upstream):
    upstream.script = [reply('{"name": "An', "length"), TEXT]
    message, headers = await whole(app)
    assert json.loads(message.content) == GOOD
    assert headers["x-tailrace-schema"] == "reasked"
    upstream.script = [reply('{"name": "An', "length")]
    with pytest.raises(openai.LengthFinishReasonError):
        await app.client.chat.completions.parse(model="mini", messages=USER, response_format=Person)


@pytest.mark.parametrize(("finish", "content"), [("length", '{"name": "An'), ("content_filter", "")])
async def test_cut_and_filtered_answers_are_not_repaired(app, upstream, finish, content):
    upstream.script = [reply(content, finish)]
    message, headers = await whole(app, max_tokens=5)
    assert message.content == content
    assert headers["x-tailrace-schema"] == "failed"
    assert USAGE
