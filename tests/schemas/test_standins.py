import pytest

from schemas.standins import without_stand_ins

NODE = {
    "type": "object",
    "properties": {"v": {"type": ["integer", "null"]}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
}
MARKS = frozenset({"/properties/v", "/properties/next"})

CASES = {
    "at-the-root": ({"v": None, "next": None}, {}),
    "through-a-reference": ({"v": 1, "next": {"v": None, "next": None}}, {"v": 1, "next": {}}),
    "nothing-to-take-out": ({"v": 1}, {"v": 1}),
    "unknown-name-stays": ({"x": None, "v": 2}, {"x": None, "v": 2}),
    "another-type-stays": ([None], [None]),
}


@pytest.mark.parametrize(("value", "expected"), CASES.values(), ids=CASES)
def test_marked_nulls_are_taken_out(value, expected):
    assert without_stand_ins(NODE, MARKS, NODE, "", value) == expected


def test_null_that_is_not_marked_stays():
    assert without_stand_ins(NODE, frozenset({"/properties/v"}), NODE, "", {"v": None, "next": None}) == {
        "next": None
    }


def test_items_of_lists_are_looked_into():
    schema = {"type": "array", "items": {"type": "object", "properties": {"a": {}}}}
    marks = frozenset({"/items/properties/a"})
    assert without_stand_ins(schema, marks, schema, "", [{"a": None}, {"a": 0}]) == [{}, {"a": 0}]
