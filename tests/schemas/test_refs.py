import pytest

from schemas.dialect import examine

INNER = {
    "$id": "urn:inner",
    "$anchor": "here",
    "$defs": {"a": {"type": "null"}},
    "items": {"$ref": "#/$defs/a"},
}
DOCUMENT = {
    "$defs": {"a": {"type": "string"}, "b c~d/e": {}, "inner": INNER, "anchored": {"$anchor": "name"}},
    "prefixItems": [{"type": "integer"}],
    "properties": {"list": {"$ref": "#/$defs/inner"}},
}

TARGETS = {
    "root": ("#", ""),
    "pointer": ("#/$defs/a", "/$defs/a"),
    "escaped": ("#/$defs/b%20c~0d~1e", "/$defs/b%20c~0d~1e"),
    "index": ("#/prefixItems/0", "/prefixItems/0"),
    "anchor": ("#name", "/$defs/anchored"),
    "anchor-of-another-resource": ("#here", None),
    "no-such-index": ("#/prefixItems/1", None),
    "no-such-name": ("#/$defs/z", None),
    "list-is-no-schema": ("#/prefixItems", None),
    "outside": ("other.json", None),
}


@pytest.mark.parametrize(("ref", "pointer"), TARGETS.values(), ids=TARGETS)
def test_target(ref, pointer):
    refs = examine(DOCUMENT).refs
    found = refs.target(refs.root, ref)
    if pointer is None:
        assert found is None
    else:
        assert found.pointer.replace("%20", " ") == pointer.replace("%20", " ")


def test_fragment_means_the_nearest_resource():
    examined = examine(DOCUMENT)
    (place,) = [place for place in examined.places if place.pointer == "/$defs/inner/items"]
    assert examined.refs.target(place, "#/$defs/a").schema == {"type": "null"}


def test_all_schemas_of_a_document_are_found_once():
    pointers = [place.pointer for place in examine(DOCUMENT).places]
    assert len(pointers) == len(set(pointers)) == 9


def test_schema_where_no_keyword_looks_is_found_through_its_reference():
    places = examine({"x-parts": {"a": {"type": "string"}}, "items": {"$ref": "#/x-parts/a"}}).places
    assert "/x-parts/a" in [place.pointer for place in places]


def test_what_stands_beside_a_reference_is_no_schema_in_draft_07():
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": {"a": {"$ref": "#", "items": {"$ref": "https://example.test/hidden"}}},
    }
    assert [place.pointer for place in examine(schema).places] == ["", "/properties/a"]
