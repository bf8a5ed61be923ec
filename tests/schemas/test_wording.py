import pytest

from schemas.wording import detail_of, encodable, message_of, name_of, shown

SHOWN = {
    "text": ("a", '"a"'),
    "long-text": ("x" * 500, '"' + "x" * 198 + "…"),
    "huge-integer": (10**5000, '"a very large integer"'),
    "deep": ([[[[[1]]]]], '[[[["…"]]]]'),
    "empty-containers-stay": ([[[[]]], {}], "[[[[]]], {}]"),
    "many-items": (list(range(1000)), str(list(range(20)))),
    "lone-surrogate": ("\ud800", '"?"'),
}


@pytest.mark.parametrize(("value", "expected"), SHOWN.values(), ids=SHOWN)
def test_value_is_shown_short(value, expected):
    assert shown(value) == expected


@pytest.mark.parametrize(
    ("keyword", "required", "message"),
    [
        ("minProperties", 1, "fewer than 1 property"),
        ("maxProperties", 2, "more than 2 properties"),
        ("maxLength", 1e300, "longer than 1e+300 characters"),
        ("enum", ["a"], "not the one allowed value"),
        ("something new", None, "fails something new"),
    ],
)
def test_message(keyword, required, message):
    assert message_of(keyword, required) == message


def test_message_is_short_however_long_the_schema_says_it():
    assert len(message_of("type", ["x" * 1000])) == 300
    assert len(message_of("required", "x" * 1000)) < 120
    assert len(name_of("x" * 1000)) == 82


def test_detail_shows_what_is_allowed_and_what_came():
    assert detail_of("const", 1, "not the one allowed value", 2) == "expected 1, got 2"


def test_encodable_text_is_left_alone():
    assert encodable("é😀") == "é😀"
