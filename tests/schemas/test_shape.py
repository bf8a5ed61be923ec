from schemas.shape import Shape, branches, has_strangers, resolve

SCHEMA = {
    "anyOf": [{"$ref": "#/$defs/a"}, {"properties": {"b": {"type": "string"}}}],
    "$defs": {"a": {"properties": {"c": {"items": {"properties": {"d": {}}}}}}},
}


def test_references_and_branches_are_opened():
    shape = Shape(SCHEMA, [SCHEMA])
    assert (shape.knows("b"), shape.knows("c"), shape.knows("z")) == (True, True, False)


def test_the_place_of_an_item_is_found():
    shape = Shape(SCHEMA, [SCHEMA]).member("c").item(0)
    assert shape.knows("d")


def test_where_the_schema_says_nothing_any_key_may_come():
    assert Shape({}, [{}]).knows("a") is None


def test_a_circle_of_references_ends():
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    assert len(branches(schema, [schema])) == 2


def test_a_reference_elsewhere_is_not_followed():
    assert resolve({}, "https://example.com/a") is None
    assert resolve({"a": [1]}, "#/a/7") is None
    assert resolve({"a/b": {"c": 1}}, "#/a~1b/c") == 1


def test_a_key_that_the_schema_does_not_name_is_a_stranger():
    shape = Shape(SCHEMA, [SCHEMA])
    assert has_strangers({"c": [{"d": 1, "e": 2}]}, shape)
    assert not has_strangers({"c": [{"d": {"e": 2}}], "b": ""}, shape)
