"""What follows an attempt, as a table: history in, step out."""

from dataclasses import replace

import pytest

from policies.allowance import Allowance
from policies.chat import Choice, Failure, Recalls, Reply, ToolCall
from policies.contract import CUT, Verdict
from policies.ladder import MAX_WAIT_S, Accept, Again, Attempt, GiveUp, Rung, next_step
from policies.route import Repair
from schemas.check import Problem

RUNGS = (Rung("mini", 1), Rung("big", 1))
REPLY = Reply((), None)
WRONG, MISSING = Problem("/a", "type", "expected integer"), Problem("", "required", "missing b")


def ok(model="mini", kind="valid"):
    return Attempt(1, model, "answer", reply=REPLY, verdict=Verdict(kind), cost_nanousd=10)


def bad(model="mini", problem=WRONG):
    return Attempt(
        1, model, "answer", reply=REPLY, verdict=Verdict("invalid", problems=(problem,)), cost_nanousd=10
    )


def failed(model="mini", retryable=True, **rest):
    return Attempt(1, model, "answer", failure=Failure("connect", "x", retryable=retryable, **rest))


LOOKED = Recalls((ToolCall("c", "recall_context", "{}"),), {})


def looked(purpose="answer", *calls):
    reply = Reply((Choice(0, None, "stop", calls),), None, recalls=LOOKED)
    return Attempt(1, "mini", purpose, reply=reply, cost_nanousd=10)


def aside(attempt):
    return replace(attempt, set_aside="disagreement")


def elsewhere(attempt):
    return replace(attempt, elsewhere=True)


BUSY = {"status": 429, "retry_after_s": MAX_WAIT_S + 1}
ROWS = [
    ("valid-is-accepted", [ok()], {}, Accept()),
    ("repaired-is-accepted", [ok(kind="repaired")], {}, Accept()),
    ("exempt-is-accepted", [ok(kind="exempt")], {}, Accept()),
    ("no-contract-is-accepted", [ok(kind="none")], {}, Accept()),
    ("invalid-is-asked-again", [bad()], {}, Again("mini", "reask")),
    ("a-look-up-is-answered", [looked()], {}, Again("mini", "recall")),
    ("a-second-look-up-too", [looked(), looked("recall")], {}, Again("mini", "recall")),
    (
        "with-a-call-of-the-clients-it-is-an-answer",
        [looked("answer", ToolCall("d", "own", "{}"))],
        {},
        Accept(),
    ),
    ("a-look-up-is-no-answer-that-was-wrong", [looked(), bad()], {}, Again("mini", "reask")),
    (
        "a-look-up-needs-an-attempt",
        [looked()],
        {"allowance": Allowance(attempts=1)},
        GiveUp("allowance", "all 1 attempts are used up (limits.attempts)"),
    ),
    (
        "a-look-up-needs-money",
        [looked()],
        {"allowance": Allowance(cost_nanousd=10)},
        GiveUp("allowance", "the cost limit is reached (limits.cost_usd)"),
    ),
    ("asked-again-and-invalid-climbs", [bad(), bad(problem=MISSING)], {}, Again("big", "escalate")),
    ("same-problem-twice-climbs", [bad(), bad()], {"repair": Repair(reask=9)}, Again("big", "escalate")),
    (
        "another-problem-is-asked-again",
        [bad(), bad(problem=MISSING)],
        {"repair": Repair(reask=9)},
        Again("mini", "reask"),
    ),
    ("no-reask-climbs-at-once", [bad()], {"repair": Repair(reask=0)}, Again("big", "escalate")),
    ("no-escalation-gives-up", [bad(), bad()], {"repair": Repair(escalate=False)}, GiveUp("schema")),
    ("top-of-the-ladder-gives-up", [bad("big"), bad("big")], {}, GiveUp("schema")),
    ("climbed-model-is-asked-again-too", [bad(), bad(), bad("big")], {}, Again("big", "reask")),
    (
        "raw-routes-deliver-the-last-reply",
        [bad()],
        {"repair": Repair(reask=0, escalate=False, give_up="raw")},
        Accept(raw=True),
    ),
    ("cut-answer-is-asked-again", [bad(problem=CUT)], {}, Again("mini", "reask")),
    ("cut-to-the-end-is-delivered-with-its-reason", [bad("big", CUT), bad("big", CUT)], {}, Accept(raw=True)),
    ("set-aside-climbs", [aside(ok())], {}, Again("big", "escalate")),
    ("set-aside-is-not-asked-again", [aside(bad())], {}, Again("big", "escalate")),
    ("set-aside-at-the-top-is-no-answer", [aside(ok("big"))], {}, GiveUp("failure")),
    ("failure-is-repeated", [failed()], {}, Again("mini", "retry", 0.125, 0.125)),
    (
        "retry-after-is-waited-for",
        [failed(retry_after_s=2.0)],
        {},
        Again("mini", "retry", 2.0, 0.2),
    ),
    ("failure-goes-to-another-deployment-at-once", [elsewhere(failed())], {}, Again("mini", "retry")),
    (
        "retry-after-of-one-deployment-is-not-waited-for-at-another",
        [elsewhere(failed(**BUSY))],
        {},
        Again("mini", "retry"),
    ),
    ("every-deployment-is-tried", [failed(), failed(), elsewhere(failed())], {}, Again("mini", "retry")),
    (
        "a-refusal-of-one-deployment-alone-is-not-final",
        [elsewhere(failed(retryable=False))],
        {},
        Again("mini", "retry"),
    ),
    ("failed-twice-moves-up-one-model", [failed(), failed()], {}, Again("big", "escalate")),
    ("long-retry-after-moves-up-one-model", [failed(**BUSY)], {}, Again("big", "escalate")),
    ("long-retry-after-on-the-last-model-is-passed-on", [failed("big", **BUSY)], {}, GiveUp("failure")),
    ("refused-request-is-final", [failed(retryable=False)], {}, GiveUp("failure")),
    (
        "failure-after-invalid-replies-is-still-a-schema-failure",
        [bad(), failed("big", retryable=False)],
        {},
        GiveUp("schema"),
    ),
    ("failure-after-an-answer-counts-afresh", [bad(), failed()], {}, Again("mini", "retry", 0.125, 0.125)),
]


@pytest.mark.parametrize(("history", "rules", "step"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_next_step(history, rules, step):
    allowance = rules.get("allowance", Allowance(attempts=9))
    assert next_step(RUNGS, rules.get("repair", Repair()), allowance, history, 0.0) == step


LIMITS = [
    ("attempts", Allowance(attempts=1), "limits.attempts"),
    ("cost", Allowance(cost_nanousd=10), "limits.cost_usd"),
    ("deadline-passed", Allowance(deadline_s=5.0), "limits.deadline_s"),
    ("deadline-too-near", Allowance(deadline_s=5.1), "deadline"),
]


def test_waits_double_and_half_of_each_is_chance():
    rungs, history, waits = (Rung("mini", 4),), [], []
    for _ in range(4):
        history.append(failed())
        step = next_step(rungs, Repair(), Allowance(attempts=9), history, 0.0)
        waits.append((step.wait_s, step.jitter_s))
    assert waits == [(0.125, 0.125), (0.25, 0.25), (0.5, 0.5), (1.0, 1.0)]


@pytest.mark.parametrize(("allowance", "words"), [r[1:] for r in LIMITS], ids=[r[0] for r in LIMITS])
def test_what_is_used_up_ends_the_exchange_and_is_named(allowance, words):
    history = [bad(), failed()] if "near" in words else [bad()]
    step = next_step(
        RUNGS, Repair(), allowance, [bad(), failed()] if allowance.deadline_s == 5.1 else history, 5.0
    )
    assert isinstance(step, GiveUp)
    assert words in step.detail


def test_a_used_up_allowance_never_takes_a_valid_answer_away():
    assert next_step(RUNGS, Repair(), Allowance(attempts=1, cost_nanousd=0), [ok()], 0.0) == Accept()
