"""The story of one exchange: a client's request, the upstream calls it takes, and what the client gets.

    receive -> know -> decide -> attempt -> judge -> account -> step -> answer
                                    ^                              |
                                    +------------ again -----------+

`converse` holds the only loop that goes back to an upstream. All it does to the world goes through `Ports`;
all it decides is a function of `policies`. The code that receives and answers is in `proxy/handlers`; the
ports of production are in `proxy/live.py`; the tests play scripted ones.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from policies import correction
from policies.chat import Failure, Purpose, Reply, Usage
from policies.contract import Contract, Verdict
from policies.ladder import Accept, Again, Attempt, GiveUp, next_step
from policies.plan import Plan
from policies.release import Gate, gate_for


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a streamed answer, as it goes to the client. `speaks`: it carries something of the answer."""

    data: bytes
    speaks: bool


@dataclass(frozen=True, slots=True)
class Order:
    """One upstream call that is to be made. `messages` None: the conversation goes as the client wrote it."""

    number: int
    model: str
    purpose: Purpose
    messages: Sequence[Mapping[str, Any]] | None = None


class Call(Protocol):
    """One upstream call under way."""

    def pieces(self) -> AsyncGenerator[Sequence[Piece], None]:
        """Make the call; gives the parts of a streamed answer as they come, nothing for a whole one."""
        ...

    def result(self) -> Reply | Failure:
        """What came of it, once `pieces` has ended."""
        ...

    def usage(self) -> Usage | None:
        """Tokens spent so far: reported, else estimated. None where nothing was spent."""
        ...

    def abort(self) -> None:
        """Close the connection now."""
        ...

    first_byte_s: float | None


class Ports(Protocol):
    """What an exchange needs of the world."""

    def now(self) -> float:
        """A monotonic clock, seconds."""
        ...

    async def wait(self, seconds: float) -> None: ...

    def call(self, order: Order) -> Call:
        """A call, not yet started."""
        ...

    async def judge(self, reply: Reply, contract: Contract) -> Verdict:
        """`policies.contract.judge`, wherever there is room for it."""
        ...

    async def tell(self, piece: bytes) -> None:
        """Send a piece to the client, now."""
        ...

    def account(self, attempt: Attempt) -> Attempt:
        """Book one attempt; gives it back with its cost. Never waits: it runs when we are cancelled, too."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an exchange ended. `held` are the pieces of the last attempt that the client has not been told."""

    plan: Plan
    history: tuple[Attempt, ...]
    end: Accept | GiveUp
    held: tuple[bytes, ...] = ()
    committed: bool = False

    @property
    def last(self) -> Attempt:
        """The attempt whose reply or failure counts."""
        return self.history[-1]


async def converse(plan: Plan, messages: Sequence[Mapping[str, Any]], ports: Ports) -> Outcome:
    """Carry `plan` out. `messages` is the conversation as the client wrote it, empty where there is none.

    Afterwards every attempt is booked, also when the exchange was cancelled because its client left.
    """
    trimmed = plan.context.messages if plan.context is not None and plan.context.dropped else None
    first = order = Order(1, plan.rungs[0].model, "answer", trimmed)
    history: tuple[Attempt, ...] = ()
    while True:
        gate = gate_for(plan.mode, plan.contract)
        attempt, committed = await _attempt(order, plan.contract, gate, ports)
        history += (attempt,)
        step = next_step(plan.rungs, plan.repair, plan.allowance, history, ports.now())
        if isinstance(step, Again) and committed:
            step = GiveUp("failure", "part of the answer was already delivered")
        if not isinstance(step, Again):
            return Outcome(plan, history, step, tuple(gate.held), committed)
        await ports.wait(step.wait_s)
        order = _next_order(
            step, replace(order, number=order.number + 1), first, attempt, messages, plan.contract
        )


async def _attempt(order: Order, contract: Contract, gate: Gate, ports: Ports) -> tuple[Attempt, bool]:
    """One upstream call, judged and booked; and whether the client was told some of it."""
    call = ports.call(order)
    attempt = Attempt(order.number, order.model, order.purpose, started_s=ports.now())
    committed = False
    try:
        async with aclosing(call.pieces()) as received:
            async for pieces in received:
                released = [r for piece in pieces for r in gate.offer(piece.data, speaks=piece.speaks)]
                if released:
                    committed = True
                    await ports.tell(b"".join(released))
        result = call.result()
        if isinstance(result, Failure):
            attempt = replace(attempt, failure=result)
        else:
            attempt = replace(attempt, reply=result)  # spent, whatever the verdict will be
            attempt = replace(attempt, verdict=await ports.judge(result, contract))
    except BaseException:  # cancelled too: what the upstream wrote is still billed
        call.abort()
        gone = Failure("gone", "the client left")
        ended = replace(attempt, purpose="cancelled", failure=gone, reply=None)
        ports.account(_timed(ended, call, ports))
        raise
    return ports.account(_timed(attempt, call, ports)), committed


def _timed(attempt: Attempt, call: Call, ports: Ports) -> Attempt:
    return replace(attempt, usage=call.usage(), ended_s=ports.now(), first_byte_s=call.first_byte_s)


def _next_order(
    step: Again,
    same: Order,
    first: Order,
    attempt: Attempt,
    messages: Sequence[Mapping[str, Any]],
    contract: Contract,
) -> Order:
    """The call that `step` asks for: a retry is the same call, a re-ask tells what was wrong, a climb starts afresh."""
    if step.purpose == "retry":
        return replace(same, purpose="retry")
    fresh = replace(first, number=same.number, model=step.model, purpose=step.purpose)
    if step.purpose == "reask" and attempt.reply is not None and contract.schema is not None:
        said = next((c.text for c in attempt.reply.choices if c.text), "")
        asked = correction.reask(first.messages or messages, said, attempt.verdict.problems, contract.schema)
        return replace(fresh, messages=asked)
    return fresh
