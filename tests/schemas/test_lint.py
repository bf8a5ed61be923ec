import gzip
import itertools
import json
import pathlib
import time

import pytest

from schemas.compiled import compile_schema
from schemas.errors import SchemaRefused
from schemas.lint import MAX_FINDINGS, lint

SHARED = pathlib.Path(__file__).parents[2].parent / "shared"
CORPUS = SHARED / "harness" / "repair" / "corpus.dev.jsonl.gz"
D4 = "http://json-schema.org/draft-04/schema#"
D7 = "http://json-schema.org/draft-07/schema#"

FOUND = {
    "lengths": ({"minLength": 3, "maxLength": 2}, "error", "/minLength", "more than maxLength"),
    "items": (
        {"properties": {"a": {"minItems": 3, "maxItems": 2}}},
        "error",
        "/properties/a/minItems",
        "more than maxItems",
    ),
    "numbers": ({"minimum": 3, "maximum": 2}, "error", "/minimum", "more than maximum"),
    "exclusive-numbers": (
        {"exclusiveMinimum": 2, "maximum": 2},
        "error",
        "/exclusiveMinimum",
        "leaves no number below the upper limit",
    ),
    "minimum-meets-exclusive-maximum": (
        {"minimum": 2, "exclusiveMaximum": 2},
        "error",
        "/minimum",
        "leaves no number below exclusiveMaximum",
    ),
    "required-but-closed": (
        {"properties": {"a": {}}, "required": ["b"], "additionalProperties": False},
        "error",
        "/required",
        "the required property 'b' is forbidden by this schema",
    ),
    "required-but-false": (
        {"properties": {"a": False}, "required": ["a"]},
        "error",
        "/required",
        "the required property 'a' is forbidden by this schema",
    ),
    "required-more-than-allowed": (
        {"required": ["a", "b"], "maxProperties": 1},
        "error",
        "/required",
        "more names than maxProperties allows",
    ),
    "enum-against-type": (
        {"type": "string", "enum": [1, 2]},
        "error",
        "/enum",
        "every value is excluded by the keywords beside it",
    ),
    "enum-value-against-type": (
        {"type": "string", "enum": ["a", 2]},
        "warning",
        "/enum/1",
        "excluded by the keywords beside it",
    ),
    "enum-value-too-long": (
        {"enum": ["a", "bcd"], "maxLength": 2},
        "warning",
        "/enum/1",
        "excluded by the keywords beside it",
    ),
    "const-against-pattern": (
        {"const": "a", "pattern": "^b"},
        "error",
        "/const",
        "excluded by the keywords beside it",
    ),
    "default-against-type": (
        {"type": "integer", "default": "x"},
        "warning",
        "/default",
        "does not satisfy the keywords beside it",
    ),
    "types-exclude-each-other": (
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        "error",
        "",
        "no value can satisfy this: its types or constants exclude each other",
    ),
    "enum-empty-after-all-of": (
        {"items": {"allOf": [{"enum": ["a", "b"]}, {"enum": ["c"]}]}},
        "error",
        "/items",
        "no value can satisfy this: its types or constants exclude each other",
    ),
    "unreachable-alternative": (
        {"type": "string", "anyOf": [{"type": "integer"}, {"maxLength": 3}]},
        "warning",
        "/anyOf/0",
        "no value can reach this alternative",
    ),
    "alternative-after-one-that-takes-all": (
        {"anyOf": [{}, {"type": "string"}]},
        "warning",
        "/anyOf/1",
        "alternative 0 accepts everything already",
    ),
    "same-alternative-twice": (
        {"oneOf": [{"type": "string"}, {"type": "string"}]},
        "error",
        "/oneOf/1",
        "the same as alternative 0",
    ),
    "keyword-for-another-type": (
        {"type": "integer", "maxLength": 3},
        "warning",
        "/maxLength",
        "says something of strings only, which the type excludes",
    ),
    "if-alone": ({"if": {}}, "warning", "/if", "has no effect without then or else"),
    "then-alone": ({"then": {}}, "warning", "/then", "has no effect without if"),
    "typing-mistake": ({"requried": ["a"]}, "warning", "/requried", "no keyword; is required meant?"),
    "letters-of-the-wrong-size": ({"Items": {}}, "warning", "/Items", "no keyword; is items meant?"),
    "keyword-of-a-newer-dialect": (
        {"$schema": D7, "prefixItems": [{}]},
        "warning",
        "/prefixItems",
        "unknown to draft-07, so it has no effect",
    ),
    "keyword-of-an-older-dialect": (
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "additionalItems": False},
        "warning",
        "/additionalItems",
        "unknown to draft 2020-12, so it has no effect",
    ),
    "beside-ref": (
        {
            "$schema": D7,
            "properties": {"a": {"$ref": "#/definitions/b", "maxLength": 3}},
            "definitions": {"b": {}},
        },
        "warning",
        "/properties/a/maxLength",
        "ignored beside $ref in draft-07",
    ),
    "unknown-format": ({"format": "postcode"}, "warning", "/format", "not a format that is checked"),
}


@pytest.mark.parametrize(("schema", "severity", "pointer", "message"), FOUND.values(), ids=FOUND)
def test_finding(schema, severity, pointer, message):
    found = [(f.severity, f.problem.pointer, f.problem.message) for f in lint(compile_schema(schema))]
    assert found == [(severity, pointer, message)]


SOUND = {
    "anything": {},
    "true": True,
    "object": {
        "type": "object",
        "properties": {"a": {"type": "string", "minLength": 1, "maxLength": 1}, "b": {"enum": ["x", None]}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "pattern-allows-what-is-required": {
        "patternProperties": {"^x": {}},
        "required": ["x1"],
        "additionalProperties": False,
    },
    "own-words": {"x-order": 1, "discriminator": {"propertyName": "a"}, "nullable": True},
    "recursive": {"properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}},
    "draft-04-limit": {"$schema": D4, "minimum": 1, "exclusiveMinimum": True},
}


@pytest.mark.parametrize("schema", SOUND.values(), ids=SOUND)
def test_sound_schema_has_no_findings(schema):
    assert lint(compile_schema(schema)) == ()


def test_what_a_family_does_not_enforce_is_a_note_and_errors_come_first():
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string", "minLength": 5, "maxLength": 2}},
        "required": ["a"],
        "additionalProperties": False,
    }
    found = lint(compile_schema(schema), ["openai-strict", "gemini"])
    assert [(f.severity, f.problem.pointer) for f in found] == [
        ("error", "/properties/a/minLength"),
        ("note", "/properties/a/minLength"),
        ("note", "/properties/a/maxLength"),
        ("note", "/properties/a/minLength"),
        ("note", "/properties/a/maxLength"),
    ]
    assert found[1].problem.message.startswith("openai-strict: not enforced")


def test_family_without_a_way_to_say_it_is_a_warning():
    (found,) = lint(compile_schema({"type": "array", "items": {"type": "string"}}), ["openai-strict"])
    assert found.severity == "warning"
    assert found.problem.message == (
        "openai-strict has no structured output for this schema: the outermost value must be an object"
    )


def test_many_unknown_words_take_little_time():
    compiled = compile_schema({f"word{i}": i for i in range(10_000)})
    start = time.process_time()
    assert lint(compiled) == ()
    assert time.process_time() - start < 2


def test_findings_are_bounded():
    schema = {"properties": {f"p{i}": {"minLength": 2, "maxLength": 1} for i in range(500)}}
    assert len(lint(compile_schema(schema))) == MAX_FINDINGS


@pytest.mark.shared
@pytest.mark.skipif(not CORPUS.is_file(), reason="LEFT OUT: shared/harness/repair is missing")
def test_no_schema_that_has_a_valid_document_is_called_impossible_at_its_root():
    seen = 0
    with gzip.open(CORPUS, "rt") as lines:
        for case in map(json.loads, itertools.islice(lines, 0, None, 4)):
            if case["source"] != "maskbench" or case["expect_fail"]:
                continue
            try:
                found = lint(compile_schema(case["schema"]))
            except SchemaRefused:
                continue
            seen += 1
            roots = [f for f in found if f.severity == "error" and f.problem.pointer.count("/") <= 1]
            assert not roots, (case["id"], roots)
    assert seen > 200
