"""What is put in a turn of the event loop leaves at its end, in order, and after what it hangs on is recorded."""

import asyncio

import pytest

from proxy.outbox import Outbox


class Transport:
    """Notes in `log` what is done to it."""

    def __init__(self, log, name):
        self.log = log
        self.name = name
        self.closing = False

    def is_closing(self):
        return self.closing

    def write(self, data):
        self.log.append((self.name, data))

    def abort(self):
        self.closing = True
        self.log.append((self.name, "aborted"))


@pytest.fixture
def log():
    return []


@pytest.fixture
def a(log):
    return Transport(log, "a")


@pytest.fixture
def b(log):
    return Transport(log, "b")


@pytest.fixture
def outbox(log):
    return Outbox(lambda: log.append("recorded") or True)


async def turn():
    await asyncio.sleep(0)


async def busy(outbox, log):
    """After a turn with more than one thing to say the next is expected to be like it."""
    rest = Transport([], "rest")
    outbox.put(rest, b"1")
    outbox.put(rest, b"2")
    await turn()
    log.clear()


async def test_what_is_put_in_a_turn_leaves_in_order_at_its_end_recorded_once(outbox, a, b, log):
    await busy(outbox, log)
    outbox.put(a, b"1")
    outbox.put(b, b"2")
    outbox.put(a, b"3")
    assert log == []
    await turn()
    assert log == ["recorded", ("a", b"1"), ("b", b"2"), ("a", b"3")]
    await turn()
    assert len(log) == 4


async def test_where_turns_have_one_thing_to_say_it_leaves_at_once(outbox, a, b, log):
    for number in range(3):
        outbox.put(a, b"%d" % number)
        assert log[-2:] == ["recorded", ("a", b"%d" % number)]
        await turn()
    del log[:]
    outbox.put(a, b"4")
    outbox.put(b, b"5")
    assert log == ["recorded", ("a", b"4")]
    await turn()
    assert log[2:] == ["recorded", ("b", b"5")]
    outbox.put(a, b"6")  # the turn before had two
    assert len(log) == 4
    await turn()
    assert log[4:] == ["recorded", ("a", b"6")]


async def test_much_to_say_is_said_in_parts(outbox, a, log):
    await busy(outbox, log)
    for number in range(20):
        outbox.put(a, b"%d" % number)
    assert log.count("recorded") == 2
    await turn()
    assert [entry[1] for entry in log if entry != "recorded"] == [b"%d" % number for number in range(20)]
    assert log.count("recorded") == 3


async def test_under_lasting_load_the_parts_are_larger(a, log):
    now = [0.0]
    outbox = Outbox(lambda: log.append("recorded") or True, lambda: now[0])

    async def parts_after(seconds):
        now[0] += seconds
        await busy(outbox, log)
        for number in range(48):
            outbox.put(a, b"%d" % number)
        count = log.count("recorded")
        await turn()
        return count

    assert await parts_after(1.0) == 6
    for _ in range(9):
        assert await parts_after(0.01) == 6
    assert await parts_after(0.015) == 2  # a tenth of a second without a pause
    assert await parts_after(0.01) == 2
    assert await parts_after(0.03) == 6  # nothing was said for a while


async def test_what_is_flushed_does_not_leave_again(outbox, a, log):
    await busy(outbox, log)
    outbox.put(a, b"1")
    assert outbox.flush()
    assert log == ["recorded", ("a", b"1")]
    outbox.put(a, b"2")
    await turn()
    assert log[2:] == ["recorded", ("a", b"2")]


async def test_where_nothing_leaves_what_is_due_is_recorded_at_the_end_of_the_turn(outbox, log):
    outbox.soon()
    outbox.soon()
    assert log == []
    await turn()
    assert log == ["recorded"]


async def test_many_bytes_do_not_wait_for_the_end_of_the_turn(outbox, a, log):
    await busy(outbox, log)
    for _ in range(5):
        outbox.put(a, b"x" * 15_000)
    assert [entry[0] for entry in log] == ["r", "a", "a", "a", "a", "a"]


async def test_a_transport_that_was_closed_gets_nothing_and_the_others_get_theirs(outbox, a, b, log):
    await busy(outbox, log)
    outbox.put(a, b"1")
    outbox.put(b, b"2")
    a.abort()
    await turn()
    assert log == [("a", "aborted"), "recorded", ("b", b"2")]


async def test_a_transport_that_refuses_is_closed_and_the_others_get_theirs(outbox, a, b, log, monkeypatch):
    def refuse(data):
        raise RuntimeError("Cannot call write() after write_eof()")

    await busy(outbox, log)
    monkeypatch.setattr(a, "write", refuse)
    outbox.put(a, b"1")
    outbox.put(b, b"2")
    await turn()
    assert log == ["recorded", ("a", "aborted"), ("b", b"2")]


async def test_a_call_that_cannot_be_recorded_is_not_made_and_answers_still_leave(a, b, log):
    can = [True]
    outbox = Outbox(lambda: can[0])
    await busy(outbox, log)
    can[0] = False
    outbox.put(a, b"call", spends=True)
    outbox.put(b, b"answer")
    assert not outbox.flush()
    assert log == [("a", "aborted"), ("b", b"answer")]
    can[0] = True
    outbox.put(b, b"call", spends=True)
    assert outbox.flush()
    assert log[2:] == [("b", b"call")]
