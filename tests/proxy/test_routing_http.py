"""Routing over HTTP: what the words of a route do to live traffic."""

import asyncio
import json
import time

import aiohttp
import openai
import pytest
from aiohttp import web
from openai import AsyncOpenAI

from proxy import logged as outcome_log
from proxy import outcomes
from proxy.app import App
from proxy.config import ConfigRefused, loads, render_check
from proxy.outcomes import OutcomeLog
from tests.proxy.scripted import Upstream, chunks, config_text, proxy, reply

USER = [{"role": "user", "content": "How old?"}]


def by_model(answers):
    """A step that answers each model as told: a text, a status, or an async function of (request, body)."""

    async def step(request, body):
        said = answers[body["model"].removeprefix("up-")]
        if callable(said):
            return await said(request, body)
        if isinstance(said, int):
            return web.Response(status=said, text="no")
        if body.get("stream"):
            return await Upstream.stream(request, chunks(said))
        return web.json_response(reply(said))

    return step


HAIKU = "  haiku: {provider: up, name: up-haiku, price: {input: 1, output: 2}}"
PAIR = """
  pair: {ladder: [mini, big], agree: [mini, haiku], schema: age}
  words: {ladder: [mini, big], agree: [mini, haiku], stream: pass}
"""


async def ask(app, model, **rest):
    """(the text, the headers, what was explained)."""
    raw = await app.client.chat.completions.with_raw_response.create(
        model=model, messages=USER, extra_headers={"x-tailrace-explain": "1"}, **rest
    )
    answer = raw.parse()
    return answer.choices[0].message.content, raw.headers, answer.model_extra["tailrace"]


async def streamed(app, model, **rest):
    stream = await app.client.chat.completions.create(model=model, messages=USER, stream=True, **rest)
    return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])


def models_of(upstream):
    return [body["model"].removeprefix("up-") for body in upstream.seen]


async def test_a_ladder_begins_at_its_first_healthy_model():
    async with Upstream(by_model({"mini": 500, "big": "fine"})).running() as upstream, proxy(upstream) as app:
        for _ in range(5):
            await ask(app, "open")
        upstream.seen.clear()
        text, headers, told = await ask(app, "open")
        assert text == "fine"
        assert models_of(upstream) == ["big"]
        assert headers["x-tailrace-attempts"] == "1"
        assert any(r["fact"] == "health" and "mini" in r["says"] for r in told["decision"])


async def test_a_decision_that_is_remembered_is_one_for_the_same_demands_only():
    models = "  wordy: {provider: up, name: up-wordy, price: {input: 1, output: 1}, max_output_tokens: 50, can: []}"
    answers = {"wordy": "cheap", "big": "dear"}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    async with (
        Upstream(by_model(answers)).running() as upstream,
        proxy(upstream, models=models, routes="  both: {ladder: [wordy, big]}") as app,
    ):
        asks = [{}, {"tools": [tool]}, {"max_tokens": 40}, {"max_tokens": 60}, {}]
        for more in asks * 2:
            await ask(app, "both", **more)
        wanted = ["wordy", "big", "wordy", "big", "wordy"]
        assert models_of(upstream) == wanted * 2
        _, _, told = await ask(app, "both", extra_body={"tailrace": {"step": "plan"}})
        assert {r["fact"] for r in told["decision"]} >= {"step"}
        _, _, told = await ask(app, "both")
        assert "step" not in {r["fact"] for r in told["decision"]}


async def test_a_pattern_has_a_breaker_for_each_of_its_names():
    answers = {"fx-a": 500, "fx-b": "fine"}
    async with Upstream(by_model(answers)).running() as upstream, proxy(upstream) as app:
        for _ in range(5):
            with pytest.raises(openai.APIStatusError):
                await ask(app, "fx-a")
        assert (await ask(app, "fx-b"))[0] == "fine"


async def test_where_no_model_is_healthy_the_client_is_told_when_to_come_again():
    async with Upstream(by_model({"mini": 500})).running() as upstream, proxy(upstream) as app:
        for _ in range(5):
            with pytest.raises(openai.APIStatusError):
                await ask(app, "default")
        upstream.seen.clear()
        with pytest.raises(openai.InternalServerError) as caught:
            await ask(app, "default")
        assert caught.value.status_code == 503
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 5
        assert upstream.seen == []


async def test_two_cheap_models_that_agree_answer_and_both_are_in_the_ledger():
    answers = {"mini": '{"age": 7}', "haiku": '```json\n{"age": 7.0}\n```'}
    async with (
        Upstream(by_model(answers)).running() as upstream,
        proxy(upstream, routes=PAIR, models=HAIKU) as app,
    ):
        text, headers, told = await ask(app, "pair")
        assert (text, headers["x-tailrace-model"], headers["x-tailrace-attempts"]) == (
            '{"age": 7}',
            "mini",
            "2",
        )
        assert sorted(models_of(upstream)) == ["haiku", "mini"]
        assert [a.get("set_aside") for a in told["attempts"]] == ["agreement", None]
        await app.services.store.flush()
        (exchange,) = await app.services.store.recent()
        assert [(row.alias, row.status) for row in exchange.attempts] == [("haiku", "ok"), ("mini", "ok")]


async def test_two_cheap_models_that_disagree_are_not_believed():
    answers = {"mini": '{"age": 7}', "haiku": '{"age": 8}', "big": '{"age": 9}'}
    async with (
        Upstream(by_model(answers)).running() as upstream,
        proxy(upstream, routes=PAIR, models=HAIKU) as app,
    ):
        text, headers, told = await ask(app, "pair")
        assert (text, headers["x-tailrace-model"], headers["x-tailrace-attempts"]) == (
            '{"age": 9}',
            "big",
            "3",
        )
        assert [a.get("set_aside") for a in told["attempts"]] == ["disagreement", "disagreement", None]
        await app.services.store.flush()
        (exchange,) = await app.services.store.recent()
        assert [row.saved_routing is None for row in exchange.attempts] == [True, True, False]


async def test_a_stream_is_told_the_answer_that_two_models_share():
    answers = {"mini": "Paris is it", "haiku": "Paris is  it", "big": "Rome"}
    async with (
        Upstream(by_model(answers)).running() as upstream,
        proxy(upstream, routes=PAIR, models=HAIKU) as app,
    ):
        assert await streamed(app, "words") == "Paris is it"
        answers["haiku"] = "London"
        assert await streamed(app, "words") == "Rome"


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed"])
async def test_a_valid_answer_stands_where_the_judge_above_is_down(whole):
    answers = {"mini": "broken", "haiku": '{"age": 8}', "big": 500}
    async with (
        Upstream(by_model(answers)).running() as upstream,
        proxy(upstream, routes=PAIR, models=HAIKU) as app,
    ):
        said = (await ask(app, "pair"))[0] if whole else await streamed(app, "pair")
        assert said == '{"age": 8}'


async def test_budgets_are_held_for_both_of_a_pair():
    answers = {"mini": '{"age": 7}', "haiku": '{"age": 7}'}
    keys = "keys:\n  - {name: team, key: sk-client-secret, tpm: 100000}\n"
    async with Upstream(by_model(answers)).running() as upstream:
        async with proxy(upstream, keys, routes=PAIR, models=HAIKU) as app:
            held = []
            limiter = app.services.limiter
            reserve, settle = limiter.reserve, limiter.settle

            async def counted(*args):
                held.append(1)
                return await reserve(*args)

            def settled(*args):
                held.append(-1)
                return settle(*args)

            limiter.reserve, limiter.settle = counted, settled
            await ask(app, "pair", max_tokens=10)
            assert sorted(held) == [-1, -1, 1, 1]


@pytest.mark.parametrize(
    ("agree", "rest", "says"),
    [
        ("[mini, big]", "", "where the two disagree"),
        ("[mini, mini]", "", "agrees with itself"),
        ("[mini, haiku]", "limits: {attempts: 2}", "too few for `agree`"),
    ],
)
def test_a_pair_that_could_not_help_is_refused(agree, rest, says):
    text = config_text(
        "http://127.0.0.1:9/v1", routes=f"  pair: {{ladder: [mini, big], agree: {agree}, {rest}}}"
    )
    with pytest.raises(ConfigRefused) as caught:
        loads(text, name="test", environ={}, base_dir=".")
    assert says in str(caught.value)


LONG = [{"role": "user", "content": "word " * 3000}]
NEAR = """
  near: {provider: up, name: up-near, price: {input: 1, output: 1}}
  far: {provider: up, name: up-far, price: {input: 1.1, cached_input: 0.1, output: 1}}
"""


@pytest.mark.parametrize(("sticky", "then"), [("true", "far"), ("false", "near")])
async def test_a_sticky_conversation_stays_where_its_prompt_is_cached(sticky, then):
    answers = {"near": 500, "far": "fine"}
    usage = {"prompt_tokens": 3000, "completion_tokens": 2, "total_tokens": 3002}

    async def step(request, body):
        if body["model"] == "up-near" and answers["near"] == 500:
            return web.Response(status=500)
        return web.json_response(reply("fine", usage=usage))

    routes = f"  home: {{ladder: [near, far], sticky: {sticky}}}"
    async with Upstream(step).running() as upstream, proxy(upstream, routes=routes, models=NEAR) as app:

        async def turn(messages):
            made = await app.client.chat.completions.with_raw_response.create(model="home", messages=messages)
            return made.headers["x-tailrace-model"]

        assert await turn(LONG) == "far"
        answers["near"] = "fine"
        again = [*LONG, {"role": "assistant", "content": "fine"}, {"role": "user", "content": "and?"}]
        assert await turn(again) == then
        assert await turn([{"role": "user", "content": "another conversation"}]) == "near"


LEARN = "  learn: {ladder: [mini, big], schema: age, choose: learned, repair: {reask: 0}}"


async def test_a_route_that_learns_leaves_a_step_that_mini_fails_to_the_next_model():
    answers = {"mini": "no", "big": '{"age": 7}'}
    async with Upstream(by_model(answers)).running() as upstream, proxy(upstream, routes=LEARN) as app:
        for _ in range(24):
            await ask(app, "learn", extra_body={"tailrace": {"step": "read"}})
        upstream.seen.clear()
        _, _, told = await ask(app, "learn", extra_body={"tailrace": {"step": "read"}})
        assert models_of(upstream) == ["big"]
        assert any(r["fact"] == "evidence" for r in told["decision"])


async def test_feedback_teaches_and_is_given_once_by_whose_exchange_it_was():
    keys = "keys:\n  - {name: team, key: sk-client-secret}\n  - {name: other, key: sk-other}\n"
    async with Upstream(by_model({"mini": '{"age": 7}'})).running() as upstream:
        async with proxy(upstream, keys, routes=LEARN) as app, aiohttp.ClientSession() as client:

            async def tell(body, key="sk-client-secret"):
                head = {"authorization": f"Bearer {key}"}
                async with client.post(f"{app.url}/v1/feedback", json=body, headers=head) as answer:
                    return answer.status

            _, headers, _ = await ask(app, "learn")
            said = {"request_id": headers["x-tailrace-request-id"], "correct": False}
            before = app.services.learning.of("learn", {"mini": "mini"})["*"]["mini"]
            assert await tell(said | {"score": 1}) == 400
            assert await tell({"request_id": said["request_id"], "score": 2}) == 400
            assert await tell(said, "sk-other") == 404
            assert await tell(said) == 200
            assert await tell(said) == 404
            after = app.services.learning.of("learn", {"mini": "mini"})["*"]["mini"]
            assert after.success < before.success
            assert (before.n, after.n) == (1, pytest.approx(2, abs=1e-3))


async def test_feedback_reaches_any_worker_and_counts_once(tmp_path):
    config = f"store: 'sqlite:///{tmp_path}/ledger.db'"
    async with Upstream(by_model({"mini": "no", "big": '{"age": 7}'})).running() as upstream:
        text = config_text(upstream.url, routes=LEARN).replace('store: "memory:"', config)
        text = text.replace("server: {", "server: {workers: 2, ")
        apps = []
        for _ in range(2):
            app = App(loads(text, name="test", environ={}, base_dir="."), environ={})
            await app.start()
            host, port = await app.listen("127.0.0.1", 0)
            app.url = f"http://{host}:{port}"
            app.client = AsyncOpenAI(base_url=f"{app.url}/v1", api_key="x", max_retries=0, timeout=10)
            apps.append(app)
        try:
            _, headers, _ = await ask(apps[0], "learn", extra_body={"tailrace": {"step": "read"}})
            _, plain, _ = await ask(apps[0], "open")
            statuses = []
            async with aiohttp.ClientSession() as client:
                for app, name in (
                    (apps[1], headers["x-tailrace-request-id"]),
                    (apps[0], headers["x-tailrace-request-id"]),
                    (apps[1], plain["x-tailrace-request-id"]),
                    (apps[1], "req_0"),
                    (apps[1], "\ud800" * 2),
                ):
                    said = {"request_id": name, "correct": True}
                    async with client.post(f"{app.url}/v1/feedback", json=said) as answer:
                        statuses.append(answer.status)
            assert statuses[:4] == [200, 404, 404, 404]
            assert statuses[4] in (400, 404)
            known = apps[1].services.learning.of("learn", {"big": "big", "mini": "mini"})["read"]
            assert (known["big"].n, known["mini"].n) == (1, 0)
        finally:
            for app in apps:
                await app.client.close()
                await app.drain()
                await app.close()


async def test_what_was_learned_survives_a_restart(tmp_path):
    config = f"store: 'sqlite:///{tmp_path}/ledger.db'"
    async with Upstream(by_model({"mini": '{"age": 7}'})).running() as upstream:
        for n in (1, 2):
            text = config_text(upstream.url, routes=LEARN).replace('store: "memory:"', config)
            app = App(loads(text, name="test", environ={}, base_dir="."), environ={})
            await app.start()
            host, port = await app.listen("127.0.0.1", 0)
            app.url = f"http://{host}:{port}"
            app.client = AsyncOpenAI(base_url=f"{app.url}/v1", api_key="x", max_retries=0, timeout=10)
            await ask(app, "learn")
            known = app.services.learning.of("learn", {"mini": "mini"})["*"]["mini"]
            await app.client.close()
            await app.drain()
            await app.close()
            assert known.n == pytest.approx(n, abs=1e-3)


SHADOW = """
  shade: {ladder: [mini, big], schema: age, shadow: 1, log_prompts: true}
  held: {ladder: [mini, big], schema: age, choose: learned, holdout: 1}
"""


async def logged(app, rows=1):
    """The rows of the outcome log, once there are so many."""
    for _ in range(100):
        if len(app.services.outcomes.waiting) >= rows:
            break
        await asyncio.sleep(0.02)
    return [json.loads(row) for row in app.services.outcomes.waiting]


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed"])
async def test_a_shadow_is_asked_besides_booked_and_compared(whole):
    answers = {"mini": '{"age": 7}', "big": '{"age": 8}'}
    async with Upstream(by_model(answers)).running() as upstream, proxy(upstream, routes=SHADOW) as app:
        said = (await ask(app, "shade"))[0] if whole else await streamed(app, "shade")
        assert said == '{"age": 7}'
        (row,) = await logged(app)
        assert {m: a["quality"] for m, a in row["answers"].items()} == {"mini": 0.0, "big": 1.0}
        assert (row["model"], row["kept"], row["propensity"], row["holdout"]) == ("mini", "mini", 1.0, False)
        assert row["messages"] == USER
        text = "\n".join([json.dumps(row)] * 100)
        assert outcome_log.read(text, "shade", "mini", "big")[0].sample.strong == 1.0
        await app.services.store.flush()
        (exchange,) = await app.services.store.recent()
        assert [(r.alias, r.purpose, r.status) for r in exchange.attempts] == [
            ("mini", "answer", "ok"),
            ("big", "route", "ok"),
        ]
        first, shadow = exchange.attempts
        assert first.saved_routing > 0
        assert shadow.saved_shadow == -shadow.cost_nanousd < 0
        total = (await app.services.store.usage(0, 2**62)).total
        assert total.saved_nanousd == first.saved_routing - shadow.cost_nanousd
        lost = app.services.telemetry.families.lost.cell("shade", "shadow")
        assert lost.value == shadow.cost_nanousd


async def test_an_answer_that_was_set_aside_and_then_given_is_a_saving():
    answers = {"mini": '{"age": 7}', "haiku": '{"age": 8}', "big": 400}
    async with (
        Upstream(by_model(answers)).running() as upstream,
        proxy(upstream, routes=PAIR, models=HAIKU) as app,
    ):
        text, headers, _ = await ask(app, "pair")
        assert (text, headers["x-tailrace-saved-usd"]) == ('{"age": 7}', "0.00016")
        await app.services.store.flush()
        assert (await app.services.store.usage(0, 2**62)).total.saved_nanousd == 160_000


@pytest.mark.parametrize("trouble", [500, "hang"])
async def test_a_shadow_in_trouble_is_not_felt(trouble):
    async def never(request, body):
        await asyncio.sleep(5)

    answers = {"mini": '{"age": 7}', "big": never if trouble == "hang" else trouble}
    async with Upstream(by_model(answers)).running() as upstream, proxy(upstream, routes=SHADOW) as app:
        began = time.monotonic()
        assert (await ask(app, "shade"))[0] == '{"age": 7}'
        assert time.monotonic() - began < 1


async def test_a_shadow_keeps_within_the_budget():
    answers = {"mini": '{"age": 7}', "big": '{"age": 7}'}
    keys = "keys:\n  - {name: team, key: sk-client-secret, budget: {usd: 0.00008, per: day}}\n"
    async with Upstream(by_model(answers)).running() as upstream:
        async with proxy(upstream, keys, routes=SHADOW) as app:
            await ask(app, "shade", max_tokens=20)
            await logged(app)
            assert models_of(upstream) == ["mini"]


async def test_prompts_are_logged_only_where_the_route_says_so():
    answers = {"mini": '{"age": 7}', "big": '{"age": 8}'}
    async with Upstream(by_model(answers)).running() as upstream, proxy(upstream, routes=SHADOW) as app:
        text, headers, told = await ask(app, "held")
        assert (text, headers["x-tailrace-model"]) == ('{"age": 8}', "big")
        assert any(r["fact"] == "holdout" for r in told["decision"])
        (row,) = await logged(app)
        assert (row["holdout"], row["propensity"], "messages" in row) == (True, 1.0, False)
        assert "How old" not in json.dumps(row)


async def test_the_log_stands_beside_the_ledger_and_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(outcomes, "MAX_BYTES", 100)
    log = OutcomeLog(f"sqlite:///{tmp_path}/ledger.db")
    for n in range(4):
        log.note({"n": n, "pad": "x" * 60})
        await log.save()
    files = {p.name: p.read_text().count("\n") for p in tmp_path.iterdir()}
    assert files == {"ledger.db.outcomes.jsonl.1": 2}


FLOOR = "  sure: {ladder: [mini, big], choose: learned, floor: {of: big, calibration: sure.yaml}}"
SHEET = """
route: sure
floor: {of: big, keep: 0.98, risk: 0.05}
plan: {certified: true, by: start, start: mini, threshold: 0.1, n: 400, steps: [easy]}
"""


async def test_a_calibration_says_which_steps_begin_cheap(tmp_path):
    (tmp_path / "sure.yaml").write_text(SHEET)
    async with Upstream(by_model({"mini": "small", "big": "large"})).running() as upstream:
        app = App(loads(config_text(upstream.url, routes=FLOOR), name="t", environ={}, base_dir=tmp_path))
        await app.start()
        host, port = await app.listen("127.0.0.1", 0)
        app.client = AsyncOpenAI(base_url=f"http://{host}:{port}/v1", api_key="x", max_retries=0)
        easy, _, told = await ask(app, "sure", extra_body={"tailrace": {"step": "easy"}})
        hard, _, _ = await ask(app, "sure", extra_body={"tailrace": {"step": "hard"}})
        await app.client.close()
        await app.drain()
        await app.close()
    assert (easy, hard) == ("small", "large")
    assert {
        "fact": "floor",
        "says": "step easy certified on 400 outcomes to begin at mini, by start",
    } in told["decision"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            ("certified: true", "certified: false"),
            "no saving is certified for its floor: everything goes to big",
        ),
        (("", ""), "its calibration does not say what to expect"),
        (("n: 400", "n: 400, expected: {easy: {valid: 0.9}}"), None),
    ],
)
def test_check_tells_what_a_floor_comes_to(tmp_path, change, says):
    (tmp_path / "sure.yaml").write_text(SHEET.replace(*change) if change[0] else SHEET)
    text = config_text("http://127.0.0.1:9/v1", routes=FLOOR)
    told = render_check(loads(text, name="t", environ={}, base_dir=tmp_path))
    found = [line for line in told.splitlines() if "route sure: " in line]
    assert len(found) == (says is not None)
    assert all(str(says) in line for line in found)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("route: sure", "route: other"), "another route"),
        (("keep: 0.98", "keep: 0.9"), "another floor: `keep`"),
        (("by: start", "by: luck"), "neither start, score nor suspicion"),
        (("by: start", "by: score"), "names none"),
        (("start: mini", "start: tiny"), "not in the ladder"),
        (("steps: [easy]", "steps: easy"), "not a list"),
        (("plan:", "plans:"), "is missing"),
        ((SHEET, "]"), "no calibration"),
    ],
)
def test_a_calibration_that_proves_nothing_here_is_refused(tmp_path, change, says):
    (tmp_path / "sure.yaml").write_text(SHEET.replace(*change))
    text = config_text("http://127.0.0.1:9/v1", routes=FLOOR)
    with pytest.raises(ConfigRefused) as caught:
        loads(text, name="t", environ={}, base_dir=tmp_path)
    assert "routes.sure.floor.calibration" in str(caught.value)
    assert says in str(caught.value)
    (tmp_path / "sure.yaml").unlink()
    with pytest.raises(ConfigRefused, match="cannot read the calibration"):
        loads(text, name="t", environ={}, base_dir=tmp_path)
