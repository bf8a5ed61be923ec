"""What a model is told when its answer was not valid."""

from policies.correction import MAX_PROBLEMS, MAX_REPLY_CHARS, reask
from schemas.check import Problem
from schemas.compiled import compile_schema

SCHEMA = compile_schema({"type": "object", "required": ["age"]})
MESSAGES = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]


def test_the_clients_messages_stay_in_front_unchanged():
    asked = reask(MESSAGES, "said", [Problem("/age", "type", "expected integer")], SCHEMA)
    assert asked[:2] == MESSAGES
    assert asked[2] == {"role": "assistant", "content": "said"}


def test_places_reasons_and_schema_are_told():
    problems = [
        Problem("/age", "type", "expected integer", detail="'old' is no integer"),
        Problem("", "required", "r"),
    ]
    text = reask(MESSAGES, "said", problems, SCHEMA)[-1]["content"]
    assert "/age: 'old' is no integer" in text
    assert "the root: r" in text
    assert '"required":["age"]' in text


def test_everything_is_bounded():
    problems = [Problem(f"/{i}", "type", "x") for i in range(500)]
    asked = reask(MESSAGES, "x" * 10**6, problems, compile_schema({"description": "y" * 50_000}))
    assert len(asked[2]["content"]) == MAX_REPLY_CHARS
    assert f"and {500 - MAX_PROBLEMS} more" in asked[3]["content"]
    assert len(asked[3]["content"]) < 2000
