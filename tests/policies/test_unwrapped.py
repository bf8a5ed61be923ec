"""The document inside a streamed text, as it comes."""

import pytest

from policies.unwrapped import MAX_LEAD, Unwrapped
from schemas.compiled import compile_schema

LIST = compile_schema({"type": "array", "items": {"type": "integer"}})
NUMBER = compile_schema({"type": "number"})

TEXTS = [
    ("plain", LIST, "[1, 2]", "[1, 2]", True),
    ("fence", LIST, "```json\n[1]\n```", "[1]\n", True),
    ("think", LIST, "<think>[0</think> [1]", "[1]", True),
    ("two-thinks", LIST, "<think>a</think><thinking>b</think>\n[1]", "[1]", True),
    ("unfinished", LIST, "[1, ", "[1, ", False),
    ("number-at-the-root-goes-on", NUMBER, "12.5", "12.5", True),
    ("blank-lead", LIST, " \n\ufeff", "", False),
    ("fence-without-a-line", LIST, "```json", "", False),
]


@pytest.mark.parametrize(
    ("schema", "text", "document", "complete"), [r[1:] for r in TEXTS], ids=[r[0] for r in TEXTS]
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_what_is_document(schema, text, document, complete, size):
    reader = Unwrapped(schema)
    parts = [reader.feed(text[at : at + size]) for at in range(0, len(text), size)]
    assert "".join(parts).strip() == document.strip()
    assert (reader.complete, reader.failed) == (complete, False)


@pytest.mark.parametrize("text", ["Hello", "[1, x", '["a"]', "[1] and more", "{}"])
def test_what_cannot_become_valid_has_failed_for_good(text):
    reader = Unwrapped(LIST)
    reader.feed(text)
    assert reader.failed
    assert reader.feed("[1]") is None


def test_endless_thinking_is_no_preamble():
    reader = Unwrapped(LIST)
    reader.feed("<think>" + "x" * MAX_LEAD)
    assert reader.failed
