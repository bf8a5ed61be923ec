"""With `server.admin_listen` there are two addresses, and what is behind one is not behind the other."""

import asyncio
import contextlib
import socket
import stat
from dataclasses import replace

import aiohttp
import pytest

from proxy.app import App
from proxy.config import ConfigRefused, loads
from proxy.doors import bound_admin, told
from proxy.snapshot import admin_address
from tests.proxy.scripted import Upstream, config_text

USER = [{"role": "user", "content": "How old?"}]
CHAT = {"model": "mini", "messages": USER}
BINDING = {"schema": "age"}


@contextlib.asynccontextmanager
async def two_doors(upstream, listen, more=""):
    text = config_text(upstream.url, more, server=f", admin_listen: '{listen}'")
    app = App(loads(text, name="test", environ={}, base_dir="."), environ={})
    await app.start()
    host, port = await app.listen("127.0.0.1", 0)
    admin = bound_admin(listen)
    await app.listen_on(admin, admin=True)
    app.url, app.admin_url = f"http://{host}:{port}", told(admin)
    try:
        yield app
    finally:
        await app.drain()
        await app.close()


@pytest.fixture
async def app():
    async with Upstream("hello").running() as upstream, two_doors(upstream, "127.0.0.1:0") as running:
        yield running


async def statuses(app, method, path, body=None, session=None):
    """(for clients, for administrators)."""
    async with contextlib.AsyncExitStack() as stack:
        session = session or await stack.enter_async_context(aiohttp.ClientSession())
        found = []
        for url in (app.url, app.admin_url):
            async with session.request(method, url + path, json=body) as r:
                text = await r.text()
                found.append(r.status)
                if r.status == 404:
                    assert "another address" in text, text
        return tuple(found)


PLACES = {
    "health": ("GET", "/healthz", None, 200, 200),
    "readiness": ("GET", "/readyz", None, 200, 200),
    "metrics": ("GET", "/metrics", None, 404, 200),
    "page": ("GET", "/ui", None, 404, 200),
    "page-data": ("GET", "/ui/data", None, 404, 200),
    "reload": ("POST", "/admin/reload", None, 404, 409),
    "keys": ("GET", "/admin/keys", None, 404, 200),
    "chat": ("POST", "/v1/chat/completions", CHAT, 200, 404),
    "chat-by-route": ("POST", "/r/open/v1/chat/completions", CHAT, 200, 404),
    "models": ("GET", "/v1/models", None, 200, 404),
    "other-endpoints": ("GET", "/v1/files", None, 200, 404),
    "schemas": ("GET", "/v1/schemas", None, 200, 200),
    "schema": ("GET", "/v1/schemas/age", None, 200, 200),
    "register": ("PUT", "/v1/schemas/new", {"type": "object"}, 404, 201),
    "register-by-route": ("PUT", "/r/open/v1/schemas/other", {"type": "object"}, 404, 201),
    "bind": ("PUT", "/v1/routes/open/schema", BINDING, 404, 200),
    "bind-by-route": ("PUT", "/r/x/v1/routes/open/schema", BINDING, 404, 200),
    "sums": ("GET", "/v1/usage", None, 200, 200),
}


@pytest.mark.parametrize(("method", "path", "body", "clients", "admin"), PLACES.values(), ids=PLACES)
async def test_each_place_is_behind_its_door(app, method, path, body, clients, admin):
    assert await statuses(app, method, path, body) == (clients, admin)


async def test_keys_are_asked_for_behind_both():
    keys = "keys:\n  - {name: team, key: sk-team}\n  - {name: root, key: sk-root, admin: true}\n"
    async with Upstream("hello").running() as upstream, two_doors(upstream, "127.0.0.1:0", keys) as app:
        assert await statuses(app, "GET", "/admin/keys") == (404, 401)
        for key, status in (("sk-team", 403), ("sk-root", 200)):
            async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}) as session:
                assert (await statuses(app, "GET", "/admin/keys", session=session))[1] == status


async def test_a_socket_of_the_file_system_is_for_its_user_alone(tmp_path):
    path = tmp_path / "admin.sock"
    async with Upstream("hello").running() as upstream, two_doors(upstream, f"unix:{path}") as app:
        assert app.admin_url == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
            for place, status in (("/admin/keys", 200), ("/metrics", 200), ("/v1/models", 404)):
                async with session.get("http://anything" + place) as r:
                    assert r.status == status, place
    with pytest.raises(OSError):
        bound_admin(f"unix:{tmp_path}/none/x")


def test_a_socket_that_was_left_behind_is_taken_over_and_one_in_use_is_not(tmp_path):
    listen = f"unix:{tmp_path}/admin.sock"
    bound_admin(listen).close()
    second = bound_admin(listen)
    with pytest.raises(OSError):
        bound_admin(listen)
    second.close()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError):
        bound_admin(f"unix:{tmp_path}/file")
    assert (tmp_path / "file").read_text() == "mine"


async def test_who_runs_the_proxy_comes_in_when_it_is_full(app):
    snapshot = app.services.ready.snapshot
    app.reload(replace(snapshot, server=replace(snapshot.server, max_connections=1)))
    host, port = app.url.removeprefix("http://").split(":")
    _, busy = await asyncio.open_connection(host, int(port))
    busy.write(b"POST /v1/chat/completions HTTP/1.1\r\n")
    await busy.drain()
    await asyncio.sleep(0.05)
    assert await statuses(app, "GET", "/healthz") == (503, 200)
    busy.close()


ADDRESSES = {
    "127.0.0.1:9090": ("127.0.0.1", 9090),
    "[::1]:0": ("::1", 0),
    "localhost:1": ("localhost", 1),
    "unix:/run/x.sock": "/run/x.sock",
}


@pytest.mark.parametrize(("text", "address"), ADDRESSES.items(), ids=ADDRESSES)
def test_addresses_are_read(text, address):
    assert admin_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "9090", ":9090", "host", "host:", "host:x", "h:70000", "unix:", "unix:" + "x" * 200, "a b:1"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError):
        admin_address(text)
    with pytest.raises(ConfigRefused, match="admin_listen"):
        loads(config_text("http://x", server=f", admin_listen: '{text}'"), name="t", environ={}, base_dir=".")


@pytest.mark.parametrize(
    ("listen", "fine"), [("0.0.0.0:1", False), ("[::]:1", False), ("[::1]:1", True), ("unix:/x", True)]
)
def test_an_open_proxy_is_administered_from_this_machine_only(listen, fine):
    text = config_text("http://x", server=f", admin_listen: '{listen}'")
    with (
        contextlib.nullcontext() if fine else pytest.raises(ConfigRefused, match="would be an administrator")
    ):
        loads(text, name="t", environ={}, base_dir=".")


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError):
        bound_admin(f"127.0.0.1:{taken.getsockname()[1]}")
