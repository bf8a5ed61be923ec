"""The verdict on replies: what may be read as an answer, and what it is."""

from dataclasses import replace

import pytest

from policies.chat import Choice, Reply, ToolCall
from policies.contract import Contract, cut_short, judge
from schemas.compiled import compile_schema

AGE = Contract(
    compile_schema({"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]})
)
CALL = ToolCall("1", "f", "{}")


def reply(*texts, finish="stop", **rest):
    return Reply(tuple(Choice(i, t, finish, **rest) for i, t in enumerate(texts)), None)


ROWS = [
    ("no-contract", Contract(), reply("x"), "none"),
    ("valid", AGE, reply('{"age": 1}'), "valid"),
    ("fenced", AGE, reply('```json\n{"age": 1}\n```'), "repaired"),
    ("wrong-type", AGE, reply('{"age": []}'), "invalid"),
    ("no-json", AGE, reply("I am old."), "invalid"),
    ("empty", AGE, reply(""), "invalid"),
    ("no-choices", AGE, reply(), "invalid"),
    ("cut", AGE, reply('{"age": 1}', finish="length"), "exempt"),
    (
        "cut-though-nobody-limited-it",
        replace(AGE, client_limit=False),
        reply('{"age": 1}', finish="length"),
        "invalid",
    ),
    ("filtered", AGE, reply('{"age": 1}', finish="content_filter"), "exempt"),
    ("refused", AGE, reply(None, refusal="no"), "exempt"),
    ("tool-calls", AGE, reply(None, tool_calls=(CALL,)), "exempt"),
    ("worst-choice-decides", AGE, reply('{"age": 1}', "{age: 2}", "none"), "invalid"),
    ("one-repaired-of-two", AGE, reply('{"age": 1}', "{age: 2}"), "repaired"),
]


@pytest.mark.parametrize(("contract", "given", "kind"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_verdicts(contract, given, kind):
    verdict = judge(given, contract)
    assert verdict.kind == kind
    assert bool(verdict.problems) == (kind == "invalid")


def test_only_what_changed_is_replaced():
    assert judge(reply('{"age": 1}', "{age: 2}"), AGE).texts == {1: '{"age":2}'}


def test_what_transport_facts_forbid_is_never_read():
    assert cut_short(Choice(0, "{}", "length"))
    assert not cut_short(Choice(0, "{}", "stop"))


TOOLS = Contract(
    tools={
        "weather": compile_schema(
            {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]}
        ),
        "now": None,
    }
)


def called(*calls):
    made = tuple(ToolCall(str(i), name, arguments, i) for i, (name, arguments) in enumerate(calls))
    return Reply((Choice(0, None, "tool_calls", made),), None)


CALLS = [
    ("valid", called(("weather", '{"days": 2}')), "valid", {}),
    ("mended", called(("weather", "{days: 2,}")), "repaired", {(0, 0): '{"days":2}'}),
    ("wrong-type", called(("weather", '{"days": "many"}')), "invalid", {}),
    ("not-json-is-never-an-empty-object", called(("weather", "soon")), "invalid", {}),
    ("empty-is-never-an-empty-object", called(("weather", "")), "invalid", {}),
    ("unknown-name", called(("wether", "{}")), "invalid", {}),
    ("no-parameters-take-anything", called(("now", "")), "valid", {}),
    (
        "one-of-two-mended",
        called(("now", "{}"), ("weather", "{days: 2}")),
        "repaired",
        {(0, 1): '{"days":2}'},
    ),
    ("text-is-not-judged", reply("hello"), "none", {}),
]


@pytest.mark.parametrize(("given", "kind", "arguments"), [r[1:] for r in CALLS], ids=[r[0] for r in CALLS])
def test_tool_calls_are_judged_by_the_same_chain(given, kind, arguments):
    verdict = judge(given, TOOLS)
    assert (verdict.kind, verdict.arguments) == (kind, arguments)
    assert all(p.pointer.startswith("/tool_calls/0/function/") for p in verdict.problems)


def test_tool_calls_of_a_contract_without_tools_are_left_alone():
    assert judge(called(("f", "x")), AGE).kind == "exempt"
