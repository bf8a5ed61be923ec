"""Only the failing parts are asked for, and merged into what was right."""

import pytest

from policies.chat import Choice, Reply
from policies.contract import Contract, judge, judge_patch
from policies.patching import MAX_PARTS, merge, patch_for
from schemas.compiled import compile_schema

LINE = {
    "type": "object",
    "properties": {"sku": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["sku", "n"],
}
ORDER = compile_schema(
    {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "total": {"type": "number"},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
            "a/b": {"enum": ["x"]},
            "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        },
        "required": ["id", "total"],
        "additionalProperties": False,
        "$defs": {"line": LINE},
    }
)
GOOD = {"id": "7", "total": 2.5, "lines": [{"sku": "a", "n": 1}], "a/b": "x", "either": None}


def patch(**changes):
    value = {k: v for k, v in (GOOD | changes).items() if v is not ...}
    return patch_for(value, ORDER.problems(value), ORDER)


ROWS = [
    ("wrong-type", {"total": "much"}, ("/total",), {"/total": {"type": "number"}}),
    ("missing", {"total": ...}, ("/total",), {"/total": {"type": "number"}}),
    ("in-an-item", {"lines": [{"sku": "a", "n": "x"}]}, ("/lines/0/n",), {"/lines/0/n": {"type": "integer"}}),
    ("missing-in-an-item", {"lines": [{"sku": "a"}]}, ("/lines/0/n",), {"/lines/0/n": {"type": "integer"}}),
    ("whole-item", {"lines": [5]}, ("/lines/0",), {"/lines/0": LINE}),
    ("slash-in-a-key", {"a/b": "y"}, ("/a~1b",), {"/a~1b": {"enum": ["x"]}}),
    ("two-parts", {"total": "m", "a/b": 1}, ("/total", "/a~1b"), None),
]


@pytest.mark.parametrize(("changes", "pointers", "parts"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_the_parts_that_have_to_be_written_anew(changes, pointers, parts):
    found = patch(**changes)
    assert set(found.pointers) == set(pointers)
    if parts is not None:
        assert found.schema.schema["properties"] == parts


NOT = [
    ("extra-member", GOOD | {"extra": 1}),
    ("root-is-no-container", "text"),
    ("most-of-it", {"id": 1, "total": "x"}),
    ("nothing-wrong", GOOD),
]


@pytest.mark.parametrize("value", [r[1] for r in NOT], ids=[r[0] for r in NOT])
def test_where_the_whole_is_asked_for_instead(value):
    assert patch_for(value, ORDER.problems(value), ORDER) is None


def test_many_parts_are_asked_for_as_a_whole():
    schema = compile_schema({"type": "array", "items": {"type": "integer"}})
    value = ["x"] * (MAX_PARTS + 1) + [1] * 20
    assert patch_for(value, schema.problems(value), schema) is None


def test_a_merge_changes_only_its_parts():
    value = {"lines": [{"sku": "a", "n": "x"}, {"sku": "b", "n": 2}], **{k: GOOD[k] for k in ("id", "total")}}
    found = patch_for(value, ORDER.problems(value), ORDER)
    merged = merge(found, {"/lines/0/n": 1})
    assert merged["lines"] == [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}]
    assert value["lines"][0]["n"] == "x"


def said(text):
    return Reply((Choice(0, text, "stop"),), None)


ANSWERS = [
    (
        "parts",
        '{"/total": 3}',
        "repaired",
        '{"id":"7","total":3,"lines":[{"sku":"a","n":1}],"a/b":"x","either":null}',
    ),
    ("parts-in-a-fence", '```json\n{"/total": 3}\n```', "repaired", None),
    ("the-whole-anew", '{"id": "7", "total": 3}', "valid", None),
    ("wrong-again", '{"/total": "much"}', "invalid", None),
    ("prose", "It is 3.", "invalid", None),
]


@pytest.mark.parametrize(("text", "kind", "merged"), [r[1:] for r in ANSWERS], ids=[r[0] for r in ANSWERS])
def test_the_answer_to_a_patch_is_merged_and_judged_again(text, kind, merged):
    contract = Contract(ORDER)
    verdict = judge_patch(said(text), contract, patch(total="much"))
    assert verdict.kind == kind
    if merged:
        assert verdict.texts == {0: merged}


def test_an_invalid_reply_carries_its_patch():
    verdict = judge(said('{"id": "7", "total": "much", "lines": []}'), Contract(ORDER))
    assert verdict.patch.pointers == ("/total",)
