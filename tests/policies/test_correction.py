"""What a model is told when its answer was not valid."""

import json

from policies.chat import Choice, Reply, ToolCall
from policies.contract import CUT, Contract, Verdict, judge
from policies.correction import MAX_PROBLEMS, MAX_REPLY_CHARS, reask
from schemas.check import Problem
from schemas.compiled import compile_schema

SCHEMA = compile_schema({"type": "object", "required": ["age"]})
MESSAGES = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]


def reply(text):
    return Reply((Choice(0, text, "stop"),), None)


def invalid(*problems):
    return Verdict("invalid", problems=problems)


def test_the_clients_messages_stay_in_front_unchanged():
    asked = reask(MESSAGES, reply("said"), invalid(Problem("/age", "type", "expected integer")), SCHEMA)
    assert asked[:2] == MESSAGES
    assert asked[2] == {"role": "assistant", "content": "said"}


def test_places_reasons_and_schema_are_told():
    problems = [
        Problem("/age", "type", "expected integer", detail="'old' is no integer"),
        Problem("", "required", "r"),
    ]
    text = reask(MESSAGES, reply("said"), invalid(*problems), SCHEMA)[-1]["content"]
    assert "/age: 'old' is no integer" in text
    assert "the root: r" in text
    assert '"required":["age"]' in text


def test_everything_is_bounded():
    problems = [Problem(f"/{i}", "type", "x") for i in range(500)]
    schema = compile_schema({"description": "y" * 50_000})
    asked = reask(MESSAGES, reply("x" * 10**6), invalid(*problems), schema)
    assert len(asked[2]["content"]) == MAX_REPLY_CHARS
    assert f"and {500 - MAX_PROBLEMS} more" in asked[3]["content"]
    assert len(asked[3]["content"]) < 2000


def test_a_patch_asks_for_the_failing_parts_alone():
    schema = compile_schema(
        {"type": "object", "properties": {"age": {"type": "integer"}, "name": {"type": "string"}}}
    )
    verdict = judge(reply('{"name": "Ann", "age": "old"}'), Contract(schema))
    text = reask(MESSAGES, reply("x"), verdict, schema, verdict.patch)[-1]["content"]
    assert '"/age":{"type":"integer"}' in text
    assert "name" not in text


def test_a_cut_answer_is_asked_for_shorter():
    text = reask(MESSAGES, reply("x"), invalid(CUT), SCHEMA)[-1]["content"]
    assert "cut off" in text
    assert "shorter" in text


def test_every_tool_call_is_answered_and_the_wrong_one_told_why():
    calls = (ToolCall("a", "f", "{"), ToolCall("", "g", "{}", 1))
    problem = Problem("/tool_calls/0/function/arguments", "json", "not JSON")
    said = Reply((Choice(0, None, "tool_calls", calls),), None)
    asked = reask(MESSAGES, said, invalid(problem), None)[2:]
    assert [m["role"] for m in asked] == ["assistant", "tool", "tool", "user"]
    assert asked[0]["tool_calls"][1]["id"] == asked[2]["tool_call_id"] == "call_1"
    assert "not JSON" in asked[1]["content"]
    assert "another call" in asked[2]["content"]
    assert json.dumps(asked)
