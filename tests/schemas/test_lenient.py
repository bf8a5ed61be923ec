import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.builder import Fuel, OutOfFuel
from schemas.lenient import Reader
from schemas.shape import Shape


def read(text, start=0, shape=None, *, members=False):
    return Reader(text, start, Fuel(20_000), None, shape).read(members=members)


LOSSLESS = {
    "trailing-comma-in-object": ('{"a": 1,}', {"a": 1}, "trailing-comma"),
    "trailing-comma-in-array": ('{"a": [1, 2, ]}', {"a": [1, 2]}, "trailing-comma"),
    "comma-before-the-first": ("[, 1]", [1], "extra-comma"),
    "two-commas": ('{"a": 1,, "b": 2}', {"a": 1, "b": 2}, "extra-comma"),
    "missing-comma-between-members": ('{"a": 1\n"b": 2}', {"a": 1, "b": 2}, "missing-comma"),
    "missing-comma-between-items": ('["a"\n"b" "c"]', ["a", "b", "c"], "missing-comma"),
    "semicolons": ('{"a": 1; "b": 2}', {"a": 1, "b": 2}, "separator"),
    "line-comment": ('{"a": 1 // one, "two"\n}', {"a": 1}, "comment"),
    "block-comment": ('{"a": /* { */ 1}', {"a": 1}, "comment"),
    "hash-comment": ('{"a": 1, # one\n "b": 2}', {"a": 1, "b": 2}, "comment"),
    "comment-without-end": ('{"a": 1} /* b', {"a": 1}, None),
    "single-quotes": ("{'a': 'b'}", {"a": "b"}, "quote-style"),
    "typographic-quotes": ("{“a”: “b”}", {"a": "b"}, "quote-style"),
    "backticks": ('{"a": `b "c"`}', {"a": 'b "c"'}, "quote-style"),
    "escaped-quotes": ('{\\"a\\": \\"b\\"}', {"a": "b"}, "quote-style"),
    "triple-quotes": ('{"a": """b "c" d"""}', {"a": 'b "c" d'}, "quote-style"),
    "python-literals": ('{"a": True, "b": None}', {"a": True, "b": None}, "literal"),
    "unquoted-key": ("{a: 1, b-c: 2}", {"a": 1, "b-c": 2}, "unquoted-key"),
    "number-as-key": ("{1: 2}", {"1": 2}, "unquoted-key"),
    "equals-sign": ('{"a" = 1, b => 2}', {"a": 1, "b": 2}, "colon"),
    "raw-line-break-in-string": ('{"a": "b\nc"}', {"a": "b\nc"}, "control-character"),
    "escape-of-nothing": (r'{"a": "\d \' \x41",}', {"a": r"\d ' A"}, "trailing-comma"),
    "odd-white-space": ('{"a":\u00a01,\u200b"b": 2}', {"a": 1, "b": 2}, "whitespace"),
    "added-strings": ("{\"a\": 'b' +\n 'c'}", {"a": "bc"}, "concatenation"),
    "fence-among-the-items": ('{"a": [\n```json\n"b"\n```\n]}', {"a": ["b"]}, "inner-fence"),
}

CHOICES = {
    "single-quotes-with-apostrophe": ("{'a': 'it's', 'b': 1}", {"a": "it's", "b": 1}, "inner-quotes"),
    "missing-closers": ('{"a": [1, {"b": 2', {"a": [1, {"b": 2}]}, "missing-closer"),
    "missing-brace-before-an-item": ('[{"a": 1, {"a": 2}]', [{"a": 1}, {"a": 2}], "closer-inserted"),
    "missing-bracket-before-a-member": ('{"a": [1, "b": 2}', {"a": [1], "b": 2}, "closer-inserted"),
    "wrong-closer": ('{"a": 1]', {"a": 1}, "closer-replaced"),
    "quotes-inside": ('{"a": "b "c" d", "e": 1}', {"a": 'b "c" d', "e": 1}, "inner-quotes"),
    "quotes-inside-at-the-end": ('{"a": "say "hi"", "e": 1}', {"a": 'say "hi"', "e": 1}, "inner-quotes"),
    "missing-end-quote": ('{"a": "b,\n"c": 1}', {"a": "b", "c": 1}, "missing-quote"),
    "missing-end-quote-at-the-end": ('{"a": "b\n}', {"a": "b"}, "missing-quote"),
    "missing-start-quote": ('{a": "b"}', {"a": "b"}, "missing-quote"),
    "missing-colon": ('{"a" 1}', {"a": 1}, "missing-colon"),
    "missing-opener": ('{"a": "b": 1}, "c": 2}', {"a": {"b": 1}, "c": 2}, "implicit-object"),
    "unquoted-words": ("{a: b c, d: e}", {"a": "b c", "d": "e"}, "unquoted-string"),
    "ellipsis": ("[1, 2, ...]", [1, 2], "ellipsis"),
    "undefined": ('{"a": undefined}', {"a": None}, "undefined"),
    "leading-zero": ('{"a": 007}', {"a": 7}, "number"),
    "wrapped-scalar": ('{"a": ObjectId("b")}', {"a": "b"}, "wrapper"),
    "set": ("{'a', 'b'}", ["a", "b"], "set-literal"),
    "doubled-brace": ('{{"a": 1}}', {"a": 1}, "opener-dropped"),
}


@pytest.mark.parametrize(("text", "value", "operation"), LOSSLESS.values(), ids=LOSSLESS)
def test_syntax_is_mended_without_loss(text, value, operation):
    reading = read(text)
    assert reading.value == value
    assert all(edit.kind == "lossless" for edit in reading.edits)
    assert operation is None or operation in {edit.operation for edit in reading.edits}


@pytest.mark.parametrize(("text", "value", "operation"), CHOICES.values(), ids=CHOICES)
def test_the_likelier_reading_is_chosen_and_named(text, value, operation):
    reading = read(text)
    assert reading.value == value
    assert operation in {edit.operation for edit in reading.edits}
    assert all(edit.kind != "lossy" for edit in reading.edits)


LOSSY = {
    "cut-string": '{"a": "b',
    "missing-value": '{"a": , "b": 1}',
    "dangling-key": '{"a": 1, "b"}',
    "other-value-for-a-key": '{"a": 1, "a": 2}',
}


@pytest.mark.parametrize("text", LOSSY.values(), ids=LOSSY)
def test_what_is_lost_or_invented_is_called_lossy(text):
    assert "lossy" in {edit.kind for edit in read(text).edits}


def test_an_edit_says_where_it_happened():
    text = '{"a": [{"b~/": 1, c: 2}]}'
    (edit,) = read(text).edits
    assert (edit.operation, text[edit.start : edit.end], edit.pointer) == ("unquoted-key", "c", "/a/0/c")


def test_the_same_key_with_the_same_value_loses_nothing():
    assert {edit.kind for edit in read('{"a": 1, "a": 1}').edits} == {"lossless"}


def test_members_without_their_brace_are_read_as_an_object():
    reading = read('"a": 1,\n"b": [2]', members=True)
    assert reading.value == {"a": 1, "b": [2]}
    assert {edit.operation for edit in reading.edits} == {"missing-root"}


def test_the_schema_says_on_which_level_a_member_stands():
    schema = {
        "properties": {
            "a": {"properties": {"b": {}}, "additionalProperties": False},
            "c": {},
        }
    }
    text = '{"a": {"b": 1, "c": 2}'
    assert read(text).value == {"a": {"b": 1, "c": 2}}
    assert read(text, shape=Shape(schema, [schema])).value == {"a": {"b": 1}, "c": 2}


def test_a_reading_stops_where_its_root_ends():
    assert read('{"a": 1} {"b": 2}').end == 8


def test_the_other_choices_are_offered():
    reading = read('{"a": "b "c" d"}')
    assert reading.options
    assert all(option.cost >= 0 for option in reading.options)


@given(st.text(alphabet="{}[]:,\"'`\\ \nab1/*#.=“”+(;", max_size=60))
@settings(max_examples=400, deadline=None)
def test_no_text_raises_anything_but_out_of_fuel(text):
    try:
        reading = read("{" + text)
    except OutOfFuel:
        return
    assert reading.end <= len(text) + 1
    assert reading.cost >= 0


@pytest.mark.parametrize(
    "piece", ["[", "{", '{"a":', '"', "\\", '["', "{'a':'b'c',", '"a":"b"c",', "1,", "/*"]
)
def test_work_is_bounded(piece):
    fuel = Fuel(3000)
    with contextlib.suppress(OutOfFuel):
        Reader(piece * 20_000, 0, fuel).read()
    assert fuel.left < 3000
