import pytest

from schemas.surrogates import STAND_IN, without_surrogates

CASES = {
    "lone": ("a\ud800b", f"a{STAND_IN}b"),
    "low-half": ("\udfff", STAND_IN),
    "pair-is-one-character": ("😀", "😀"),
    "inside": ({"\ud800": ["\udc00", 1, None]}, {STAND_IN: [STAND_IN, 1, None]}),
}


@pytest.mark.parametrize(("value", "expected"), CASES.values(), ids=CASES)
def test_lone_surrogates_are_replaced_one_by_one(value, expected):
    assert without_surrogates(value) == expected
