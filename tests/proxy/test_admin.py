"""`POST /admin/reload`: who may, what a broken file does, and what waits for a restart."""

import contextlib
from functools import partial

import aiohttp
import pytest

from proxy.app import App
from proxy.config import load
from tests.proxy.scripted import Upstream, config_text

ENVIRON = {"UP_KEY": "sk-very-secret-upstream", "ROOT_KEY": "sk-very-secret-root"}
KEYS = """
keys:
  - {name: team, key: sk-team-secret}
  - {name: root, key: $ROOT_KEY, admin: true}
"""


@contextlib.asynccontextmanager
async def served(path, text, *, from_file=True):
    """An app that serves the file at `path`, and a session with it."""
    path.write_text(text)
    read = partial(load, path, ENVIRON)
    app = App(read(), environ={}, read=read if from_file else None)
    await app.start()
    host, port = await app.listen("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
            yield app, session
    finally:
        await app.drain()
        await app.close()


@pytest.fixture
async def config():
    async with Upstream("hello").running() as upstream:
        yield config_text(url=upstream.url, more="")


async def reload(session, key=None):
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with session.post("/admin/reload", headers=headers) as r:
        return r.status, await r.json()


async def routes_of(session):
    async with session.get("/v1/models") as r:
        return {row["id"] for row in (await r.json())["data"] if row["owned_by"] == "tailrace-route"}


async def test_a_changed_file_is_used_from_the_next_request_on(tmp_path, config):
    path = tmp_path / "tailrace.yaml"
    async with served(path, config) as (_, session):
        assert "added" not in await routes_of(session)
        path.write_text(config.replace("routes:\n", "routes:\n  added: {ladder: [big]}\n"))
        assert await reload(session) == (200, {"status": "reloaded", "needs_restart": []})
        assert "added" in await routes_of(session)


async def test_a_broken_file_changes_nothing_and_every_problem_is_told(tmp_path, config):
    path = tmp_path / "tailrace.yaml"
    async with served(path, config) as (app, session):
        before = app.services.ready
        path.write_text(
            config.replace("ladder: [mini]}", "laddr: [mini]}").replace("hold_status_s: 0.3", "x: 1")
        )
        status, body = await reload(session)
        error = body["error"]
        assert (status, error["code"]) == (400, "invalid_config")
        assert {"server.x", "routes.default.laddr"} <= {p["field"] for p in error["problems"]}
        line = next(p for p in error["problems"] if p["field"] == "routes.default.laddr")
        assert "did you mean 'ladder'" in line["message"]
        assert path.read_text().splitlines()[line["line"] - 1].startswith("  default:")
        assert app.services.ready is before
        async with session.post("/v1/chat/completions", json={"messages": [{"role": "user"}]}) as r:
            assert r.status == 200


async def test_a_missing_file_changes_nothing(tmp_path, config):
    path = tmp_path / "tailrace.yaml"
    async with served(path, config) as (_, session):
        path.unlink()
        status, body = await reload(session)
        assert (status, body["error"]["code"]) == (400, "invalid_config")
        assert "default" in await routes_of(session)


async def test_no_problem_tells_a_secret(tmp_path, config):
    path = tmp_path / "tailrace.yaml"
    config = config.replace("sk-upstream-secret", "$UP_KEY")
    async with served(path, config + KEYS) as (_, session):
        broken = config.replace("price: {input: 1, output: 2}", "price: sk-very-secret-root") + KEYS
        path.write_text(broken.replace("api_key: $UP_KEY", "api_key: $UP_KEY, sk-very-secret-upstream: 1"))
        status, body = await reload(session, "sk-very-secret-root")
        assert status == 400
        assert len(body["error"]["problems"]) >= 2
        assert "very-secret" not in str(body)


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        pytest.param(None, 401, "invalid_api_key", id="no-key"),
        pytest.param("sk-wrong", 401, "invalid_api_key", id="wrong-key"),
        pytest.param("sk-team-secret", 403, "admin_only", id="not-an-admin"),
    ],
)
async def test_others_may_not_reload(tmp_path, config, key, status, code):
    async with served(tmp_path / "tailrace.yaml", config + KEYS) as (app, session):
        before = app.services.ready
        got, body = await reload(session, key)
        assert (got, body["error"]["code"]) == (status, code)
        assert app.services.ready is before


async def test_a_key_that_was_taken_out_is_refused_after_the_reload(tmp_path, config):
    path = tmp_path / "tailrace.yaml"
    async with served(path, config + KEYS) as (_, session):
        path.write_text(config + KEYS.replace("$ROOT_KEY", "sk-another-root"))
        assert (await reload(session, ENVIRON["ROOT_KEY"]))[0] == 200
        assert (await reload(session, ENVIRON["ROOT_KEY"]))[0] == 401


async def test_what_waits_for_a_restart_is_named(tmp_path, config):
    path = tmp_path / "tailrace.yaml"
    async with served(path, config) as (_, session):
        changed = config.replace("server: {", "server: {port: 9999, ").replace('"memory:"', "sqlite:///x.db")
        path.write_text(changed)
        assert (await reload(session))[1]["needs_restart"] == ["server.port", "store"]


async def test_a_proxy_without_a_file_has_nothing_to_reload(tmp_path, config):
    async with served(tmp_path / "tailrace.yaml", config, from_file=False) as (_, session):
        status, body = await reload(session)
        assert (status, body["error"]["code"]) == (409, "nothing_to_reload")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("GET", "/admin/reload", 405, "method_not_allowed", id="get"),
        pytest.param("POST", "/admin/shutdown", 404, "unknown_url", id="unknown"),
    ],
)
async def test_nothing_else_is_below_admin(tmp_path, config, method, path, status, code):
    async with (
        served(tmp_path / "tailrace.yaml", config) as (_, session),
        session.request(method, path) as r,
    ):
        assert (r.status, (await r.json())["error"]["code"]) == (status, code)
