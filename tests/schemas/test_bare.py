import pytest

from schemas.bare import read_bare

VALUES = {
    "true": ("true}", True, None),
    "python": ("None,", None, "literal"),
    "upper-case": ("TRUE]", True, "literal"),
    "undefined": ("undefined,", None, "undefined"),
    "not-a-number": ("NaN}", None, "undefined"),
    "number": ("-1.50e2,", -150.0, None),
    "no-digit-before-the-point": (".5}", 0.5, "number"),
    "no-digit-after-the-point": ("5.}", 5.0, "number"),
    "plus": ("+5}", 5, "number"),
    "underscores": ("1_000}", 1000, "number"),
    "leading-zeros": ("007}", 7, "number"),
    "cut-exponent": ("2e}", 2.0, "number"),
    "thousands": ('1,234.5,\n"b"', 1234.5, "number"),
    "date": ("2024-01-02,", "2024-01-02", "unquoted-string"),
    "fraction": ("1/3}", "1/3", "unquoted-string"),
    "identifier": ("57eeee-4b}", "57eeee-4b", "unquoted-string"),
    "words": ("a b c\n}", "a b c", "unquoted-string"),
    "words-with-a-comma": ("a, b, c: 1}", "a, b", "unquoted-string"),
    "address": ("https://a.b/c?d=e}", "https://a.b/c?d=e", "unquoted-string"),
    "brackets": ("a{b}c}", "a{b}c", "unquoted-string"),
    "comment-behind": ("a b // c", "a b", "unquoted-string"),
    "end-quote": ('a", "b": 1}', "a", "missing-quote"),
    "pattern": ("/a[b]/i}", "/a[b]/i", "unquoted-string"),
    "wrapped": ('new Date("2024")}', "2024", "wrapper"),
}


@pytest.mark.parametrize(("text", "value", "operation"), VALUES.values(), ids=VALUES)
def test_an_unquoted_value_is_read(text, value, operation):
    bare = read_bare(text, 0, "object", ["}"])
    assert (bare.value, type(bare.value), bare.operation) == (value, type(value), operation)


def test_what_may_have_been_a_string_keeps_its_characters():
    assert read_bare("007}", 0, "object", ["}"]).raw == "007"
    assert read_bare("null}", 0, "object", ["}"]).raw is None


def test_an_item_ends_at_the_comma():
    assert read_bare("a, b]", 0, "array", ["]"]).value == "a"


def test_no_word_is_nothing():
    assert read_bare("}", 0, "object", ["}"]) is None


def test_a_number_too_large_for_a_float_stays_a_word():
    assert read_bare("1e999}", 0, "object", ["}"]).value == "1e999"
