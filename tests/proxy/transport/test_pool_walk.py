"""The pool through any sequence of what callers and providers may do: nothing is mixed up, lost, or too many."""

import asyncio

import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.upstreams.pool import Pool
from proxy.upstreams.transport import Broken
from tests.proxy.hostile_server import hostile, whole
from tests.proxy.transport.calls import text

LIMIT = 3
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "call", "answer", "answer and more", "cut", "cancel", "leave"]),
        st.integers(0, 9),
    ),
    max_size=25,
)


class Walk:
    """Calls that wait for an answer, by the number in their body, and the connections they wait on."""

    def __init__(self):
        self.pool = Pool(per_host=LIMIT, waiting=100)
        self.calls = {}
        self.asked = {}
        self.cut = set()
        self.count = 0

    async def script(self, visit):
        while await visit.request():
            number = visit.bodies[-1]
            verdict = self.asked[number] = asyncio.get_running_loop().create_future()
            said = await verdict
            self.asked.pop(number, None)
            if said == "cut":
                return
            await visit.say(whole(number) + (whole(b"POISON") if said == "answer and more" else b""))
            if said == "leave":
                await asyncio.sleep(0.001)
                return

    async def step(self, server, what, which):
        if what == "call":
            number = b"%d" % self.count
            self.count += 1
            self.calls[number] = asyncio.get_running_loop().create_task(text(self.pool, server, body=number))
        elif what == "cancel" and self.calls:
            number = list(self.calls)[which % len(self.calls)]
            task = self.calls.pop(number)
            task.cancel()
            await asyncio.wait([task])
        elif self.asked:
            number = list(self.asked)[which % len(self.asked)]
            verdict = self.asked.pop(number)
            verdict.set_result(what)
            if what == "cut":
                self.cut.add(number)
        for _ in range(3):
            await asyncio.sleep(0.0005)
        await self.check()

    async def check(self):
        for number, task in list(self.calls.items()):
            if task.done():
                del self.calls[number]
                error = task.exception()
                assert isinstance(error, Broken) if error else task.result() == number
                assert error is None or number in self.cut
        (lane,) = self.pool._lanes.values() or [None]
        if lane is not None:
            assert lane._open <= LIMIT
            assert len(lane._idle) <= lane._open
            assert not lane._waiting or lane._open == LIMIT
            assert not (lane._waiting and lane._idle)

    async def play(self, steps):
        async with hostile(self.script) as server:
            for what, which in steps:
                await self.step(server, what, which)
            for _ in range(200):
                if not self.calls:
                    break
                await self.step(server, "answer", 0)
            assert not self.calls
            for lane in self.pool._lanes.values():
                assert lane._open == len(lane._idle) == len(lane._connections)
                assert not lane._waiting
            await self.pool.close()


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_any_walk_keeps_the_pool_in_order(steps):
    uvloop.run(Walk().play(steps))
