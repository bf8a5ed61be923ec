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


async def test_what_is_put_in_a_turn_leaves_in_order_at_its_end_recorded_once(outbox, a, b, log):
    outbox.put(a, b"1")
    outbox.put(b, b"2")
    outbox.put(a, b"3")
    assert log == []
    await turn()
    assert log == ["recorded", ("a", b"1"), ("b", b"2"), ("a", b"3")]
    await turn()
    assert len(log) == 4
    outbox.put(b, b"4")
    await turn()
    assert log[4:] == ["recorded", ("b", b"4")]


async def test_what_is_flushed_does_not_leave_again(outbox, a, log):
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


async def test_much_does_not_wait_for_the_end_of_the_turn(outbox, a, log):
    for _ in range(5):
        outbox.put(a, b"x" * 15_000)
    assert [entry[0] for entry in log] == ["r", "a", "a", "a", "a", "a"]


async def test_a_transport_that_was_closed_gets_nothing_and_the_others_get_theirs(outbox, a, b, log):
    outbox.put(a, b"1")
    outbox.put(b, b"2")
    a.abort()
    await turn()
    assert log == [("a", "aborted"), "recorded", ("b", b"2")]


async def test_a_call_that_cannot_be_recorded_is_not_made_and_answers_still_leave(a, b, log):
    recorded = [False]
    outbox = Outbox(lambda: recorded[0])
    outbox.put(a, b"call", spends=True)
    outbox.put(b, b"answer")
    assert not outbox.flush()
    assert log == [("a", "aborted"), ("b", b"answer")]
    recorded[0] = True
    outbox.put(b, b"call", spends=True)
    assert outbox.flush()
    assert log[2:] == [("b", b"call")]
