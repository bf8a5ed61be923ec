import pytest

from policies.chat import Choice, Reply, ToolCall
from policies.consensus import consensus
from policies.contract import Contract, judge
from schemas.compiled import compile_schema

TAGS = compile_schema(
    {"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True}}, "required": ["tags"]}
)
ANY = {"f": None}


def said(text, finish="stop", calls=()):
    return Reply((Choice(0, text, finish, tuple(calls)),), None)


def call(arguments, name="f", index=0):
    return ToolCall(f"c{index}", name, arguments, index)


def same(one, other, contract):
    return consensus((one, judge(one, contract)), (other, judge(other, contract)), contract)


@pytest.mark.parametrize(
    ("one", "other", "contract", "agreed"),
    [
        pytest.param(said('{"tags": ["a", "b"]}'), said('```json\n{"tags": ["b","a"]}\n```'), Contract(TAGS), True, id="values-as-mended"),
        pytest.param(said('{"tags": ["a"]}'), said('{"tags": ["b"]}'), Contract(TAGS), False, id="other-values"),
        pytest.param(said('{"tags": ["a"]}'), said("no"), Contract(TAGS), False, id="an-invalid-one-agrees-with-nothing"),
        pytest.param(said("no"), said("no"), Contract(TAGS), False, id="nor-do-two-invalid-ones"),
        pytest.param(said(" Paris \n"), said("Paris"), Contract(), True, id="plain-texts-but-for-blanks"),
        pytest.param(said("Paris"), said("Rome"), Contract(), False, id="other-words"),
        pytest.param(said(""), said(""), Contract(), False, id="nothing-said-is-no-answer"),
        pytest.param(said("Par", "length"), said("Par", "length"), Contract(), False, id="cut-ones-agree-with-nothing"),
        pytest.param(said(None, calls=[call('{"a":1}')]), said(None, calls=[call('{"a": 1.0}')]), Contract(tools=ANY), True, id="calls-by-their-arguments"),
        pytest.param(said(None, calls=[call('{"a":1}')]), said(None, calls=[call('{"a":2}')]), Contract(tools=ANY), False, id="calls-with-other-arguments"),
        pytest.param(said(None, calls=[call("{")]), said(None, calls=[call("{")]), Contract(), False, id="calls-that-are-no-json"),
        pytest.param(said(None, calls=[call("{}")]), said("text"), Contract(tools=ANY), False, id="a-call-and-a-text"),
        pytest.param(Reply((), None), Reply((), None), Contract(), False, id="no-choices"),
    ],
)  # fmt: skip
def test_two_replies_agree(one, other, contract, agreed):
    assert same(one, other, contract) is agreed
    assert same(other, one, contract) is agreed
