"""Proxies of the environment, which only the session knows."""

import asyncio
import base64

import pytest

from proxy.upstreams.client_session import ClientSessionTransport
from proxy.upstreams.transport import ConnectFailed, Target
from tests.proxy.hostile_server import answers, hostile, whole
from tests.proxy.transport.calls import CALM


async def get(environ, target):
    transport = ClientSessionTransport(environ)
    try:
        response = await transport.send(
            target, "GET", target.path("/models"), [("authorization", "Bearer k")], None, CALM
        )
        return await response.read(100)
    finally:
        await transport.close()


FAR = Target.parse("http://provider.test/v1")
FAR_TLS = Target.parse("https://provider.test/v1")


async def test_proxy_gets_the_whole_address_and_its_own_credentials():
    async with hostile(answers(whole(b"through"))) as proxy:
        environ = {"HTTP_PROXY": f"http://us%65r:p%40ss@127.0.0.1:{proxy.port}"}
        assert await get(environ, FAR) == b"through"
        head = proxy.visits[0].heads[0].decode()
        assert head.startswith("GET http://provider.test/v1/models HTTP/1.1\r\n")
        assert "host: provider.test\r\n" in head.lower()
        assert "authorization: Bearer k\r\n" in head
        assert "basic " + base64.b64encode(b"user:p@ss").decode() in head.replace("Basic", "basic")


async def test_tunnel_gets_credentials_of_the_proxy_and_never_the_providers_key():
    async with hostile(answers(whole(b"", status="403 Forbidden"))) as proxy:
        environ = {"https_proxy": f"127.0.0.1:{proxy.port}", "HTTPS_PROXY": "http://127.0.0.1:1"}
        with pytest.raises(ConnectFailed) as caught:
            await get(environ, FAR_TLS)
        assert "provider" not in str(caught.value)
        head = proxy.visits[0].heads[0].decode()
        assert head.startswith("CONNECT provider.test:443 HTTP/1.1\r\n")
        assert "Bearer" not in head
        environ = {"https_proxy": f"http://a:b@127.0.0.1:{proxy.port}"}
        with pytest.raises(ConnectFailed):
            await get(environ, FAR_TLS)
        assert "proxy-authorization: basic " in proxy.visits[1].heads[0].decode().lower()


async def test_deaf_proxy_is_no_connection():
    with pytest.raises(ConnectFailed):
        await get({"http_proxy": "http://127.0.0.1:9"}, FAR)


@pytest.mark.parametrize(
    "no_proxy",
    ["*", "127.0.0.1", "other.test, 127.0.0.1:{port}", " .0.0.1"],
    ids=["all", "host", "port", "domain"],
)
async def test_exempt_hosts_are_reached_directly(no_proxy):
    async with hostile(answers(whole(b"direct"))) as server:
        environ = {"http_proxy": "http://127.0.0.1:9", "no_proxy": no_proxy.format(port=server.port)}
        assert await get(environ, Target.parse(f"http://127.0.0.1:{server.port}")) == b"direct"


@pytest.mark.parametrize("no_proxy", ["", "other.test", "27.0.0.1", "127.0.0.1:9"])
async def test_other_hosts_are_not_exempt(no_proxy):
    async with hostile(answers(whole(b"direct"))) as server:
        environ = {"http_proxy": "http://127.0.0.1:9", "no_proxy": no_proxy}
        with pytest.raises(ConnectFailed):
            await get(environ, Target.parse(f"http://127.0.0.1:{server.port}"))


async def test_environment_of_the_process_takes_no_part(monkeypatch, tmp_path):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with hostile(answers(whole(b"direct"))) as server:
        assert await get({}, Target.parse(f"http://127.0.0.1:{server.port}")) == b"direct"
        assert b"Basic" not in server.visits[0].heads[0]
    await asyncio.sleep(0)
