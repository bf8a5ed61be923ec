import pytest

from schemas.dialect import examine

COUNTS = {
    "nothing": (True, (1, 1, 0)),
    "one": ({"type": "string"}, (1, 1, 0)),
    "alternatives-look-at-the-same-value": ({"anyOf": [{}, {}, {}]}, (4, 4, 0)),
    "properties-look-at-different-ones": (
        {"properties": {"a": {}, "b": {"properties": {"c": {}}}}},
        (1, 3, 0),
    ),
    "patterns-may-look-at-the-same-one": ({"patternProperties": {"a": {}, "b": {}}}, (1, 3, 0)),
    "references-are-followed-each-time": (
        {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"not": {}}}},
        (7, 7, 0),
    ),
    "stored-schemas-lie-on-no-path": ({"$defs": {"a": {"anyOf": [{}, {}]}}}, (3, 1, 0)),
    "recursion-along-one-way": ({"properties": {"a": {"$ref": "#"}}}, (2, 2, 1)),
    "recursion-in-different-members": ({"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}}, (2, 2, 1)),
    "recursion-twice-into-the-same-member": (
        {"allOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]},
        (4, 3, 2),
    ),
}


@pytest.mark.parametrize(("schema", "counts"), COUNTS.values(), ids=COUNTS)
def test_counts(schema, counts):
    expansion = examine(schema).expansion
    assert (expansion.here, expansion.path, expansion.recursions) == counts
