import pytest

from schemas import found

ANSWER_BEGINS = {
    "no-thinking": ('{"a": 1}', '{"a": 1}'),
    "byte-order-mark": ('\ufeff{"a": 1}', '{"a": 1}'),
    "thinking": ('<think>maybe {"b": 2}</think>{"a": 1}', '{"a": 1}'),
    "thinking-twice": ("<think>x</think><reasoning>y</reasoning>[1]", "[1]"),
    "opening-tag-in-the-prompt": ('so, {"b": 2} it is</think>\n{"a": 1}', '\n{"a": 1}'),
    "thinking-without-end": ('<think>maybe {"b": 2}', ""),
    "tag-in-a-string": ('{"a": "<think>b</think>"}', '{"a": "<think>b</think>"}'),
    "closing-tag-in-a-string": ('{"a": "b</think>"}', '{"a": "b</think>"}'),
}


@pytest.mark.parametrize(("text", "answer"), ANSWER_BEGINS.values(), ids=ANSWER_BEGINS)
def test_the_answer_begins_behind_the_thinking(text, answer):
    assert text[found.after_thinking(text) :] == answer


@pytest.mark.parametrize(
    ("text", "contents"),
    [
        ("```json\n[1]\n```", ["[1]\n"]),
        ("a\n~~~\n[1]\n~~~ b ```js\n[2]\n```", ["[1]\n", "[2]\n"]),
        ("```\n[1", ["[1"]),
        ("no fence", []),
    ],
    ids=["one", "two", "not-closed", "none"],
)
def test_fences_are_found_in_order(text, contents):
    assert [text[start:end].lstrip("\n") for start, end in found.fences(text, 0)] == contents


@pytest.mark.parametrize("text", ["[see below]", "{optional}", "text (a)", "a { b"])
def test_a_bracket_in_prose_begins_no_json(text):
    assert found.first_start(text, 0) is None


@pytest.mark.parametrize("text", ['x {"a": 1}', "x {a: 1}", "x ['a']", "x [1]", "x {}", "x []", "x [{"])
def test_json_begins_at_its_bracket(text):
    assert found.first_start(text, 0) == 2


def test_a_call_is_told_from_prose():
    assert found.is_call("callback({", 0, 9)
    assert not found.is_call("as follows {", 0, 11)


def test_members_without_a_brace_are_seen():
    assert found.begins_inside(' \n"a": 1', 0) == 2
    assert found.begins_inside("just prose", 0) is None
