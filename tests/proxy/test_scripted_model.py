"""The scripted upstream: the real client understands it, and nobody can take it for a model."""

import json

import openai
import pytest

from proxy.scripted_model import LABEL, ScriptedModel, reply_to


@pytest.fixture
async def client():
    model = ScriptedModel()
    async with openai.AsyncOpenAI(base_url=await model.start(), api_key="none", max_retries=0) as client:
        yield client
    await model.stop()


QUESTION = [{"role": "user", "content": "Name three rivers."}]


async def test_whole_reply_is_labelled_in_text_fingerprint_and_header(client):
    raw = await client.chat.completions.with_raw_response.create(model="any", messages=QUESTION)
    reply = raw.parse()
    assert reply.choices[0].message.content.startswith(LABEL)
    assert reply.choices[0].finish_reason == "stop"
    assert reply.system_fingerprint == "scripted-not-an-llm"
    assert raw.headers["x-scripted-model"] == "1"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0


async def test_streamed_reply_has_the_same_text_and_usage_where_asked(client):
    whole = await client.chat.completions.create(model="any", messages=QUESTION)
    stream = await client.chat.completions.create(
        model="any", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == "stop"


async def test_models_are_listed(client):
    assert [m.id async for m in client.models.list()] == ["scripted"]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"messages": 1}', b"{}", b"\xff"],
    ids=["empty", "list", "number", "none", "not-text"],
)
async def test_broken_request_is_a_labelled_400(client, body):
    with pytest.raises(openai.BadRequestError) as caught:
        await client.post("/chat/completions", content=body, cast_to=object)
    assert LABEL in caught.value.body["message"]


@pytest.mark.parametrize(
    ("messages", "response_format"),
    [
        pytest.param([{"role": "user", "content": "As JSON, please"}], None, id="asked-in-words"),
        pytest.param(QUESTION, {"type": "json_object"}, id="asked-by-format"),
    ],
)
def test_json_needs_mending_and_is_still_labelled_then(messages, response_format):
    text = reply_to(messages, response_format)
    assert text.startswith(LABEL)
    inside = text.split("```json\n")[1].split("\n```")[0]
    with pytest.raises(json.JSONDecodeError):
        json.loads(inside)
    mended = json.loads(inside.replace("'", '"').replace(",}", "}"))
    assert LABEL in mended["name"]
