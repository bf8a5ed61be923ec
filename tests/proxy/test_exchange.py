"""The story of an exchange, played with scripted ports: no sockets, no clock."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from policies.allowance import Allowance
from policies.chat import Choice, Failure, Reply, Usage
from policies.contract import Contract, Verdict, judge, judge_patch
from policies.doubts import Doubts
from policies.features import STRUCTURE, features
from policies.ladder import Accept, Attempt, GiveUp, Rung
from policies.plan import Plan
from policies.route import Repair
from policies.suspicion import SIGNS, Doubter
from proxy.exchange import Outcome, converse
from proxy.ports import Order
from proxy.wire.chat import Piece
from schemas.compiled import compile_schema

AGE = compile_schema(
    {
        "type": "object",
        "properties": {"age": {"type": "integer"}},
        "required": ["age"],
        "additionalProperties": False,
    }
)
VALID, FENCED, INVALID, OTHER = '{"age": 7}', '```json\n{"age": 7}\n```', '{"age": "old"}', '{"years": 7}'
OLDER = '{"age": 8}'
DOWN = Failure("connect", "refused", retryable=True)
UNAUTHORIZED = Failure("status", "bad key", status=401)
USAGE = Usage(10, 5)


class ScriptedCall:
    first_byte_s: float | None = 0.5
    beside: Sequence[Attempt] = ()

    def __init__(self, script, ports, number):
        self.script, self.ports, self.number = script, ports, number
        self.events: Iterator | None = None
        self.onward = None
        self.aborted = False

    async def more(self) -> Sequence[Piece] | None:
        if self.events is None:
            self.ports.story.append("call")
            self.events = iter(self.script[:-1])
        event = next(self.events, None)
        if event == "hang":
            await asyncio.Event().wait()
        if event is None:
            return None
        if event == []:
            return event
        return [Piece(event, speaks=True) if isinstance(event, bytes) else event]

    def flow(self, onward):
        self.onward = onward

    def result(self):
        last = self.script[-1]
        return Reply((Choice(0, last, "stop"),), USAGE) if isinstance(last, str) else last

    def usage(self):
        return USAGE

    def abort(self):
        self.aborted = True
        self.ports.story.append("abort")


class ScriptedPorts:
    """Each upstream call plays the next script: pieces of a stream, then a reply's text or a Failure."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.orders: list[Order] = []
        self.calls: list[ScriptedCall] = []
        self.booked: list[Attempt] = []
        self.told: list[bytes] = []
        self.story: list[str] = []
        self.waited: list[float] = []
        self.clock = 0.0
        self.refused: set[str] = set()

    def now(self):
        return self.clock

    async def wait(self, seconds, jitter_s):
        self.waited.append(seconds)
        self.clock += seconds

    async def open(self, order):
        self.orders.append(order)
        self.calls.append(ScriptedCall(self.scripts.pop(0), self, order.number))
        return self.calls[-1]

    def grant(self, step, last):
        return step.model not in self.refused

    async def both(self, one, other):
        await asyncio.gather(one, other)

    async def judge(self, reply: Reply, contract: Contract, order) -> Verdict:
        patch = order.patch
        return judge(reply, contract) if patch is None else judge_patch(reply, contract, patch)

    async def tell(self, piece):
        self.story.append("tell")
        self.told.append(piece)

    def tell_at_once(self, piece):
        self.story.append("tell at once")
        self.told.append(piece)
        return True

    def account(self, attempt):
        self.story.append("account")
        self.booked.append(attempt)
        return replace(attempt, cost_nanousd=100)


def plan(*models, schema=AGE, mode="hold", repair=None, allowance=None) -> Plan:
    rungs = tuple(Rung(m, retries=1) for m in models)
    return Plan("r", rungs, Contract(schema), repair or Repair(), allowance or Allowance(), mode)


def play(ports: ScriptedPorts, the_plan: Plan) -> Outcome:
    messages = [{"role": "user", "content": "How old?"}]
    return asyncio.run(converse(the_plan, messages, ports))


def purposes(ports):
    return [(o.model, o.purpose) for o in ports.orders]


def test_valid_reply_is_accepted_at_once():
    ports = ScriptedPorts([VALID])
    outcome = play(ports, plan("mini", "big"))
    assert outcome.end == Accept()
    assert outcome.last.verdict.kind == "valid"
    assert purposes(ports) == [("mini", "answer")]
    assert ports.story == ["call", "account"]


def test_fenced_reply_is_mended_without_another_call():
    outcome = play(ports := ScriptedPorts([FENCED]), plan("mini"))
    assert outcome.last.verdict.kind == "repaired"
    assert outcome.last.verdict.texts == {0: '{"age":7}'}
    assert len(ports.orders) == 1


def test_invalid_reply_is_corrected_on_same_model_then_escalated():
    ports = ScriptedPorts([INVALID], [OTHER], [VALID])
    outcome = play(ports, plan("mini", "big"))
    assert outcome.end == Accept()
    assert purposes(ports) == [("mini", "answer"), ("mini", "reask"), ("big", "escalate")]


def test_reask_tells_the_model_what_it_said_and_what_is_wrong():
    play(ports := ScriptedPorts([INVALID], [VALID]), plan("mini"))
    first, second = ports.orders
    assert first.messages is None
    assert [m["role"] for m in second.messages] == ["user", "assistant", "user"]
    assert second.messages[1]["content"] == INVALID
    assert "/age" in second.messages[2]["content"]


def test_escalation_starts_from_the_clients_own_words():
    play(ports := ScriptedPorts([INVALID], [OTHER], [VALID]), plan("mini", "big"))
    assert ports.orders[2].messages is None


def test_same_problem_twice_means_climb_not_repeat():
    repair = Repair(reask=5)
    ports = ScriptedPorts([INVALID], [INVALID], [VALID])
    play(ports, plan("mini", "big", repair=repair))
    assert purposes(ports) == [("mini", "answer"), ("mini", "reask"), ("big", "escalate")]


def test_no_valid_answer_within_the_allowance_is_given_up_with_all_attempts_booked():
    ports = ScriptedPorts([INVALID], [OTHER], [INVALID], [OTHER])
    outcome = play(ports, plan("mini", "big"))
    assert isinstance(outcome.end, GiveUp)
    assert outcome.end.reason == "schema"
    assert [a.number for a in ports.booked] == [1, 2, 3, 4]
    assert outcome.last.verdict.problems


def test_attempts_are_bounded_whatever_the_ladder_allows():
    ports = ScriptedPorts([INVALID], [OTHER])
    outcome = play(ports, plan("mini", "big", allowance=Allowance(attempts=2)))
    assert isinstance(outcome.end, GiveUp)
    assert "limits.attempts" in outcome.end.detail


def test_cost_limit_stops_the_ladder():
    ports = ScriptedPorts([INVALID])
    outcome = play(ports, plan("mini", "big", allowance=Allowance(cost_nanousd=100)))
    assert "limits.cost_usd" in outcome.end.detail


def test_deadline_stops_the_ladder():
    ports = ScriptedPorts([DOWN])
    outcome = play(ports, plan("mini", "big", allowance=Allowance(deadline_s=0.1)))
    assert isinstance(outcome.end, GiveUp)
    assert outcome.end.reason == "failure"
    assert "deadline" in outcome.end.detail


def test_failed_call_is_repeated_then_the_next_model_is_asked():
    ports = ScriptedPorts([DOWN], [DOWN], [VALID])
    outcome = play(ports, plan("mini", "big"))
    assert outcome.end == Accept()
    assert purposes(ports) == [("mini", "answer"), ("mini", "retry"), ("big", "escalate")]
    assert ports.waited[0] > 0


def test_refused_request_is_final():
    outcome = play(ports := ScriptedPorts([UNAUTHORIZED]), plan("mini", "big"))
    assert outcome.end == GiveUp("failure")
    assert len(ports.orders) == 1


def test_long_retry_after_is_not_slept_through():
    busy = Failure("status", "slow down", status=429, retryable=True, retry_after_s=7)
    outcome = play(ports := ScriptedPorts([busy]), plan("mini"))
    assert outcome.end == GiveUp("failure")
    assert sum(ports.waited) == 0


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_cut_or_filtered_reply_is_never_repaired(finish):
    cut = Reply((Choice(0, '{"age": 7', finish),), USAGE)
    outcome = play(ports := ScriptedPorts([cut]), plan("mini", "big"))
    assert outcome.last.verdict.kind == "exempt"
    assert outcome.last.verdict.texts == {}
    assert len(ports.orders) == 1


def test_stream_without_contract_is_told_piece_by_piece():
    ports = ScriptedPorts([b"a", b"b", "ab"])
    outcome = play(ports, plan("mini", schema=None))
    assert ports.told == [b"a", b"b"]
    assert outcome.committed
    assert ports.story == ["call", "tell", "tell", "account"]


def test_once_the_gate_is_open_pieces_may_go_on_by_themselves():
    ports = ScriptedPorts([Piece(b"role", speaks=False), b"a", "a"])
    play(ports, plan("mini", schema=None))
    assert ports.calls[0].onward == ports.tell_at_once


@pytest.mark.parametrize("mode", ["hold", "checked"])
def test_what_must_be_judged_never_goes_on_by_itself(mode):
    text = Piece(VALID.encode(), speaks=True, text=VALID)
    ports = ScriptedPorts([text, VALID])
    play(ports, plan("mini", mode=mode))
    assert ports.calls[0].onward is None


def test_a_call_that_gives_nothing_has_the_client_waited_for():
    ports = ScriptedPorts([b"a", [], b"b", "ab"])
    play(ports, plan("mini", schema=None))
    assert ports.told == [b"a", b"", b"b"]


def test_held_stream_is_told_nothing_before_its_verdict():
    ports = ScriptedPorts([b"x", INVALID], [b"y", VALID])
    outcome = play(ports, plan("mini"))
    assert ports.told == []
    assert outcome.held == (b"y",)


def test_role_alone_does_not_commit_so_a_dead_upstream_is_replaced_unseen():
    role = Piece(b"role", speaks=False)
    ports = ScriptedPorts([role, DOWN], [role, b"hi", "hi"])
    outcome = play(ports, plan("mini", schema=None))
    assert outcome.end == Accept()
    assert ports.told == [b"rolehi"]


def test_no_way_back_after_the_first_released_piece():
    broken = Failure("broken", "cut", retryable=True)
    ports = ScriptedPorts([b"a", broken])
    outcome = play(ports, plan("mini", "big", schema=None))
    assert isinstance(outcome.end, GiveUp)
    assert outcome.committed
    assert len(ports.orders) == 1


def test_client_gone_is_still_billed_and_the_upstream_hung_up_on():
    ports = ScriptedPorts([b"a", "hang", "never"])

    async def leave():
        task = asyncio.create_task(converse(plan("mini", schema=None), [], ports))
        await asyncio.sleep(0)
        while not ports.told:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert ports.story == ["call", "tell", "abort", "account"]
    assert ports.booked[0].purpose == "cancelled"
    assert ports.booked[0].usage == USAGE


def test_a_breaker_that_is_open_sends_to_the_next_model_at_once():
    ports = ScriptedPorts([VALID])
    opened = ports.open

    async def open_(order):
        if order.model == "mini":
            ports.orders.append(order)
            return Failure("breaker", "open", retryable=True, retry_after_s=0.5)
        return await opened(order)

    ports.open = open_
    outcome = play(ports, plan("mini", "big"))
    assert purposes(ports) == [("mini", "answer"), ("big", "escalate")]
    assert ports.waited == [0.0]
    assert isinstance(outcome.end, Accept)


def test_without_a_retry_budget_the_next_model_is_asked_instead():
    ports = ScriptedPorts([DOWN], [VALID])
    ports.refused = {"mini"}
    play(ports, plan("mini", "big"))
    assert purposes(ports) == [("mini", "answer"), ("big", "escalate")]


def test_without_a_retry_budget_and_a_next_model_the_failure_is_told():
    ports = ScriptedPorts([DOWN])
    ports.refused = {"mini"}
    outcome = play(ports, plan("mini"))
    assert outcome.end == GiveUp("failure")
    assert outcome.last.failure is DOWN


def pair(*models, **rest):
    return replace(plan("mini", *models, **rest), companion="haiku")


def test_two_models_that_agree_are_believed_and_both_are_booked():
    ports = ScriptedPorts([b"h", FENCED], [b"m", VALID])
    outcome = play(ports, pair("big"))
    assert purposes(ports) == [("haiku", "answer"), ("mini", "answer")]
    assert (outcome.end, outcome.last.model, outcome.held) == (Accept(), "mini", (b"m",))
    assert [(a.number, a.model, a.set_aside) for a in ports.booked] == [
        (1, "haiku", "agreement"),
        (2, "mini", None),
    ]
    assert ports.told == []


@pytest.mark.parametrize("said", [OLDER, INVALID, DOWN], ids=["another-value", "invalid", "down"])
def test_where_they_do_not_agree_the_next_model_is_asked(said):
    ports = ScriptedPorts([said], [VALID], [VALID])
    outcome = play(ports, pair("big"))
    assert purposes(ports)[2:] == [("big", "escalate")]
    assert ports.orders[2].number == 3
    assert (outcome.end, outcome.last.model) == (Accept(), "big")


@pytest.mark.parametrize(("first", "second", "kept"), [(OLDER, VALID, "mini"), (VALID, INVALID, "haiku")])
def test_a_valid_answer_without_agreement_is_better_than_none(first, second, kept):
    ports = ScriptedPorts([b"h", first], [b"m", second], [DOWN], [DOWN])
    outcome = play(ports, pair("big"))
    assert (outcome.end, outcome.last.model) == (Accept(), kept)
    assert outcome.held == (kept[0].encode(),)
    assert len(ports.booked) == len(outcome.history) == 4


def test_what_both_refuse_is_final():
    outcome = play(ports := ScriptedPorts([UNAUTHORIZED], [UNAUTHORIZED]), pair("big"))
    assert outcome.end == GiveUp("failure")
    assert len(ports.orders) == 2


def test_nothing_is_told_before_two_models_agree_though_nothing_is_promised():
    ports = ScriptedPorts([b"x", "Paris"], [b"y", "Paris "])
    outcome = play(ports, pair("big", schema=None, mode="pass"))
    assert ports.told == []
    assert outcome.held == (b"y",)


def test_a_client_that_leaves_two_models_pays_for_both():
    ports = ScriptedPorts([b"a", VALID], ["hang", VALID])

    async def leave():
        task = asyncio.create_task(converse(pair("big"), [], ports))
        while len(ports.calls) < 2 or ports.story.count("call") != 2:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert sorted((a.number, a.purpose) for a in ports.booked) == [(1, "answer"), (2, "cancelled")]


WIDE = len(SIGNS) + len(STRUCTURE)


def doubting(*models, suspicion, mode="hold", **rest) -> Plan:
    """Every valid answer of the first model is doubted by `suspicion`; from 0.5 on it is not believed."""
    doubter = Doubter((*[0.0] * WIDE, suspicion), (0.0,) * WIDE, (1.0,) * WIDE)
    doubts = Doubts(models[0], doubter, features([]), 0.5)
    return replace(plan(*models, mode=mode, **rest), doubts=doubts)


def test_a_valid_answer_that_is_not_believed_climbs_and_the_ledger_is_told_why():
    ports = ScriptedPorts([VALID], [OLDER])
    outcome = play(ports, doubting("mini", "big", suspicion=0.75))
    assert (outcome.end, outcome.last.model) == (Accept(), "big")
    assert purposes(ports) == [("mini", "answer"), ("big", "escalate")]
    assert [(a.model, a.set_aside, a.suspicion) for a in ports.booked] == [
        ("mini", "suspicion", 0.75),
        ("big", None, None),
    ]
    assert ports.orders[1].reason == "suspicion: 0.750 against 0.500"


def test_a_valid_answer_below_the_threshold_is_kept():
    ports = ScriptedPorts([VALID])
    outcome = play(ports, doubting("mini", "big", suspicion=0.25))
    assert (outcome.last.model, outcome.last.suspicion, outcome.last.set_aside) == ("mini", 0.25, None)


def test_an_invalid_answer_is_asked_again_before_it_is_doubted():
    ports = ScriptedPorts([INVALID], [VALID], [OLDER])
    play(ports, doubting("mini", "big", suspicion=0.75))
    assert [(o.model, o.purpose) for o in ports.orders][0::2] == [("mini", "answer"), ("big", "escalate")]


@pytest.mark.parametrize(
    ("above", "rest"),
    [
        pytest.param([[DOWN], [DOWN]], {}, id="the-model-above-is-down"),
        pytest.param([[UNAUTHORIZED]], {}, id="refused-above"),
        pytest.param([[INVALID], [OTHER]], {}, id="invalid-above"),
        pytest.param([[INVALID], [OTHER]], {"repair": Repair(give_up="raw")}, id="raw-above"),
        pytest.param([], {"allowance": Allowance(attempts=1)}, id="nothing-left-to-spend"),
    ],
)
def test_a_valid_answer_that_is_not_believed_is_better_than_none(above, rest):
    ports = ScriptedPorts([VALID], *above)
    outcome = play(ports, doubting("mini", "big", suspicion=0.75, **rest))
    assert (outcome.end, outcome.last.model, outcome.last.verdict.kind) == (Accept(), "mini", "valid")


@pytest.mark.parametrize("mode", ["pass", "checked"])
def test_nothing_of_an_answer_that_may_be_doubted_is_told_before_it_is_whole(mode):
    ports = ScriptedPorts([b"a", b"b", VALID], [b"c", OLDER])
    outcome = play(ports, doubting("mini", "big", suspicion=0.75, mode=mode))
    assert b"a" not in b"".join(ports.told)
    assert outcome.last.model == "big"
