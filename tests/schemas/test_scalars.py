import pytest

from schemas.scalars import scalars

WORDS = {"enum": ["SPAM", "NOT_SPAM", "Señor"]}

FOUND = {
    "other-case": ("spam", WORDS, "SPAM"),
    "in-prose": ("I would say: **SPAM**.", WORDS, "SPAM"),
    "the-longer-of-two": ("NOT_SPAM", WORDS, "NOT_SPAM"),
    "accents": ("senor", WORDS, "Señor"),
    "boolean": ("Answer: True", {"type": "boolean"}, True),
    "any-string": ('say "hi', {"type": "string"}, 'say "hi'),
    "thousands": ("12,111", {"type": "integer"}, 12111),
    "constants": ("It is Paris", {"anyOf": [{"const": "Paris"}, {"const": "Rome"}]}, "Paris"),
}

NOTHING = {
    "two-words": ("SPAM or NOT_SPAM", WORDS),
    "negated": ("This is not SPAM", WORDS),
    "not-a-word": ("spammer", WORDS),
    "both-booleans": ("true or false", {"type": "boolean"}),
    "too-long": ("SPAM " + "x" * 2000, WORDS),
    "number-among-words": ("12 apples", {"type": "integer"}),
    "short-member-in-prose": ("a dog", {"enum": ["A", "B"]}),
}


@pytest.mark.parametrize(("text", "schema", "value"), FOUND.values(), ids=FOUND)
def test_the_one_scalar_meant_is_found(text, schema, value):
    assert [found for found, _ in scalars(text, schema)] == [value]


@pytest.mark.parametrize(("text", "schema"), NOTHING.values(), ids=NOTHING)
def test_nothing_is_guessed(text, schema):
    assert list(scalars(text, schema)) == []
