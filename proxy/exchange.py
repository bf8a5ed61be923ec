"""The story of one exchange: a client's request, the upstream calls it takes, and what the client gets.

    receive -> know -> decide -> attempt -> judge -> account -> step -> answer
                                    ^                              |
                                    +------------ again -----------+

`converse` holds the only loop that goes back to an upstream. All it does to the world goes through `proxy/ports.py`;
all it decides is a function of `policies`. One upstream call, judged and booked, is `proxy/attempts.py`. The code that
receives and answers is in `proxy/handlers`; the ports of production are in `proxy/live.py`; the tests play scripted ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from policies import correction
from policies.contract import Contract
from policies.ladder import Accept, Again, Attempt, GiveUp, next_step, passed_over
from policies.plan import Plan
from policies.recall import offers
from policies.release import Gate, gate_for
from proxy.attempts import attempted, compared
from proxy.ports import Order, Ports
from schemas.values import dataclass


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

    Afterwards every attempt is booked, also when the exchange was cancelled because its client left. An answer
    that was set aside, because two models disagreed or it was not believed, is still better than none. What a
    model says before it looks something up is no answer: it may be told, and the answer goes on after it.
    """
    first = base = order = _first_order(plan)
    history: tuple[Attempt, ...] = ()
    committed, released = False, ""
    spare: tuple[Attempt, Gate] | None = None
    while True:
        gate = gate_for(plan.mode, plan.contract, resumed=committed or _may_be_set_aside(plan, order))
        if plan.companion is not None and not history:
            history, spare = await compared(plan, order, gate, ports)
            told = False
        else:
            attempts, told = await attempted(order, plan, gate, ports)
            history += attempts
            if history[-1].set_aside is not None:
                spare = history[-1], gate
        last = history[-1]
        committed, released = committed or told, released or gate.released
        step = _step(plan, order, history, ports, committed=committed, released=released)
        if spare is not None and (isinstance(step, GiveUp) or (isinstance(step, Accept) and step.raw)):
            kept, gate = spare
            history = (*(a for a in history if a is not kept), kept)
            step = Accept()
        if not isinstance(step, Again):
            return Outcome(plan, history, step, tuple(gate.held), committed or order.goes_on, released)
        await ports.wait(step.wait_s, step.jitter_s)
        origin = {"retry": order, "recall": order, "escalate": first}.get(step.purpose, base)
        order = _next_order(plan, origin, step, history)
        if step.purpose == "escalate":
            base = order
        elif step.purpose in ("reask", "patch"):
            order = _corrected(order, last, messages, plan.contract)
        elif step.purpose == "recall":
            told = committed and not released
            order = base = await _recalled(order, last, messages, ports, goes_on=told)
            committed = committed and not told


def _first_order(plan: Plan) -> Order:
    trimmed = plan.context.messages if plan.context is not None and plan.context.changed else None
    because = None if plan.choice is None else plan.choice.because
    propensity = None if plan.choice is None or because is None else plan.choice.propensity
    looks_up = plan.lookups > 0 and offers(plan.lookups, plan.allowance, ("answer",))
    return Order(1, plan.rungs[0].model, "answer", trimmed, None, because, propensity, looks_up)


def _may_be_set_aside(plan: Plan, order: Order) -> bool:
    """Whether a valid answer may still not be delivered: nothing of it is told before that is known."""
    return plan.companion is not None or (plan.doubts is not None and plan.doubts.model == order.model)


def _step(
    plan: Plan, order: Order, history: Sequence[Attempt], ports: Ports, *, committed: bool, released: str
) -> Accept | Again | GiveUp:
    """What comes next, as far as upstreams grant it and what the client was told allows."""
    last = history[-1]
    step = next_step(plan.rungs, plan.repair, plan.allowance, history, ports.now())
    if isinstance(step, Again) and not released and _too_late(step, order, committed=committed):
        reason: Literal["schema", "failure"] = "schema" if last.failure is None else "failure"
        step = GiveUp(reason, "part of the answer was already delivered")
    while isinstance(step, Again) and not ports.grant(step, last):
        step = passed_over(plan.rungs, plan.repair, history, step)
    return step


def _too_late(step: Again, order: Order, *, committed: bool) -> bool:
    """Whether `step` would begin anew what the client was told a part of. Looking something up goes forward."""
    if step.purpose == "recall":
        return False
    return committed or (order.goes_on and step.purpose == "escalate")


def _next_order(plan: Plan, origin: Order, step: Again, history: Sequence[Attempt]) -> Order:
    """`origin` for the model and the purpose of `step`."""
    purposes = [*(attempt.purpose for attempt in history), step.purpose]
    return replace(
        origin,
        number=len(history) + 1,
        model=step.model,
        purpose=step.purpose,
        reason=_why_climbed(history[-1], plan) if step.purpose == "escalate" else origin.reason,
        offers_recall=offers(plan.lookups, plan.allowance, purposes),
    )


def _why_climbed(attempt: Attempt, plan: Plan) -> str | None:
    """What the ledger is told of a call that was made though the answer before it may have been valid."""
    if attempt.set_aside != "suspicion" or attempt.suspicion is None or plan.doubts is None:
        return attempt.set_aside
    return f"suspicion: {attempt.suspicion:.3f} against {plan.doubts.above:.3f}"


async def _recalled(
    order: Order, asked: Attempt, messages: Sequence[Mapping[str, Any]], ports: Ports, *, goes_on: bool
) -> Order:
    """`order` with what the model looked up behind its conversation."""
    found = await ports.recall(order, asked)
    return replace(
        order,
        messages=(*(messages if order.messages is None else order.messages), *found.messages),
        recalled=(order.recalled or frozenset()) | found.pieces,
        goes_on=order.goes_on or goes_on,
    )


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
