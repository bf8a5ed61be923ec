import pytest

from schemas.atoms import ANY_KIND, NULL, NUMBER, OBJECT, STRING, kind_of
from schemas.compiled import compile_schema
from schemas.plans import MAX_BRANCHES


def kinds(schema):
    """The kinds of value that each branch of the root takes."""
    return sorted(branch.kinds for branch in compile_schema(schema).plans.root.branches)


KINDS = {
    "anything": ({}, [ANY_KIND]),
    "nothing": (False, []),
    "type": ({"type": "integer"}, [NUMBER]),
    "types": ({"type": ["string", "null"]}, [STRING | NULL]),
    "enum": ({"enum": ["a", None]}, [STRING | NULL]),
    "enum-against-type": ({"type": "integer", "enum": ["a"]}, []),
    "any-of": ({"anyOf": [{"type": "string"}, {"type": "null"}]}, [STRING, NULL]),
    "all-of-multiplies": (
        {
            "allOf": [
                {"anyOf": [{"type": "string"}, {"type": "null"}]},
                {"anyOf": [{"type": "null"}, {"type": "number"}]},
            ]
        },
        [NULL],
    ),
    "reference": ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, [STRING]),
    "reference-and-more": (
        {"$ref": "#/$defs/a", "type": "null", "$defs": {"a": {"type": ["string", "null"]}}},
        [NULL],
    ),
    "words-that-exclude-each-other": ({"allOf": [{"const": "a"}, {"const": "b"}]}, []),
}


@pytest.mark.parametrize(("schema", "expected"), KINDS.values(), ids=KINDS)
def test_branches_of_a_schema(schema, expected):
    assert kinds(schema) == sorted(expected)


def test_too_many_branches_are_not_followed_but_left_to_the_validator():
    many = {"anyOf": [{"type": "object", "required": [str(i)]} for i in range(MAX_BRANCHES + 1)]}
    (branch,) = compile_schema({"items": many, "type": "array"}).plans.root.branches
    (item,) = branch.item(0).branches
    assert (item.kinds, len(item.late)) == (ANY_KIND, 1)


def test_member_meets_its_own_schema_the_matching_patterns_or_the_rest():
    schema = {
        "properties": {"a": {"type": "string"}},
        "patternProperties": {"^a": {"enum": ["x", 1]}},
        "additionalProperties": {"type": "null"},
    }
    (root,) = compile_schema(schema).plans.root.branches
    assert [[b.kinds for b in root.member(name).branches] for name in ("a", "ab", "b")] == [
        [STRING],
        [STRING | NUMBER],
        [NULL],
    ]


def test_forbidden_member_has_no_goal():
    (root,) = compile_schema({"properties": {"a": False}, "additionalProperties": False}).plans.root.branches
    assert root.member("a") is None
    assert root.member("b") is None


def test_memory_is_bounded_whatever_the_names():
    compiled = compile_schema({"patternProperties": {"^k": {"type": "string"}}})
    (root,) = compiled.plans.root.branches
    for number in range(10_000):
        root.member(f"k{number}")
    root.member("k" * 10_000)
    assert len(root._members) <= 200
    assert max(map(len, root._members)) <= 64


def test_plans_are_shared_by_all_checkers():
    compiled = compile_schema({"type": "object"})
    assert compiled.plans is compiled.plans


@pytest.mark.parametrize(
    ("value", "kind"), [({}, OBJECT), ("", STRING), (None, NULL), (1.5, NUMBER), (True, 16)]
)
def test_kind_of_a_value(value, kind):
    assert kind_of(value) == kind
