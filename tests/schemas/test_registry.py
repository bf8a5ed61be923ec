import pytest

from schemas.compiled import compile_schema
from schemas.registry import BadName, SchemaRegistry

ONE = compile_schema({"type": "integer"})
TWO = compile_schema({"type": "string"})


def test_current_version_is_the_one_registered_last_and_older_ones_stay():
    registry = SchemaRegistry().with_schema("invoice", ONE).with_schema("invoice", TWO)
    assert registry.get("invoice") is registry.latest("invoice") is TWO
    assert registry.get("invoice", ONE.version) is ONE
    assert registry.versions("invoice") == (ONE, TWO)


def test_same_content_is_the_same_version_and_becomes_current_again():
    registry = SchemaRegistry().with_schema("a", ONE).with_schema("a", TWO)
    registry = registry.with_schema("a", compile_schema({"type": "integer"}))
    assert registry.get("a").version == ONE.version
    assert [held.version for held in registry.versions("a")] == [TWO.version, ONE.version]


def test_registry_itself_never_changes():
    empty = SchemaRegistry()
    one = empty.with_schema("a", ONE)
    none = one.without("a")
    assert (empty.names(), one.names(), none.names()) == ((), ("a",), ())


def test_names_are_in_order():
    registry = SchemaRegistry().with_schema("b", ONE).with_schema("a", ONE)
    assert registry.names() == ("a", "b")


def test_unknown_name_or_version_is_none():
    registry = SchemaRegistry().with_schema("a", ONE)
    assert registry.get("b") is None
    assert registry.get("a", TWO.version) is None
    assert registry.versions("b") == ()
    assert registry.without("b").names() == ("a",)
    with pytest.raises(KeyError):
        registry.latest("b")


@pytest.mark.parametrize("name", ["a", "Invoice-2.v1_x", "0", "x" * 64])
def test_good_name(name):
    assert SchemaRegistry().with_schema(name, ONE).get(name) is ONE


@pytest.mark.parametrize("name", ["", ".", "-a", "a/b", "a b", "é", "x" * 65, "a\n", "../a"])
def test_bad_name(name):
    with pytest.raises(BadName):
        SchemaRegistry().with_schema(name, ONE)
