"""What to do after an attempt: accept, try again (how, with whom), or give up.

The whole history goes in and one step comes out, so that every rule can be tested as a row of a table.
"""

from collections.abc import Sequence
from typing import Final, Literal

from policies.allowance import Allowance, spent_up
from policies.chat import Failure, Purpose, Reply, Usage
from policies.contract import CUT, NO_VERDICT, Verdict
from policies.route import Repair
from schemas.values import dataclass


@dataclass(frozen=True, slots=True)
class Attempt:
    """One upstream call and what came of it: either a reply with its verdict, or a failure.

    `cost_nanousd` None: the model has no known price. `started_s` and `ended_s` are readings of one
    monotonic clock; `first_byte_s` None where nothing came.
    """

    number: int
    model: str
    purpose: Purpose
    reply: Reply | None = None
    failure: Failure | None = None
    verdict: Verdict = NO_VERDICT
    usage: Usage | None = None
    cost_nanousd: int | None = None
    started_s: float = 0.0
    ended_s: float = 0.0
    first_byte_s: float | None = None
    saved_nanousd: int | None = None
    """What the exchange saved, on the attempt that was delivered; None elsewhere and where unknown."""
    set_aside: str | None = None
    """Why its answer is not delivered though it may be valid: `disagreement`, `suspicion`, or `agreement` where its
    twin is."""
    suspicion: float | None = None
    """How much it was doubted, where the route's calibration goes by that."""
    deployment: str = ""
    """Which of the model's deployments was called, as `provider/name`; empty where it has one place only."""
    elsewhere: bool = False
    """Whether it failed by its deployment's fault, and another one, which has not failed this exchange, may be called."""

    def priced(
        self,
        cost_nanousd: int | None,
        saved_nanousd: int | None,
        deployment: str = "",
        *,
        elsewhere: bool = False,
    ) -> "Attempt":
        """The same with its money and its place. Written out, because it is made for every call there is."""
        return Attempt(
            self.number,
            self.model,
            self.purpose,
            self.reply,
            self.failure,
            self.verdict,
            self.usage,
            cost_nanousd,
            self.started_s,
            self.ended_s,
            self.first_byte_s,
            saved_nanousd,
            self.set_aside,
            self.suspicion,
            deployment,
            elsewhere,
        )


@dataclass(frozen=True, slots=True)
class Rung:
    """One model of the ladder. `retries`: how often the same call may be repeated after a failure."""

    model: str
    retries: int = 1


@dataclass(frozen=True, slots=True)
class Accept:
    """The last attempt's reply is the answer. `raw`: though it is not valid, because the route says so."""

    raw: bool = False


@dataclass(frozen=True, slots=True)
class Again:
    """One more upstream call, after `wait_s` seconds and, by chance, up to `jitter_s` more.

    Without chance in it, those that failed together would come back together, and fail again.
    """

    model: str
    purpose: Purpose
    wait_s: float = 0.0
    jitter_s: float = 0.0


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No answer; the last failure is what to report, but where one of these says more.

    `schema`: replies came, none was valid. `contradiction`: a valid one came, which does not go on with what the
    client was told already. `allowance`: the model had only looked something up when it was used up.
    """

    reason: Literal["schema", "failure", "allowance", "contradiction"]
    detail: str = ""


Step = Accept | Again | GiveUp

BACKOFF_S: Final = 0.25
"""Longest wait before a repeated call where the upstream named none, at least half of it; doubles each time."""
LATER: Final = 0.1
"""A Retry-After is exceeded by up to this share of it."""
MAX_WAIT_S: Final = 2.0
"""A longer Retry-After is the client's to wait for: it is passed on instead of slept through."""


def next_step(
    rungs: Sequence[Rung], repair: Repair, allowance: Allowance, history: Sequence[Attempt], now_s: float
) -> Step:
    """The step after the last attempt of `history`.

    A failed call is repeated, at once where another deployment of the model may be called, then the next
    model is asked; a refused request (4xx) is final, since the next model would refuse it too. A model that
    looks something up is asked again with what was found. An invalid reply is asked again from the same model,
    unless the same problems came twice: then, or when the re-asks are used up, the next model is asked.
    """
    last = history[-1]
    if last.set_aside is not None:  # whatever it was, its model is not asked again
        short = spent_up(allowance, len(history), _spent(history), now_s)
        rung = _rung_of(rungs, last.model)
        return _give_up(repair, history, short) if short else _climb(rungs, rung, repair, history)
    if last.failure is None and last.reply is not None and last.reply.only_recalls:
        short = spent_up(allowance, len(history), _spent(history), now_s)
        return GiveUp("allowance", short) if short else Again(last.model, "recall")
    if last.failure is None and last.verdict.acceptable:
        return Accept()
    if last.failure is not None and not last.failure.retryable and not last.elsewhere:
        return _give_up(repair, history, "")
    short = spent_up(allowance, len(history), _spent(history), now_s)
    if short:
        return _give_up(repair, history, short)
    step = (
        _after_failure(rungs, repair, history)
        if last.failure is not None
        else _after_invalid(rungs, repair, history)
    )
    if (
        isinstance(step, Again)
        and allowance.deadline_s is not None
        and now_s + step.wait_s + step.jitter_s >= allowance.deadline_s
    ):
        return _give_up(repair, history, "the deadline leaves no time for another attempt")
    return step


def _after_failure(rungs: Sequence[Rung], repair: Repair, history: Sequence[Attempt]) -> Step:
    last = history[-1]
    assert last.failure is not None
    if last.failure.kind in ("breaker", "window"):  # it was not called, and would not be now
        return _climb(rungs, _rung_of(rungs, last.model), repair, history)
    if last.elsewhere:
        return Again(last.model, "retry")
    failed = _run_length(history, last.model)
    rung = _rung_of(rungs, last.model)
    named = last.failure.retry_after_s
    wait = BACKOFF_S * 2 ** (failed - 1) if named is None else named
    if failed > rungs[rung].retries or wait > MAX_WAIT_S:
        return _climb(rungs, rung, repair, history)
    if named is None:
        return Again(last.model, "retry", wait / 2, wait / 2)
    return Again(last.model, "retry", wait, wait * LATER)


def passed_over(rungs: Sequence[Rung], repair: Repair, history: Sequence[Attempt], step: Again) -> Step:
    """The step instead of `step`, whose model may not be called again for now: the next model, else the end."""
    return _climb(rungs, _rung_of(rungs, step.model), repair, history)


def _after_invalid(rungs: Sequence[Rung], repair: Repair, history: Sequence[Attempt]) -> Step:
    last = history[-1]
    rung = _rung_of(rungs, last.model)
    replied = [a for a in history if a.model == last.model and a.reply is not None]
    asked = [a for a in replied if a.reply is not None and not a.reply.only_recalls]
    repeated = len(asked) > 1 and _same_problems(asked[-1], asked[-2])
    if len(asked) <= repair.reask and not repeated:
        return Again(last.model, "reask" if last.verdict.patch is None or not repair.patch else "patch")
    return _climb(rungs, rung, repair, history) if repair.escalate else _give_up(repair, history, "")


def _climb(rungs: Sequence[Rung], rung: int, repair: Repair, history: Sequence[Attempt]) -> Step:
    if rung + 1 < len(rungs):
        return Again(rungs[rung + 1].model, "escalate")
    return _give_up(repair, history, "")


def _give_up(repair: Repair, history: Sequence[Attempt], detail: str) -> Accept | GiveUp:
    last = history[-1]
    if last.reply is not None and (repair.give_up == "raw" or CUT in last.verdict.problems):
        return Accept(raw=True)  # a cut answer fails by its finish_reason, which clients raise on their own
    if any(a.verdict.kind == "invalid" for a in history):
        return GiveUp("schema", detail)
    return GiveUp("failure", detail)


def _run_length(history: Sequence[Attempt], model: str) -> int:
    """How many attempts at the end of the history failed on `model`."""
    length = 0
    for attempt in reversed(history):
        if attempt.model != model or attempt.failure is None:
            break
        length += 1
    return length


def _rung_of(rungs: Sequence[Rung], model: str) -> int:
    return next(i for i, rung in enumerate(rungs) if rung.model == model)


def _same_problems(one: Attempt, other: Attempt) -> bool:
    """Whether two attempts failed at the same places by the same rules: asking a third time is idle."""

    def places(attempt: Attempt) -> set[tuple[str, str]]:
        return {(p.pointer, p.keyword) for p in attempt.verdict.problems}

    return places(one) == places(other)


def _spent(history: Sequence[Attempt]) -> int:
    return sum(a.cost_nanousd or 0 for a in history)
