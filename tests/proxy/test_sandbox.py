"""Verdicts from a process of its own: the same as here, in bounded time, and no more than verdicts."""

import asyncio
import json
import pickle
import time

import pytest

from policies.chat import Choice, Reply, ToolCall
from policies.contract import Contract, judge
from proxy import sandbox
from proxy.judging import apart
from proxy.sandbox import Sandbox, read_back, written
from schemas.compiled import compile_schema

MANY = [
    {"type": "object", "properties": {"k": {"const": n}, "v": {"type": "string"}}, "required": ["k", "v"]}
    for n in range(150)
]
SLOW = compile_schema({"oneOf": MANY})
CHEAP = compile_schema({"type": "object", "properties": {"v": {"type": "string"}}})


def reply(text, calls=()):
    return Reply((Choice(0, text, "stop", calls),), None)


@pytest.fixture
async def box():
    found = Sandbox()
    yield found
    await found.close()
    assert all(worker.returncode is not None for worker in found._all)


def test_only_what_may_take_long_goes_there():
    box = Sandbox()
    assert apart(box, Contract(SLOW))
    assert apart(box, Contract(CHEAP, tools={"f": SLOW}))
    assert not apart(box, Contract(CHEAP, tools={"f": None}))


TEXTS = [
    ("valid", '{"k": 7, "v": "x"}'),
    ("mended", '```json\n{"k": 7, "v": "x",}\n```'),
    ("invalid", '{"k": 7, "v": 3}'),
    ("not-json", "I cannot."),
    ("surrogate", '{"k": 7, "v": "\\ud800"}'),
]


@pytest.mark.parametrize("text", [r[1] for r in TEXTS], ids=[r[0] for r in TEXTS])
async def test_the_verdict_is_the_same_as_here(box, text):
    contract = Contract(SLOW)
    there, here = await box.judge(reply(text), contract, None), judge(reply(text), contract)
    assert (there.kind, there.texts, there.problems) == (here.kind, here.texts, here.problems)
    assert (there.patch is None) == (here.patch is None)


async def test_arguments_of_calls_are_judged_there_too(box):
    call = ToolCall("1", "f", '{"k": 7, "v": 3}')
    assert (await box.judge(reply(None, (call,)), Contract(tools={"f": SLOW}), None)).kind == "invalid"


async def test_what_takes_too_long_is_killed_and_the_next_is_served(box, monkeypatch):
    monkeypatch.setattr(sandbox, "DEADLINE_S", 0.2)
    items = compile_schema({"type": "array", "items": SLOW.schema})
    long = json.dumps([{"k": 149, "v": "x"} for _ in range(45_000)])
    began = time.monotonic()
    verdict = await box.judge(reply(long), Contract(items), None)
    assert time.monotonic() - began < 3
    assert (verdict.kind, verdict.problems[0].pointer) == ("invalid", "")
    assert "within 0.2 s" in verdict.problems[0].message
    monkeypatch.setattr(sandbox, "DEADLINE_S", 5)
    assert (await box.judge(reply('{"k": 7, "v": "x"}'), Contract(SLOW), None)).kind == "valid"


async def test_the_event_loop_goes_on_meanwhile(box):
    items = compile_schema({"type": "array", "items": SLOW.schema})
    long = json.dumps([{"k": 149, "v": "x"} for _ in range(20_000)])
    job = asyncio.get_running_loop().create_task(box.judge(reply(long), Contract(items), None))
    worst = 0.0
    while not job.done():
        began = time.monotonic()
        await asyncio.sleep(0.005)
        worst = max(worst, time.monotonic() - began)
    assert worst < 0.15


async def test_a_worker_that_died_is_replaced(box):
    contract = Contract(SLOW)
    await box.judge(reply('{"k": 7, "v": "x"}'), contract, None)
    (worker,) = box._all
    worker.kill()
    await worker.wait()
    assert (await box.judge(reply('{"k": 7, "v": "x"}'), contract, None)).kind == "valid"


async def test_a_job_that_was_cancelled_leaves_no_answer_behind(box):
    contract = Contract(SLOW)
    job = asyncio.get_running_loop().create_task(box.judge(reply('{"k": 7, "v": 3}'), contract, None))
    await asyncio.sleep(0)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    assert (await box.judge(reply('{"k": 7, "v": "x"}'), contract, None)).kind == "valid"


async def test_more_jobs_than_may_wait_are_refused_at_once(box, monkeypatch):
    monkeypatch.setattr(sandbox, "MAX_WAITING", 1)
    contract = Contract(SLOW)
    verdicts = await asyncio.gather(
        *[box.judge(reply('{"k": 7, "v": "x"}'), contract, None) for _ in range(3)]
    )
    assert sorted(v.kind for v in verdicts) == ["invalid", "invalid", "valid"]


HOSTILE = [
    ("call", b"cposix\nsystem\n(S'true'\ntR."),
    ("builtin", b"cbuiltins\neval\n(S'1'\ntR."),
    ("function-of-ours", pickle.dumps(judge)),
    ("class-that-ours-imports", b"\x80\x04\x8c\x10schemas.compiled\x8c\x07hashlib\x93."),
]


@pytest.mark.parametrize("text", [r[1] for r in HOSTILE], ids=[r[0] for r in HOSTILE])
def test_a_message_names_nothing_but_values(text):
    with pytest.raises(pickle.UnpicklingError):
        read_back(text, {})


def test_schemas_go_as_text_and_come_back_as_those_we_know():
    back = read_back(written(Contract(SLOW)), {SLOW.version: SLOW})
    assert back.schema is SLOW
    assert read_back(written(Contract(SLOW)), {}).schema.version == SLOW.version
    assert len(written(Contract(SLOW))) < 20_000


async def test_an_idle_worker_does_not_stay(box, monkeypatch):
    monkeypatch.setattr(sandbox, "IDLE_S", 0.05)
    await box.judge(reply("{}"), Contract(SLOW), None)
    (worker,) = box._all
    async with asyncio.timeout(3):
        await worker.wait()
    assert not box._idle
