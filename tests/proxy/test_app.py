"""The proxy on a real socket: official client in front, scripted upstream behind."""

import asyncio
import io
import json

import aiohttp
import openai
import pytest
from aiohttp import web

from tests.proxy.scripted import Upstream, chunks, proxy, reply

USER = [{"role": "user", "content": "How old?"}]
VALID, FENCED, INVALID, OTHER = '{"age": 7}', '```json\n{"age": 7}\n```', '{"age": "old"}', '{"years": 7}'


@pytest.fixture
async def upstream():
    async with Upstream("hello").running() as running:
        yield running


@pytest.fixture
async def app(upstream):
    async with proxy(upstream) as running:
        yield running


async def ask(app, model="mini", **rest):
    raw = await app.client.chat.completions.with_raw_response.create(model=model, messages=USER, **rest)
    return raw.headers, raw.parse()


async def read_stream(app, model="mini", **rest):
    stream = await app.client.chat.completions.create(model=model, messages=USER, stream=True, **rest)
    received = [c async for c in stream]
    return "".join(c.choices[0].delta.content or "" for c in received if c.choices), received


async def post(app, path="/v1/chat/completions", headers=(), **kwargs):
    async with (
        aiohttp.ClientSession() as session,
        session.post(app.url + path, headers=dict(headers), **kwargs) as r,
    ):
        return r.status, r.headers, await r.text()


async def get(app, path, **kwargs):
    async with aiohttp.ClientSession() as session, session.get(app.url + path, **kwargs) as r:
        return r.status, await r.text()


async def ledger(app, exchange_id):
    await app.services.store.flush()
    return (await app.services.store.exchange(exchange_id)).attempts


async def test_a_reply_comes_back_with_its_price(app, upstream):
    headers, got = await ask(app)
    assert got.choices[0].message.content == "hello"
    assert headers["x-tailrace-model"] == "mini"
    assert headers["x-tailrace-cost-usd"] == "0.00002"
    assert headers["x-tailrace-attempts"] == "1"
    assert upstream.seen[0] == {"model": "up-mini", "messages": USER}


async def test_the_clients_key_stays_here_and_the_providers_goes_upstream(app, upstream):
    await ask(app)
    assert upstream.headers[0]["authorization"] == "Bearer sk-upstream-secret"
    assert "sk-client-secret" not in json.dumps(upstream.headers[0])


async def test_tracing_and_request_ids_pass(app, upstream):
    headers, _ = await ask(app, extra_headers={"traceparent": "00-ab-cd-01", "x-evil": "1"})
    assert upstream.headers[0]["traceparent"] == "00-ab-cd-01"
    assert "x-evil" not in upstream.headers[0]
    assert headers["x-request-id"] == headers["x-tailrace-request-id"]


async def test_a_stream_comes_back_piece_by_piece_without_unasked_usage(app, upstream):
    text, received = await read_stream(app)
    assert text == "hello"
    assert all(c.usage is None and c.choices for c in received)
    assert upstream.seen[0]["stream_options"] == {"include_usage": True}


async def test_a_streams_usage_chunk_carries_the_facts(app):
    _, received = await read_stream(app, stream_options={"include_usage": True})
    assert received[-1].usage.total_tokens == 15
    assert received[-1].tailrace["cost_usd"] == "0.00002"


async def test_a_stream_ends_with_the_facts_as_a_comment(app):
    body = {"model": "mini", "messages": USER, "stream": True}
    _, _, text = await post(app, json=body)
    facts = next(line for line in text.split("\n") if line.startswith(": tailrace "))
    assert json.loads(facts.removeprefix(": tailrace "))["attempts"] == 1
    assert text.endswith("\n\ndata: [DONE]\n\n")


async def test_a_fenced_reply_is_mended_on_one_call(app, upstream):
    upstream.script = [FENCED]
    headers, got = await ask(app, "age")
    assert got.choices[0].message.content == '{"age":7}'
    assert headers["x-tailrace-schema"] == "repaired"
    assert headers["x-tailrace-repairs"]
    assert len(upstream.seen) == 1


async def test_a_valid_reply_passes_byte_identical(app, upstream):
    raw = json.dumps(reply(VALID), indent=3)
    upstream.script = [web.Response(text=raw, content_type="application/json")]
    _, _, text = await post(app, json={"model": "age", "messages": USER})
    assert text == raw


async def test_an_invalid_reply_is_reasked_and_both_calls_are_booked(app, upstream):
    upstream.script = [INVALID, VALID]
    headers, got = await ask(app, "age")
    assert json.loads(got.choices[0].message.content) == {"age": 7}
    assert headers["x-tailrace-schema"] == "reasked"
    assert headers["x-tailrace-cost-usd"] == "0.00004"
    rows = await ledger(app, headers["x-tailrace-request-id"])
    assert [(r.number, r.purpose, r.verdict, r.cost_nanousd) for r in rows] == [
        (1, "answer", "invalid", 20_000),
        (2, "reask", "valid", 20_000),
    ]


async def test_the_ladder_climbs_to_the_next_model(app, upstream):
    upstream.script = [INVALID, OTHER, VALID]
    headers, _ = await ask(app, "age")
    assert headers["x-tailrace-schema"] == "escalated"
    assert headers["x-tailrace-model"] == "big"
    assert [body["model"] for body in upstream.seen] == ["up-mini", "up-mini", "up-big"]


async def test_no_valid_answer_is_an_honest_422(app, upstream):
    upstream.script = [INVALID]
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        await ask(app, "age")
    error = caught.value
    assert error.code == "schema_unsatisfied"
    assert error.body["problems"][0]["pointer"] == "/age"
    assert [a["model"] for a in error.body["attempts"]] == ["mini", "mini", "big", "big"]
    assert "old" not in json.dumps(error.body)
    assert error.response.headers["x-tailrace-schema"] == "failed"


async def test_a_route_may_give_up_raw(app, upstream):
    upstream.script = [INVALID]
    headers, got = await ask(app, "raw")
    assert got.choices[0].message.content == INVALID
    assert headers["x-tailrace-schema"] == "failed"


async def test_an_inline_schema_needs_no_registration(app, upstream):
    upstream.script = [INVALID, VALID]
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    headers, _ = await ask(app, "mini", response_format=wanted)
    assert headers["x-tailrace-schema"] == "reasked"
    assert upstream.seen[0]["response_format"] == wanted


async def test_a_refused_schema_is_a_400_with_problems(app, upstream):
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 5}}}
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(app, "mini", response_format=wanted)
    assert caught.value.code == "invalid_schema"
    assert caught.value.body["problems"]
    assert upstream.seen == []


async def test_a_held_stream_is_mended_too(app, upstream):
    upstream.script = [FENCED]
    text, received = await read_stream(app, "age")
    assert text == '{"age":7}'
    assert received[-1].choices[0].finish_reason == "stop"


async def test_a_held_stream_that_stays_invalid_keeps_its_status(app, upstream):
    upstream.script = [INVALID]
    with pytest.raises(openai.UnprocessableEntityError):
        await read_stream(app, "age")


async def test_a_slow_stream_commits_its_status_and_fails_with_an_event(app, upstream):
    async def slow(request, body):
        await asyncio.sleep(0.5)
        return web.json_response(reply(INVALID))

    upstream.script = [slow]
    with pytest.raises(openai.APIError, match="No valid answer"):
        await read_stream(app, "raw", extra_body={"tailrace": {"route": "age"}, "model": "age"})


async def test_silence_is_filled_with_comments(app, upstream):
    async def slow(request, body):
        await asyncio.sleep(1.0)
        return await Upstream.stream(request, chunks("late"))

    upstream.script = [slow]
    status, _, text = await post(app, json={"model": "mini", "messages": USER, "stream": True})
    assert status == 200
    assert text.count(": keep-alive\n") >= 2
    assert "\n\n\n" not in text


@pytest.mark.parametrize(
    ("progress", "told"), [("off", None), ("comment", ": tailrace-progress {"), ("chunk", '"progress":{')]
)
async def test_progress_is_told_as_the_client_wants_it(app, upstream, progress, told):
    async def slow(request, body):
        await asyncio.sleep(0.8)
        return web.json_response(reply(VALID))

    upstream.script = [INVALID, slow]
    body = {"model": "age", "messages": USER, "stream": True}
    _, _, text = await post(app, headers={"x-tailrace-progress": progress}, json=body)
    waited = text.split("\n\ndata: [DONE]")[0]
    assert ("keep-alive" in waited) is (progress == "comment")
    assert (told in waited) if told else ("progress" not in waited)
    assert progress == "off" or '"purpose":"reask"' in waited
    got, _ = await read_stream(app, "age", extra_headers={"x-tailrace-progress": progress})
    assert json.loads(got) == {"age": 7}


async def test_an_upstreams_error_keeps_status_and_body(app, upstream):
    body = {"error": {"message": "too hot", "type": "t", "param": "temperature", "code": "c"}}
    upstream.script = [web.json_response(body, status=400)]
    with pytest.raises(openai.BadRequestError, match="too hot") as caught:
        await ask(app)
    assert (caught.value.code, caught.value.param) == ("c", "temperature")
    assert len(upstream.seen) == 1


async def test_an_error_before_the_first_byte_of_a_stream_keeps_its_status(app, upstream):
    upstream.script = [
        web.json_response({"error": {"message": "m"}}, status=429, headers={"retry-after": "9"})
    ]
    with pytest.raises(openai.RateLimitError) as caught:
        await read_stream(app)
    assert caught.value.response.headers["retry-after"] == "9"


async def test_a_failed_upstream_is_tried_again(app, upstream):
    upstream.script = [web.json_response({}, status=500), "hello"]
    headers, got = await ask(app)
    assert got.choices[0].message.content == "hello"
    assert headers["x-tailrace-attempts"] == "2"


@pytest.mark.parametrize("end", [b"", b'data: {"choi', b": bye\n\n"], ids=["clean", "mid-event", "comment"])
async def test_a_cut_stream_never_looks_finished(app, upstream, end):
    async def cut(request, body):
        return await Upstream.stream(request, list(chunks("one two three"))[:3], end)

    upstream.script = [cut]
    with pytest.raises(openai.APIError, match="ended before the answer"):
        await read_stream(app)


async def test_a_stream_ends_at_done_even_when_the_upstream_stays_open(app, upstream):
    async def lingering(request, body):
        out = await Upstream.stream(request, chunks("hi"))
        await asyncio.sleep(30)
        return out

    upstream.script = [lingering]
    text, _ = await asyncio.wait_for(read_stream(app), 3)
    assert text == "hi"


async def test_a_client_that_leaves_ends_the_upstream_call_and_is_booked(app, upstream):
    async def endless(request, body):
        def forever():
            yield from list(chunks("x" * 30))[:5]

        out = await Upstream.stream(request, forever(), b"")
        while True:
            await asyncio.sleep(0.02)
            await out.write(b": still here\n\n")

    upstream.script = [endless]
    stream = await app.client.chat.completions.create(model="mini", messages=USER, stream=True)
    exchange = stream.response.headers["x-tailrace-request-id"]
    async for _ in stream:
        break
    await stream.close()
    await asyncio.wait_for(upstream.left.wait(), 1)
    for _ in range(100):
        rows = await ledger(app, exchange)
        if rows[0].status != "open":
            break
        await asyncio.sleep(0.01)
    assert (rows[0].purpose, rows[0].status, rows[0].reported) == ("cancelled", "cancelled", False)
    assert rows[0].output_tokens > 0
    assert rows[0].cost_nanousd > 0


async def test_a_client_that_leaves_a_buffered_call_ends_it_too(app, upstream):
    async def never(request, body):
        await asyncio.sleep(30)

    upstream.script = [never]
    with pytest.raises(openai.APITimeoutError):
        await app.client.with_options(timeout=0.3).chat.completions.create(model="mini", messages=USER)
    await asyncio.wait_for(upstream.left.wait(), 1)


async def test_recent_context_is_sent_within_its_budget(app, upstream):
    long = [{"role": "user", "content": f"old message number {i} with some words"} for i in range(20)]
    raw = await app.client.chat.completions.with_raw_response.create(model="short", messages=[*long, *USER])
    assert upstream.seen[0]["messages"][-1] == USER[0]
    assert len(upstream.seen[0]["messages"]) < 5
    assert "dropped=" in raw.headers["x-tailrace-context"]


async def test_the_explanation_shows_every_attempt(app, upstream):
    upstream.script = [INVALID, FENCED]
    _, got = await ask(app, "age", extra_headers={"x-tailrace-explain": "1"})
    attempts = got.tailrace["attempts"]
    assert [a["verdict"] for a in attempts] == ["invalid", "repaired"]
    assert attempts[0]["problems"][0]["pointer"] == "/age"
    assert attempts[1]["repairs"]


SELECTIONS = [
    ("path", "/r/age/v1/chat/completions", {}, {"model": "age"}, "age"),
    ("header", "/v1/chat/completions", {"X-Tailrace-Route": "age"}, {}, "age"),
    ("body", "/v1/chat/completions", {}, {"tailrace": {"route": "age"}}, "age"),
    ("metadata", "/v1/chat/completions", {}, {"metadata": {"tailrace_route": "age"}}, "age"),
    ("model", "/v1/chat/completions", {}, {"model": "age"}, "age"),
    ("default", "/v1/chat/completions", {}, {}, "default"),
]


@pytest.mark.parametrize(
    ("path", "headers", "doc", "route"), [r[1:] for r in SELECTIONS], ids=[r[0] for r in SELECTIONS]
)
async def test_a_route_is_selected(app, upstream, path, headers, doc, route):
    upstream.script = [VALID]
    status, got, _ = await post(app, path, headers, json={"messages": USER} | doc)
    assert (status, got["x-tailrace-route"]) == (200, route)
    assert upstream.seen[0] == {"messages": USER, "model": "up-mini"}


async def test_a_pinned_model_keeps_the_routes_policies(app, upstream):
    upstream.script = [FENCED]
    status, headers, _ = await post(
        app, "/r/age/v1/chat/completions", json={"model": "big", "messages": USER}
    )
    assert (status, headers["x-tailrace-model"], headers["x-tailrace-schema"]) == (200, "big", "repaired")


UNKNOWN = [
    ("model", "/v1/chat/completions", {"model": "nope"}, "model_not_found"),
    ("route", "/r/nope/v1/chat/completions", {"model": "mini"}, "route_not_found"),
    ("path", "/nope", {}, "unknown_url"),
    ("closed-passthrough", "/r/closed/v1/files", {}, "unknown_url"),
]


@pytest.mark.parametrize(("path", "doc", "code"), [r[1:] for r in UNKNOWN], ids=[r[0] for r in UNKNOWN])
async def test_unknown_names_are_404(app, upstream, path, doc, code):
    status, headers, text = await post(app, path, json={"messages": USER} | doc)
    assert (status, json.loads(text)["error"]["code"]) == (404, code)
    assert headers["x-should-retry"] == "false"
    assert upstream.seen == []


async def test_methods_and_sizes_are_refused_in_openais_shape(app):
    status, text = await get(app, "/v1/chat/completions")
    assert (status, json.loads(text)["error"]["code"]) == (405, "method_not_allowed")
    status, _, text = await post(
        app, data=io.BytesIO(b"x" * 2_000_000), headers={"content-type": "application/json"}
    )
    assert (status, json.loads(text)["error"]["code"]) == (413, "request_too_large")
    status, _, text = await post(app, data=b"x", headers={"content-encoding": "gzip"})
    assert (status, json.loads(text)["error"]["code"]) == (415, "unsupported_encoding")


async def test_a_body_too_large_by_count_is_refused(app):
    async def endless():
        for _ in range(200):
            yield b" " * 10_000

    status, _, text = await post(app, data=endless(), headers={"content-type": "application/json"})
    assert (status, json.loads(text)["error"]["code"]) == (413, "request_too_large")


async def test_models_lists_routes_aliases_and_what_patterns_stand_for(app, upstream):
    upstream.script = [{"object": "list", "data": [{"id": "fx-one", "object": "model"}, {"id": "other"}]}]
    ids = [m.id async for m in await app.client.models.list()]
    assert {"default", "age", "mini", "big", "fx-one"} <= set(ids)
    assert "other" not in ids
    assert "fx-*" not in ids
    assert (await app.client.models.retrieve("fx-one")).id == "fx-one"
    with pytest.raises(openai.NotFoundError):
        await app.client.models.retrieve("nope")


async def test_other_endpoints_pass_through_unchanged(app, upstream):
    upstream.script = [{"object": "list", "data": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}}]
    await app.client.embeddings.create(model="mini", input="x", encoding_format="float")
    upstream.script = [web.Response(body=b"RIFFaudio", content_type="audio/wav")]
    spoken = await app.client.audio.speech.create(model="mini", voice="alloy", input="x")
    assert spoken.content == b"RIFFaudio"
    upstream.script = [{"id": "file-1", "object": "file"}]
    await app.client.files.create(file=("a.txt", b"content"), purpose="batch")
    assert b"content" in upstream.seen[2]
    assert [p.split("?")[0] for p in upstream.paths] == ["/v1/embeddings", "/v1/audio/speech", "/v1/files"]
    assert upstream.seen[1]["model"] == "up-mini"
    report = await app.services.store.usage(0, 2**62, ("route",))
    assert report.total.input_tokens == 3


async def test_completions_stream(app, upstream):
    def events():
        for text, end in (("a", None), ("b", None), ("", "stop")):
            yield {
                "id": "c",
                "object": "text_completion",
                "choices": [{"index": 0, "text": text, "finish_reason": end}],
            }

    async def stream(request, body):
        return await Upstream.stream(request, events())

    upstream.script = [stream]
    got = await app.client.completions.create(model="mini", prompt="p", stream=True)
    assert "".join([c.choices[0].text async for c in got]) == "ab"


async def test_schemas_are_registered_bound_and_tested_while_it_runs(app, upstream):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    async with aiohttp.ClientSession(app.url) as session:
        async with session.put("/v1/schemas/count", json=schema) as r:
            assert r.status == 201
            version = (await r.json())["version"]
        async with session.put("/v1/schemas/count", json={"type": "nonsense"}) as r:
            assert (r.status, (await r.json())["error"]["code"]) == (400, "invalid_schema")
        async with session.get("/v1/schemas/count") as r:
            assert (await r.json())["version"] == version
        async with session.post("/v1/schemas/count/test", json={"text": "```\n{n: 1,}\n```"}) as r:
            shown = await r.json()
            assert (shown["verdict"], shown["value"]) == ("repaired", {"n": 1})
            assert shown["changes"]
        async with session.put("/v1/routes/default/schema", json={"schema": "count", "version": None}) as r:
            assert r.status == 200
        upstream.script = ["```\n{n: 1,}\n```"]
        headers, got = await ask(app, "default")
        assert (got.choices[0].message.content, headers["x-tailrace-schema"]) == ('{"n":1}', "repaired")
        async with session.delete("/v1/schemas/count") as r:
            assert r.status == 200
        async with session.get("/v1/schemas/count") as r:
            assert r.status == 404


KEYS = """
keys:
  - {name: team, key: sk-client-secret, routes: [age]}
  - {name: root, key: sk-root, admin: true}
"""


async def test_keys_are_checked_and_bound_to_routes(upstream):
    upstream.script = [VALID]
    async with proxy(upstream, KEYS) as app:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic sk-root"}):
            status, _, text = await post(app, headers=headers, json={"model": "age", "messages": USER})
            assert (status, json.loads(text)["error"]["code"]) == (401, "invalid_api_key")
        await ask(app, "age")
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await ask(app, "open")
        assert caught.value.code == "route_forbidden"
        status, _, text = await post(
            app, "/v1/schemas/x/test", {"authorization": "Bearer sk-client-secret"}, json={}
        )
        assert status == 400
        put = {"schema": "age", "version": None}
        async with aiohttp.ClientSession(app.url) as session:
            for key, status in (("sk-client-secret", 403), ("sk-root", 200)):
                headers = {"authorization": f"Bearer {key}"}
                async with session.put("/v1/routes/open/schema", json=put, headers=headers) as r:
                    assert r.status == status


@pytest.mark.parametrize("path", ["/v1/models", "/v1/schemas", "/v1/usage", "/v1/nope", "/v1/files"])
async def test_every_reply_below_v1_has_our_request_id(app, upstream, path):
    upstream.script = [{"object": "list", "data": []}]
    async with aiohttp.ClientSession() as session, session.get(app.url + path) as r:
        assert r.headers["x-tailrace-request-id"].startswith("req_")
        assert r.headers["x-request-id"]


async def test_health_readiness_and_metrics(app, upstream):
    await ask(app)
    assert (await get(app, "/healthz"))[0] == 200
    assert json.loads((await get(app, "/readyz"))[1])["status"] == "ready"
    _, text = await get(app, "/metrics")
    assert 'tailrace_requests_total{route="default",status="200"} 1.0' in text
    assert 'tailrace_attempts_total{model="mini",purpose="answer",result="ok",route="default"} 1.0' in text
    assert "tailrace_requests_in_flight 1.0" in text
    app.services.draining = True
    assert (await get(app, "/readyz"))[0] == 503


async def test_two_apps_in_one_process_do_not_see_each_other(app, upstream):
    async with proxy(upstream) as other:
        await ask(app)
        assert "tailrace_requests_total{" not in (await get(other, "/metrics"))[1]
        async with aiohttp.ClientSession() as session:
            async with session.put(app.url + "/v1/schemas/s", json={"type": "object"}) as r:
                assert r.status == 201
            async with session.get(other.url + "/v1/schemas/s") as r:
                assert r.status == 404
        assert (await other.services.store.usage(0, 2**62)).total.requests == 0


async def test_cors_is_off_unless_configured(app, upstream):
    headers = {"origin": "https://page.example"}
    _, got, _ = await post(app, headers=headers, json={"model": "mini", "messages": USER})
    assert "access-control-allow-origin" not in got


async def test_draining_finishes_streams_and_takes_no_new_requests(upstream):
    release = asyncio.Event()

    async def slow(request, body):
        await release.wait()
        return await Upstream.stream(request, chunks("done"))

    upstream.script = [slow]
    async with proxy(upstream) as app:
        reading = asyncio.create_task(read_stream(app))
        while not upstream.seen:
            await asyncio.sleep(0.01)
        draining = asyncio.create_task(app.drain())
        await asyncio.sleep(0.05)
        with pytest.raises(openai.APIConnectionError):
            await ask(app)
        release.set()
        assert (await reading)[0] == "done"
        await draining


MODELS = """
  tiny: {provider: up, name: up-tiny, window_tokens: 300, price: {input: 1, output: 1}}
  blind: {provider: up, name: up-blind, can: [tools]}
"""
ROUTES = """
  windowed: {ladder: [tiny, big]}
  tight: {ladder: [tiny]}
  seeing: {ladder: [blind, mini]}
"""
LONG = [{"role": "user", "content": "many words " * 200}]


async def test_a_prompt_goes_to_the_first_model_whose_window_it_fits(upstream):
    async with proxy(upstream, models=MODELS, routes=ROUTES) as app:
        raw = await app.client.chat.completions.with_raw_response.create(model="windowed", messages=LONG)
        assert raw.headers["x-tailrace-model"] == "big"
        headers, _ = await ask(app, "windowed")
        assert headers["x-tailrace-model"] == "tiny"


async def test_what_fits_no_window_is_refused_before_it_costs(upstream):
    async with proxy(upstream, models=MODELS, routes=ROUTES) as app:
        with pytest.raises(openai.BadRequestError, match=r"do not fit into 300") as caught:
            await app.client.chat.completions.create(model="tight", messages=LONG)
        assert caught.value.code == "context_length_exceeded"
        assert upstream.seen == []


async def test_an_image_goes_to_a_model_that_sees(upstream):
    image = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}
    ]
    async with proxy(upstream, models=MODELS, routes=ROUTES) as app:
        raw = await app.client.chat.completions.with_raw_response.create(
            model="seeing", messages=image, extra_headers={"x-tailrace-explain": "1"}
        )
        assert raw.headers["x-tailrace-model"] == "mini"
        told = raw.parse().tailrace["decision"]
        assert {"fact": "ability", "says": "blind: cannot vision"} in told


async def test_the_clients_own_cost_limit_stops_the_ladder(app, upstream):
    upstream.script = [INVALID]
    with pytest.raises(openai.UnprocessableEntityError, match=r"limits\.cost_usd"):
        await ask(app, "age", extra_headers={"x-tailrace-max-cost-usd": "0.00003"})
    assert len(upstream.seen) == 2


async def test_an_invalid_answer_that_passed_already_ends_in_an_honest_error(upstream):
    upstream.script = [INVALID]
    async with proxy(upstream, routes="  passing: {ladder: [mini, big], schema: age, stream: pass}\n") as app:
        with pytest.raises(openai.APIError, match="part of the answer was already delivered"):
            await read_stream(app, "passing")
    assert len(upstream.seen) == 1
