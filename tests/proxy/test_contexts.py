"""What trimming left out of a request can be had back: by the key that made it or an admin, for a while, after a restart too."""

import asyncio
import json
import sqlite3

import aiohttp
import pytest
from openai import AsyncOpenAI

from policies.trimming import Dropped, Leavings
from policies.units import content_hash
from proxy.app import App
from proxy.config import loads
from proxy.stores.base import ContextRecord, StoreFailed
from proxy.stores.memory import MemoryStore
from proxy.stores.sqlite import SqliteStore, connect
from tests.proxy.scripted import Upstream, config_text

MESSAGES = [
    {"role": "user", "content": "lone \ud800 surrogate, \u00e4, \U0001f600"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
    },
    {
        "role": "user",
        "content": [{"type": "text", "text": "long text"}, {"type": "image_url", "image_url": {"url": "x"}}],
    },
]


def record(at_ns=100, until_ns=1_000, name="req_1", key="team-a", dropped=(0, 1, 2)):
    gone = [
        Dropped(content_hash(MESSAGES[at]), at, 5, 0.5, "older", (1, 4) if at == 2 else None)
        for at in dropped
    ]
    return ContextRecord(name, "r", key, at_ns, until_ns, 50, 20, 12.5, "the last fit", tuple(gone))


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path):
    made = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "t.db", interval_s=0.002)
    yield made
    await made.close()


async def test_a_record_reads_back_with_every_fact_and_every_message_as_it_was(store):
    assert store.keep_context(record(), MESSAGES, 100)
    kept = await store.context("req_1", 999)
    assert kept.record == record()
    assert kept.messages == {content_hash(m): m for m in MESSAGES}


async def test_pieces_are_not_read_before_they_are_written(tmp_path):
    store = SqliteStore(tmp_path / "t.db", interval_s=30)
    lazy = Leavings(lambda: record().dropped)
    assert store.keep_context(record()._replace(dropped=lazy), MESSAGES, 100)
    assert repr(lazy) == "<Leavings not read>"
    assert (await store.context("req_1", 999)).record == record()
    await store.close()


async def test_an_unknown_record_is_none(store):
    assert await store.context("req_2", 0) is None


async def test_a_record_whose_time_has_come_is_none_and_its_texts_are_gone(store):
    store.keep_context(record(), MESSAGES, 100)
    assert await store.context("req_1", 1_000) is None
    while await store.forget_contexts(10_000):
        pass
    assert await store.context("req_1", 0) is None


async def test_a_later_record_of_the_same_request_takes_the_place_of_the_earlier(store):
    store.keep_context(record(), MESSAGES, 100)
    store.keep_context(record(dropped=(1,)), MESSAGES, 100)
    kept = await store.context("req_1", 0)
    assert [gone.index for gone in kept.record.dropped] == [1]


async def test_a_message_lives_as_long_as_the_last_record_it_is_in(store):
    store.keep_context(record(), MESSAGES, 100)
    store.keep_context(record(900, 5_000, "req_2"), MESSAGES, 100)
    while await store.forget_contexts(1_500):
        pass
    assert len((await store.context("req_2", 1_500)).messages) == 3


async def test_a_message_that_every_turn_leaves_out_is_kept_once(tmp_path):
    store = SqliteStore(tmp_path / "t.db", interval_s=0.002)
    for turn in range(20):
        store.keep_context(record(100 + turn, 1_000 + turn, f"req_{turn}"), MESSAGES, 100)
    await store.close()
    with sqlite3.connect(tmp_path / "t.db") as connection:
        assert connection.execute("SELECT COUNT(*) FROM context_messages").fetchone() == (3,)
        assert connection.execute("SELECT COUNT(*) FROM contexts").fetchone() == (20,)
    connection.close()


async def test_forgetting_takes_a_bounded_number_of_rows_at_once(tmp_path):
    store = SqliteStore(tmp_path / "t.db", interval_s=0.002)
    for n in range(1_200):
        store.keep_context(record(name=f"req_{n}", dropped=()), MESSAGES, 10)
    await store.flush()
    gone = [await store.forget_contexts(2_000) for _ in range(4)]
    assert gone == [500, 500, 200, 0]
    await store.close()


async def test_more_than_may_wait_is_refused_and_not_kept_in_memory(tmp_path):
    store = SqliteStore(tmp_path / "t.db", interval_s=30)
    taken = [store.keep_context(record(name=f"req_{n}"), MESSAGES, 20_000_000) for n in range(5)]
    assert taken == [True, True, True, False, False]
    await store.flush()
    assert store.keep_context(record(name="req_9"), MESSAGES, 20_000_000)
    await store.close()
    assert not store.keep_context(record(), MESSAGES, 1)


async def test_a_disk_that_refuses_for_a_while_loses_no_record(tmp_path):
    full = True

    class Full(sqlite3.Connection):
        def execute(self, sql, *values):
            if full and sql.startswith("BEGIN"):
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return super().execute(sql, *values)

    SqliteStore_open = iter([connect])

    def opening(path):
        usual = next(SqliteStore_open, None)
        if usual is not None:
            return usual(path)
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Full)

    store = SqliteStore(tmp_path / "t.db", open_connection=opening, interval_s=0.002)
    assert store.keep_context(record(), MESSAGES, 100)
    with pytest.raises(StoreFailed):
        await store.flush()
    full = False
    await asyncio.sleep(1.1)
    assert (await store.context("req_1", 0)).record.id == "req_1"
    await store.close()


async def test_a_closed_store_keeps_nothing():
    store = MemoryStore()
    await store.close()
    assert not store.keep_context(record(), MESSAGES, 1)


async def test_memory_keeps_the_newest_that_fit(monkeypatch):
    monkeypatch.setattr("proxy.stores.memory._CONTEXT_BYTES", 700)
    store = MemoryStore()
    for n in range(10):
        store.keep_context(replace_name(n), MESSAGES, 100)
    assert await store.context("req_0", 0) is None
    assert await store.context("req_9", 0) is not None


def replace_name(n):
    return record()._replace(id=f"req_{n}")


# Over HTTP -------------------------------------------------------------------------------------------------

KEYS = """
keys:
  - {name: a, key: sk-aaaaaaaaaaaaaaaa}
  - {name: b, key: sk-bbbbbbbbbbbbbbbb}
  - {name: admin, key: sk-admin-aaaaaaaa, admin: true}
"""
ROUTES = """
  memory: {ladder: [mini], context: {policy: relevant, budget_tokens: 200}}
  forgetful: {ladder: [mini], context: {policy: relevant, budget_tokens: 200, keep_s: 0}}
"""
TALK = [
    message
    for n in range(40)
    for message in (
        {"role": "user", "content": f"Remark {n}: the weather over the hills was changing."},
        {"role": "assistant", "content": f"Noted, number {n}."},
    )
]
CONTRACT = {
    "role": "user",
    "content": "\n\n".join(f"Clause {n}: the party of part {n} pays." for n in range(200)),
}
QUESTION = {"role": "user", "content": "What did I say in remark 7?"}


def snapshot(upstream, store):
    text = config_text(upstream.url, KEYS, routes=ROUTES).replace('"memory:"', json.dumps(store))
    return loads(text, name="test", environ={}, base_dir=".")


class Running:
    """A proxy with keys over a file, and how to ask it."""

    def __init__(self, app, url):
        self.app, self.url = app, url

    async def trimmed(self, messages, route="memory", stream=False):
        async with AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key="sk-aaaaaaaaaaaaaaaa", max_retries=0
        ) as client:
            raw = await client.chat.completions.with_raw_response.create(
                model=route, messages=messages, stream=stream
            )
            return raw.headers

    async def context(self, name, key="sk-aaaaaaaaaaaaaaaa", method="GET"):
        headers = {"authorization": f"Bearer {key}"}
        async with aiohttp.request(method, f"{self.url}/v1/context/{name}", headers=headers) as answer:
            return answer.status, await answer.json()


async def started(upstream, path):
    app = App(snapshot(upstream, f"sqlite:///{path}"), environ={})
    await app.start()
    host, port = await app.listen("127.0.0.1", 0)
    return Running(app, f"http://{host}:{port}")


@pytest.fixture
async def running(tmp_path):
    async with Upstream("ok").running() as upstream:
        made = await started(upstream, tmp_path / "t.db")
        made.upstream = upstream
        yield made
        await made.app.drain()
        await made.app.close()


def restored(told, sent, asked):
    """Every message of `asked` that was not sent, from the record."""
    whole = [told["messages"][gone["hash"]] for gone in told["dropped"] if gone["span"] is None]
    assert [asked[gone["index"]] for gone in told["dropped"] if gone["span"] is None] == whole
    return [m for m in asked if m not in sent] == whole


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_the_client_gets_back_what_was_left_out(running, stream):
    asked = [*TALK, QUESTION]
    headers = await running.trimmed(asked, stream=stream)
    name = headers["x-tailrace-context-record"]
    assert name == headers["x-tailrace-request-id"]
    status, told = await running.context(name)
    assert status == 200
    assert restored(told, running.upstream.seen[0]["messages"], asked)
    assert told["tokens_in"] > told["tokens_out"]
    assert {gone["reason"] for gone in told["dropped"]} <= {"irrelevant", "less relevant", "older"}


async def test_passages_of_a_long_message_come_back_to_the_character(running):
    asked = [CONTRACT, {"role": "assistant", "content": "Read."}, QUESTION]
    headers = await running.trimmed(asked)
    _, told = await running.context(headers["x-tailrace-context-record"])
    spans = [gone for gone in told["dropped"] if gone["span"]]
    assert spans
    assert all(CONTRACT["content"][slice(*gone["span"])] == gone["text"] for gone in spans)


async def test_another_key_sees_nothing_and_an_admin_sees_it(running):
    name = (await running.trimmed([*TALK, QUESTION]))["x-tailrace-context-record"]
    assert (await running.context(name, "sk-bbbbbbbbbbbbbbbb"))[0] == 404
    assert (await running.context(name, "sk-admin-aaaaaaaa"))[0] == 200
    assert (await running.context(name, "sk-unknown"))[0] == 401


@pytest.mark.parametrize("name", ["req_unknown", "", "a" * 100, "%00"])
async def test_what_names_no_record_is_a_404(running, name):
    status, told = await running.context(name)
    assert (status, told["error"]["code"]) in [(404, "context_not_found"), (404, "unknown_url")]


async def test_a_record_can_only_be_read(running):
    assert (await running.context("req_1", method="DELETE"))[0] == 405


async def test_a_route_that_keeps_nothing_says_no_record(running):
    headers = await running.trimmed([*TALK, QUESTION], "forgetful")
    assert "dropped=" in headers["x-tailrace-context"]
    assert "x-tailrace-context-record" not in headers
    assert (await running.context(headers["x-tailrace-request-id"]))[0] == 404


async def test_a_prompt_that_went_as_it_came_has_no_record(running):
    headers = await running.trimmed([QUESTION])
    assert "x-tailrace-context-record" not in headers


async def test_what_was_left_out_is_there_after_a_restart(tmp_path):
    async with Upstream("ok").running() as upstream:
        first = await started(upstream, tmp_path / "t.db")
        asked = [*TALK, QUESTION]
        name = (await first.trimmed(asked))["x-tailrace-context-record"]
        await first.app.drain()
        await first.app.close()
        second = await started(upstream, tmp_path / "t.db")
        status, told = await second.context(name)
        await second.app.close()
    assert status == 200
    assert restored(told, upstream.seen[0]["messages"], asked)
