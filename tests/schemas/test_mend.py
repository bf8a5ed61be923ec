import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import strict
from schemas.compiled import compile_schema
from schemas.mend import mend

ITEM = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
ANY = compile_schema(True)
OBJECT = compile_schema(ITEM)
ARRAY = compile_schema({"type": "array", "items": ITEM})
WORD = compile_schema({"enum": ["HIGH", "LOW"]})

EXTRACTED = {
    "byte-order-mark": '\ufeff{"a": "x"}',
    "fence": '```json\n{"a": "x"}\n```',
    "fence-not-closed": 'Here:\n```json\n{"a": "x"}\n',
    "fence-on-one-line": '```{"a": "x"}```',
    "prose": 'Sure! Here it is [as asked]:\n{"a": "x"}\nAnything {else}?',
    "thinking-with-a-decoy": '<think>{"a": "y"} or {"b": 1}?</think>{"a": "x"}',
    "call": 'callback({"a": "x"});',
    "assignment": 'const answer = {"a": "x"};',
    "in-a-string": '"{\\"a\\": \\"x\\"}"',
    "quotes-escaped": '{\\"a\\": \\"x\\"}',
    "one-of-two-is-valid": '{"example": 1}\nThe answer:\n{"a": "x"}',
    "the-same-twice": '{"a": "x"} or, in a fence:\n```\n{"a": "x"}\n```',
}

MENDED = {
    "trailing-comma": (OBJECT, '{"a": "x",}', {"a": "x"}),
    "python": (OBJECT, "{'a': 'x', 'b': 1}", {"a": "x", "b": 1}),
    "cut-brace": (OBJECT, '{"a": "x", "b": 1', {"a": "x", "b": 1}),
    "fenced-and-broken": (OBJECT, "```json\n{a: 'x', b: 1,}\n```", {"a": "x", "b": 1}),
    "missing-root": (OBJECT, '"a": "x",\n"b": 1', {"a": "x", "b": 1}),
    "side-by-side": (ARRAY, '{"a": "x"}\n{"a": "y"}', [{"a": "x"}, {"a": "y"}]),
    "side-by-side-in-prose": (ARRAY, 'One {"a": "x"} and {"a": "y"}.', [{"a": "x"}, {"a": "y"}]),
    "array-of-one": (OBJECT, '[{"a": "x"}]', {"a": "x"}),
    "unquoted-number-as-string": (OBJECT, "{a: 007}", {"a": "007"}),
    "number-in-quotes": (OBJECT, '{"a": "x", "b": "7"}', {"a": "x", "b": 7}),
    "missing-brace-inside": (ARRAY, '[{"a": "x", {"a": "y"}]', [{"a": "x"}, {"a": "y"}]),
    "word-in-prose": (WORD, "I'd say **high**.", "HIGH"),
    "word-with-blanks": (WORD, '" low "', "LOW"),
}

REFUSED = {
    "no-json": (OBJECT, "I'm sorry, I can't do that."),
    "empty": (OBJECT, ""),
    "two-answers": (OBJECT, 'One {"a": "x"} or another {"a": "y"}'),
    "missing-key": (OBJECT, '{"b": 1}'),
    "extra-key": (OBJECT, '{"a": "x", "c": 1}'),
    "wrong-type": (OBJECT, '{"a": 7}'),
    "cut-string": (OBJECT, '{"a": "half a sent'),
    "missing-value": (OBJECT, '{"a": , "b": 1}'),
    "other-value-for-a-key": (OBJECT, '{"a": "x", "a": "y"}'),
    "only-thinking": (OBJECT, '<think>{"a": "x"}'),
    "a-piece-of-something-else": (OBJECT, '{"c": {"a": "x"}, "d": 1'),
    "two-words": (WORD, "HIGH or LOW"),
    "negated-word": (WORD, "not HIGH"),
    "prose-for-anything": (ANY, "I'm sorry, I can't do that."),
}


@pytest.mark.parametrize("text", EXTRACTED.values(), ids=EXTRACTED)
def test_the_answer_is_found_in_its_wrapping(text):
    mended = mend(text, OBJECT)
    assert (mended.verdict, mended.value, mended.text) == ("repaired", {"a": "x"}, '{"a":"x"}')
    assert mended.changes


@pytest.mark.parametrize(("schema", "text", "value"), MENDED.values(), ids=MENDED)
def test_a_broken_answer_is_mended(schema, text, value):
    mended = mend(text, schema)
    assert (mended.verdict, mended.value) == ("repaired", value)
    assert json.loads(mended.text) == value
    assert mended.changes


@pytest.mark.parametrize(("schema", "text"), REFUSED.values(), ids=REFUSED)
def test_nothing_is_guessed_dropped_or_invented(schema, text):
    mended = mend(text, schema)
    assert (mended.verdict, mended.text, mended.changes) == ("invalid", None, ())
    assert mended.problems


@pytest.mark.parametrize("text", ['{"a":"x"}', ' {"a" : "x"}\n', '{"b": 1.0, "a": "\\u0041"}'])
def test_a_valid_text_is_forwarded_as_it_is(text):
    mended = mend(text, OBJECT)
    assert mended.verdict == "valid"
    assert mended.text is text
    assert mended.changes == ()


def test_only_changes_of_the_accepted_kinds_are_made():
    text = '{"a": "x", "b": "7"}'
    assert mend(text, OBJECT).verdict == "repaired"
    refused = mend(text, OBJECT, frozenset({"lossless", "choice"}))
    assert (refused.verdict, refused.problems[0].pointer) == ("invalid", "/b")
    assert mend('{"a": "x", "b": 1', OBJECT, frozenset({"lossless"})).verdict == "invalid"


def test_a_route_may_accept_a_cut_answer_by_name():
    mended = mend('{"a": "half a sent', OBJECT, frozenset({"lossless", "choice", "coercion", "lossy"}))
    assert mended.value == {"a": "half a sent"}
    assert "cut-string" in {change.operation for change in mended.changes}


def test_the_best_reading_of_an_invalid_text_is_told():
    mended = mend('{"a": 7, "b": 1,}', OBJECT)
    assert (mended.verdict, mended.parsed, mended.value) == ("invalid", True, {"a": 7, "b": 1})
    assert [problem.pointer for problem in mended.problems] == ["/a"]


def test_without_any_reading_there_is_no_value():
    mended = mend("Sorry.", OBJECT)
    assert (mended.parsed, mended.value) == (False, None)
    assert [problem.keyword for problem in mended.problems] == ["json"]


def test_several_answers_are_said_to_be_several():
    assert "more than one" in mend('{"a": "x"} {"a": "y"}', OBJECT).problems[0].message


def test_a_change_names_place_and_text():
    text = "{'a': \"x\"}"
    (change,) = mend(text, OBJECT).changes
    assert (change.operation, change.kind, change.pointer) == ("quote-style", "lossless", "/a") or (
        change.span,
        change.before,
    ) == ((1, 4), "'a'")
    assert text[slice(*change.span)] == change.before


def test_what_is_dropped_is_named():
    mended = mend('Here: {"a": "x"} /* y */ done', OBJECT)
    dropped = "".join(change.before for change in mended.changes)
    assert {"Here", "y", "done"} <= set(re.findall(r"\w+", dropped))


def test_a_text_too_long_is_refused_at_once():
    mended = mend("[" * (strict.MAX_CHARS + 1), ANY)
    assert (mended.verdict, mended.parsed) == ("invalid", False)


HOSTILE = [
    "[", "{", '"', "\\", "}", '{"a":', '["', '{"a":"b" ', '{"a":"b"c",', '["a" "b" ', "```json\n", '```\n{"a":',
    "<think>", "/*", "#", "f(", '{"a":"\\', "[1,", "1,", "\u200b", "...", '"""', "{'a':'b'c',", '{"a": "b\n', '{"a":[1}',
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("schema", [ANY, OBJECT], ids=["any", "object"])
def test_hostile_text_ends_in_an_honest_no(piece, schema):
    mended = mend((piece * (50_000 // len(piece)))[:50_000], schema)
    assert mended.verdict == "invalid" or mended.text is not None


@pytest.mark.parametrize("blank", [" ", "\n", " \n", "\t", "\\n", "\u00a0"], ids=repr)
@pytest.mark.parametrize("head", ["{a", "{a: b", '{"a": "b', '["a"', '{"a":"b"', '{"a":tru', "[1,", '"a'])
def test_runs_of_white_space_cost_linear_time(head, blank):
    # Quadratic time would be minutes here, and the time-out of the tests would end it.
    mend(head + blank * (200_000 // len(blank)) + "x}", OBJECT)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
broken = st.text(alphabet="{}[]:,\"'`\\ \nab1/*#.=“”+(;<>truenl", max_size=80)


@given(broken)
@settings(max_examples=400, deadline=None)
def test_no_text_raises(text):
    for schema in (ANY, OBJECT, ARRAY, WORD):
        mend(text, schema)


@given(broken)
@settings(max_examples=300, deadline=None)
def test_mending_twice_changes_nothing(text):
    for schema in (ANY, OBJECT):
        mended = mend(text, schema)
        assert bool(mended.changes) == (mended.verdict == "repaired")
        if mended.text is not None:
            again = mend(mended.text, schema)
            assert (again.verdict, again.text) == ("valid", mended.text)


@given(json_values, st.sampled_from([None, 2]))
@settings(max_examples=300, deadline=None)
def test_valid_input_never_changes(value, indent):
    text = json.dumps(value, indent=indent)
    mended = mend(text, ANY)
    assert (mended.verdict, mended.text) == ("valid", text)


@given(
    st.dictionaries(st.text("abc xyz", min_size=1, max_size=5), json_values, min_size=1, max_size=4),
    st.sampled_from(["Here you go:\n{}", "```json\n{}\n```", "<think>hm</think>{}", "{};", "{} // end"]),
)
@settings(max_examples=200, deadline=None)
def test_a_wrapped_value_comes_back_unchanged(value, wrapping):
    mended = mend(wrapping.replace("{}", json.dumps(value)), ANY)
    assert mended.value == value


def words(text):
    return {word.casefold() for word in re.findall(r"\w+", text)}


@given(
    st.dictionaries(
        st.text("abcd", min_size=1, max_size=4), st.text("abcd ", max_size=8), min_size=1, max_size=4
    ),
    st.sampled_from(["{}", "so: {}", "{} and so on", "{} // why"]),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_every_word_of_the_text_is_in_the_result_or_named_as_dropped(members, wrapping, single):
    body = repr(members) if single else json.dumps(members)[:-1] + ",}"
    text = wrapping.replace("{}", body)
    mended = mend(text, ANY)
    assert mended.verdict in ("repaired", "valid")
    said = mended.text + " ".join(change.before for change in mended.changes)
    assert words(text) <= words(said)
    assert words(mended.text) <= words(text)
