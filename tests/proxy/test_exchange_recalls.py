"""An exchange whose model looks things up, played with scripted ports."""

from dataclasses import dataclass, replace

import pytest

from policies.allowance import Allowance
from policies.chat import Choice, Recalls, Reply, ToolCall
from policies.ladder import Accept, GiveUp
from policies.recall import Recalled
from policies.route import Repair
from proxy.wire.chat import Piece
from tests.proxy.test_exchange import DOWN, INVALID, OTHER, USAGE, VALID, ScriptedPorts, plan, play, purposes

USER = {"role": "user", "content": "How old?"}


def looks_up(text=None, *calls):
    asked = Recalls(
        (ToolCall("c", "recall_context", '{"query": "age"}'),), {"role": "assistant", "content": text}
    )
    return Reply((Choice(0, text, "stop", calls),), USAGE, recalls=asked)


class RecallingPorts(ScriptedPorts):
    """Each look-up finds the next piece."""

    looked_up = 0

    async def recall(self, order, asked):
        assert asked.reply.recalls is not None
        self.looked_up += 1
        found = {"role": "tool", "content": f"found {self.looked_up}"}
        return Recalled((asked.reply.recalls.message, found), frozenset({self.looked_up}))


def recalling(*models, lookups=2, **rest):
    return replace(plan(*models, **rest), lookups=lookups)


def contents(order):
    return [m["content"] for m in order.messages or ()]


def test_what_was_looked_up_stands_behind_the_conversation():
    ports = RecallingPorts([looks_up()], [VALID])
    outcome = play(ports, recalling("mini"))
    assert outcome.end == Accept()
    assert purposes(ports) == [("mini", "answer"), ("mini", "recall")]
    assert contents(ports.orders[1]) == ["How old?", None, "found 1"]
    assert ports.orders[1].recalled == {1}
    assert [a.purpose for a in ports.booked] == ["answer", "recall"]


def test_rounds_stand_behind_each_other_and_the_last_order_offers_no_more():
    ports = RecallingPorts([looks_up()], [looks_up()], [VALID])
    play(ports, recalling("mini"))
    assert [o.offers_recall for o in ports.orders] == [True, True, False]
    assert contents(ports.orders[2]) == ["How old?", None, "found 1", None, "found 2"]
    assert ports.orders[2].recalled == {1, 2}


def test_a_reply_that_looks_up_is_not_judged():
    outcome = play(RecallingPorts([looks_up(INVALID)], [VALID]), recalling("mini"))
    assert outcome.history[0].verdict.kind == "none"
    assert outcome.last.verdict.kind == "valid"


def test_with_a_call_of_the_clients_it_is_the_answer():
    ports = RecallingPorts([looks_up(None, ToolCall("d", "own", "{}"))])
    outcome = play(ports, recalling("mini", schema=None))
    assert outcome.end == Accept()
    assert (len(ports.orders), ports.looked_up) == (1, 0)


def test_a_model_that_looks_up_unasked_has_failed_and_the_next_one_is_asked():
    ports = RecallingPorts([looks_up()], [looks_up()], [looks_up()], [looks_up()], [VALID])
    outcome = play(ports, recalling("mini", "big", allowance=Allowance(attempts=9)))
    assert purposes(ports)[2:] == [("mini", "recall"), ("mini", "retry"), ("big", "escalate")]
    assert [a.failure.kind for a in outcome.history if a.failure] == ["malformed", "malformed"]
    assert outcome.end == Accept()


def test_the_next_model_starts_from_the_clients_own_words():
    ports = RecallingPorts([looks_up()], [DOWN], [DOWN], [VALID])
    play(ports, recalling("mini", "big"))
    assert ports.orders[3].messages is None
    assert ports.orders[3].recalled is None


def test_a_retry_asks_the_same_with_what_was_found():
    ports = RecallingPorts([looks_up()], [DOWN], [VALID])
    play(ports, recalling("mini"))
    assert ports.orders[2].messages == ports.orders[1].messages


def test_a_reask_keeps_what_was_found():
    ports = RecallingPorts([looks_up()], [INVALID], [VALID])
    play(ports, recalling("mini"))
    assert purposes(ports)[2] == ("mini", "reask")
    assert contents(ports.orders[2])[:4] == ["How old?", None, "found 1", INVALID]


def test_a_look_up_in_a_reask_stands_behind_the_correction():
    ports = RecallingPorts([INVALID], [looks_up()], [VALID])
    play(ports, recalling("mini"))
    assert purposes(ports) == [("mini", "answer"), ("mini", "reask"), ("mini", "recall")]
    assert contents(ports.orders[2])[-2:] == [None, "found 1"]
    assert contents(ports.orders[2])[1] == INVALID


@pytest.mark.parametrize(
    ("allowance", "named"),
    [(Allowance(cost_nanousd=100), "limits.cost_usd"), (Allowance(deadline_s=0.0), "limits.deadline_s")],
)
def test_the_allowance_bounds_look_ups(allowance, named):
    ports = RecallingPorts([looks_up()])
    outcome = play(ports, recalling("mini", allowance=allowance))
    assert isinstance(outcome.end, GiveUp)
    assert outcome.end.reason == "allowance"
    assert named in outcome.end.detail
    assert ports.looked_up == 0


def test_the_last_attempt_is_for_the_answer():
    ports = RecallingPorts([looks_up()], [VALID])
    play(ports, recalling("mini", allowance=Allowance(attempts=2)))
    assert [o.offers_recall for o in ports.orders] == [True, False]


def test_nothing_is_offered_where_the_plan_does_not():
    ports = RecallingPorts([VALID])
    play(ports, plan("mini"))
    assert not ports.orders[0].offers_recall


def test_a_stream_that_said_nothing_is_as_if_it_had_not_begun():
    role = Piece(b"role", speaks=False)
    ports = RecallingPorts([role, looks_up()], [b"a", b"b", "ab"])
    outcome = play(ports, recalling("mini", schema=None))
    assert ports.told == [b"a", b"b"]
    assert not ports.orders[1].goes_on
    assert outcome.committed


def test_a_stream_goes_on_after_what_it_said():
    ports = RecallingPorts([b"wait ", looks_up("wait ")], [b"a", "a"])
    outcome = play(ports, recalling("mini", schema=None))
    assert ports.told == [b"wait ", b"a"]
    assert ports.orders[1].goes_on
    assert outcome.end == Accept()


def test_after_a_word_a_failed_round_is_repeated_and_no_other_model_asked():
    ports = RecallingPorts([b"wait ", looks_up("wait ")], [DOWN], [DOWN])
    outcome = play(ports, recalling("mini", "big", schema=None))
    assert purposes(ports) == [("mini", "answer"), ("mini", "recall"), ("mini", "retry")]
    assert isinstance(outcome.end, GiveUp)
    assert outcome.committed


def test_after_the_second_word_there_is_no_way_back_any_more():
    ports = RecallingPorts([b"wait ", looks_up("wait ")], [b"a", DOWN])
    outcome = play(ports, recalling("mini", schema=None))
    assert isinstance(outcome.end, GiveUp)
    assert len(ports.orders) == 2


def test_a_held_stream_has_the_pieces_of_the_answer_alone():
    ports = RecallingPorts([b"x", looks_up("x")], [b"y", VALID])
    outcome = play(ports, recalling("mini"))
    assert ports.told == []
    assert outcome.held == (b"y",)


@dataclass
class SayingPiece:
    data: bytes
    speaks: bool
    text: str
    calls: bool = False

    def saying(self, text):
        return text.encode()


def test_what_a_checked_stream_told_is_gone_on_with_by_a_judged_answer():
    begun = SayingPiece(b"t", speaks=True, text='{"age": 7                        ')
    ports = RecallingPorts([begun, looks_up(begun.text)], [b"y", VALID])
    outcome = play(ports, recalling("mini", mode="checked"))
    assert outcome.released.strip() == '{"age": 7'
    assert not ports.orders[1].goes_on
    assert outcome.held == (b"y",)
    assert outcome.end == Accept()


def test_an_invalid_call_after_words_is_told_as_such():
    """The client was told a text that cannot be taken back: what was wrong is the error, not a failure of ours."""
    ports = RecallingPorts([b"wait ", OTHER])
    outcome = play(ports, plan("mini", "big", mode="pass"))
    assert outcome.end == GiveUp("schema", "part of the answer was already delivered")
    assert outcome.last.reply.choices[0].text == OTHER


def test_repair_settings_do_not_count_look_ups():
    ports = RecallingPorts([looks_up()], [INVALID], [VALID])
    play(ports, recalling("mini", "big", repair=Repair(reask=1)))
    assert purposes(ports)[2] == ("mini", "reask")
