"""What clients may do to the server together: connections of one address, and bodies in memory."""

import asyncio
from ipaddress import ip_network

import pytest

from proxy.serving import BodyBroken, Response
from proxy.serving.connection import Connection
from proxy.serving.server import Bounds, Server
from tests.proxy.serving.served import served

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Line(asyncio.Transport):
    """The transport of a client from any address."""

    def __init__(self, remote):
        super().__init__({"peername": (remote, 4711)})
        self.said = b""
        self.closed = False
        self.connection = None

    def write(self, data):
        self.said += data

    def write_eof(self):
        pass

    def can_write_eof(self):
        return True

    def is_closing(self):
        return self.closed

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def close(self):
        if not self.closed:
            self.closed = True
            self.connection.connection_lost(None)

    abort = close


class Door:
    """A server that clients from anywhere come to."""

    def __init__(self, **bounds):
        self.server = Server(self.wait, Bounds(**{"connections": 100, "head_timeout_s": 5} | bounds))
        self.lines = []

    async def wait(self, request):
        await asyncio.sleep(30)
        return Response()

    def come(self, remote, *, busy=True):
        line = Line(remote)
        line.connection = Connection(self.server, asyncio.get_running_loop())
        line.connection.connection_made(line)
        self.lines.append(line)
        if busy and not line.said:
            line.connection.data_received(GET)
        return line

    async def close(self):
        for line in self.lines:
            line.close()
        await self.server.close()


@pytest.fixture
async def door():
    made = []

    def make(**bounds):
        made.append(Door(**bounds))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def test_one_client_too_often_is_refused_and_others_are_not(door):
    here = door(connections_per_client=2)
    assert [here.come("192.0.2.1").said for _ in range(2)] == [b"", b""]
    refused = here.come("192.0.2.1").said
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in refused
    assert b"server.max_connections_per_client" in refused
    assert here.come("192.0.2.2").said == b""


async def test_who_leaves_makes_room_and_so_does_who_is_idle(door):
    here = door(connections_per_client=2)
    first, second = here.come("192.0.2.1"), here.come("192.0.2.1")
    first.close()
    third = here.come("192.0.2.1", busy=False)
    fourth = here.come("192.0.2.1")
    assert (third.closed, fourth.said, second.closed) == (True, b"", False)
    for line in here.lines:
        line.close()
    assert not here.server._clients


SAME = {
    "neighbours-in-one-64": ("2001:db8:0:1::5", "2001:db8::1:ffff:0:0:7", True),
    "another-64": ("2001:db8:0:1::5", "2001:db8:0:2::5", False),
    "four-in-six": ("::ffff:192.0.2.1", "192.0.2.1", True),
    "a-zone": ("fe80::1%eth0", "fe80::2%eth0", True),
}


@pytest.mark.parametrize(("one", "other", "same"), SAME.values(), ids=SAME)
async def test_what_counts_as_one_client(door, one, other, same):
    here = door(connections_per_client=1)
    here.come(one)
    assert bool(here.come(other).said) == same


@pytest.mark.parametrize(
    "remote", ["127.0.0.1", "127.0.0.9", "::1", "::ffff:127.0.0.1", "10.1.2.3", "192.0.2.7"]
)
async def test_loopback_and_proxies_in_front_are_not_counted(door, remote):
    here = door(connections_per_client=1, uncounted=(ip_network("10.0.0.0/8"), ip_network("192.0.2.7")))
    assert [here.come(remote).said for _ in range(5)] == [b""] * 5


async def test_bounds_hold_for_all_who_come_after_they_change(door):
    here = door(connections_per_client=1)
    here.come("192.0.2.1")
    here.server.bound(Bounds(100, 5, connections_per_client=2))
    assert here.come("192.0.2.1").said == b""
    assert here.come("192.0.2.1").said


async def hold_all(request):
    """Keeps the whole body, and says what became of that."""
    try:
        while part := await request.receive():
            if not request.hold(len(part)):
                return Response(status=503)
    except BodyBroken:
        return Response(status=400)
    await asyncio.sleep(0.05)
    return Response(body=b"%d" % request.holds)


ENDS = {
    "answered": b"x" * 1000,
    "refused": b"x" * 5000,
    "left": b"x" * 10,
}


@pytest.mark.parametrize("body", ENDS.values(), ids=ENDS)
async def test_what_was_held_is_free_again_however_it_ends(body):
    async with served(hold_all, held_bytes=2000) as server:
        async with server.client() as client:
            length = 1000 if len(body) == 10 else len(body)
            await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length + body)
            if len(body) >= 1000:
                assert (await client.answer())[0] == (200 if len(body) == 1000 else 503)
            else:
                while not server.server.held_bytes:
                    await asyncio.sleep(0.01)
        for _ in range(100):
            if not server.server.held_bytes:
                break
            await asyncio.sleep(0.01)
        assert server.server.held_bytes == 0
