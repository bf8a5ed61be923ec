"""The story of one exchange: a client's request, the upstream calls it takes, and what the client gets.

    receive -> know -> decide -> attempt -> judge -> account -> step -> answer
                                    ^                              |
                                    +------------ again -----------+

`converse` holds the only loop that goes back to an upstream. All it does to the world goes through `Ports`;
all it decides is a function of `policies`. The code that receives and answers is in `proxy/handlers`; the
ports of production are in `proxy/live.py`; the tests play scripted ones.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

from policies import correction, release
from policies.chat import Failure, Purpose, Reply, Usage
from policies.consensus import consensus
from policies.contract import NO_VERDICT, Contract, Verdict
from policies.doubts import Doubts
from policies.ladder import Accept, Again, Attempt, GiveUp, next_step, passed_over
from policies.patching import Patch
from policies.plan import Plan
from policies.recall import Recalled, offers
from policies.release import Gate, gate_for
from schemas.values import dataclass


@dataclass(frozen=True, slots=True)
class Order:
    """One upstream call that is to be made. `messages` None: the conversation goes as the client wrote it.

    `patch`: only these parts of an earlier answer are asked for. `reason` and `propensity` are for the ledger: why this
    call is made, and how probable it was that the exchange began where it did. `offers_recall`: the model may look up
    what was left out of its prompt. `recalled` are the pieces that it looked up, None where it never did. `goes_on`: the
    client was told what the model said before it looked something up, and this call's answer goes on after it.
    """

    number: int
    model: str
    purpose: Purpose
    messages: Sequence[Mapping[str, Any]] | None = None
    patch: Patch | None = None
    reason: str | None = None
    propensity: float | None = None
    offers_recall: bool = False
    recalled: frozenset[int] | None = None
    goes_on: bool = False


class Call(Protocol):
    """One upstream call under way; two, where a late one is hedged (`proxy/hedging.py`)."""

    async def more(self) -> Sequence[release.Piece] | None:
        """The next parts of a streamed answer, as they come; None when the answer is there. Makes the call first.

        Nothing: the client is to be waited for.
        """
        ...

    def flow(self, onward: Callable[[bytes], bool]) -> None:
        """What comes from here on may go `onward` at once; False of it: after the client has been waited for."""
        ...

    def result(self) -> Reply | Failure:
        """What came of it, once there is no more."""
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

    @property
    def first_byte_s(self) -> float | None:
        """When the first byte of the answer came."""
        ...

    @property
    def number(self) -> int:
        """Of the order that is answered: a hedge has the next one."""
        ...

    @property
    def beside(self) -> Sequence[Attempt]:
        """What was called for the same order and lost; it is booked."""
        ...


class Ports(Protocol):
    """What an exchange needs of the world."""

    def now(self) -> float:
        """A monotonic clock, seconds."""
        ...

    async def wait(self, seconds: float, jitter_s: float) -> None:
        """Let time pass: `seconds`, and by chance up to `jitter_s` more."""
        ...

    async def open(self, order: Order) -> Call | Failure:
        """A call, not yet started, with what it may cost held; a Failure where a limit forbids it."""
        ...

    def grant(self, step: Again, last: Attempt) -> bool:
        """Whether the upstream may be asked once more: a share of its calls may be repetitions (policies.budget)."""
        ...

    async def judge(self, reply: Reply, contract: Contract, order: Order) -> Verdict:
        """`policies.contract.judge` or `judge_patch`, wherever there is room for it."""
        ...

    async def recall(self, order: Order, asked: Attempt) -> Recalled:
        """What `asked` wanted to look up, for `order`: messages that go behind its conversation. Fails never."""
        ...

    async def both(self, one: Coroutine[Any, Any, None], other: Coroutine[Any, Any, None]) -> None:
        """Run both at the same time; neither goes on when this has ended, however it ends."""
        ...

    async def tell(self, piece: bytes) -> None:
        """Send a piece to the client, now; waits while the client is slow."""
        ...

    def tell_at_once(self, piece: bytes) -> bool:
        """Send a further piece without waiting; False where the client should be waited for before the next."""
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

    Afterwards every attempt is booked, also when the exchange was cancelled because its client left. An answer
    that was set aside, because two models disagreed or it was not believed, is still better than none. What a
    model says before it looks something up is no answer: it may be told, and the answer goes on after it.
    """
    trimmed = plan.context.messages if plan.context is not None and plan.context.changed else None
    because = None if plan.choice is None else plan.choice.because
    propensity = None if plan.choice is None or because is None else plan.choice.propensity
    looks_up = plan.lookups > 0 and offers(plan.lookups, plan.allowance, ("answer",))
    first = base = order = Order(
        1, plan.rungs[0].model, "answer", trimmed, None, because, propensity, looks_up
    )
    history: tuple[Attempt, ...] = ()
    committed, released = False, ""
    spare: tuple[Attempt, Gate] | None = None
    while True:
        doubted = plan.doubts is not None and plan.doubts.model == order.model
        resumed = committed or doubted or plan.companion is not None
        gate = gate_for(plan.mode, plan.contract, resumed=resumed)
        if plan.companion is not None and not history:
            history, spare = await _compared(plan, order, gate, ports)
            attempt, told = history[-1], False
        else:
            attempts, told = await _attempt(order, plan, gate, ports)
            history += attempts
            attempt = history[-1]
            if attempt.set_aside is not None:
                spare = attempt, gate
        committed, released = committed or told, released or gate.released
        step = next_step(plan.rungs, plan.repair, plan.allowance, history, ports.now())
        if isinstance(step, Again) and not released and _too_late(step, order, committed=committed):
            reason: Literal["schema", "failure"] = "schema" if attempt.failure is None else "failure"
            step = GiveUp(reason, "part of the answer was already delivered")
        while isinstance(step, Again) and not ports.grant(step, attempt):
            step = passed_over(plan.rungs, plan.repair, history, step)
        if spare is not None and (isinstance(step, GiveUp) or (isinstance(step, Accept) and step.raw)):
            kept, gate = spare
            history = (*(a for a in history if a is not kept), kept)
            step = Accept()
        if not isinstance(step, Again):
            return Outcome(plan, history, step, tuple(gate.held), committed or order.goes_on, released)
        await ports.wait(step.wait_s, step.jitter_s)
        origin = {"retry": order, "recall": order, "escalate": first}.get(step.purpose, base)
        order = replace(
            origin,
            number=len(history) + 1,
            model=step.model,
            purpose=step.purpose,
            offers_recall=offers(plan.lookups, plan.allowance, [*(a.purpose for a in history), step.purpose]),
        )
        if step.purpose == "escalate":
            base = order = replace(order, reason=_why_climbed(attempt, plan))
        if step.purpose in ("reask", "patch"):
            order = _corrected(order, attempt, messages, plan.contract)
        elif step.purpose == "recall":
            told = committed and not released
            order = base = await _recalled(order, attempt, messages, ports, goes_on=told)
            committed = committed and not told


def _too_late(step: Again, order: Order, *, committed: bool) -> bool:
    """Whether `step` would begin anew what the client was told a part of. Looking something up goes forward."""
    if step.purpose == "recall":
        return False
    return committed or (order.goes_on and step.purpose == "escalate")


async def _compared(
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
    made = await _make(order, contract, release.HoldGate(), ports)
    return _book(replace(made, attempt=replace(made.attempt, set_aside="shadow")), ports)


async def _attempt(order: Order, plan: Plan, gate: Gate, ports: Ports) -> tuple[tuple[Attempt, ...], bool]:
    """One upstream call, judged, doubted where the plan says so, and booked; and whether the client was told some of it.

    It is the last attempt; one that it was faster than comes before it.
    """
    made = await _make(order, plan.contract, gate, ports)
    if plan.doubts is not None:
        made = replace(made, attempt=_doubted(made.attempt, plan.doubts))
    return (*made.beside, _book(made, ports)), made.told


def _why_climbed(attempt: Attempt, plan: Plan) -> str | None:
    """What the ledger is told of a call that was made though the answer before it may have been valid."""
    if attempt.set_aside != "suspicion" or attempt.suspicion is None or plan.doubts is None:
        return attempt.set_aside
    return f"suspicion: {attempt.suspicion:.3f} against {plan.doubts.above:.3f}"


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
