import gzip
import itertools
import json
import pathlib
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.compiled import compile_schema
from schemas.errors import SchemaRefused
from schemas.strict import MAX_CHARS, NotStrict, parse
from schemas.viable import PrefixChecker
from schemas.vocabulary import DIALECTS
from tests.schemas.generated import JSON, LEAF_SCHEMAS, SCHEMAS

SHARED = pathlib.Path(__file__).parents[2].parent / "shared"
CORPUS = SHARED / "harness" / "repair" / "corpus.dev.jsonl.gz"

ORDER = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "state": {"enum": ["open", "opened", "closed"]},
        "note": {"type": "string", "maxLength": 5},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "minItems": 1, "maxItems": 2},
    },
    "required": ["id", "lines"],
    "additionalProperties": False,
    "$defs": {
        "line": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "parts": {"type": "array", "items": {"$ref": "#/$defs/line"}},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
    },
}
SHAPE = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"kind": {"const": "circle"}, "r": {"type": "number"}},
            "required": ["kind", "r"],
        },
        {
            "type": "object",
            "properties": {"kind": {"const": "box"}, "r": {"type": "string"}},
            "required": ["kind", "r"],
        },
        {"type": "null"},
    ]
}


def refused_at(schema, text):
    """How many characters were read when the text was given up, None when it never was."""
    checker = PrefixChecker(compile_schema(schema))
    for count, char in enumerate(text, 1):
        if not checker.feed(char):
            return count
    return None


def verdict(compiled, pieces):
    """(still viable, whole valid document) after the pieces."""
    checker = PrefixChecker(compiled)
    for piece in pieces:
        checker.feed(piece)
    return checker.viable, checker.complete


# The text up to the mark is possible, and with the character after it no more.
DEAD_AT = {
    "not-json": ({}, '{"a": tru▮, "b"'),
    "wrong-type-at-its-first-character": (ORDER, '{"id": ▮"7"'),
    "wrong-type-of-the-whole": (ORDER, " ▮[1]"),
    "unknown-key-when-it-ends": (ORDER, '{"total▮": 1'),
    "same-key-twice": (ORDER, '{"id": 1, "id▮": 1'),
    "same-key-twice-written-differently": ({}, '{"id": 1, "\\u0069d▮": 1'),
    "enum-as-soon-as-no-choice-is-left": (ORDER, '{"state": "ope▮x'),
    "enum-when-it-ends-too-early": (ORDER, '{"state": "clos▮"'),
    "enum-through-an-escape": (ORDER, '{"state": "\\u006f▮x'),
    "string-too-long": (ORDER, '{"note": "12345▮6'),
    "pair-of-surrogates-is-one-character": (ORDER, '{"note": "\\ud83d\\ude00234\\ud83d\\ude00▮6'),
    "number-when-it-ends": (ORDER, '{"id": 0▮,'),
    "half-number": (ORDER, '{"id": 1.5▮,'),
    "required-name-missing-inside": (ORDER, '{"lines": [{"parts": []▮}'),
    "required-name-missing-outside": (ORDER, '{"id": 1▮}'),
    "too-few-items": (ORDER, '{"lines": [▮]'),
    "too-many-items": (ORDER, '{"lines": [{"name": "a"}, {"name": "b"}▮, '),
    "deep-in-a-recursion": (ORDER, '{"lines": [{"name": "", "parts": [{"name": "", "parts": [{"name": ▮1'),
    "branch-chosen-by-its-constant": (SHAPE, '{"kind": "circle", "r": ▮"1"'),
    "branch-chosen-by-its-constant-afterwards": (SHAPE, '{"r": "1", "kind": "▮circle"'),
    "no-branch-has-the-type": (SHAPE, "▮[]"),
    "not-at-the-end-of-its-value": (
        {"items": {"not": {"type": "object", "required": ["a"]}}},
        '[{"a": 1▮}, ',
    ),
    "one-of-two": (
        {"items": {"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}},
        '[{"a": 1, "b": 1▮}, ',
    ),
    "if-then": (
        {"items": {"if": {"required": ["a"]}, "then": {"required": ["b"]}}},
        '[{"a": 1▮}, ',
    ),
    "dependent": ({"items": {"dependentRequired": {"a": ["b"]}}}, '[{"a": 1▮}, '),
    "contains": ({"items": {"contains": {"const": 1}}}, "[[1], [2▮], "),
    "unique": ({"items": {"uniqueItems": True}}, "[[1, 1.0▮], "),
    "unevaluated": (
        {"items": {"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False}},
        '[{"b": 1▮}, ',
    ),
    "pattern": ({"items": {"pattern": "^a+$"}}, '["aab▮", '),
    "format": ({"items": {"format": "date"}}, '["2026-13-01▮", '),
    "multiple": ({"items": {"multipleOf": 2}}, "[3▮, "),
    "pattern-of-a-name": (
        {"patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": False},
        '{"x1": 1, "y▮": ',
    ),
    "rule-for-names": ({"propertyNames": {"maxLength": 2}}, '{"abc▮": '),
    "too-many-names": ({"maxProperties": 1}, '{"a": 1, "b▮": 1'),
    "too-few-names": ({"items": {"minProperties": 2}}, '[{"a": 1▮}'),
    "tuple": ({"prefixItems": [{"type": "string"}], "items": False}, '["a"▮, 1'),
    "all-of": ({"allOf": [{"type": ["string", "null"]}, {"type": ["integer", "null"]}]}, '▮"a"'),
    "false": (False, "  ▮1"),
    "constant-list": ({"items": {"const": [1, 2]}}, "[[1, 3▮], "),
    "text-after-the-document": (ORDER, '{"id": 1, "lines": [{"name": "a"}]} ▮x'),
    "number-with-leading-zero": ({}, "0▮1"),
    "number-with-plus": ({}, "▮+1"),
    "point-without-digits": ({}, "1.▮,"),
    "number-out-of-range": ({"items": {}}, "[1e999▮,"),
    "bad-escape": ({}, '"\\▮x"'),
    "bad-unicode-escape": ({}, '"\\u12▮x"'),
    "raw-control-character": ({}, '"a▮\n"'),
    "trailing-comma": ({}, "[1,▮]"),
    "trailing-comma-in-object": ({}, '{"a": 1,▮}'),
    "single-quotes": ({}, "{▮'a': 1}"),
    "nan": ({}, "▮NaN"),
    "byte-order-mark": ({}, "▮\ufeff1"),
}


@pytest.mark.parametrize(("schema", "text"), DEAD_AT.values(), ids=DEAD_AT)
def test_refused_at_the_first_impossible_character(schema, text):
    before, after = text.split("▮")
    assert refused_at(schema, before + after) == len(before) + 1


VALID = {
    "order": (ORDER, '{"lines": [{"name": "a"}], "state": "open", "note": "\\ud83d\\ude002345", "id": 10}'),
    "number-without-end": ({"type": "integer", "minimum": 10}, "12"),
    "whole-number-written-with-a-point": ({"type": "integer"}, "1.0"),
    "whole-number-written-with-an-exponent": ({"type": "integer"}, "1e2 "),
    "minus-nought": ({"minimum": 0}, "-0"),
    "word": ({"enum": [None, True]}, " true\n"),
    "lone-surrogate": ({"maxLength": 2}, '"\\ud800x"'),
    "surrogates-in-the-wrong-order": ({"maxLength": 2}, '"\\udc00\\ud800"'),
    "escaped-backslash-before-a-u": ({"enum": ["\\ud83d", "\\"]}, '"\\\\ud83d"'),
    "huge-integer": ({"type": "integer"}, "9" * 4000),
    "enum-of-one-number-written-otherwise": ({"enum": [100]}, "1.0e+2"),
    "any-branch": (SHAPE, '{"r": "x", "kind": "box", "more": [{}]}'),
    "empty-object": ({"properties": {"a": False}}, "{ }"),
    "list-of-items-in-draft-07": (
        {"items": [{"type": "string"}], "additionalItems": {"type": "null"}},
        '["a", null, null]',
    ),
    "reference-hides-what-stands-beside-it-in-draft-07": (
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {"a": {"type": "integer"}},
            "properties": {"a": {"$ref": "#/definitions/a", "maximum": 1, "type": "string"}},
        },
        '{"a": 5}',
    ),
    "keyword-of-a-later-dialect-means-nothing": (
        {"$schema": "http://json-schema.org/draft-04/schema#", "const": 1, "items": {"prefixItems": [False]}},
        "[[2]]",
    ),
    "dynamic-reference": (
        {
            "$dynamicAnchor": "node",
            "type": "object",
            "properties": {"next": {"$dynamicRef": "#node"}, "v": {"type": "integer"}},
        },
        '{"next": {"next": {"v": 1}}}',
    ),
    "more-branches-than-are-followed": (
        {"allOf": [{"anyOf": [{"required": [f"{i}{j}"]} for j in range(20)]} for i in range(5)]},
        json.dumps({f"{i}7": 1 for i in range(5)}),
    ),
    "deepest": ({}, "[" * 64 + "1" + "]" * 64),
}


@pytest.mark.parametrize(("schema", "text"), VALID.values(), ids=VALID)
def test_valid_document_is_never_refused_and_complete(schema, text):
    compiled = compile_schema(schema)
    assert compiled.is_valid(parse(text))
    assert verdict(compiled, text) == (True, True)
    assert verdict(compiled, [text]) == (True, True)


@pytest.mark.parametrize(("schema", "text"), VALID.values(), ids=VALID)
def test_not_complete_before_the_end(schema, text):
    compiled = compile_schema(schema)
    if text.strip()[-1] in '}]"':
        for cut in range(len(text.rstrip())):
            assert verdict(compiled, [text[:cut]]) == (True, False)


def test_refusal_lasts():
    checker = PrefixChecker(compile_schema({"type": "object"}))
    assert not checker.feed("[")
    assert not checker.feed("{}")
    assert not checker.viable


@pytest.mark.parametrize(
    ("text", "rest"), [("[" * 65, "]" * 65), ('{"a":' * 64 + "{", "}" * 65)], ids=["lists", "objects"]
)
def test_too_deep_is_refused_as_the_strict_parser_does(text, rest):
    assert refused_at({}, text) == len(text)
    with pytest.raises(NotStrict):
        parse(text + rest)


def test_too_long_is_refused_as_the_strict_parser_does():
    checker = PrefixChecker(compile_schema({}))
    assert checker.feed('"' + "x" * (MAX_CHARS - 1))
    assert not checker.feed("x")


def cut(text, marks):
    """`text` in pieces, cut at `marks`."""
    ends = sorted({mark % (len(text) + 1) for mark in marks})
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(DIALECTS),
    SCHEMAS,
    LEAF_SCHEMAS,
    JSON,
    st.booleans(),
    st.lists(st.integers(0, 10_000), max_size=6),
)
def test_whole_documents_are_judged_as_the_validator_judges_them(
    dialect, schema, stored, value, ascii_only, marks
):
    try:
        compiled = compile_schema({**schema, "$schema": dialect.uri, "$defs": {"a": stored}})
    except SchemaRefused:
        return
    text = json.dumps(value, ensure_ascii=ascii_only)
    valid = compiled.is_valid(value)
    assert bool(compiled.problems(value)) is not valid
    for pieces in ([text], list(text), cut(text, marks)):
        viable, complete = verdict(compiled, pieces)
        assert complete is valid
        assert viable or not valid


@settings(max_examples=300, deadline=None)
@given(st.text('{}[]",:\\u0123e.-+tfnals \n"dD8', max_size=12), st.lists(st.integers(0, 12), max_size=3))
def test_syntax_is_judged_as_the_strict_parser_judges_it(text, marks):
    try:
        parse(text)
        strict = True
    except NotStrict:
        strict = False
    compiled = compile_schema(True)
    for pieces in ([text], list(text), cut(text, marks)):
        viable, complete = verdict(compiled, pieces)
        assert complete is strict
        assert viable or not strict


HOSTILE_TEXTS = {
    "one-long-string": ('"' + "x" * 60_000, {"type": "string", "maxLength": 10**9}),
    "one-long-enum": ('"' + "x" * 60_000, {"enum": ["x" * 60_000 + str(i) for i in range(3)]}),
    "escapes": ('"' + "\\u0041" * 10_000, {"maxLength": 10**9}),
    "digits": ("0." + "1" * 60_000, {"type": "number"}),
    "many-names": (
        "{" + ",".join(f'"k{i}":1' for i in range(8_000)),
        {"patternProperties": {"^k": {"type": "integer"}}},
    ),
    "nested-late-checks": (
        ("[" * 60 + "1,1" + "]" * 50 + ",") * 30,
        {"$ref": "#/$defs/n", "$defs": {"n": {"uniqueItems": True, "items": {"$ref": "#/$defs/n"}}}},
    ),
    "spaces": (" " * 60_000, {}),
}


@pytest.mark.parametrize(("text", "schema"), HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_time_is_linear_in_the_text_character_by_character(text, schema):
    checker = PrefixChecker(compile_schema(schema))
    start = time.process_time()
    for char in text:
        checker.feed(char)
    assert time.process_time() - start < 20e-6 * len(text) + 0.2


def shuffled(value, dice):
    """The same value with the names of each object in another order."""
    if isinstance(value, dict):
        items = [(key, shuffled(held, dice)) for key, held in value.items()]
        dice.shuffle(items)
        return dict(items)
    return [shuffled(part, dice) for part in value] if isinstance(value, list) else value


@pytest.mark.shared
@pytest.mark.skipif(not CORPUS.is_file(), reason="LEFT OUT: shared/harness/repair is missing")
def test_no_valid_document_of_the_corpus_is_refused_in_any_order_of_names():
    dice = random.Random(7)
    documents = refused = 0
    with gzip.open(CORPUS, "rt") as lines:
        for case in map(json.loads, itertools.islice(lines, 0, None, 4)):
            if case["source"] != "maskbench" or case["expect_fail"]:
                continue
            try:
                compiled = compile_schema(case["schema"])
            except SchemaRefused:
                continue
            text = json.dumps(shuffled(case["expected"], dice), ensure_ascii=dice.random() < 0.5)
            marks = [dice.randrange(10_000) for _ in range(dice.randrange(40))]
            documents += 1
            refused += verdict(compiled, cut(text, marks)) != (True, True)
    assert (refused, documents > 200) == (0, True)
