"""Answers of the Responses API are held to their schema like those of chat."""

import json

import openai
import pydantic
import pytest

from policies.contract import Verdict
from proxy.wire.chat import Whole
from proxy.wire.responses import conversation, read_response, schema_of, with_mended_response
from tests.proxy.scripted import Upstream, proxy

TEXT = '{"name": "Ann", "age": 31}'


def response(*texts, **rest):
    content = [{"type": "output_text", "text": t, "annotations": []} for t in texts]
    message = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": content,
    }
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    base = {"id": "resp_1", "object": "response", "created_at": 1, "model": "up", "status": "completed"}
    return (
        base | {"output": [{"type": "reasoning", "id": "r", "summary": []}, message], "usage": usage} | rest
    )


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.fixture
async def upstream():
    async with Upstream(response(TEXT)).running() as running:
        yield running


@pytest.fixture
async def app(upstream):
    async with proxy(upstream) as running:
        yield running


async def test_a_fenced_answer_is_mended(app, upstream):
    upstream.script = [response(f"```json\n{TEXT}\n```")]
    got = await app.client.responses.parse(model="mini", input="who?", text_format=Person)
    assert got.output_parsed == Person(name="Ann", age=31)
    assert upstream.paths == ["/v1/responses"]
    assert upstream.seen[0]["input"] == "who?"


async def test_an_invalid_answer_is_asked_again(app, upstream):
    upstream.script = [response('{"name": "Ann", "age": "old"}'), response(TEXT)]
    got = await app.client.responses.parse(model="mini", input="who?", text_format=Person)
    assert got.output_parsed.age == 31
    assert [m["role"] for m in upstream.seen[1]["input"]] == ["user", "assistant", "user"]
    await app.services.store.flush()
    assert (await app.services.store.usage(0, 2**62)).total.attempts == 2


async def test_what_stays_invalid_is_a_422(app, upstream):
    upstream.script = [response("nobody knows")]
    with pytest.raises(openai.UnprocessableEntityError):
        await app.client.responses.parse(model="mini", input="who?", text_format=Person)


async def test_without_a_schema_nothing_is_looked_at(app, upstream):
    upstream.script = [response("free text")]
    got = await app.client.responses.create(model="mini", input="hi")
    assert got.output_text == "free text"


def test_a_cut_answer_says_so():
    cut = response("{", status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert read_response(json.dumps(cut).encode()).choices[0].finish_reason == "length"


def test_a_refusal_is_no_text():
    doc = {"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]}
    choice = read_response(json.dumps(doc).encode()).choices[0]
    assert (choice.text, choice.refusal) == (None, "no")


def test_a_text_in_two_parts_is_one_text():
    whole = read_response(json.dumps(response('{"name": "Ann",', ' "age": 31}')).encode())
    assert whole.choices[0].text == TEXT
    body = json.loads(with_mended_response(whole.original, Verdict(texts={0: "{}"}), {"tailrace": 1}))
    assert [p["text"] for p in body["output"][1]["content"]] == ["{}", ""]
    assert body["tailrace"] == 1


def test_nothing_to_mend_gives_the_very_bytes():
    assert with_mended_response(Whole(b"x", {}), Verdict(), {}) == b"x"


def test_hostile_bodies_hold_no_answer():
    for doc in ({}, {"output": 5}, {"output": [5, {"type": "message"}, {"type": "message", "content": [7]}]}):
        assert read_response(json.dumps(doc).encode()).choices == ()
    assert schema_of({"text": {"format": {"type": "text"}}}) is None
    assert conversation({"input": 5}) == []
