"""Keys that are made and revoked while the proxy runs: who may, what is told, what is kept, what they open."""

import asyncio
import contextlib
import json

import aiohttp
import pytest

from proxy.app import App
from proxy.config import loads
from proxy.shared_series import Share
from tests.proxy.scripted import Upstream, config_text

ROOT = {"authorization": "Bearer sk-root-key"}
KEYS = """
keys:
  - {name: team, key: sk-team-key}
  - {name: root, key: sk-root-key, admin: true}
"""
ASK = {"model": "mini", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def upstream():
    async with Upstream("hello").running() as running:
        yield running


@contextlib.asynccontextmanager
async def served(upstream, store, more=KEYS, share=None):
    """An app over the store in the folder `store`, and a session with it."""
    text = config_text(upstream.url, more).replace('store: "memory:"', f"store: sqlite:///{store}/ledger.db")
    app = App(loads(text, name="t", environ={}, base_dir="."), environ={}, share=share)
    await app.start()
    host, port = await app.listen("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
            yield app, session
    finally:
        await app.drain()
        await app.close()


async def call(session, method, path="", headers=ROOT, **body):
    async with session.request(method, f"/admin/keys{path}", headers=headers, json=body or None) as r:
        return r.status, await r.json()


async def asked(session, key, **more):
    headers = {"authorization": f"Bearer {key}"}
    async with session.post("/v1/chat/completions", json=ASK | more, headers=headers) as r:
        return r.status, (await r.json()).get("error", {}).get("code")


async def test_a_made_key_opens_the_proxy_until_it_is_revoked(upstream, tmp_path):
    async with served(upstream, tmp_path) as (app, session):
        status, made = await call(session, "POST", name="new")
        assert status == 201
        assert await asked(session, made["key"]) == (200, None)
        await app.services.store.flush()
        rows = (await app.services.store.recent(1))[0].attempts
        assert rows[0].key == "new"
        status, told = await call(session, "DELETE", "/new")
        assert (status, told["revoked"] is not None) == (200, True)
        assert await asked(session, made["key"]) == (401, "invalid_api_key")


async def test_no_writing_of_a_key_fills_the_memory(upstream, tmp_path):
    async with served(upstream, tmp_path) as (app, session):
        _, made = await call(session, "POST", name="new")
        for blanks in (0, 1, 10_000):
            assert await asked(session, " " * blanks + made["key"]) == (200, None)
        assert all(len(sent) < 1000 for sent in app.services.ready.shown)
        assert len(app.services.ready.shown) >= 2


async def test_a_key_is_told_once_and_kept_as_its_digest(upstream, tmp_path):
    async with served(upstream, tmp_path) as (app, session):
        _, made = await call(session, "POST", name="new")
        _, listed = await call(session, "GET")
        _, one = await call(session, "GET", "/new")
        assert len(made["key"]) >= 40
        assert made["key"] not in json.dumps([listed, one])
        await app.services.store.flush()
    for file in tmp_path.iterdir():
        assert made["key"].encode() not in file.read_bytes()


async def test_its_limits_hold_and_are_told(upstream, tmp_path):
    wanted = {
        "name": "bound",
        "routes": ["age", "default"],
        "budget": {"usd": "0.000000001", "per": "hour"},
        "rpm": 100,
        "tpm": 1000,
    }
    async with served(upstream, tmp_path) as (_, session):
        _, made = await call(session, "POST", **wanted)
        assert {n: made[n] for n in wanted if n != "routes"} == {
            n: wanted[n] for n in wanted if n != "routes"
        }
        assert made["routes"] == ["age", "default"]
        assert await asked(session, made["key"], model="open") == (403, "route_forbidden")
        assert await asked(session, made["key"]) == (429, "insufficient_quota")
        async with session.get("/metrics", headers=ROOT) as r:
            assert 'tailrace_budget_limit_usd{name="bound",per="hour",scope="key"}' in await r.text()


async def test_keys_outlive_a_restart_and_a_reload_and_so_do_revocations(upstream, tmp_path):
    async with served(upstream, tmp_path) as (_, session):
        kept = (await call(session, "POST", name="kept"))[1]["key"]
        gone = (await call(session, "POST", name="gone", admin=True))[1]["key"]
        await call(session, "DELETE", "/gone")
    async with served(upstream, tmp_path) as (app, session):
        app.reload(app.services.ready.snapshot)
        assert await asked(session, kept) == (200, None)
        assert await asked(session, gone) == (401, "invalid_api_key")
        assert (await call(session, "POST", name="gone"))[1]["error"]["code"] == "key_conflict"


async def test_a_made_administrator_may_make_keys(upstream, tmp_path):
    async with served(upstream, tmp_path) as (_, session):
        _, boss = await call(session, "POST", name="boss", admin=True)
        headers = {"authorization": f"Bearer {boss['key']}"}
        assert (await call(session, "POST", headers=headers, name="third"))[0] == 201


async def test_keys_of_the_configuration_are_listed_but_changed_there(upstream, tmp_path):
    async with served(upstream, tmp_path) as (_, session):
        await call(session, "POST", name="new")
        _, listed = await call(session, "GET")
        assert [(k["name"], k["source"]) for k in listed["data"]] == [
            ("team", "configuration"),
            ("root", "configuration"),
            ("new", "run time"),
        ]
        assert (await call(session, "DELETE", "/team"))[0] == 409
        assert (await call(session, "POST", name="team"))[0] == 409


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"authorization": "Bearer sk-team-key"}, 403)],
    ids=["nobody", "a-client"],
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", ""), ("GET", "/team"), ("DELETE", "/team")]
)
async def test_only_administrators_may(upstream, tmp_path, headers, status, method, path):
    async with served(upstream, tmp_path) as (_, session):
        assert (await call(session, method, path, headers=headers))[0] == status


async def test_an_open_proxy_makes_no_keys(upstream, tmp_path):
    async with served(upstream, tmp_path, more="") as (_, session):
        status, told = await call(session, "POST", headers={}, name="new")
        assert (status, told["error"]["code"]) == (409, "key_conflict")
        assert await call(session, "GET", headers={}) == (200, {"object": "list", "data": []})


WRONG = {
    "no-name": ({}, "name"),
    "odd-name": ({"name": "a b"}, "name"),
    "long-name": ({"name": "a" * 65}, "name"),
    "unknown-field": ({"name": "a", "rpms": 3}, "rpms"),
    "unknown-route": ({"name": "a", "routes": ["nope"]}, "routes"),
    "no-routes": ({"name": "a", "routes": []}, "routes"),
    "admin-by-text": ({"name": "a", "admin": "yes"}, "admin"),
    "budget-of-nothing": ({"name": "a", "budget": {"usd": 0}}, "budget"),
    "budget-below-nano": ({"name": "a", "budget": {"usd": "0.0000000001"}}, "budget"),
    "budget-beyond-all": ({"name": "a", "budget": {"usd": "1e999999999"}}, "budget"),
    "budget-not-a-number": ({"name": "a", "budget": {"usd": "NaN"}}, "budget"),
    "budget-of-a-list": ({"name": "a", "budget": [5]}, "budget"),
    "odd-period": ({"name": "a", "budget": {"usd": 5, "per": "year"}}, "budget"),
    "odd-period-type": ({"name": "a", "budget": {"usd": 5, "per": ["day"]}}, "budget"),
    "rate-of-zero": ({"name": "a", "rpm": 0}, "rpm"),
    "rate-of-half": ({"name": "a", "tpm": 0.5}, "tpm"),
    "rate-by-truth": ({"name": "a", "rpm": True}, "rpm"),
}


@pytest.mark.parametrize(("body", "param"), WRONG.values(), ids=WRONG)
async def test_what_is_wrong_is_named_and_nothing_is_made(upstream, tmp_path, body, param):
    async with served(upstream, tmp_path) as (app, session):
        async with session.post("/admin/keys", json=body, headers=ROOT) as r:
            status, told = r.status, await r.json()
        assert (status, told["error"]["param"]) == (400, param)
        assert app.services.stored_keys == ()


async def test_unknown_names_are_404_and_unknown_methods_405(upstream, tmp_path):
    async with served(upstream, tmp_path) as (_, session):
        assert (await call(session, "GET", "/nope"))[1]["error"]["code"] == "key_not_found"
        assert (await call(session, "DELETE", "/nope"))[0] == 404
        assert (await call(session, "PUT", "/nope"))[0] == 405
        assert (await call(session, "PUT"))[0] == 405


async def test_another_worker_knows_within_seconds(upstream, tmp_path, monkeypatch):
    monkeypatch.setattr("proxy.handlers.keys.REFRESH_S", 0.05)
    (tmp_path / "share").mkdir()
    shares = [Share(tmp_path / "share", place) for place in (0, 1)]
    async with (
        served(upstream, tmp_path, share=shares[0]) as (_, one),
        served(upstream, tmp_path, share=shares[1]) as (_, other),
    ):
        _, made = await call(one, "POST", name="new")
        for wanted, change in (((200, None), None), ((401, "invalid_api_key"), "DELETE")):
            if change:
                await call(one, change, "/new")
            for _ in range(100):
                if await asked(other, made["key"]) == wanted:
                    break
                await asyncio.sleep(0.05)
            assert await asked(other, made["key"]) == wanted
