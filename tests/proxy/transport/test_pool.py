"""What the own pool does beyond the contract: limits, order, idle connections, addresses."""

import asyncio
import contextlib
import os
import socket
import time

import pytest

from proxy.snapshot import Timeouts
from proxy.upstreams import lane
from proxy.upstreams.pool import Pool
from proxy.upstreams.transport import (
    AnswerTooLarge,
    Broken,
    ConnectFailed,
    ConnectTimeout,
    Malformed,
    PoolFull,
    Target,
    TotalTimeout,
)
from tests.proxy.hostile_server import answers, chunked, hostile, spoken, whole
from tests.proxy.transport.calls import CALM, left, send, text


@pytest.fixture
async def pool():
    made = Pool(per_host=2, waiting=3)
    yield made
    await made.close()


def start(coro):
    return asyncio.get_running_loop().create_task(coro)


def gated(gate, log=None):
    """A script that answers when the gate is opened, or at once if it is open."""

    async def script(visit):
        while await visit.request():
            if log is not None:
                log.append(visit.bodies[-1])
            await gate.wait()
            await visit.say(whole())

    return script


@pytest.mark.parametrize("taken", [0, 1, 3], ids=["all", "one", "three"])
async def test_pieces_are_pushed_as_they_come_until_the_sink_says_no(pool, taken):
    parts = [b"%03d" % n for n in range(6)]

    async def script(visit):
        await visit.request()
        await visit.say(chunked(end=b""))
        for part in parts:
            await visit.say(b"3\r\n" + part + b"\r\n")
            await asyncio.sleep(0.01)
        await visit.say(b"0\r\n\r\n")
        await visit.hang()

    seen = []

    def sink(data):
        seen.append(data)
        return len(seen) != taken

    async with hostile(script) as server:
        response = await send(pool, server)
        assert await response.pushed(sink) is bool(taken)
        assert len(seen) == (taken or len(parts))
        seen += [piece async for piece in response.pieces()]
        assert b"".join(seen) == b"".join(parts)
        assert repr(pool) == "<Pool [<Lane 1 open, 1 idle, 0 waiting>]>"


async def test_a_cut_in_what_is_pushed_is_raised_after_what_came(pool):
    async def script(visit):
        await visit.request()
        await visit.say(chunked(end=b"") + b"3\r\nabc\r\n")

    seen = []
    async with hostile(script) as server:
        response = await send(pool, server)
        with pytest.raises(Broken):
            await response.pushed(lambda data: seen.append(data) is None)
    assert seen == [b"abc"]


async def test_no_more_connections_than_allowed_and_first_come_first_served(pool):
    gate, log = asyncio.Event(), []
    async with hostile(gated(gate, log)) as server:
        tasks = []
        for n in range(5):
            tasks.append(start(text(pool, server, body=b"%d" % n)))
            await asyncio.sleep(0.01)
        assert len(server.visits) == 2
        assert repr(pool) == "<Pool [<Lane 2 open, 0 idle, 3 waiting>]>"
        gate.set()
        assert await asyncio.gather(*tasks) == [b"ok"] * 5
        assert log == [b"0", b"1", b"2", b"3", b"4"]
        assert len(server.visits) == 2
        assert repr(pool) == "<Pool [<Lane 2 open, 2 idle, 0 waiting>]>"


async def test_who_comes_later_does_not_pass_who_waits(pool):
    log = []
    gates = [asyncio.Event() for _ in range(4)]

    async def script(visit):
        while await visit.request():
            log.append(visit.bodies[-1])
            await gates[int(visit.bodies[-1])].wait()
            await visit.say(whole())

    async with hostile(script) as server:
        first, second = start(text(pool, server, body=b"0")), start(text(pool, server, body=b"1"))
        await asyncio.sleep(0.02)
        waits = start(text(pool, server, body=b"2"))
        await asyncio.sleep(0.02)
        gates[0].set()
        await first
        later = start(text(pool, server, body=b"3"))
        await asyncio.sleep(0.02)
        assert sorted(log[:2]) == [b"0", b"1"]
        assert log[2:] == [b"2"]
        for gate in gates:
            gate.set()
        await asyncio.gather(second, waits, later)


async def test_too_many_in_line_are_sent_away(pool):
    gate = asyncio.Event()
    async with hostile(gated(gate)) as server:
        tasks = [start(text(pool, server)) for _ in range(5)]
        await asyncio.sleep(0.02)
        with pytest.raises(PoolFull) as caught:
            await text(pool, server)
        assert (caught.value.kind, caught.value.sent) == ("connect", False)
        gate.set()
        await asyncio.gather(*tasks)


async def test_waiting_in_line_takes_no_longer_than_connecting_may(pool):
    gate = asyncio.Event()
    async with hostile(gated(gate)) as server:
        tasks = [start(text(pool, server)) for _ in range(2)]
        await asyncio.sleep(0.02)
        with pytest.raises(ConnectTimeout):
            await text(pool, server, timeouts=Timeouts(connect_s=0.05))
        with pytest.raises(TotalTimeout):
            await text(pool, server, timeouts=Timeouts(connect_s=5, total_s=0.05))
        assert repr(pool).endswith("0 waiting>]>")
        gate.set()
        await asyncio.gather(*tasks)


async def test_cancelled_in_line_loses_no_connection(pool):
    gate = asyncio.Event()
    async with hostile(gated(gate)) as server:
        busy = [start(text(pool, server)) for _ in range(2)]
        await asyncio.sleep(0.02)
        early, last = (start(text(pool, server)) for _ in range(2))
        await asyncio.sleep(0.02)
        early.cancel()
        await asyncio.wait([early])
        assert "1 waiting" in repr(pool)
        gate.set()
        assert await asyncio.wait_for(asyncio.gather(last, *busy), 2) == [b"ok"] * 3
        assert repr(pool) == "<Pool [<Lane 2 open, 2 idle, 0 waiting>]>"


@pytest.mark.parametrize("given", ["a connection", "the right to make one"])
async def test_cancelled_just_as_the_turn_comes_passes_it_on(given):
    pool = Pool(per_host=1)
    async with hostile(answers(whole())) as server:
        await text(pool, server)
        (lane,) = pool._lanes.values()
        taken = lane.take()
        late, last = (start(text(pool, server)) for _ in range(2))
        await asyncio.sleep(0.02)
        if given == "a connection":
            lane.put_back(taken)
        else:
            taken.drop()
        late.cancel()
        assert await asyncio.wait_for(last, 2) == b"ok"
        assert late.cancelled()
        assert repr(pool) == "<Pool [<Lane 1 open, 1 idle, 0 waiting>]>"
    await pool.close()


async def test_turn_with_a_connection_that_has_died_stays_first_in_line():
    pool, log = Pool(per_host=1), []
    gate = asyncio.Event()
    async with hostile(gated(gate, log)) as server:
        gate.set()
        await text(pool, server, body=b"first")
        gate.clear()
        (lane,) = pool._lanes.values()
        taken = lane.take()
        tasks = []
        for name in (b"a", b"b", b"c"):
            tasks.append(start(text(pool, server, body=name)))
            await asyncio.sleep(0.01)
        lane.put_back(taken)  # for a
        taken.drop()  # its room goes to b
        await asyncio.sleep(0.02)
        gate.set()
        await asyncio.gather(*tasks)
        assert log == [b"first", b"b", b"a", b"c"]
    await pool.close()


async def test_no_room_for_a_fresh_connection_takes_a_kept_one():
    pool = Pool(per_host=1)
    async with hostile(answers(whole())) as server:
        await text(pool, server)
        (lane,) = pool._lanes.values()
        connection, reused = await lane.obtain(lane.loop.time() + 1, lane.loop.time() + 1, fresh=True)
        assert reused
        lane.put_back(connection)
    await pool.close()


async def test_lost_connection_makes_room_for_the_next_in_line(pool):
    async def script(visit):
        while await visit.request():
            if visit.bodies[0] == b"bad":
                await asyncio.sleep(0.03)
                return
            await visit.say(whole())

    async with hostile(script) as server:
        bad = [start(text(pool, server, body=b"bad")) for _ in range(2)]
        await asyncio.sleep(0.01)
        good = [start(text(pool, server, body=b"good")) for _ in range(3)]
        for task in bad:
            with pytest.raises(Broken):
                await task
        assert await asyncio.wait_for(asyncio.gather(*good), 2) == [b"ok"] * 3


async def test_failed_connecting_makes_room(pool):
    async with hostile(answers(whole())) as server:
        pass
    for _ in range(5):
        with pytest.raises(ConnectFailed):
            await text(pool, server)
    assert repr(pool) == "<Pool [<Lane 0 open, 0 idle, 0 waiting>]>"


async def test_freshest_connection_is_used_again_first():
    pool = Pool()
    async with hostile(answers(whole())) as server:
        await asyncio.gather(*[text(pool, server) for _ in range(3)])
        for _ in range(6):
            await text(pool, server)
        assert sorted(len(visit.heads) for visit in server.visits) == [1, 1, 7]
    await pool.close()


async def test_idle_connection_is_closed_in_time_and_not_before():
    pool = Pool(idle_expiry_s=0.15)
    async with hostile(answers(whole())) as server:
        for _ in range(4):
            await text(pool, server)
            await asyncio.sleep(0.08)
        assert len(server.visits) == 1
        assert await left(server.visits[0])
        await text(pool, server)
        assert len(server.visits) == 2
    await pool.close()


async def test_connections_of_a_rush_do_not_stay(monkeypatch):
    monkeypatch.setattr(lane, "KEPT_IDLE", 2)
    monkeypatch.setattr(lane, "SPARE_IDLE_S", 0.1)
    pool = Pool()
    async with hostile(answers(whole())) as server:
        await asyncio.gather(*[text(pool, server) for _ in range(9)])
        for _ in range(4):
            await asyncio.sleep(0.1)
            await text(pool, server)
        assert repr(pool) == "<Pool [<Lane 2 open, 2 idle, 0 waiting>]>"
        assert len(server.visits) <= 10
    await pool.close()


async def test_provider_that_keeps_alive_for_less_is_believed():
    pool = Pool()
    async with hostile(answers(whole(b"ok", "Keep-Alive: max=5, timeout=1"))) as server:
        began = time.monotonic()
        await text(pool, server)
        assert await left(server.visits[0])
        assert 0.45 < time.monotonic() - began < 0.9
    await pool.close()


async def test_poison_in_front_of_the_event_loop_is_seen():
    pool = Pool()
    writers = []

    async def script(visit):
        await visit.request()
        writers.append(os.dup(visit.writer.get_extra_info("socket").fileno()))
        await visit.say(whole(b"first"))
        await visit.hang()

    async with hostile(script) as server:
        for count in range(1, 4):
            assert await text(pool, server) == b"first"
            os.write(writers[-1], whole(b"POISON"))  # no loop runs between this and the next call
            assert len(server.visits) == count
    for descriptor in writers:
        os.close(descriptor)
    await pool.close()


async def test_end_in_front_of_the_event_loop_costs_no_second_sending():
    pool = Pool()
    ends = []

    async def script(visit):
        await visit.request()
        ends.append(socket.socket(fileno=os.dup(visit.writer.get_extra_info("socket").fileno())))
        await visit.say(whole(b"first"))
        await visit.hang()

    async def pieces():
        yield b"body"

    async with hostile(script) as server:
        for _ in range(3):
            assert await text(pool, server, body=pieces()) == b"first"
            ends[-1].shutdown(socket.SHUT_RDWR)
            ends[-1].close()
        assert len(server.visits) == 3
    await pool.close()


async def test_second_address_is_tried_when_the_first_is_deaf(monkeypatch):
    loop = asyncio.get_running_loop()
    if type(loop).__module__.startswith("uvloop"):
        pytest.skip("its methods cannot be replaced")
    pool = Pool()
    async with hostile(answers(whole())) as server:
        asked = []

        async def resolve(host, port, **_):
            asked.append(host)
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (at, port)) for at in ("127.0.0.9", "127.0.0.1")
            ]

        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        target = Target("a.test", server.port, tls=False)
        response = await pool.send(target, "GET", "/", (), None, CALM)
        assert await response.read(10) == b"ok"
        assert asked == ["a.test"]
        assert b"host: a.test:" in server.visits[0].heads[0]
    await pool.close()


async def test_small_packets_are_sent_at_once():
    pool = Pool()
    async with hostile(spoken(chunked(b"a", end=b""))) as server:
        response = await send(pool, server)
        raw = response.connection._transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert repr(response.connection) == "<Connection streaming>"
        response.abort()
    await pool.close()


async def test_closed_pool_sends_away_who_waits_and_may_be_closed_again(pool):
    gate = asyncio.Event()
    async with hostile(gated(gate)) as server:
        tasks = [start(text(pool, server)) for _ in range(4)]
        await asyncio.sleep(0.02)
        await pool.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [Broken, Broken, ConnectFailed, ConnectFailed]
        await pool.close()


async def test_closed_pool_neither_sends_again_nor_keeps_what_it_was_connecting(pool):
    async def script(visit):
        await visit.request()
        await visit.say(whole())
        await visit.hang()

    async with hostile(script) as server:
        await text(pool, server)
        again = start(text(pool, server))
        await asyncio.sleep(0.02)
        connecting = start(text(pool, server))
        await asyncio.sleep(0)
        await pool.close()
        for task in (again, connecting):
            with pytest.raises(ConnectFailed):
                await asyncio.wait_for(task, 1)
        for visit in server.visits:
            assert await left(visit)


async def test_cancelled_while_connecting_leaves_nothing(pool):
    with contextlib.ExitStack() as sockets:
        full = sockets.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        deaf = Target("127.0.0.1", full.getsockname()[1], tls=False)
        files = []
        for _ in range(3):
            task = start(pool.send(deaf, "GET", "/", (), None, CALM))
            await asyncio.sleep(0.03)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.02)
            files.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208  nothing on a disk is read
        assert repr(pool) == "<Pool [<Lane 0 open, 0 idle, 0 waiting>]>"
        assert files[1] == files[2]


ENDLESS = {
    "chunk-extension": b"5;" + b"x" * 200_000,
    "chunk-size": b"0" * 200_000,
    "trailers": b"0\r\n" + b"x: y\r\n" * 40_000,
    "heads-before-the-answer": b"",
}


@pytest.mark.parametrize("end", ENDLESS.values(), ids=ENDLESS)
async def test_endless_framing_is_refused(end):
    pool = Pool()
    reply = chunked(b"hel", end=end) if end else b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000
    async with hostile(spoken(reply)) as server:
        with pytest.raises((Malformed, AnswerTooLarge)):
            await text(pool, server, timeouts=Timeouts(idle_s=5))
    await pool.close()


async def test_end_of_a_closed_stream_may_come_a_moment_later():
    pool = Pool()

    async def script(visit):
        while await visit.request():
            await visit.say(chunked(b"data: [DONE]\n\n", end=b""))
            await asyncio.sleep(0.03)
            await visit.say(b"0\r\n\r\n")

    async with hostile(script) as server:
        for _ in range(3):
            response = await send(pool, server)
            async with contextlib.aclosing(response.pieces()) as pieces:
                await anext(aiter(pieces))
                await response.close()
            assert repr(response) == "<Answer 200, open, 0 bytes held>"
            await asyncio.sleep(0.06)
            assert repr(response) == "<Answer 200, whole, 0 bytes held>"
        assert len(server.visits) == 1
    await pool.close()


async def test_flood_on_a_closed_stream_ends_before_its_moment():
    pool = Pool()

    async def script(visit):
        await visit.request()
        await visit.say(chunked(b"data: [DONE]\n\n", end=b""))
        while True:
            await visit.say(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")

    async with hostile(script) as server:
        response = await send(pool, server)
        await anext(aiter(response.pieces()))
        await response.close()
        await asyncio.sleep(0.1)
        assert response.connection is None
        assert "failed" in repr(response)
    await pool.close()
