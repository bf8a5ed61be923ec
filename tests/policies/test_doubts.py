import pytest

from policies.chat import Choice, Reply, ToolCall, Usage
from policies.contract import NO_VERDICT, Verdict
from policies.doubts import Doubts, signals_of
from policies.features import STRUCTURE, features
from policies.suspicion import SIGNS, Doubter, Signals

WIDE = len(SIGNS) + len(STRUCTURE)
ALWAYS = Doubter((*[0.0] * WIDE, 0.5), (0.0,) * WIDE, (1.0,) * WIDE)
DOUBTS = Doubts("mini", ALWAYS, features([{"role": "user", "content": "How old?"}]), 0.5)


def reply(text=None, calls=()):
    return Reply((Choice(0, text, "stop", tuple(calls)),), Usage(1, 1))


@pytest.mark.parametrize(
    ("model", "verdict", "suspicion"),
    [
        pytest.param("mini", Verdict("valid"), 0.5, id="valid"),
        pytest.param("mini", NO_VERDICT, 0.5, id="nothing-promised"),
        pytest.param("mini", Verdict("invalid"), None, id="invalid-climbs-anyway"),
        pytest.param("big", Verdict("valid"), None, id="another-model-is-not-doubted"),
    ],
)
def test_only_acceptable_answers_of_the_model_in_question_are_doubted(model, verdict, suspicion):
    assert DOUBTS.of(model, reply("7"), verdict) == suspicion


def test_signals_are_read_from_the_answer_and_its_verdict():
    calls = [ToolCall("a", "book", "{}"), ToolCall("b", "book", "{}")]
    assert signals_of(reply("seven", calls), Verdict("valid")) == Signals(calls=2, chars=5)
    assert signals_of(reply(None), Verdict("invalid")) == Signals(valid=False)
