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
from dataclasses import replace
from typing import Any, Protocol

from policies import correction, release
from policies.chat import Failure, Purpose, Reply, Usage
from policies.contract import Contract, Verdict
from policies.ladder import Accept, Again, Attempt, GiveUp, next_step, passed_over
from policies.patching import Patch
from policies.plan import Plan
from policies.release import Gate, gate_for
from schemas.values import dataclass


@dataclass(frozen=True, slots=True)
class Order:
    """One upstream call that is to be made. `messages` None: the conversation goes as the client wrote it.

    `patch`: only these parts of an earlier answer are asked for.
    """

    number: int
    model: str
    purpose: Purpose
    messages: Sequence[Mapping[str, Any]] | None = None
    patch: Patch | None = None


class Call(Protocol):
    """One upstream call under way."""

    def pieces(self) -> AsyncGenerator[Sequence[release.Piece], None]:
        """Make the call; gives the parts of a streamed answer as they come, nothing for a whole one."""
        ...

    def result(self) -> Reply | Failure:
        """What came of it, once `pieces` has ended."""
        ...

    def so_far(self) -> Reply:
        """What the answer came to until it was ended."""
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

    async def open(self, order: Order) -> Call | Failure:
        """A call, not yet started, with what it may cost held; a Failure where a limit forbids it."""
        ...

    def grant(self, step: Again, last: Attempt) -> bool:
        """Whether the upstream may be asked once more: a share of its calls may be repetitions (policies.budget)."""
        ...

    async def judge(self, reply: Reply, contract: Contract, patch: Patch | None) -> Verdict:
        """`policies.contract.judge` or `judge_patch`, wherever there is room for it."""
        ...

    async def tell(self, piece: bytes) -> None:
        """Send a piece to the client, now."""
        ...

    def account(self, attempt: Attempt) -> Attempt:
        """Book one attempt; gives it back with its cost. Never waits: it runs when we are cancelled, too."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an exchange ended. `held` are the pieces of the last attempt that the client has not been told.

    `committed`: the client was told some of it; `released` is the text it was told, where that was checked.
    """

    plan: Plan
    history: tuple[Attempt, ...]
    end: Accept | GiveUp
    held: tuple[bytes, ...] = ()
    committed: bool = False
    released: str = ""

    @property
    def last(self) -> Attempt:
        """The attempt whose reply or failure counts."""
        return self.history[-1]


async def converse(plan: Plan, messages: Sequence[Mapping[str, Any]], ports: Ports) -> Outcome:
    """Carry `plan` out. `messages` is the conversation as the client wrote it, empty where there is none.

    Afterwards every attempt is booked, also when the exchange was cancelled because its client left.
    """
    trimmed = plan.context.messages if plan.context is not None and plan.context.changed else None
    first = order = Order(1, plan.rungs[0].model, "answer", trimmed)
    history: tuple[Attempt, ...] = ()
    committed, released = False, ""
    while True:
        gate = gate_for(plan.mode, plan.contract, resumed=committed)
        attempt, told = await _attempt(order, plan.contract, gate, ports)
        history += (attempt,)
        committed, released = committed or told, released or gate.released
        step = next_step(plan.rungs, plan.repair, plan.allowance, history, ports.now())
        if isinstance(step, Again) and committed and not released:
            step = GiveUp("failure", "part of the answer was already delivered")
        while isinstance(step, Again) and not ports.grant(step, attempt):
            step = passed_over(plan.rungs, plan.repair, history, step)
        if not isinstance(step, Again):
            return Outcome(plan, history, step, tuple(gate.held), committed, released)
        await ports.wait(step.wait_s)
        base = first if step.purpose != "retry" else order
        order = replace(base, number=order.number + 1, model=step.model, purpose=step.purpose)
        if step.purpose in ("reask", "patch"):
            order = _corrected(order, attempt, messages, plan.contract)


async def _attempt(order: Order, contract: Contract, gate: Gate, ports: Ports) -> tuple[Attempt, bool]:
    """One upstream call, judged and booked; and whether the client was told some of it."""
    attempt = Attempt(order.number, order.model, order.purpose, started_s=ports.now())
    call = await ports.open(order)
    if isinstance(call, Failure):
        return replace(attempt, failure=call, ended_s=ports.now()), False
    told = False
    try:
        async with aclosing(call.pieces()) as received:
            async for pieces in received:
                released = [data for piece in pieces for data in gate.offer(piece)]
                if released:
                    told = True
                    await ports.tell(b"".join(released))
                if gate.hopeless:  # no more tokens are paid for what cannot become valid
                    call.abort()
                    break
        result = call.result()
        if isinstance(result, Failure) and not gate.hopeless:
            attempt = replace(attempt, failure=result)
        else:
            reply = result if isinstance(result, Reply) else call.so_far()
            attempt = replace(attempt, reply=reply)  # spent, whatever the verdict will be
            attempt = replace(attempt, verdict=await ports.judge(reply, contract, order.patch))
    except BaseException:  # cancelled too: what the upstream wrote is still billed
        call.abort()
        gone = Failure("gone", "the client left")
        ended = replace(attempt, purpose="cancelled", failure=gone, reply=None)
        ports.account(_timed(ended, call, ports))
        raise
    return ports.account(_timed(attempt, call, ports)), told


def _timed(attempt: Attempt, call: Call, ports: Ports) -> Attempt:
    return replace(attempt, usage=call.usage(), ended_s=ports.now(), first_byte_s=call.first_byte_s)


def _corrected(
    order: Order, attempt: Attempt, messages: Sequence[Mapping[str, Any]], contract: Contract
) -> Order:
    """`order` with the conversation that tells the model what was wrong with its last answer."""
    assert attempt.reply is not None
    patch = attempt.verdict.patch if order.purpose == "patch" else None
    asked = correction.reask(
        order.messages or messages, attempt.reply, attempt.verdict, contract.schema, patch
    )
    return replace(order, messages=asked, patch=patch)
