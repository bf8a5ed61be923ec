import pytest

from schemas.equality import identity, same

PAIRS = {
    "int-and-float": (1, 1.0, True),
    "true-is-not-one": (True, 1, False),
    "false-is-not-nought-inside": ([False], [0], False),
    "order-of-names": ({"a": 1, "b": 2}, {"b": 2, "a": 1.0}, True),
    "order-of-items": ([1, 2], [2, 1], False),
    "length": ([1], [1, 1], False),
    "more-names": ({"a": 1}, {"a": 1, "b": 1}, False),
    "null": (None, None, True),
    "null-is-not-false": (None, False, False),
    "text-is-not-number": ("1", 1, False),
    "list-is-not-object": ([], {}, False),
    "beyond-doubles": (2**53 + 1, 2**53, False),
}


@pytest.mark.parametrize(("one", "other", "equal"), PAIRS.values(), ids=PAIRS)
def test_equal(one, other, equal):
    assert same(one, other) is equal
    assert same(other, one) is equal
    assert (identity(one) == identity(other)) is equal
