"""From live traffic to a live decision: a log made through a proxy, calibrated by the command, loaded, and followed."""

import asyncio
import contextlib
import copy
import io
import json
import random
import shutil
import sys
import zlib

import aiohttp
import pytest
import yaml
from aiohttp import web
from openai import AsyncOpenAI

from proxy.app import App
from proxy.cli import main
from proxy.config import ConfigRefused, loads
from tests.proxy.scripted import Upstream, chunks, config_text, reply

EASY = ["copy this field please", "which city is in the address", "repeat the name of the customer"]
HARD = ["prove that the sum converges and explain why", "derive the closed form step by step, then prove it"]
LEARN = "  r: {ladder: [mini, big], log_prompts: true, shadow: 0.5}"
FOLLOW = (
    "  r: {ladder: [mini, big], choose: learned, floor: {of: big, keep: 0.9, calibration: out/r.yaml}, "
    "log_prompts: true, shadow: 0.5, holdout: %s}"
)


def prompt(dice, *, hard=False):
    words = " ".join(dice.choice(["of", "the", "order", "no", str(dice.randint(1, 99))]) for _ in range(6))
    return f"{dice.choice(HARD if hard else EASY)} {words}"


def hard_by_look(asked):
    return "prove" in asked or "derive" in asked


def hard_by_chance(asked):
    """Nothing in the request tells."""
    return zlib.crc32(asked.encode()) % 5 < 2


def upstream(hard=hard_by_look, big=200):
    """mini is wrong where the request is `hard`, at great length where that is by chance."""

    async def step(request, body):
        asked = body["messages"][-1]["content"]
        if body["model"] == "up-big" and big != 200:
            return web.Response(status=big)
        wrong = body["model"] == "up-mini" and hard(asked)
        text = "wrong, " * (300 if hard is hard_by_chance else 1) if wrong else "right"
        if body.get("stream"):
            return await Upstream.stream(request, chunks(text, size=500))
        return web.json_response(reply(text))

    return Upstream(step)


@contextlib.asynccontextmanager
async def running(url, folder, routes):
    text = config_text(url, routes=routes).replace('store: "memory:"', f"store: 'sqlite:///{folder}/l.db'")
    app = App(loads(text, name="t", environ={}, base_dir=folder), environ={})
    await app.start()
    host, port = await app.listen("127.0.0.1", 0)
    app.url = f"http://{host}:{port}"
    app.client = AsyncOpenAI(base_url=f"{app.url}/v1", api_key="x", max_retries=0, timeout=10)
    try:
        yield app
    finally:
        await app.client.close()
        await app.drain()
        await app.close()


async def traffic(app, n, dice, rate=0.4):
    """`n` requests in groups; clients say of each answer whether it was right."""
    async with aiohttp.ClientSession() as client:

        async def one(hard):
            body = {"model": "r", "messages": [{"role": "user", "content": prompt(dice, hard=hard)}]}
            async with client.post(f"{app.url}/v1/chat/completions", json=body) as answer:
                said = (await answer.json())["choices"][0]["message"]["content"]
                name = answer.headers["x-tailrace-request-id"]
            told = {"request_id": name, "correct": "wrong" not in said}
            async with client.post(f"{app.url}/v1/feedback", json=told) as answer:
                assert answer.status == 200

        for _ in range(n // 10):
            await asyncio.gather(*(one(dice.random() < rate) for _ in range(10)))


async def calibrate(folder):
    arguments = ["--route", "r", "--cheap", "mini", "--strong", "big", "--keep", "0.9"]
    log = folder / "l.db.outcomes.jsonl"
    command = ["calibrate", *arguments, "--log", str(log), "--out", str(folder / "out")]
    assert await asyncio.to_thread(main, command) == 0
    return yaml.safe_load((folder / "out" / "r.yaml").read_text())


async def ask(app, text, **rest):
    raw = await app.client.chat.completions.with_raw_response.create(
        model="r",
        messages=[{"role": "user", "content": text}],
        extra_headers={"x-tailrace-explain": "1"},
        **rest,
    )
    answer = raw.parse()
    return answer.choices[0].message.content, raw.headers, answer.model_extra["tailrace"]


@pytest.fixture(scope="module")
def by_score(tmp_path_factory):
    """A folder with a log of 400 requests on which only their content tells what mini can do, and its calibration."""
    folder = tmp_path_factory.mktemp("score")

    async def made():
        async with upstream().running() as up, running(up.url, folder, LEARN) as app:
            await traffic(app, 400, random.Random(1))
        return await calibrate(folder)

    return folder, asyncio.run(made())


async def test_what_requests_look_like_decides_live_as_it_was_calibrated(by_score):
    folder, sheet = by_score
    plan = sheet["plan"]
    assert (plan["certified"], plan["by"], plan["start"]) == (True, "score", "mini")
    assert sheet["log"]["told_by"]["feedback"] == sheet["log"]["n"] == 400
    dice = random.Random(2)
    async with upstream().running() as up, running(up.url, folder, FOLLOW % 0) as app:
        chosen = {True: [], False: []}
        for n in range(40):
            hard = n % 2 == 0
            _, headers, told = await ask(app, prompt(dice, hard=hard))
            chosen[hard].append(headers["x-tailrace-model"])
        assert chosen[True].count("big") >= 19
        assert chosen[False].count("mini") >= 18
        assert any(r["fact"] == "score" and "against" in r["says"] for r in told["decision"])
        await app.services.store.flush()
        (row, *_) = (await app.services.store.exchange(headers["x-tailrace-request-id"])).attempts
        assert (row.propensity, row.reason) == (
            1.0,
            next(f"score: {r['says']}" for r in told["decision"] if r["fact"] == "score"),
        )
        strange = "SELECT a, b FROM t WHERE (x > 7) && {y: [1, 2, 3]} $$$ ||" * 30
        _, headers, told = await ask(app, strange)
        assert headers["x-tailrace-model"] == "big"
        assert any(r["fact"] == "score" and "abstains" in r["says"] for r in told["decision"])


@pytest.fixture(scope="module")
def by_suspicion(tmp_path_factory):
    """A folder with a log of 400 requests on which only mini's answers tell that they are wrong, and its calibration."""
    folder = tmp_path_factory.mktemp("suspicion")

    async def made():
        async with upstream(hard_by_chance).running() as up, running(up.url, folder, LEARN) as app:
            await traffic(app, 400, random.Random(1), rate=0)
        return await calibrate(folder)

    return folder, asyncio.run(made())


def of_each(dice):
    """A prompt that mini answers rightly, and one that it does not."""
    found = {}
    while len(found) < 2:
        text = prompt(dice)
        found[hard_by_chance(text)] = text
    return found[False], found[True]


async def test_what_answers_look_like_decides_live_as_it_was_calibrated(by_suspicion):
    folder, sheet = by_suspicion
    assert (sheet["plan"]["certified"], sheet["plan"]["by"]) == (True, "suspicion")
    dice = random.Random(3)
    async with upstream(hard_by_chance).running() as up, running(up.url, folder, FOLLOW % 0) as app:
        for _ in range(5):
            easy, hard = of_each(dice)
            text, headers, told = await ask(app, easy)
            assert (text, headers["x-tailrace-model"], headers["x-tailrace-attempts"]) == (
                "right",
                "mini",
                "1",
            )
            threshold = sheet["plan"]["threshold"]
            assert threshold is None or told["attempts"][0]["suspicion"] < threshold
            text, headers, told = await ask(app, hard)
            assert (text, headers["x-tailrace-model"], headers["x-tailrace-attempts"]) == (
                "right",
                "big",
                "2",
            )
            assert [a.get("set_aside") for a in told["attempts"]] == ["suspicion", None]
            assert told["attempts"][0]["suspicion"] >= threshold
            assert any(r["fact"] == "suspicion" for r in told["decision"])
        await app.services.store.flush()
        rows = (await app.services.store.exchange(headers["x-tailrace-request-id"])).attempts
        assert [(r.alias, r.purpose) for r in rows[:2]] == [("mini", "answer"), ("big", "escalate")]
        assert "is not believed" in rows[0].reason
        assert rows[1].reason.startswith("suspicion: ")
        assert rows[0].propensity == 1.0


async def test_a_stream_is_told_nothing_of_an_answer_that_is_not_believed(by_suspicion):
    folder, _ = by_suspicion
    _, hard = of_each(random.Random(4))
    async with upstream(hard_by_chance).running() as up, running(up.url, folder, FOLLOW % 0) as app:
        messages = [{"role": "user", "content": hard}]
        stream = await app.client.chat.completions.create(model="r", messages=messages, stream=True)
        assert "".join([c.choices[0].delta.content or "" async for c in stream if c.choices]) == "right"


async def test_an_answer_that_is_not_believed_is_better_than_none(by_suspicion):
    folder, _ = by_suspicion
    _, hard = of_each(random.Random(4))
    async with upstream(hard_by_chance, big=500).running() as up, running(up.url, folder, FOLLOW % 0) as app:
        text, headers, _ = await ask(app, hard)
        assert text.startswith("wrong")
        assert headers["x-tailrace-model"] == "mini"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda sheet: sheet["plan"].pop("weights"), "names none", id="no-weights"),
        pytest.param(lambda sheet: sheet.pop("log"), "names none", id="no-log"),
        pytest.param(lambda sheet: sheet["log"].update(sha256="0"), "another log", id="other-log"),
        pytest.param(
            lambda sheet: sheet["plan"]["weights"].update(sha256="0"),
            "not those that it was",
            id="other-weights",
        ),
        pytest.param(lambda sheet: sheet["plan"].update(by="suspicion"), "of another kind", id="other-kind"),
        pytest.param(
            lambda sheet: sheet["plan"].update(threshold="x"), "threshold", id="threshold-no-number"
        ),
        pytest.param(
            lambda sheet: sheet["plan"]["weights"].update(file="../out/r.weights"),
            "not the name",
            id="elsewhere",
        ),
        pytest.param(lambda sheet: sheet["plan"]["weights"].update(file="x"), "cannot read", id="no-file"),
        pytest.param(lambda sheet: sheet["plan"]["weights"].update(file="a\0b"), "cannot read", id="nul"),
    ],
)
def test_weights_that_prove_nothing_are_refused(by_score, tmp_path, change, says):
    folder, sheet = by_score
    changed = copy.deepcopy(sheet)
    change(changed)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "r.weights").write_bytes((folder / "out" / "r.weights").read_bytes())
    (tmp_path / "out" / "r.yaml").write_text(yaml.safe_dump(changed))
    with pytest.raises(ConfigRefused) as caught:
        loads(
            config_text("http://127.0.0.1:9/v1", routes=FOLLOW % 0), name="t", environ={}, base_dir=tmp_path
        )
    assert "routes.r.floor.calibration" in str(caught.value)
    assert says in str(caught.value)


async def test_where_mini_gets_worse_the_route_goes_to_the_strong_model_until_it_is_calibrated_again(
    by_score, tmp_path
):
    made, sheet = by_score
    folder = shutil.copytree(made, tmp_path / "copy")
    assert sheet["plan"]["expected"]["*"]["feedback"] > 0.9
    dice = random.Random(7)
    async with upstream(lambda _: True).running() as up, running(up.url, folder, FOLLOW % 0) as app:
        _, headers, _ = await ask(app, prompt(dice))
        assert headers["x-tailrace-model"] == "mini"
        await traffic(app, 40, dice, rate=0)
        _, headers, told = await ask(app, prompt(dice))
        assert headers["x-tailrace-model"] == "big"
        assert [r["fact"] for r in told["decision"]].count("drift") == 1
        assert 'tailrace_drifted_steps{route="r"} 1.0' in app.services.telemetry.render().decode()
        async with aiohttp.ClientSession() as client, client.get(f"{app.url}/admin/drift") as answer:
            (found,) = (await answer.json())["data"]
            assert (found["route"], found["step"], found["kind"]) == ("r", "*", "feedback")
    async with upstream().running() as up, running(up.url, folder, FOLLOW % 0) as app:
        assert (await ask(app, prompt(dice)))[1]["x-tailrace-model"] == "big"


@pytest.mark.parametrize("expected", [7, {"*": 7}, {"*": {"valid": 2}}, {"*": {"valid": True}}])
def test_expectations_that_are_none_are_refused(by_score, tmp_path, expected):
    _, sheet = by_score
    changed = copy.deepcopy(sheet)
    changed["plan"]["expected"] = expected
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "r.yaml").write_text(yaml.safe_dump(changed))
    text = config_text("http://127.0.0.1:9/v1", routes=FOLLOW % 0)
    with pytest.raises(ConfigRefused, match=r"plan\.expected"):
        loads(text, name="t", environ={}, base_dir=tmp_path)


@pytest.mark.parametrize(("hard", "model"), [(True, "big"), (False, "mini")])
def test_explain_tells_what_a_calibrated_route_would_choose(
    by_score, tmp_path, monkeypatch, capsys, hard, model
):
    folder, _ = by_score
    config = tmp_path / "tailrace.yaml"
    routes = (FOLLOW % 0).replace("out/r.yaml", f"{folder}/out/r.yaml")
    config.write_text(config_text("http://127.0.0.1:9/v1", routes=routes))
    body = json.dumps({"messages": [{"role": "user", "content": prompt(random.Random(8), hard=hard)}]})
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body.encode())))
    assert main(["explain", "--config", str(config), "--route", "r"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("score ") and line.endswith(f": {model}") for line in lines)
    assert any(line.startswith("chosen ") and line.split()[1].strip(",") == model for line in lines)
