"""Upstream calls, each one made, judged and booked: attempts of an exchange, and calls besides it."""

from collections.abc import Sequence
from dataclasses import replace

from policies.chat import Failure, Purpose, Reply
from policies.consensus import consensus
from policies.contract import NO_VERDICT, Contract, Verdict
from policies.doubts import Doubts
from policies.ladder import Attempt
from policies.plan import Plan
from policies.release import Gate, HoldGate, gate_for
from proxy.ports import Call, Order, Ports
from schemas.values import dataclass


async def compared(
    plan: Plan, order: Order, gate: Gate, ports: Ports
) -> tuple[tuple[Attempt, ...], tuple[Attempt, Gate] | None]:
    """Two models asked at once, both booked; and an answer to fall back on where they do not say the same.

    Where they agree, the last attempt, that of the ladder's model, is the answer.
    """
    assert plan.companion is not None
    gates = (gate_for(plan.mode, plan.contract, resumed=True), gate)
    orders = (replace(order, model=plan.companion), replace(order, number=2))
    made: dict[int, _Made] = {}

    async def make(number: int) -> None:
        made[number] = await _make(orders[number], plan.contract, gates[number], ports)

    try:
        await ports.both(make(0), make(1))
    except BaseException:  # the other one was cancelled, and booked there; this answer came
        for one in made.values():
            _book(replace(one, attempt=replace(one.attempt, set_aside="disagreement")), ports)
        raise
    marks = _set_aside(made[0].attempt, made[1].attempt, plan.contract)
    pair = [
        _book(replace(made[n], attempt=replace(made[n].attempt, set_aside=mark)), ports)
        for n, mark in enumerate(marks)
    ]
    valid = [n for n in (1, 0) if pair[n].reply is not None and pair[n].verdict.acceptable]
    return tuple(pair), (pair[valid[0]], gates[valid[0]]) if valid else None


def _set_aside(companion: Attempt, first: Attempt, contract: Contract) -> tuple[str | None, str | None]:
    """Why the companion's answer is not delivered, and why the first one's is not; None where it may be."""
    if companion.reply is not None and first.reply is not None:
        judged = (companion.reply, companion.verdict), (first.reply, first.verdict)
        if consensus(*judged, contract):
            return "agreement", None
    refused = all(a.failure is not None and not a.failure.retryable for a in (companion, first))
    return (None, None) if refused else ("disagreement", "disagreement")


@dataclass(frozen=True, slots=True)
class _Made:
    """An attempt that is not booked yet. `told`: the client was told some of it; `called`: there is something to book."""

    attempt: Attempt
    told: bool = False
    called: bool = True
    beside: Sequence[Attempt] = ()
    """Calls for the same order that lost against it; they are booked."""


def _book(made: _Made, ports: Ports) -> Attempt:
    return ports.account(made.attempt) if made.called else made.attempt


async def observe(order: Order, contract: Contract, ports: Ports) -> Attempt:
    """One upstream call besides an exchange, judged and booked; the client is not told of it."""
    made = await _make(order, contract, HoldGate(), ports)
    return _book(replace(made, attempt=replace(made.attempt, set_aside="shadow")), ports)


async def attempted(order: Order, plan: Plan, gate: Gate, ports: Ports) -> tuple[tuple[Attempt, ...], bool]:
    """One upstream call, judged, doubted where the plan says so, and booked; and whether the client was told some of it.

    It is the last attempt; one that it was faster than comes before it.
    """
    made = await _make(order, plan.contract, gate, ports)
    if plan.doubts is not None:
        made = replace(made, attempt=_doubted(made.attempt, plan.doubts))
    return (*made.beside, _book(made, ports)), made.told


def _doubted(attempt: Attempt, doubts: Doubts) -> Attempt:
    """`attempt` with its suspicion; set aside where that is too high."""
    if attempt.reply is None or attempt.reply.only_recalls:
        return attempt
    suspicion = doubts.of(attempt.model, attempt.reply, attempt.verdict)
    if suspicion is None:
        return attempt
    return replace(attempt, suspicion=suspicion, set_aside="suspicion" if suspicion >= doubts.above else None)


async def _make(order: Order, contract: Contract, gate: Gate, ports: Ports) -> _Made:
    """One upstream call, judged; booked only where it is cut short by an exception."""
    started_s = ports.now()
    call = await ports.open(order)
    if isinstance(call, Failure):
        refused = Attempt(order.number, order.model, order.purpose, failure=call, started_s=started_s)
        return _Made(replace(refused, ended_s=ports.now()), called=False)
    told = False
    reply: Reply | None = None
    failure: Failure | None = None
    verdict = NO_VERDICT
    try:
        while (pieces := await call.more()) is not None:
            released = [data for piece in pieces for data in gate.offer(piece)]
            if released or not pieces:
                told = True
                await ports.tell(b"".join(released))
                if gate.open:
                    call.flow(ports.tell_at_once)
            if gate.hopeless:  # no more tokens are paid for what cannot become valid
                call.abort()
                break
        if call.number != order.number:
            order = replace(order, number=call.number)
        result = call.result()
        if isinstance(result, Failure) and gate.hopeless:
            result = call.so_far()
        if isinstance(result, Reply) and result.only_recalls and not order.offers_recall:
            result = Failure(
                "malformed", "The model looked something up instead of answering.", retryable=True
            )
        if isinstance(result, Failure):
            failure = result
        else:
            reply = result
            verdict = NO_VERDICT if reply.only_recalls else await ports.judge(reply, contract, order)
    except BaseException:  # cancelled too: what the upstream wrote is still billed
        call.abort()
        gone = Failure("gone", "the client left")
        ports.account(_attempt_of(order, "cancelled", call, None, gone, NO_VERDICT, started_s, ports.now()))
        raise
    purpose = order.purpose
    made = _attempt_of(order, purpose, call, reply, failure, verdict, started_s, ports.now())
    return _Made(made, told, beside=call.beside)


def _attempt_of(
    order: Order,
    purpose: Purpose,
    call: Call,
    reply: Reply | None,
    failure: Failure | None,
    verdict: Verdict,
    started_s: float,
    ended_s: float,
) -> Attempt:
    return Attempt(
        call.number,
        order.model,
        purpose,
        reply,
        failure,
        verdict,
        call.usage(),
        None,
        started_s,
        ended_s,
        call.first_byte_s,
    )
