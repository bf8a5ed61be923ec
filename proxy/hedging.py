"""An order that is late is given to somebody else as well: the first to answer wins, the other one is ended and booked.

    first ------------- after_s, nothing yet ---------------- answers: wins, the second is ended
                            second, as the budgets allow ---- answers: wins, the first is ended

To an exchange both are one call (`proxy.ports.Call`), until the first piece of an answer, or all of one that comes
whole: that is before anything reaches the client, so that nobody sees the change. A call that fails has not answered;
where both fail, the failure of the last one counts.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from policies.chat import Failure, Reply, Usage
from policies.ladder import Attempt
from policies.release import Piece
from proxy.ports import Call, Order
from schemas.values import dataclass

REMEMBERED = 200
_SLOWER = Failure("gone", "another call was faster")


class Beginnings:
    """How long calls took to begin to answer, by model and whether they stream; only of routes that hedge."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, bool], deque[float]] = {}

    def of(self, alias: str, *, stream: bool) -> Sequence[float]:
        """The last calls of a model, in seconds."""
        return self._seen.get((alias, stream), ())

    def note(self, alias: str, seconds: float, *, stream: bool) -> None:
        """A call began to answer after so long, or was given up then."""
        self._seen.setdefault((alias, stream), deque(maxlen=REMEMBERED)).append(seconds)


@dataclass(slots=True, eq=False)
class _Run:
    """One of the two calls; `first` reads until it begins to answer."""

    order: Order
    call: Call
    began_s: float
    first: asyncio.Task[Sequence[Piece] | None]

    @property
    def answers(self) -> bool:
        """Whether its answer has begun. Raises what the call raised."""
        if not self.first.done():
            return False
        return self.first.result() is not None or isinstance(self.call.result(), Reply)


@dataclass(frozen=True, slots=True, eq=False)
class Hooks:
    """What a hedge does to the world.

    `again` opens the second call, None where nothing allows one. `lose` books the one that is not waited for. `began`
    is told how long a call took to begin, `chosen` which call is read on.
    """

    again: Callable[[Order], Awaitable[tuple[Order, Call] | None]]
    lose: Callable[[Attempt], Attempt]
    began: Callable[[float], None]
    chosen: Callable[[int, Sequence[int]], None]
    spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]


class Hedged:
    """Two calls that are one; see `proxy.ports.Call`."""

    def __init__(self, order: Order, call: Call, after_s: float | None, hooks: Hooks) -> None:
        """`after_s` None: it is not known yet when a call is late, and only watched how long this one takes."""
        self._order = order
        self._after_s = after_s
        self._hooks = hooks
        self._read = call
        """The call that is read on; until one has begun to answer, the first."""
        self._decided = False
        self._runs: list[_Run] = []
        self.number = order.number
        self.beside: tuple[Attempt, ...] = ()

    async def more(self) -> Sequence[Piece] | None:
        """The next parts of the answer of whoever was first."""
        if self._decided:
            return await self._read.more()
        try:
            winner = await self._race()
        except BaseException:
            for run in self._runs[1:]:
                self._lose(run)
            await self._end(self._runs)
            raise
        self._decided, self._read, self.number = True, winner.call, winner.order.number
        losers = [run for run in self._runs if run is not winner]
        for run in losers:
            self._lose(run)
        if losers:
            self._hooks.chosen(self.number, [run.order.number for run in losers])
        if winner.answers:
            self._hooks.began(time.monotonic() - winner.began_s)
        return winner.first.result()

    def flow(self, onward: Callable[[bytes], bool]) -> None:
        """See `proxy.ports.Call`."""
        self._read.flow(onward)

    async def _race(self) -> _Run:
        """The call that begins to answer first; where none does, the one that failed last."""
        first = self._start(self._order, self._read)
        await asyncio.wait([first.first], timeout=self._after_s)
        if first.first.done():
            return first
        opened = await self._hooks.again(self._order)
        if opened is not None:
            self._start(*opened)
        waiting = {run.first: run for run in self._runs}
        while True:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            ended = [run for task, run in waiting.items() if task in done]
            for run in ended:
                del waiting[run.first]
                if run.answers or not waiting:
                    return run

    def _start(self, order: Order, call: Call) -> _Run:
        run = _Run(order, call, time.monotonic(), self._hooks.spawn(_first(call)))
        self._runs.append(run)
        return run

    def _lose(self, run: _Run) -> None:
        """End a call that nobody waits for any more, and book what it came to."""
        ended_s = time.monotonic()
        result = run.call.result() if run.first.done() else None
        run.call.abort()
        run.first.cancel()
        if not isinstance(result, Failure):
            self._hooks.began(ended_s - run.began_s)
        order, call = run.order, run.call
        lost = Attempt(
            order.number,
            order.model,
            "hedge_loser",
            failure=result if isinstance(result, Failure) else _SLOWER,
            usage=call.usage(),
            started_s=run.began_s,
            ended_s=ended_s,
            first_byte_s=call.first_byte_s,
        )
        self.beside += (self._hooks.lose(lost),)

    @staticmethod
    async def _end(runs: Sequence[_Run]) -> None:
        for run in runs:
            run.first.cancel()
        await asyncio.gather(*(run.first for run in runs), return_exceptions=True)

    def result(self) -> Reply | Failure:
        """What came of it."""
        return self._read.result()

    def so_far(self) -> Reply:
        """What the answer came to until it was ended."""
        return self._read.so_far()

    def usage(self) -> Usage | None:
        """Tokens spent by the call that is read; those of the other one are booked with it."""
        return self._read.usage()

    def abort(self) -> None:
        """Close the connection now."""
        self._read.abort()

    @property
    def first_byte_s(self) -> float | None:
        """When the first byte of the answer came."""
        return self._read.first_byte_s


async def _first(call: Call) -> Sequence[Piece] | None:
    """The first parts of an answer; as a coroutine, which a task wants."""
    return await call.more()
