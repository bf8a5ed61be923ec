"""TLS: verified, always."""

import asyncio
import shutil
import ssl
import subprocess

import pytest

from proxy.upstreams.client_session import ClientSessionTransport
from proxy.upstreams.pool import Pool
from proxy.upstreams.transport import ConnectFailed, NotTrusted, Target
from tests.proxy.hostile_server import answers, hostile, spoken, whole
from tests.proxy.transport.calls import CALM

pytestmark = pytest.mark.skipif(
    not shutil.which("openssl"), reason="needs the openssl command for a certificate"
)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "certificate.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    )
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command.split(), *names, "-keyout", key, "-out", made], check=True, capture_output=True)
    return made, key


@pytest.fixture
def server_side(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
async def make(kind):
    made = []

    def of(tls):
        made.append(ClientSessionTransport({}, tls=tls) if kind == "session" else Pool(tls=tls))
        return made[-1]

    yield of
    for transport in made:
        await transport.close()


async def get(transport, port, host="127.0.0.1"):
    response = await transport.send(Target(host, port, tls=True), "POST", "/", (), b"x" * 100_000, CALM)
    return await response.read(10_000_000)


async def test_trusted_certificate_and_the_connection_is_kept(make, certificate, server_side):
    transport = make(ssl.create_default_context(cafile=certificate[0]))
    body = bytes(range(256)) * 4000
    async with hostile(answers(whole(body)), tls=server_side) as server:
        for _ in range(5):
            assert await get(transport, server.port) == body
        assert len(server.visits) == 1


async def test_self_signed_certificate_is_not_trusted(make, server_side):
    async with hostile(answers(whole()), tls=server_side) as server:
        with pytest.raises(NotTrusted) as caught:
            await get(make(None), server.port)
        assert (caught.value.kind, caught.value.retryable, caught.value.sent) == ("connect", False, False)
        assert not any(visit.heads for visit in server.visits)


async def test_certificate_of_another_host_is_not_trusted(make, certificate, server_side):
    transport = make(ssl.create_default_context(cafile=certificate[0]))
    async with hostile(answers(whole()), tls=server_side) as server:
        with pytest.raises(NotTrusted):
            await get(transport, server.port, "localhost")


async def test_server_without_tls(make):
    async def script(visit):
        await visit.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with hostile(script) as server:
        with pytest.raises(ConnectFailed):
            await get(make(None), server.port)


async def test_abort_closes_at_once(make, certificate, server_side):
    transport = make(ssl.create_default_context(cafile=certificate[0]))
    async with hostile(spoken(b"HTTP/1.1 200 OK\r\n\r\nhello"), tls=server_side) as server:
        response = await transport.send(
            Target("127.0.0.1", server.port, tls=True), "GET", "/", (), None, CALM
        )
        assert await anext(aiter(response.pieces())) == b"hello"
        response.abort()
        for _ in range(50):
            if server.visits[0].ended_at is not None:
                break
            await asyncio.sleep(0.01)
        assert server.visits[0].ended_at is not None
