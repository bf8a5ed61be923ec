"""What an exchange came to, in words that clients and outside checks rely on."""

import json

import pytest

from policies.allowance import Allowance
from policies.chat import Choice, Failure, Reply, ToolCall, Usage
from policies.contract import Contract, Verdict
from policies.ladder import Accept, Attempt, GiveUp, Rung
from policies.plan import Plan
from policies.route import Repair
from policies.trimming import Trimmed
from proxy.exchange import Outcome
from proxy.wire.facts import (
    at_end,
    at_start,
    cost_text,
    error_of,
    explained,
    in_short,
    schema_word,
    with_facts,
)
from schemas.check import Change, Problem
from schemas.compiled import compile_schema

CONTRACT = Contract(compile_schema({"type": "object"}))
PLAN = Plan("r", (Rung("mini"), Rung("big")), CONTRACT, Repair(), Allowance(), "hold")
USAGE = Usage(1, 1)
PROBLEM = Problem("/age", "type", "expected integer", detail="SECRET PROMPT TEXT is not an integer")
INVALID = Verdict("invalid", problems=(PROBLEM,))
REPAIRED = Verdict("repaired", changes=(Change("fence", "lossless", (0, 3), "", "```", ""),))


def attempt(number, model="mini", verdict=INVALID, cost=1000, choice=None, failure=None):
    reply = None if failure else Reply((choice or Choice(0, "x", "stop"),), USAGE)
    return Attempt(number, model, "answer", reply, failure, verdict, USAGE, cost)


def outcome(*history, end=None, plan=PLAN):
    return Outcome(plan, history, end or Accept())


CUT = Choice(0, "x", "length")
TOOLS = Choice(0, None, "tool_calls", (ToolCall("1", "f", "{}"),))
WORDS = [
    ("valid", outcome(attempt(1, verdict=Verdict("valid"))), "valid"),
    ("repaired", outcome(attempt(1, verdict=REPAIRED)), "repaired"),
    ("reasked", outcome(attempt(1), attempt(2, verdict=REPAIRED)), "reasked"),
    ("escalated", outcome(attempt(1), attempt(2, "big", verdict=Verdict("valid"))), "escalated"),
    ("failed", outcome(attempt(1), end=GiveUp("schema")), "failed"),
    ("raw", outcome(attempt(1), end=Accept(raw=True)), "failed"),
    ("cut", outcome(attempt(1, verdict=Verdict("exempt"), choice=CUT)), "failed"),
    ("tool-calls", outcome(attempt(1, verdict=Verdict("exempt"), choice=TOOLS)), "none"),
]


@pytest.mark.parametrize(("given", "word"), [r[1:] for r in WORDS], ids=[r[0] for r in WORDS])
def test_schema_word(given, word):
    assert schema_word(given) == word


def test_cost_counts_all_attempts_and_unknown_is_never_free():
    assert cost_text(outcome(attempt(1), attempt(2))) == "0.000002"
    assert cost_text(outcome(attempt(1), attempt(2, cost=None))) == "unpriced"


def test_headers_at_the_end_and_at_the_start():
    context = Trimmed((), (), (), 10, 4, "n")
    plan = Plan("r", PLAN.rungs, CONTRACT, Repair(), Allowance(), "hold", context)
    assert dict(at_start(plan, "mini")) == {
        "x-tailrace-route": "r",
        "x-tailrace-model": "mini",
        "x-tailrace-context": "in=10;out=4;dropped=0",
    }
    headers = dict(at_end(outcome(attempt(1, verdict=REPAIRED))))
    assert headers["x-tailrace-repairs"] == "fence"
    assert headers["x-tailrace-attempts"] == "1"


def test_a_schema_failure_quotes_nothing_of_the_text():
    error = error_of(outcome(attempt(1), attempt(2, "big"), end=GiveUp("schema")), retried=False)
    body = json.loads(error.body())["error"]
    assert (error.status, body["code"]) == (422, "schema_unsatisfied")
    assert body["problems"] == [{"pointer": "/age", "keyword": "type", "message": "expected integer"}]
    assert [a["model"] for a in body["attempts"]] == ["mini", "big"]
    assert "SECRET" not in error.body().decode()


def test_a_failure_is_the_upstreams():
    down = attempt(1, failure=Failure("timeout", "late"), verdict=Verdict())
    assert error_of(outcome(down, end=GiveUp("failure")), retried=False).status == 504


def test_the_explanation_has_each_attempt_and_repair():
    told = explained(outcome(attempt(1), attempt(2, verdict=REPAIRED)))
    assert told["ladder"] == ["mini", "big"]
    assert told["attempts"][1]["repairs"][0]["operation"] == "fence"


def test_facts_join_the_usage_event():
    given = outcome(attempt(1, verdict=REPAIRED))
    assert json.loads(with_facts(b'{"usage": {}}', in_short(given)))["tailrace"]["schema"] == "repaired"
