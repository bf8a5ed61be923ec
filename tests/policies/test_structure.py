"""By which means a model is asked for the shape of its answer."""

import pytest

from policies.structure import NOT_SEEN, Seen, ignores_schema, shape, structure_for
from schemas.compiled import compile_schema

SCHEMA = compile_schema({"type": "object", "required": ["age"]})
ALL = frozenset({"json_schema", "json_object", "tools"})
MESSAGES = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "u"},
    {"role": "assistant", "content": "a"},
]

ROWS = [
    ("native-where-it-can", "auto", ALL, {}, "native"),
    ("unknown-models-are-left-alone", "auto", None, {}, "as_asked"),
    ("the-clients-own-format-goes-on", "auto", ALL, {"inline": True}, "as_asked"),
    ("a-format-the-model-lacks-is-emulated", "auto", frozenset({"tools"}), {"inline": True}, "tool"),
    ("tools-where-there-is-no-schema-mode", "auto", frozenset({"tools"}), {}, "tool"),
    ("the-clients-tools-come-first", "auto", frozenset({"tools"}), {"has_tools": True}, "prompt"),
    ("object-mode", "auto", frozenset({"json_object"}), {}, "object"),
    ("words-where-there-is-nothing", "auto", frozenset(), {}, "prompt"),
    (
        "a-refused-means-is-not-tried-again",
        "auto",
        ALL,
        {"seen": Seen(refused=frozenset({"native"}))},
        "tool",
    ),
    ("all-refused", "auto", ALL, {"seen": Seen(refused=frozenset({"native", "tool", "object"}))}, "prompt"),
    ("a-backend-that-ignores-schemas", "auto", frozenset({"json_schema"}), {"seen": Seen(0, 3)}, "object"),
    ("the-route-decides", "prompt", ALL, {}, "prompt"),
]


@pytest.mark.parametrize(
    ("setting", "can", "rest", "structure"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS]
)
def test_structure(setting, can, rest, structure):
    given = {"inline": False, "has_tools": False, "seen": NOT_SEEN} | rest
    assert structure_for(setting, can, **given) == structure


@pytest.mark.parametrize(
    ("kept", "broken", "ignores"), [(0, 2, False), (0, 3, True), (9, 3, False), (8, 3, True)]
)
def test_one_slip_is_bad_luck_and_three_are_not(kept, broken, ignores):
    assert ignores_schema(Seen(kept, broken)) is ignores


def test_native():
    shaped = shape("native", SCHEMA, {"type": "object"}, MESSAGES)
    assert shaped.changes["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert shaped.messages is None


def test_a_forced_tool():
    shaped = shape("tool", SCHEMA, {"type": "object"}, MESSAGES)
    assert shaped.as_tool
    assert shaped.changes["tool_choice"]["function"]["name"] == shaped.changes["tools"][0]["function"]["name"]


def test_words_go_into_the_last_question_and_nothing_before_it_changes():
    shaped = shape("object", SCHEMA, None, MESSAGES)
    assert shaped.changes == {"response_format": {"type": "json_object"}}
    assert [shaped.messages[0], shaped.messages[2]] == [MESSAGES[0], MESSAGES[2]]
    assert shaped.messages[1]["content"].startswith("u\n")
    assert '"required":["age"]' in shaped.messages[1]["content"]


def test_words_join_the_parts_of_a_question():
    parts = [{"role": "user", "content": [{"type": "text", "text": "u"}]}]
    told = shape("prompt", SCHEMA, None, parts).messages[0]["content"]
    assert told[0] == {"type": "text", "text": "u"}
    assert "JSON Schema" in told[1]["text"]


def test_as_asked_adds_nothing():
    assert shape("as_asked", SCHEMA, None, MESSAGES).changes == {}
