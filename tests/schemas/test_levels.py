"""Where containers of broken JSON end: missing and misplaced closers, comments, odd white space."""

import pytest

from schemas.compiled import compile_schema
from schemas.mend import mend

NESTED = compile_schema(
    {
        "type": "object",
        "properties": {
            "a": {"type": "object", "properties": {"b": {"type": "integer"}}, "additionalProperties": False},
            "c": {"type": "array", "items": {"type": "integer"}},
        },
        "additionalProperties": False,
    }
)
ROWS = [
    ("missing-at-the-end", '{"a": {"b": 1}, "c": [1, 2]', {"a": {"b": 1}, "c": [1, 2]}),
    ("two-missing-at-the-end", '{"a": {"b": 1', {"a": {"b": 1}}),
    ("missing-in-the-middle", '{"a": {"b": 1, "c": [1]}', {"a": {"b": 1}, "c": [1]}),
    ("trailing-comma", '{"c": [1, 2, ], }', {"c": [1, 2]}),
    ("line-comment", '{"c": [1] // all of them\n}', {"c": [1]}),
    ("block-comment", '{/* first */ "c": [1]}', {"c": [1]}),
    ("hash-comment", '{"c": [1] # all\n}', {"c": [1]}),
    ("no-break-space", '{"c":\u00a0[1,\u20092]}', {"c": [1, 2]}),
    ("zero-width-space", '{"c":\u200b[1]}', {"c": [1]}),
]


@pytest.mark.parametrize(("text", "value"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_containers_end_where_they_must(text, value):
    mended = mend(text, NESTED)
    assert (mended.verdict, mended.value) == ("repaired", value)
    assert mended.changes


@pytest.mark.parametrize("text", ["[" * 50_000, "{" * 50_000, "/*" * 50_000, "//" * 50_000, "{\n" * 30_000])
def test_levels_without_end_are_refused_in_bounded_time(text):
    assert mend(text, NESTED).verdict == "invalid"
